//! The handshake table: every combination of heights that a start may find, each either mended or refused. docs/handshake.md has the
//! same cells in words.

use tendermint::block::Height;

/// Where application and home are at a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// A: the height that the application says.
    pub(super) app: u64,
    /// T: the height of the state, that before the first block where there is no state.
    pub(super) state: u64,
    /// Whether there is a state.
    pub(super) begun: bool,
    /// The lowest and the highest stored block, S.
    pub(super) blocks: Option<(u64, u64)>,
    /// The height before the chain's first block.
    pub(super) before_first: u64,
}

/// What is done, where application and home belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// The chain has not begun: `InitChain`, and its answer counts.
    Begin,
    /// The application has forgotten everything: `InitChain`, then all blocks.
    Forgot,
    /// The application lacks the last blocks: they are executed again.
    Behind,
    /// Both are at one height, with one hash.
    Level,
    /// The application has executed blocks that are stored and not in the state: their stored answers are taken.
    Ahead,
}

/// Why application and home do not belong together, with what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// There is no such height.
    #[error("the application says that it is at height {0}, which is none: mend it")]
    Negative(i64),
    /// Blocks and no state, or a state above all blocks.
    #[error(
        "data/chain is not of one moment: its highest block is {top} and its state of height {state}; `tercet reset` removes it, and the \
         chain comes from peers again"
    )]
    Torn {
        /// The highest block.
        top: u64,
        /// The height of the state, 0 for none.
        state: u64,
    },
    /// The application has data of heights before the chain's first.
    #[error(
        "the application is at height {app} and this chain begins at {initial}: its data is of another chain; empty the application, or \
         give the node the one of this chain"
    )]
    OtherChain {
        /// The application's height.
        app: u64,
        /// The chain's first height.
        initial: u64,
    },
    /// The application has executed what this home does not know.
    #[error(
        "the application is at height {app}, above what this home has executed ({state}): restore data/ and the application's data of one \
         moment, roll the application back to {state}, or reset both and fetch the chain from peers"
    )]
    Ahead {
        /// The application's height.
        app: u64,
        /// The state's.
        state: u64,
    },
    /// The blocks that the application lacks are pruned.
    #[error(
        "the application is at height {app} and needs block {}, and {}: restore a backup or snapshot of the application's data{}, or \
         reset both and begin behind a snapshot",
        .app.max(.before_first) + 1,
        lowest(*.base),
        at_least(*.base)
    )]
    Pruned {
        /// The application's height.
        app: u64,
        /// The height before the chain's first block.
        before_first: u64,
        /// The lowest stored block.
        base: Option<u64>,
    },
    /// Another hash at one height.
    #[error(
        "at height {height} the application's hash is {app} and the chain's is {chain}: its data is not that of this chain, or it is not \
         deterministic. `tercet replay` finds the first block that differs; then restore the application's data, or empty it and the \
         node replays the chain to it"
    )]
    OtherHash {
        /// The height after which they differ.
        height: u64,
        /// What the application says, in hexadecimal.
        app: String,
        /// What the chain says.
        chain: String,
    },
    /// Another hash in a replay: the block after it says the right one.
    #[error(
        "executed again, {} led the application to hash {app} and the chain has {chain}: the application is not deterministic, or of \
         another version; `tercet replay` shows the difference, then start with the version that the chain was made with",
        what(*.height, *.initial)
    )]
    OtherReplay {
        /// The height of the block that was executed.
        height: u64,
        /// The chain's first height.
        initial: u64,
        /// What the application computed.
        app: String,
        /// What the chain says.
        chain: String,
    },
    /// What the application answered to `InitChain` is not what it answered before.
    #[error(
        "the application came back empty and answers InitChain with something else than before: it is not deterministic, or another; \
         start again with the one of this chain"
    )]
    OtherBeginning,
    /// The application is ahead, and its answer is not there.
    #[error(
        "the application has executed block {0}, and what it answered is not in this home: restore data/ and the application's data of \
         one moment, or reset both"
    )]
    NoAnswer(Height),
    /// No block was executed here.
    #[error("data/chain holds no executed block: there is nothing to replay")]
    NothingToReplay,
    /// A block, or what belongs to it, is missing in the middle.
    #[error(
        "block {0} or what belongs to it is not stored: `tercet reset` fetches the chain from peers"
    )]
    NotStored(Height),
    /// The application is not where the replay is to begin.
    #[error(
        "the application is at height {app}, so a replay begins with block {first}, and the last block is {last}: give it an application \
         that is empty, or right before the first block to replay"
    )]
    ReplaySpan {
        /// The application's height.
        app: u64,
        /// The block after it.
        first: u64,
        /// The last block of the replay.
        last: u64,
    },
    /// Nobody names the first validators.
    #[error(
        "genesis.json names no validators, and the application's answer to InitChain does not either: one of them must"
    )]
    NoValidators,
}

fn lowest(base: Option<u64>) -> String {
    base.map_or_else(|| "no block is stored".into(), |base| format!("the lowest stored is {base}"))
}

fn at_least(base: Option<u64>) -> String {
    base.map_or_else(String::new, |base| format!(" at height {} or above", base.saturating_sub(1)))
}

fn what(height: u64, initial: u64) -> String {
    if height < initial { "InitChain".into() } else { format!("block {height}") }
}

impl Found {
    /// The cell of the table. `answered` says whether the answer to the block of a height is stored.
    ///
    /// # Errors
    /// The misfit, or the error of `answered`.
    pub(super) fn cell<E>(
        &self,
        answered: impl FnMut(u64) -> Result<bool, E>,
    ) -> Result<Result<Cell, Misfit>, E> {
        let Found { app, state, begun, blocks, before_first } = *self;
        if let Some((_, top)) = blocks
            && (!begun || top < state)
        {
            return Ok(Err(Misfit::Torn { top, state: if begun { state } else { 0 } }));
        }
        if app > state {
            return self.ahead(answered);
        }
        if app != 0 && app < before_first {
            return Ok(Err(Misfit::OtherChain { app, initial: before_first + 1 }));
        }
        let needed = app.max(before_first) + 1;
        let base = blocks.map(|(base, _)| base);
        Ok(if app == 0 && state == before_first {
            Ok(Cell::Begin)
        } else if app == state {
            Ok(Cell::Level)
        } else if base.is_none_or(|base| base > needed) {
            Err(Misfit::Pruned { app, before_first, base })
        } else if app == 0 {
            Ok(Cell::Forgot)
        } else {
            Ok(Cell::Behind)
        })
    }

    /// The application is ahead of the state: by blocks that are stored with their answers, or by what is not here.
    fn ahead<E>(
        &self,
        mut answered: impl FnMut(u64) -> Result<bool, E>,
    ) -> Result<Result<Cell, Misfit>, E> {
        let Found { app, state, blocks, .. } = *self;
        let stored =
            self.begun && blocks.is_some_and(|(base, top)| base <= state + 1 && app <= top);
        let mut all = stored;
        let mut height = state;
        while all && height < app {
            height += 1;
            all = answered(height)?;
        }
        Ok(if all { Ok(Cell::Ahead) } else { Err(Misfit::Ahead { app, state }) })
    }
}

/// The number of a height, that before the first block where there is none.
pub(super) fn number(height: Option<Height>, before_first: u64) -> u64 {
    height.map_or(before_first, |height| height.value())
}
