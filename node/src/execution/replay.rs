//! Executes stored blocks again on an application and compares what comes of each with what the chain has: `tercet replay` finds the
//! first block of which something else comes. It reads the chain and changes the application.

use super::handshake::{Misfit, Origin, votes_before};
use super::updates::results_hash;
use super::{ExecutionError, State, requests};
use crate::store::Chain;
use std::fmt;
use tendermint::Hash;
use tendermint::block::Height;
use tendermint_proto::v0_38::abci::{ExecTxResult, ResponseFinalizeBlock};
use tercet_abci::Application;
use tercet_consensus::block::SealedBlock;

/// Which blocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    /// The first; none: the one after the application's height.
    pub from: Option<Height>,
    /// The last; none: the last that was executed here.
    pub to: Option<Height>,
}

/// What a replay found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// The first block that was executed again; none where there was none.
    pub from: Option<Height>,
    /// The last.
    pub to: Option<Height>,
    /// Where something else came of it: the last block, and what.
    pub difference: Option<Difference>,
    /// Blocks of which the log, the events or the like differ, which no hash covers: the first and how many.
    pub uncovered: Option<(Height, u64)>,
}

/// What came of a block that is not what the chain has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The block; none for `InitChain`.
    pub height: Option<Height>,
    /// What differs, first what led to it.
    pub what: Vec<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.height {
            Some(height) => write!(f, "block {height}: {}", self.what.join("; ")),
            None => write!(f, "InitChain: {}", self.what.join("; ")),
        }
    }
}

/// Executes the blocks of `span` on `app`, up to the first difference; `progress` hears of each block.
///
/// # Errors
/// Where the blocks are not there, the application is not where they begin, or does not answer.
pub fn run(
    app: &mut dyn Application,
    chain: &Chain,
    origin: &Origin,
    (span, progress): (Span, &mut dyn FnMut(Height)),
) -> Result<Replayed, ExecutionError> {
    let state = chain.state()?.ok_or(Misfit::NothingToReplay)?;
    let last = state.last_height.ok_or(Misfit::NothingToReplay)?;
    let info = app.info(origin.info())?;
    let at = u64::try_from(info.last_block_height)
        .map_err(|_| Misfit::Negative(info.last_block_height))?;
    let first = at.max(state.initial_height.value() - 1) + 1;
    let to = span.to.map_or(last, |to| to.min(last)).value();
    let begins = span.from.is_none_or(|from| from.value() == first);
    if !begins || first > to {
        return Err(Misfit::ReplaySpan { app: at, first, last: to }.into());
    }
    if chain.base().is_none_or(|base| base.value() > first) {
        let base = chain.base().map(|base| base.value());
        let before_first = state.initial_height.value() - 1;
        return Err(Misfit::Pruned { app: at, before_first, base }.into());
    }
    let mut replayed = Replayed { from: None, to: None, difference: None, uncovered: None };
    let replay = Replay { chain, last: &state };
    if at == 0 {
        replayed.difference = replay.init(app, origin, &info)?;
    }
    for height in first..=to {
        if replayed.difference.is_some() {
            break;
        }
        let height = Height::try_from(height).map_err(|_| Misfit::NothingToReplay)?;
        let (difference, uncovered) = replay.block(app, height)?;
        replayed.from = replayed.from.or(Some(height));
        replayed.to = Some(height);
        replayed.difference = difference;
        if uncovered {
            let (first, count) = replayed.uncovered.unwrap_or((height, 0));
            replayed.uncovered = Some((first, count + 1));
        }
        progress(height);
    }
    Ok(replayed)
}

/// A replay under way.
struct Replay<'a> {
    chain: &'a Chain,
    last: &'a State,
}

