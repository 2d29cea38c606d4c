//! What is on disk at a start: journal, chain, the signing watermark, and the application's state.

use super::{Settings, ends};
use crate::engine::journaled::{Reservation, compare};
use crate::execution::handshake::{self, Origin, Ready};
use crate::rpc::COMPATIBLE_VERSION;
use crate::store::index::Index;
use crate::store::{Chain, Journal};
use anyhow::Context as _;
use tendermint::block::Height;
use tercet_abci::Application;
use tercet_config::SignState;
use tercet_consensus::key::PublicKey;

/// The databases, open: no other process has this home.
pub(super) struct Stores {
    journal: Journal,
    chain: Chain,
}

/// The stores, open and in step with the application.
pub(super) struct Opened {
    pub(super) journal: Journal,
    pub(super) chain: Chain,
    /// The index, where there is one.
    pub(super) index: Option<Index>,
    /// Sign nothing up to this height.
    pub(super) stale_until: Option<Height>,
    pub(super) ready: Ready,
}

impl Stores {
    pub(super) fn open(settings: &Settings) -> anyhow::Result<Stores> {
        let journal = Journal::open(&settings.data.join("journal")).map_err(ends::remedied)?;
        let chain = Chain::open(&settings.data.join("chain")).map_err(ends::remedied)?;
        check_genesis(settings, &chain)?;
        Ok(Stores { journal, chain })
    }

    /// Brings chain and application together.
    pub(super) fn ready(
        self,
        settings: &Settings,
        key: PublicKey,
        app: &mut dyn Application,
    ) -> anyhow::Result<Opened> {
        let Stores { journal, chain } = self;
        ready(settings, key, app, (journal, chain))
    }
}

/// The data must be of the chain that the genesis describes.
fn check_genesis(settings: &Settings, chain: &Chain) -> anyhow::Result<()> {
    let (stored, wanted) = (chain.genesis_hash()?, settings.chain.genesis_hash);
    match stored {
        None => Ok(chain.set_genesis_hash(&wanted)?),
        Some(stored) if stored == wanted => Ok(()),
        Some(_) => anyhow::bail!(
            "{} holds a chain of another genesis than genesis.json ({}): use the chain's own genesis.json, or another home",
            settings.data.display(),
            settings.chain.id()
        ),
    }
}

fn ready(
    settings: &Settings,
    key: PublicKey,
    app: &mut dyn Application,
    (journal, chain): (Journal, Chain),
) -> anyhow::Result<Opened> {
    let stale_until = watermark(settings, &journal)?;
    if let Some(until) = stale_until {
        tracing::error!(
            %until, validator = %key.address(),
            "the journal does not fit priv_validator_state.json: data/ was lost, restored or copied. This node signs nothing until the \
             chain has passed that height. Only if nothing that this key signed is of use any more, `tercet reset --unsafe` begins anew"
        );
    }
    let ready = handshake::start(app, &chain, &origin(settings))?;
    // After the handshake, which may bring the chain to another height.
    let index = match settings.is_indexed {
        true => Some(Index::open(&settings.data.join("index"), &chain).map_err(ends::remedied)?),
        false => None,
    };
    Ok(Opened { journal, chain, index, stale_until, ready })
}

/// What the application is told of the chain and the node.
pub(super) fn origin(settings: &Settings) -> Origin {
    Origin {
        genesis: settings.chain.genesis.clone(),
        names_validators: settings.chain.names_validators,
        app_state: settings.chain.app_state.clone(),
        version: COMPATIBLE_VERSION,
    }
}

/// Compares the journal's watermark with the file's, and completes an interrupted write.
fn watermark(settings: &Settings, journal: &Journal) -> anyhow::Result<Option<Height>> {
    let path = &settings.sign_state;
    let file = SignState::load(path)?;
    let height = |state: &SignState| Height::try_from(state.height).ok();
    match compare(journal.reserved(), file.as_ref().and_then(height)) {
        Reservation::Stale(until) => Ok(Some(until)),
        Reservation::Sound => {
            let reserved = journal.reserved().map_or(0, |height| height.value());
            if file.is_none_or(|file| file.height != reserved) {
                SignState { height: reserved }.save(path).context("the signing watermark")?;
            }
            Ok(None)
        }
    }
}
