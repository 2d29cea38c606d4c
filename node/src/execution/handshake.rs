//! Application and chain at a start: `Info`, `InitChain` where the application is new, and the replay of what it lacks.
//!
//! With A the application's height, T that of the state and S that of the highest stored block; I is the chain's first height. The
//! whole table is docs/handshake.md; `cells` has it as code, and each of its cells is a test.
//!
//! | | |
//! |---|---|
//! | T before I, A = 0 | `InitChain`; its answer counts |
//! | A = 0 < T | `InitChain`, then all blocks are executed again |
//! | A < T | blocks A+1..T are executed again; results must lead to the application hashes that the chain has |
//! | A = T | the same hash, or refused |
//! | T < A ≤ S | T+1..A take the stored answers: the application was ahead when the node died; without them refused |
//! | A > S | the application's data is newer than this home: refused |
//! | T < S | blocks T+1..S are executed, or their stored answers taken |
//! | journal after S | the executor gets its blocks as jobs once it runs |

mod cells;

pub use cells::Misfit;

use super::executor::{check_sequence, executed, known_results};
use super::updates::{after_init, check_count};
use super::{ExecutionError, State, requests};
use crate::store::Chain;
use bytes::Bytes;
use cells::{Cell, Found, number};
use std::sync::Arc;
use tendermint::block::Height;
use tendermint_proto::v0_38::abci::{
    RequestInfo, RequestInitChain, ResponseInfo, ResponseInitChain, ValidatorUpdate,
};
use tercet_abci::Application;
use tercet_consensus::block::SealedBlock;
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
    /// The state before the first block, by the genesis. Where the genesis names no validators, its set stands in for those that
    /// `InitChain` has to name.
    pub genesis: State,
    /// Whether the genesis names validators.
    pub names_validators: bool,
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

    /// The height before the chain's first block.
    fn before_first(&self) -> u64 {
        self.genesis.initial_height.value().saturating_sub(1)
    }

    /// What a new application is told.
    pub(super) fn init_chain(&self) -> RequestInitChain {
        let genesis = &self.genesis;
        let validators = match self.names_validators {
            true => validator_updates(&genesis.validators),
            false => Vec::new(),
        };
        RequestInitChain {
            time: Some(genesis.last_block_time.into()),
            chain_id: genesis.chain_id.clone(),
            consensus_params: Some(genesis.params.clone().into()),
            validators,
            app_state_bytes: self.app_state.clone(),
            initial_height: i64::try_from(genesis.initial_height.value()).unwrap_or(i64::MAX),
        }
    }

    /// The first state, after `InitChain` answered to an application that said `info`.
    pub(super) fn begun(
        &self,
        info: &ResponseInfo,
        answer: &ResponseInitChain,
    ) -> Result<State, ExecutionError> {
        if !self.names_validators && answer.validators.is_empty() {
            return Err(Misfit::NoValidators.into());
        }
        after_init(State { app_version: info.app_version, ..self.genesis.clone() }, answer)
    }

    /// The first state with an application that is where `InitChain` would have led it.
    fn untouched(&self, info: &ResponseInfo) -> Result<State, ExecutionError> {
        if !self.names_validators {
            return Err(Misfit::NoValidators.into());
        }
        Ok(State { app_version: info.app_version, ..self.genesis.clone() })
    }
}

/// Where both are after the handshake.
#[derive(Debug)]
pub struct Ready {
    /// The state.
    pub state: State,
    /// The height of the application: that of the state, or above it where the blocks between are stored.
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
        let (mut ready, info) = handshake(app, chain, origin)?;
        let ahead = ready.app_height > number(ready.state.last_height, origin.before_first());
        let expected = ahead.then_some(&info.last_block_app_hash[..]);
        catch_up(app, chain, &mut ready, expected)?;
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
        let before = chain.state()?;
        let (ready, _) = handshake(app, chain, origin)?;
        // What the rest of the node began with must stay.
        match before.is_none_or(|before| before == ready.state) {
            true => Ok(ready),
            false => Err(Misfit::OtherBeginning.into()),
        }
    })
}

