//! Whether the node keeps the order of calls that ABCI promises to applications.
//!
//! A [`Grammar`] watches the calls of all four roles of one application, over restarts of the node and broken connections. A call that
//! CometBFT's specification does not allow where it comes fails with [`crate::AppError::Disorder`], without reaching the application, and is
//! remembered. Tests and test networks have it listen; a [`Checker`] alone is for those that make no ABCI calls, such as a simulator.
//!
//! # The order
//!
//! Source: CometBFT 0.38 `spec/abci/abci++_comet_expected_behavior.md`, whose grammar is
//!
//! ```text
//! start               = clean-start / recovery
//! clean-start         = init-chain [state-sync] consensus-exec
//! state-sync          = *state-sync-attempt success-sync info
//! state-sync-attempt  = offer-snapshot *apply-chunk
//! success-sync        = offer-snapshot 1*apply-chunk
//! recovery            = info consensus-exec
//! consensus-exec      = (inf)consensus-height
//! consensus-height    = *consensus-round decide commit
//! consensus-round     = proposer / non-proposer
//! proposer            = *got-vote [prepare-proposal [process-proposal]] [extend]
//! extend              = *got-vote extend-vote *got-vote
//! non-proposer        = *got-vote [process-proposal] [extend]
//! ```
//!
//! with `Echo`, `Flush`, `CheckTx`, `Query`, `ListSnapshots`, `LoadSnapshotChunk`, and `Info` for clients, anywhere. Requests do not tell the
//! round, and a height has any number of rounds with any of their calls left out, so what can be seen of the rounds is that their calls are
//! about the height that is next. What the text around the grammar says is checked as well: `InitChain` exactly where the application is at
//! height 0; a replay that begins after the height that `Info` told; chunks only after a snapshot that was accepted; and the same block in each
//! `FinalizeBlock` of one height.
//!
//! Where it is wider than the text:
//! - `InitChain` may be left out before a state sync: CometBFT 0.38 leaves it out (`node/node.go`), and its specification of 1.0 says so.
//! - A `VerifyVoteExtension` may be about the height before: COMMITs that come late are verified too.
//!
//! And the four connections are what `proxy/app_conn.go` makes of them: blocks go over that of consensus, snapshots over their own.

mod checked;
mod rules;

#[cfg(test)]
mod tests;

pub use rules::{Call, Checker, Disorder};

use crate::application::{Application, Role, Roles};
use checked::Checked;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The variable that has a node watch its own calls (for test networks); a call in disorder ends it.
pub const VARIABLE: &str = "TERCET_CHECK_ABCI";
/// How the line begins that a node leaves with then.
pub const DISORDER: &str = "the order of calls is not that of ABCI";

/// The most disorders that are remembered: each ends a node.
const DISORDERS_MAX: usize = 16;

/// The order of all calls that one application sees. Clones watch the same application.
#[derive(Clone, Debug, Default)]
pub struct Grammar(Arc<Mutex<Watched>>);

#[derive(Debug, Default)]
struct Watched {
    checker: Checker,
    disorders: Vec<Disorder>,
}

impl Grammar {
    /// Watches the roles of the application from the start of a node on.
    #[must_use]
    pub fn watch(&self, roles: Roles) -> Roles {
        let Roles { query, snapshot, mempool, consensus } = roles;
        Roles {
            query: self.watch_role(Role::Query, query),
            snapshot: self.watch_role(Role::Snapshot, snapshot),
            mempool: self.watch_role(Role::Mempool, mempool),
            consensus: self.watch_role(Role::Consensus, consensus),
        }
    }

    /// Watches one role of it; that of consensus from the start of a node on.
    #[must_use]
    pub fn watch_role(&self, role: Role, app: Box<dyn Application>) -> Box<dyn Application> {
        if role == Role::Consensus {
            self.watched().checker.begin();
        }
        Box::new(Checked::new(app, role, self.clone()))
    }

    /// What was not in order so far.
    #[must_use]
    pub fn disorders(&self) -> Vec<Disorder> {
        self.watched().disorders.clone()
    }

    fn change(
        &self,
        change: impl FnOnce(&mut Checker) -> Result<(), Disorder>,
    ) -> Result<(), Disorder> {
        let mut watched = self.watched();
        let changed = change(&mut watched.checker);
        if let Err(disorder) = &changed
            && watched.disorders.len() < DISORDERS_MAX
        {
            watched.disorders.push(disorder.clone());
        }
        changed
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        // Nothing panics while it holds this.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
