//! What is done with the data of a node that does not run: `tercet inspect`, `rollback` and `replay`.

use super::{Settings, Signals, ends, node_info, runtime, start_rpc, stores};
use crate::engine::journaled::{Reservation, compare};
use crate::events::Bus;
use crate::execution::replay::{self, Replayed};
use crate::rpc::Waiters;
use crate::rpc::sources::Sources;
use crate::sources::{Fault, Status, StatusParts, Stopped};
use crate::store::index::Index;
use crate::store::{Chain, Journal, State};
use anyhow::Context as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tendermint::block::Height;
use tercet_abci::Application;
use tercet_config::SignState;
use tercet_consensus::key::PublicKey;
use tercet_consensus::record::Record;

/// How long requests under way may take once a signal has come.
const STOP_MAX: Duration = Duration::from_secs(2);

/// Serves the RPC over the data of a stopped node until a signal comes. `serving` hears where, none for a Unix socket.
///
/// # Errors
/// Where a node runs, there is no data, or the address is taken.
pub fn inspect(
    mut settings: Settings,
    serving: impl FnOnce(Option<SocketAddr>),
) -> anyhow::Result<()> {
    anyhow::ensure!(settings.rpc.laddr.is_some(), "--rpc.laddr must say where to listen");
    settings.rpc.limits.stored_only = true;
    let chain = read_only(&settings)?;
    let index = match settings.is_indexed && settings.data.join("index").exists() {
        true => Some(Index::open_read_only(&settings.data.join("index")).map_err(ends::remedied)?),
        false => None,
    };
    let key =
        PublicKey::try_from(&settings.validator_secret.public()).context("the validator key")?;
    let (node, engine) = (Arc::new(node_info(&settings)), Arc::default());
    let parts = StatusParts {
        node,
        key,
        chain: chain.clone(),
        engine,
        fault: Fault::default(),
        audit: crate::audit::Audit::default(),
    };
    let sources = Sources {
        blocks: Arc::new(chain),
        pool: Arc::new(Stopped),
        evidence: Arc::new(Stopped),
        app: Arc::new(Stopped),
        net: Arc::new(Stopped),
        status: Arc::new(Status::new(parts)),
        bus: Bus::default(),
        index,
        waiters: Waiters::new(),
        genesis: Arc::new(settings.chain.shown.clone()),
    };
    let runtime = runtime("rpc", 2)?;
    let mut signals = {
        let _inside = runtime.enter();
        Signals::new()?
    };
    let doors = start_rpc(&settings, sources, &runtime)?;
    serving(doors.rpc);
    let signal = runtime.block_on(signals.asked());
    tracing::info!("{signal}: stopping");
    doors.stop.cancel();
    runtime.shutdown_timeout(STOP_MAX);
    Ok(())
}

/// The chain of a stopped node, to read.
fn read_only(settings: &Settings) -> anyhow::Result<Chain> {
    Chain::open_read_only(&settings.data.join("chain")).map_err(ends::remedied)
}

/// Puts the state of a stopped node back by a height, with `hard` the block too, and says the state.
///
/// # Errors
/// Where a node runs, there is no height before, or this key has signed what is to go.
pub fn rollback(settings: &Settings, hard: bool) -> anyhow::Result<State> {
    // Before anything is opened, which would create it.
    drop(read_only(settings)?);
    let mut journal = Journal::open(&settings.data.join("journal")).map_err(ends::remedied)?;
    let chain = Chain::open(&settings.data.join("chain")).map_err(ends::remedied)?;
    if let Some(top) = chain.height().filter(|_| hard) {
        check_unsigned(settings, (&journal, &chain), top)?;
    }
    let top = chain.height();
    let state = chain.rollback(hard)?;
    if let Some(top) = top.filter(|_| hard) {
        // Or it would be decided again from there.
        journal.forget_from(top).map_err(ends::remedied)?;
    }
    Ok(state)
}

/// A block that this key has signed is not removed: another vote at its height would be a double sign, and the block is decided.
fn check_unsigned(
    settings: &Settings,
    (journal, chain): (&Journal, &Chain),
    top: Height,
) -> anyhow::Result<()> {
    const INSTEAD: &str = "`tercet rollback` without --hard executes the block again, and `tercet reset` fetches the chain from peers";
    let file = SignState::load(&settings.sign_state)?;
    let file = file.and_then(|state| Height::try_from(state.height).ok());
    anyhow::ensure!(
        compare(journal.reserved(), file) == Reservation::Sound,
        "the journal does not fit priv_validator_state.json, so what this key has signed of block {top} is not known: {INSTEAD}"
    );
    let last = journal.last_height().map_err(ends::remedied)?;
    let mut at = top;
    let mut known = false;
    while last.is_some_and(|last| at <= last) {
        let records = journal.records(at).map_err(ends::remedied)?;
        known |= at == top && !records.is_empty();
        let signed = records.iter().any(|record| !matches!(record, Record::Decided { .. }));
        anyhow::ensure!(
            !signed,
            "this validator has signed at height {at}: block {top} is decided, and another vote at its height would be a double sign; {INSTEAD}"
        );
        at = at.increment();
    }
    // Without journal and file nothing says that it has not.
    let below = journal.reserved().is_some_and(|reserved| reserved < top);
    anyhow::ensure!(
        known || below || !may_sign(settings, chain, top)?,
        "neither the journal nor priv_validator_state.json says what this key has signed of block {top}, and it may have signed it: {INSTEAD}"
    );
    Ok(())
}

/// Whether this key is a validator's at `height`, as far as is known.
fn may_sign(settings: &Settings, chain: &Chain, height: Height) -> anyhow::Result<bool> {
    let key =
        PublicKey::try_from(&settings.validator_secret.public()).context("the validator key")?;
    let validators = chain.validators(height)?;
    Ok(validators.is_none_or(|validators| validators.index_of(&key.address()).is_some()))
}

/// Executes the stored blocks up to `to` (none: all) on `app` and compares.
///
/// # Errors
/// Where a node runs, the blocks are not there or the application does not answer.
pub fn replay(
    settings: &Settings,
    app: &mut dyn Application,
    span: replay::Span,
    progress: &mut dyn FnMut(Height),
) -> anyhow::Result<Replayed> {
    let chain = read_only(settings)?;
    Ok(replay::run(app, &chain, &stores::origin(settings), (span, progress))?)
}
