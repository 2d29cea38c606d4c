//! The timers of a height: one enum and one table. Source: docs/protocol.md §5 "Timers".

use super::{Action, Replica};
use crate::view::View;
use std::time::Duration;
use tendermint::block::Height;

/// The longest that a timer runs, however many views have failed.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimerKind {
    /// Until a pre-prepare is accepted, while there is something to order.
    Propose,
    /// From accepting a pre-prepare to the decision.
    Commit,
    /// From a quorum that asks for my promised view, or a later one, to entering a view.
    NewView,
    /// A primary's wait for late COMMITs.
    Grace,
    /// Until a promised VIEW-CHANGE is signed; then it is asked for again.
    Signer,
}

/// A timer event; where anything in it is stale, it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// The height it was armed at.
    pub height: Height,
    /// The view (for [`TimerKind::NewView`], the promise) it was armed for.
    pub view: View,
    /// Its kind.
    pub kind: TimerKind,
    /// Its generation: each arming has a new one.
    pub generation: u64,
}

/// The timers that run, by kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Running {
    propose: Option<Timer>,
    commit: Option<Timer>,
    new_view: Option<Timer>,
    grace: Option<Timer>,
    signer: Option<Timer>,
}

impl Running {
    fn slot(&mut self, kind: TimerKind) -> &mut Option<Timer> {
        match kind {
            TimerKind::Propose => &mut self.propose,
            TimerKind::Commit => &mut self.commit,
            TimerKind::NewView => &mut self.new_view,
            TimerKind::Grace => &mut self.grace,
            TimerKind::Signer => &mut self.signer,
        }
    }

    /// Whether the wait for late COMMITs runs.
    pub(super) fn grace_runs(&self) -> bool {
        self.grace.is_some()
    }

    /// Whether this very timer runs; if so, it does no more.
    pub(super) fn take(&mut self, timer: Timer) -> bool {
        let slot = self.slot(timer.kind);
        let runs = *slot == Some(timer);
        if runs {
            *slot = None;
        }
        runs
    }
}

impl Replica {
    /// Starts the timers that should run and drops those that should not.
    ///
    /// Propose and commit run only while promise <= view; propose ends at an accepted pre-prepare and runs only while there is
    /// something to order. Commit runs from accepting a pre-prepare. New-view runs for my promise p from when senders, myself
    /// included, whose highest VIEW-CHANGE is **>= p** hold a quorum.
    pub(super) fn rule_timers(&mut self, out: &mut Vec<Action>) {
        let view = self.at.view;
        let signs = self.signs();
        let voting = signs && self.at.promise.is_none_or(|promise| promise.view <= view);
        let accepted = self.has_accepted();
        let propose = voting && !accepted && (self.at.work || self.at.others_are_active());
        self.keep(TimerKind::Propose, propose.then_some(view), out);
        self.keep(TimerKind::Commit, (voting && accepted).then_some(view), out);
        let promise = self.at.promise.map(|promise| promise.view).filter(|p| signs && *p > view);
        let wanted = promise.filter(|p| self.at.quorum_asks_for(*p));
        self.keep(TimerKind::NewView, wanted, out);
        let unsigned = self.unsigned_view_change().map(|message| message.view);
        self.keep(TimerKind::Signer, unsigned.filter(|_| signs), out);
        self.hurry_dead_primary(out);
    }

    /// Whether it signs at all at this height: a validator, not held back nor halted by an alarm, nothing decided, no COMMIT quorum whose block is missing.
    pub(super) fn signs(&self) -> bool {
        self.at.me.is_some()
            && !self.hold
            && !self.halted
            && self.at.decision.is_none()
            && self.at.commit_quorum.is_none()
    }

    /// Makes the timer of `kind` run for `wanted`, or not at all.
    fn keep(&mut self, kind: TimerKind, wanted: Option<View>, out: &mut Vec<Action>) {
        let slot = self.at.timers.slot(kind);
        match wanted {
            None => *slot = None,
            Some(view) if slot.is_some_and(|timer| timer.view == view) => {}
            Some(view) => {
                let after =
                    if kind == TimerKind::Signer { self.timeout } else { self.backoff(view) };
                let _ = self.arm(kind, view, after, out);
            }
        }
    }

    /// Starts the wait for late COMMITs.
    pub(super) fn arm_grace(&mut self, out: &mut Vec<Action>) {
        let (view, after) = (self.at.view, self.settings.commit_grace);
        let _ = self.arm(TimerKind::Grace, view, after, out);
    }

    fn arm(
        &mut self,
        kind: TimerKind,
        view: View,
        after: Duration,
        out: &mut Vec<Action>,
    ) -> Timer {
        self.generation += 1;
        let timer = Timer { height: self.height(), view, kind, generation: self.generation };
        *self.at.timers.slot(kind) = Some(timer);
        out.push(Action::Arm { timer, after });
        timer
    }

    /// *disconnected primary*: where the direct connection to the primary is closed and refused, the running propose or commit timer
    /// expires after `disconnect_grace`, at most once a height.
    fn hurry_dead_primary(&mut self, out: &mut Vec<Action>) {
        let running = self.at.timers.propose.or(self.at.timers.commit);
        let Some(timer) = running.filter(|_| !self.at.hurried) else { return };
        let short = self.at.short == Some(timer);
        if !short && self.down.contains(&self.at.primary_address(self.at.view)) {
            let after = self.settings.disconnect_grace.min(self.backoff(timer.view));
            self.at.short = Some(self.arm(timer.kind, timer.view, after, out));
        }
    }

    /// T·2^(k − start view), capped.
    fn backoff(&self, k: View) -> Duration {
        let exponent = k.number().saturating_sub(self.at.start_view().number());
        let factor = 1u32.checked_shl(exponent).unwrap_or(u32::MAX);
        self.timeout.saturating_mul(factor).min(BACKOFF_MAX)
    }
}