impl Replay<'_> {
    /// Tells a new application of the chain, and compares the hash that the first block says.
    fn init(
        &self,
        app: &mut dyn Application,
        origin: &Origin,
        info: &tendermint_proto::v0_38::abci::ResponseInfo,
    ) -> Result<Option<Difference>, ExecutionError> {
        let answer = app.init_chain(origin.init_chain())?;
        let begun = origin.begun(info, &answer)?;
        let first = self.chain.meta(self.last.initial_height)?;
        let mut what = Vec::new();
        if let Some(first) = first {
            let right = first.header.app_hash.as_bytes();
            differs(&mut what, "application hash", hex(&begun.app_hash), hex(right));
            let sets = (begun.validators.hash(), first.header.validators_hash);
            differs(&mut what, "validators hash", sets.0, sets.1);
        }
        Ok((!what.is_empty()).then_some(Difference { height: None, what }))
    }

    /// Executes a block: what differs of what hashes cover, and whether anything else does.
    fn block(
        &self,
        app: &mut dyn Application,
        height: Height,
    ) -> Result<(Option<Difference>, bool), ExecutionError> {
        let gone = || Misfit::NotStored(height);
        let block = self.chain.block(height)?.ok_or_else(gone)?;
        let state = votes_before(self.chain, height, self.last)?.ok_or_else(gone)?;
        let found = app.finalize_block(requests::finalize(&block, &state))?;
        app.commit()?;
        let mut what = Vec::new();
        let stored = self.chain.results(height)?;
        if let Some(stored) = &stored {
            compare_answers(&mut what, &found, stored);
        }
        let (app_hash, results) = self.after(&block)?;
        differs(&mut what, "application hash", hex(&found.app_hash), hex(&app_hash));
        let found_results = Some(results_hash(&found.tx_results));
        differs(&mut what, "results hash", shown(found_results), shown(results));
        let uncovered = what.is_empty() && stored.is_some_and(|stored| stored != found);
        Ok(((!what.is_empty()).then_some(Difference { height: Some(height), what }), uncovered))
    }

    /// The hashes of application and results after a block: the next block says them, or the state.
    fn after(&self, block: &SealedBlock) -> Result<(Vec<u8>, Option<Hash>), ExecutionError> {
        let height = block.header().height;
        if self.last.last_height == Some(height) {
            return Ok((self.last.app_hash.clone(), self.last.last_results_hash));
        }
        let next = self.chain.meta(height.increment())?;
        let header = next.ok_or(Misfit::NotStored(height.increment()))?.header;
        Ok((header.app_hash.as_bytes().to_vec(), header.last_results_hash))
    }
}

/// What differs between two answers to a block, of what all nodes must agree on.
fn compare_answers(
    what: &mut Vec<String>,
    found: &ResponseFinalizeBlock,
    right: &ResponseFinalizeBlock,
) {
    differs(what, "number of results", found.tx_results.len(), right.tx_results.len());
    let pairs = found.tx_results.iter().zip(&right.tx_results);
    if let Some((index, (found, right))) =
        pairs.enumerate().find(|(_, (found, right))| covered(found) != covered(right))
    {
        differs(what, &format!("transaction {index}: code"), found.code, right.code);
        differs(what, &format!("transaction {index}: data"), hex(&found.data), hex(&right.data));
        let gas = |result: &ExecTxResult| (result.gas_wanted, result.gas_used);
        let (found, right) = (gas(found), gas(right));
        differs(what, &format!("transaction {index}: gas wanted"), found.0, right.0);
        differs(what, &format!("transaction {index}: gas used"), found.1, right.1);
    }
    if found.validator_updates != right.validator_updates {
        what.push("other validator updates".into());
    }
    if found.consensus_param_updates != right.consensus_param_updates {
        what.push("other consensus parameter updates".into());
    }
}

/// What a results hash covers of a result.
fn covered(result: &ExecTxResult) -> (u32, &[u8], i64, i64) {
    (result.code, &result.data, result.gas_wanted, result.gas_used)
}

fn differs<T: PartialEq + fmt::Display>(what: &mut Vec<String>, name: &str, found: T, right: T) {
    if found != right {
        what.push(format!("{name} {found}, and the chain has {right}"));
    }
}

fn hex(bytes: &[u8]) -> String {
    hex::encode_upper(bytes)
}

fn shown(hash: Option<Hash>) -> String {
    hash.map_or_else(|| "none".into(), |hash| hash.to_string())
}
