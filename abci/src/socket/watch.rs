//! How long a call may take: for ever, but not in silence.

use super::connection::{Fault, Patience};
use super::{Settings, Stop};
use crate::application::Role;
use std::time::{Duration, Instant};

/// Watches one call.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    pub(super) settings: &'a Settings,
    pub(super) stop: &'a Stop,
    pub(super) role: Role,
    pub(super) method: &'static str,
    /// The height that it is about; 0 where it is about none.
    pub(super) height: i64,
    pub(super) since: Instant,
    /// After how long it warns next.
    pub(super) warn_after: Duration,
}

impl Watch<'_> {
    fn warn(&self, took: Duration) {
        let (method, role, seconds) = (self.method, self.role, took.as_secs());
        let height = (self.height > 0).then_some(self.height);
        tracing::warn!(
            method, %role, height, seconds,
            "the application has not answered yet: the node waits for it"
        );
    }
}

impl Patience for Watch<'_> {
    fn tick(&mut self) -> Result<(), Fault> {
        let took = self.since.elapsed();
        if self.stop.is_told() || self.settings.call_max.is_some_and(|most| took >= most) {
            return Err(Fault::GaveUp);
        }
        if took >= self.warn_after {
            self.warn(took);
            self.warn_after = self.warn_after.saturating_mul(2);
        }
        Ok(())
    }
}
