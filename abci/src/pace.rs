//! How soon a connection that broke is opened again. An application that closes it in the same call each time (one in Go that panics does:
//! CometBFT's server closes the connection, and goes on listening) would otherwise be asked thousands of times a second.

use std::time::{Duration, Instant};

/// The shortest and the longest wait.
pub(crate) const BACK_OFF_MIN: Duration = Duration::from_millis(50);
pub(crate) const BACK_OFF_MAX: Duration = Duration::from_secs(3);
/// A connection that held for as long broke of something new.
const HELD: Duration = Duration::from_secs(10);

/// The pace of one role.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    opened: Option<Instant>,
    back_off: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { opened: None, back_off: BACK_OFF_MIN }
    }
}

impl Pace {
    /// A connection is open now.
    pub(crate) fn opened(&mut self, now: Instant) {
        self.opened = Some(now);
    }

    /// How long to wait before it is opened again: not at all where it held, and longer each time where it did not.
    pub(crate) fn wait(&mut self, now: Instant) -> Duration {
        let held = self.opened.is_none_or(|opened| now.duration_since(opened) >= HELD);
        if held {
            self.back_off = BACK_OFF_MIN;
            return Duration::ZERO;
        }
        let wait = self.back_off;
        self.back_off = (wait * 2).min(BACK_OFF_MAX);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_breaks_again_and_again_is_opened_less_and_less_often() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        assert_eq!(pace.wait(now), Duration::ZERO, "it was never open");
        let mut waits = Vec::new();
        for _ in 0..8 {
            pace.opened(now);
            waits.push(pace.wait(now).as_millis());
        }
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 3000, 3000]);
        pace.opened(now);
        assert_eq!(pace.wait(now + HELD), Duration::ZERO, "it held");
        pace.opened(now);
        assert_eq!(pace.wait(now), BACK_OFF_MIN);
    }
}