/// Tries until the connection to the application holds.
fn retry<T>(
    app: &mut dyn Application,
    mut attempt: impl FnMut(&mut dyn Application) -> Result<T, ExecutionError>,
) -> Result<T, ExecutionError> {
    loop {
        match attempt(app) {
            Err(error) if error.is_lost() => {
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
) -> Result<(Ready, ResponseInfo), ExecutionError> {
    let info = app.info(origin.info())?;
    let at = u64::try_from(info.last_block_height)
        .map_err(|_| Misfit::Negative(info.last_block_height))?;
    let before_first = origin.before_first();
    let stored = chain.state()?;
    let last = stored.as_ref().and_then(|state| state.last_height);
    let blocks = chain.base().zip(chain.height()).map(|(base, top)| (base.value(), top.value()));
    let found = Found {
        app: at,
        state: number(last, before_first),
        begun: stored.is_some(),
        blocks,
        before_first,
    };
    let answered = |height| match Height::try_from(height) {
        Ok(height) => chain.results(height).map(|found| found.is_some()),
        Err(_) => Ok(false),
    };
    let cell = found.cell(answered)??;
    tracing::info!(
        app_height = at, app_hash = %hex(&info.last_block_app_hash), state_height = found.state, ?blocks, ?cell,
        "application and chain"
    );
    let start = Start { chain, origin, info: &info, at };
    let ready = match (cell, stored) {
        (Cell::Begin, _) => start.begin(app),
        (Cell::Level, Some(state)) => start.level(state),
        (Cell::Level, None) => start.level(origin.untouched(&info)?),
        (Cell::Forgot, Some(state)) => start.forgot(app, state),
        (Cell::Behind, Some(state)) => start.replay(app, None, state),
        (Cell::Ahead, Some(state)) => Ok(Ready { state, app_height: at }),
        (Cell::Forgot | Cell::Behind | Cell::Ahead, None) => {
            unreachable!("without a state the application is at its height or refused")
        }
    };
    Ok((ready?, info))
}

/// A start under way.
struct Start<'a> {
    chain: &'a Chain,
    origin: &'a Origin,
    info: &'a ResponseInfo,
    /// The application's height.
    at: u64,
}

impl Start<'_> {
    /// `InitChain` of a chain without an executed block. Its answer counts, also where it was asked before: the application has
    /// forgotten that.
    fn begin(&self, app: &mut dyn Application) -> Result<Ready, ExecutionError> {
        let answer = app.init_chain(self.origin.init_chain())?;
        let state = self.origin.begun(self.info, &answer)?;
        self.compare_first(&state.app_hash)?;
        self.chain.init(&state)?;
        Ok(Ready { state, app_height: self.origin.before_first() })
    }

    /// Where the first block is stored, it says what `InitChain` led to.
    fn compare_first(&self, hash: &[u8]) -> Result<(), ExecutionError> {
        let initial = self.origin.genesis.initial_height;
        match self.chain.meta(initial)? {
            Some(first) => self.compare_replayed(initial, hash, first.header.app_hash.as_bytes()),
            None => Ok(()),
        }
    }

    /// The application has forgotten everything, and the chain has begun.
    fn forgot(&self, app: &mut dyn Application, last: State) -> Result<Ready, ExecutionError> {
        let answer = app.init_chain(self.origin.init_chain())?;
        let hash = self.origin.begun(self.info, &answer)?.app_hash;
        self.replay(app, Some(hash.into()), last)
    }

    /// The application says that it is where the state is.
    fn level(self, state: State) -> Result<Ready, ExecutionError> {
        compare_hash(&self.info.last_block_app_hash, &state)?;
        if self.chain.state()?.is_none() {
            self.chain.init(&state)?;
        }
        Ok(Ready { app_height: self.at, state })
    }

    /// Executes the blocks that the application lacks again, up to the state. `app_hash` is what `InitChain` led to. The state before
    /// each block is that of its own header.
    fn replay(
        &self,
        app: &mut dyn Application,
        mut app_hash: Option<Bytes>,
        last: State,
    ) -> Result<Ready, ExecutionError> {
        let (from, upto) = (self.at.max(self.origin.before_first()), number(last.last_height, 0));
        if upto - from > 1 {
            tracing::info!(from = from + 1, upto, "replaying blocks to the application");
        }
        for height in from + 1..=upto {
            let block = self.block(height)?;
            if let Some(hash) = &app_hash {
                let right = block.header().app_hash.as_bytes();
                self.compare_replayed(block.header().height, hash, right)?;
            }
            let state = votes_before(self.chain, block.header().height, &last)?;
            let state = state.ok_or_else(|| self.pruned())?;
            let (request, at) = (requests::finalize(&block, &state), block.header().height);
            let results =
                app.finalize_block(request).map_err(|e| ExecutionError::from(e).at(at))?;
            check_count(&block, &results)?;
            app_hash = Some(results.app_hash);
            app.commit().map_err(|error| ExecutionError::from(error).at(at))?;
            if height.is_multiple_of(PROGRESS_BLOCKS) {
                tracing::info!(height, upto, "replaying");
            }
        }
        if let (Some(hash), Some(height)) = (app_hash, last.last_height) {
            self.compare_replayed(height.increment(), &hash, &last.app_hash)?;
        }
        Ok(Ready { app_height: upto, state: last })
    }

    fn block(&self, height: u64) -> Result<Arc<SealedBlock>, ExecutionError> {
        let block = Height::try_from(height).ok().map(|height| self.chain.block(height));
        block.transpose()?.flatten().ok_or_else(|| self.pruned())
    }

    fn pruned(&self) -> ExecutionError {
        let base = self.chain.base().map(|base| base.value());
        Misfit::Pruned { app: self.at, before_first: self.origin.before_first(), base }.into()
    }

    /// What the application computed before the block at `after`, against what that block (or the state) says.
    fn compare_replayed(
        &self,
        after: Height,
        found: &[u8],
        right: &[u8],
    ) -> Result<(), ExecutionError> {
        if found == right {
            return Ok(());
        }
        let (height, initial) = (after.value() - 1, self.origin.genesis.initial_height.value());
        let (app, chain) = (hex(found), hex(right));
        Err(Misfit::OtherReplay { height, initial, app, chain }.into())
    }
}

/// As much of the state before `height` as a request needs: V(height−1). None where that is pruned.
pub(super) fn votes_before(
    chain: &Chain,
    height: Height,
    last: &State,
) -> Result<Option<State>, ExecutionError> {
    let before = Height::try_from(height.value() - 1).ok();
    let last_validators = match before.filter(|before| *before >= last.initial_height) {
        Some(before) => match chain.validators(before)? {
            Some(validators) => Some(validators),
            None => return Ok(None),
        },
        None => None,
    };
    Ok(Some(State { last_validators, ..last.clone() }))
}

fn hex(bytes: &[u8]) -> String {
    hex::encode_upper(bytes)
}

fn compare_hash(found: &[u8], state: &State) -> Result<(), ExecutionError> {
    if found == state.app_hash {
        return Ok(());
    }
    let height = number(state.last_height, state.initial_height.value() - 1);
    Err(Misfit::OtherHash { height, app: hex(found), chain: hex(&state.app_hash) }.into())
}

/// Takes blocks that are stored but not in the state, with the stored answers where the application has executed them and by executing
/// them where not. `expected` is the application's hash, where it is ahead.
///
/// # Errors
/// Where a block does not follow, the application does not answer or the disk fails.
fn catch_up(
    app: &mut dyn Application,
    chain: &Chain,
    ready: &mut Ready,
    expected: Option<&[u8]>,
) -> Result<(), ExecutionError> {
    let app_height = ready.app_height;
    while let Some(block) = chain.block(ready.state.next_height())? {
        let height = block.header().height;
        check_sequence(&block, &ready.state)?;
        let known = height.value() <= ready.app_height;
        let results = if known {
            known_results(chain, height)?
        } else {
            let request = requests::finalize(&block, &ready.state);
            app.finalize_block(request).map_err(|error| ExecutionError::from(error).at(height))?
        };
        let applied = executed(chain, &ready.state, &block, results)?;
        if let Some(expected) = expected.filter(|_| height.value() == app_height) {
            compare_hash(expected, &applied.state)?;
        }
        chain.apply(&applied)?;
        if !known {
            chain.sync()?;
            app.commit().map_err(|error| ExecutionError::from(error).at(height))?;
            ready.app_height = height.value();
        }
        ready.state = applied.state;
    }
    Ok(())
}

fn validator_updates(validators: &Validators) -> Vec<ValidatorUpdate> {
    let update = |validator: &tercet_consensus::validators::Validator| ValidatorUpdate {
        pub_key: Some(validator.key.to_proto()),
        power: i64::try_from(validator.power).unwrap_or(i64::MAX),
    };
    validators.list().iter().map(update).collect()
}
