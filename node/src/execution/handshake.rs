//! Application and chain at a start: `Info`, `InitChain` where the application is new, and the replay of what it lacks.
//!
//! With A the application's height, T that of the state and S that of the highest stored block (T ≤ S):
//!
//! | | |
//! |---|---|
//! | A = 0 | `InitChain`; its answer counts where T = 0 as well |
//! | A < T | blocks A+1..T are executed again; results must lead to the application hash that the chain has |
//! | A = T | nothing |
//! | A > T | T+1..A take the stored answers: the application was ahead when the node died |
//! | A > S | the application's data is newer than this home: refused, unless the journal holds what is missing |
//! | T < S | the executor gets S's blocks as jobs once it runs, and then those of the journal |

use super::executor::{check_sequence, known_results};
use super::updates::{after_block, after_init};
use super::{Applied, ExecutionError, State, requests};
use crate::store::Chain;
use bytes::Bytes;
use tendermint::block::Height;
use tendermint_proto::v0_38::abci::{RequestInfo, RequestInitChain, ValidatorUpdate};
use tendermint_proto::v0_38::crypto::{PublicKey, public_key::Sum};
use tercet_abci::Application;
use tercet_consensus::validators::Validators;

/// The ABCI version that requests carry (CometBFT `version/version.go`, `ABCISemVer`).
const ABCI_VERSION: &str = "2.0.0";
/// CometBFT's p2p and block protocol versions, as `Info` tells them.
const P2P_PROTOCOL: u64 = 8;
const BLOCK_PROTOCOL: u64 = 11;
/// How often a long replay says how far it is, in blocks.
const PROGRESS_BLOCKS: u64 = 1_000;

/// What a new application is told, and what every application is told of the node.
#[derive(Clone)]
pub struct Origin {
    /// The state before the first block, by the genesis.
    pub genesis: State,
    /// `app_state` of the genesis, byte for byte.
    pub app_state: Bytes,
    /// The version that the node says it is compatible with.
    pub version: &'static str,
}

impl Origin {
    /// What an application is told of the node when it is asked where it is.
    pub(super) fn info(&self) -> RequestInfo {
        RequestInfo {
            version: self.version.to_owned(),
            block_version: BLOCK_PROTOCOL,
            p2p_version: P2P_PROTOCOL,
            abci_version: ABCI_VERSION.to_owned(),
        }
    }
}

/// Where both are after the handshake.
#[derive(Debug)]
pub struct Ready {
    /// The state.
    pub state: State,
    /// The height of the application: that of the state, or above it where the journal has the blocks between.
    pub app_height: u64,
}

/// Brings the application to the state's height, or the state to the application's, and takes the blocks that are stored but not in the
/// state. Where the connection to the application breaks, it begins anew with the one that is there then.
///
/// # Errors
/// Where they do not belong together, the application does not answer or the disk fails.
pub fn start(
    app: &mut dyn Application,
    chain: &Chain,
    origin: &Origin,
) -> Result<Ready, ExecutionError> {
    retry(app, |app| {
        let mut ready = handshake(app, chain, origin)?;
        catch_up(app, chain, &mut ready)?;
        Ok(ready)
    })
}

/// Brings an application to the state's height, or above it, that was lost in the middle and is another now or the same with less than it
/// had.
///
/// # Errors
/// As [`start`].
pub fn resume(
    app: &mut dyn Application,
    chain: &Chain,
    origin: &Origin,
) -> Result<Ready, ExecutionError> {
    retry(app, |app| {
        app.reconnect()?;
        handshake(app, chain, origin)
    })
}

/// Tries until the connection to the application holds.
fn retry<T>(
    app: &mut dyn Application,
    mut attempt: impl FnMut(&mut dyn Application) -> Result<T, ExecutionError>,
) -> Result<T, ExecutionError> {
    loop {
        match attempt(app) {
            Err(ExecutionError::App(error)) if error.is_lost() => {
                tracing::warn!("{error}; connecting again");
                app.reconnect()?;
            }
            result => return result,
        }
    }
}

fn handshake(
    app: &mut dyn Application,
    chain: &Chain,
    origin: &Origin,
) -> Result<Ready, ExecutionError> {
    let Origin { genesis, app_state, .. } = origin;
    let info = app.info(origin.info())?;
    let mut app_height = u64::try_from(info.last_block_height)
        .map_err(|_| ExecutionError::Handshake("the application's height is negative".into()))?;
    let before_first = genesis.initial_height.value().saturating_sub(1);
    let stored = chain.state()?;
    let mut state = match &stored {
        Some(state) => state.clone(),
        None => State { app_version: info.app_version, ..genesis.clone() },
    };
    if app_height == 0 {
        let answer = app.init_chain(init_chain(genesis, app_state.clone()))?;
        if stored.is_none() {
            state = after_init(state, &answer)?;
        }
        app_height = before_first;
    }
    if stored.is_none() {
        chain.init(&state)?;
    }
    let at = state.last_height.map_or(before_first, |height| height.value());
    if app_height < at {
        replay(app, chain, app_height, &state)?;
        app_height = at;
    } else if app_height == at && at >= genesis.initial_height.value() {
        compare_hash(&info.last_block_app_hash, &state)?;
    }
    Ok(Ready { state, app_height })
}

