//! How long a call may take: for ever, but not in silence.

use super::{Settings, Stop};
use crate::application::Role;
use std::time::{Duration, Instant};

/// Watches one call.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) stop: &'a Stop,
    pub(crate) role: Role,
    pub(crate) method: &'static str,
    /// The height that it is about; 0 where it is about none.
    pub(crate) height: i64,
    pub(crate) since: Instant,
    /// After how long it warns next.
    pub(crate) warn_after: Duration,
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

/// The time is over, or the node stops.
#[derive(Debug, thiserror::Error)]
#[error("gave up")]
pub(crate) struct GaveUp;

impl Watch<'_> {
    /// Called now and then during a wait; an error ends it.
    pub(crate) fn tick(&mut self) -> Result<(), GaveUp> {
        let took = self.since.elapsed();
        if self.stop.is_told() || self.settings.call_max.is_some_and(|most| took >= most) {
            return Err(GaveUp);
        }
        if took >= self.warn_after {
            self.warn(took);
            self.warn_after = self.warn_after.saturating_mul(2);
        }
        Ok(())
    }
}
