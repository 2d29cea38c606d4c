//! The engine's clock: when which timer is due.

use std::time::Instant;
use tercet_consensus::replica::{Timer, TimerKind};

/// The armed timers, one of each kind: arming one replaces the last of its kind, as the replica means it.
#[derive(Debug, Default)]
pub struct Timers(Vec<(Instant, Timer)>);

impl Timers {
    /// Arms `timer`.
    pub fn arm(&mut self, timer: Timer, at: Instant) {
        self.drop_kind(timer.kind);
        self.0.push((at, timer));
    }

    fn drop_kind(&mut self, kind: TimerKind) {
        self.0.retain(|(_, timer)| timer.kind != kind);
    }

    /// When the next one is due.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.0.iter().map(|(at, _)| *at).min()
    }

    /// Takes those that are due.
    pub fn due(&mut self, now: Instant) -> Vec<Timer> {
        let (due, later) = self.0.drain(..).partition(|(at, _)| *at <= now);
        self.0 = later;
        due.into_iter().map(|(_, timer): (Instant, Timer)| timer).collect()
    }
}
