//! The engine's state, for those who only look.

use super::run::Engine;
use crate::events::{Step, VoteSeen};
use std::sync::Arc;
use std::time::Duration;
use tendermint::{Hash, Time};
use tercet_consensus::block::BlockId;
use tercet_consensus::key::Address;
use tercet_consensus::message::Phase;
use tercet_consensus::view::View;

/// The phases of votes, in the order in which a snapshot has them.
const PHASES: [Phase; 2] = [Phase::Prepare, Phase::Commit];
/// Votes alone are published so often: all of them are written anew each time, and there are twice as many as validators.
const VOTES_EVERY: Duration = Duration::from_millis(50);

/// The state.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Height, 0 before the start.
    pub height: u64,
    /// View.
    pub view: u32,
    /// Start view of the height.
    pub start_view: u32,
    /// Promised view.
    pub promise: Option<u32>,
    /// View and block hash of what is prepared.
    pub prepared: Option<(u32, Hash)>,
    /// The primary's address.
    pub primary: Option<Address>,
    /// Whether this node is a validator at this height.
    pub validator: bool,
    /// Why nothing is signed, where that is so.
    pub hold: Option<&'static str>,
    /// T in milliseconds.
    pub timeout_ms: u64,
    /// Validators directly connected.
    pub connected: Vec<Address>,
    /// Whether peers are ahead.
    pub behind: bool,
    /// By how many seconds the clock is ahead of the others', where it is wrong.
    pub clock_off_secs: Option<i64>,
    /// View changes since the start.
    pub view_changes: u64,
    /// When the height began here.
    pub since: Option<Time>,
    /// How far the view is.
    pub step: Option<Step>,
    /// The block that is accepted in the view.
    pub accepted: Option<BlockId>,
    /// The votes of the view: PREPARE, COMMIT; as they were when anything else changed last, or a moment ago.
    pub votes: [Arc<Vec<VoteSeen>>; 2],
}

impl Engine {
    pub(super) fn publish(&mut self) {
        let replica = self.parts.core.replica();
        let last = self.parts.snapshot.load_full();
        let view_now = (replica.height().value(), replica.view().number(), self.view_changes);
        let promise = replica.promise().map(View::number);
        let prepared = replica.prepared().map(|(view, id)| (view.number(), id.hash));
        let same = (last.height, last.view, last.view_changes) == view_now
            && (last.promise, last.prepared) == (promise, prepared)
            && last.start_view == replica.start_view().number()
            && last.hold == self.hold.reason()
            && last.clock_off_secs == self.clock.off_secs()
            && last.behind == self.parts.sync.is_behind()
            && (last.step, last.accepted) == (Some(self.phase()), replica.accepted())
            && last.connected.iter().copied().eq(self.peers.direct());
        let counted = PHASES.map(|phase| replica.votes(phase)) == [0, 1].map(|at| last.counted(at));
        let soon = self.now.instant.duration_since(self.votes_at) < VOTES_EVERY;
        if same && (counted || soon) {
            return;
        }
        let anew = last.height != view_now.0;
        let now = Snapshot {
            since: if anew { Some(self.now.time) } else { last.since },
            step: Some(self.phase()),
            accepted: replica.accepted(),
            votes: PHASES.map(|phase| self.votes(phase, &last)),
            height: view_now.0,
            view: view_now.1,
            start_view: replica.start_view().number(),
            promise,
            prepared,
            primary: Some(replica.primary()),
            validator: replica.is_validator(),
            hold: self.hold.reason(),
            timeout_ms: u64::try_from(self.parts.pace.timeout().as_millis()).unwrap_or(u64::MAX),
            connected: self.peers.direct().collect(),
            behind: self.parts.sync.is_behind(),
            clock_off_secs: self.clock.off_secs(),
            view_changes: self.view_changes,
        };
        self.tell_moves(&last, &now);
        self.parts.snapshot.store(Arc::new(now));
        self.votes_at = self.now.instant;
    }

    /// How far the view is.
    pub(super) fn phase(&self) -> Step {
        let replica = self.parts.core.replica();
        if replica.is_decided() {
            return Step::Commit;
        }
        match (replica.prepared(), replica.accepted()) {
            (Some((view, _)), _) if view == replica.view() => Step::Precommit,
            (_, Some(_)) => Step::Prevote,
            _ => Step::Propose,
        }
    }

    /// The votes of a phase in the view; those that were published, where there are no others.
    fn votes(&self, phase: Phase, last: &Snapshot) -> Arc<Vec<VoteSeen>> {
        let replica = self.parts.core.replica();
        let at = usize::from(phase == Phase::Commit);
        let is_view =
            (last.height, last.view) == (replica.height().value(), replica.view().number());
        if is_view && last.counted(at) == replica.votes(phase) {
            return last.votes.get(at).cloned().unwrap_or_default();
        }
        let indices = (0..).take(replica.validators().count());
        let votes = indices.filter_map(|index| replica.vote_of(phase, index));
        Arc::new(votes.map(VoteSeen::from).collect())
    }
}

impl Snapshot {
    fn counted(&self, phase: usize) -> usize {
        self.votes.get(phase).map_or(0, |votes| votes.len())
    }
}
