//! The engine's state, for those who only look.

use super::run::Engine;
use std::sync::Arc;
use tendermint::Hash;
use tercet_consensus::key::Address;
use tercet_consensus::view::View;

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
}

impl Engine {
    pub(super) fn publish(&self) {
        let replica = self.parts.core.replica();
        let last = self.parts.snapshot.load();
        let view_now = (replica.height().value(), replica.view().number(), self.view_changes);
        let promise = replica.promise().map(View::number);
        let prepared = replica.prepared().map(|(view, id)| (view.number(), id.hash));
        let same = (last.height, last.view, last.view_changes) == view_now
            && (last.promise, last.prepared) == (promise, prepared)
            && last.start_view == replica.start_view().number()
            && last.hold == self.hold.reason()
            && last.clock_off_secs == self.clock.off_secs()
            && last.behind == self.parts.sync.is_behind()
            && last.connected.iter().copied().eq(self.peers.direct());
        if same {
            return;
        }
        self.parts.snapshot.store(Arc::new(Snapshot {
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
        }));
    }
}