fn compare_hash(found: &[u8], state: &State) -> Result<(), ExecutionError> {
    if found == state.app_hash {
        return Ok(());
    }
    Err(ExecutionError::Handshake(format!(
        "the application's hash is {} and the chain's is {} at the same height: its data is not that of this chain; restore it, or \
         reset the application to replay the chain",
        hex::encode_upper(found),
        hex::encode_upper(&state.app_hash)
    )))
}

/// Executes the blocks after `app_height` again, up to the state. The state before each is that of its own header.
fn replay(
    app: &mut dyn Application,
    chain: &Chain,
    app_height: u64,
    last: &State,
) -> Result<(), ExecutionError> {
    let upto = last.last_height.map_or(0, |height| height.value());
    if upto - app_height > 1 {
        tracing::info!(from = app_height + 1, upto, "replaying blocks to the application");
    }
    let mut app_hash = None;
    for height in app_height + 1..=upto {
        let block = Height::try_from(height).ok().map(|height| chain.block(height)).transpose()?;
        let Some(block) = block.flatten() else {
            return Err(ExecutionError::Handshake(format!(
                "the application is at height {app_height} and block {height} is no longer stored (the lowest is {}): restore the \
                 application's data",
                chain.base().map_or(0, |base| base.value())
            )));
        };
        let (before, wrong) = (block.header().app_hash.as_bytes(), |hash: &[u8]| {
            ExecutionError::Handshake(format!(
                "the application computed {} for block {}, and the chain has {}: it is not deterministic, or not this chain's",
                hex::encode_upper(hash),
                height - 1,
                block.header().app_hash
            ))
        });
        if let Some(hash) = app_hash.filter(|hash: &Bytes| hash != before) {
            return Err(wrong(&hash));
        }
        let state = validators_before(chain, block.header().height, last)?;
        app_hash = Some(app.finalize_block(requests::finalize(&block, &state))?.app_hash);
        app.commit()?;
        if height.is_multiple_of(PROGRESS_BLOCKS) {
            tracing::info!(height, upto, "replaying");
        }
    }
    match app_hash {
        Some(hash) => compare_hash(&hash, last),
        None => Ok(()),
    }
}

/// As much of the state before `height` as a request needs: V(height−1).
fn validators_before(chain: &Chain, height: Height, last: &State) -> Result<State, ExecutionError> {
    let before = Height::try_from(height.value() - 1).ok();
    let last_validators = match before.filter(|before| *before >= last.initial_height) {
        Some(before) => chain.validators(before)?,
        None => None,
    };
    Ok(State { last_validators, ..last.clone() })
}

/// Takes blocks that are stored but not in the state, with the stored answers where the application has executed them and by executing
/// them where not.
///
/// # Errors
/// Where a block does not follow, the application does not answer or the disk fails.
fn catch_up(
    app: &mut dyn Application,
    chain: &Chain,
    ready: &mut Ready,
) -> Result<(), ExecutionError> {
    while let Some(block) = chain.block(ready.state.next_height())? {
        let height = block.header().height;
        check_sequence(&block, &ready.state)?;
        let known = height.value() <= ready.app_height;
        let results = if known {
            known_results(chain, height)?
        } else {
            app.finalize_block(requests::finalize(&block, &ready.state))?
        };
        let applied: Applied = after_block(&ready.state, &block, results)?;
        chain.apply(&applied)?;
        if !known {
            chain.sync()?;
            app.commit()?;
            ready.app_height = height.value();
        }
        ready.state = applied.state;
    }
    Ok(())
}

fn init_chain(genesis: &State, app_state: Bytes) -> RequestInitChain {
    RequestInitChain {
        time: Some(genesis.last_block_time.into()),
        chain_id: genesis.chain_id.clone(),
        consensus_params: Some(genesis.params.clone().into()),
        validators: validator_updates(&genesis.validators),
        app_state_bytes: app_state,
        initial_height: i64::try_from(genesis.initial_height.value()).unwrap_or(i64::MAX),
    }
}

fn validator_updates(validators: &Validators) -> Vec<ValidatorUpdate> {
    let update = |validator: &tercet_consensus::validators::Validator| ValidatorUpdate {
        pub_key: Some(PublicKey { sum: Some(Sum::Ed25519(validator.key.to_bytes().to_vec())) }),
        power: i64::try_from(validator.power).unwrap_or(i64::MAX),
    };
    validators.list().iter().map(update).collect()
}
