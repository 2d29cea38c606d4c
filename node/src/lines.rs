//! How many lines of one kind the log gets: what comes at every height or message must not bury what else there is to read.

use std::collections::HashSet;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Lines that may be written within a window: one about each key.
#[derive(Debug)]
pub(crate) struct Lines<K> {
    length: Duration,
    lines_max: usize,
    window: Option<Instant>,
    /// Whom the lines of this window are about; bounded by `lines_max`.
    told: HashSet<K>,
    suppressed: u64,
}

impl<K: Eq + Hash> Lines<K> {
    /// At most `lines_max` lines in a window of this length.
    pub(crate) fn new(length: Duration, lines_max: usize) -> Lines<K> {
        Lines { length, lines_max, window: None, told: HashSet::new(), suppressed: 0 }
    }

    /// Whether a line about `key` may be written now; says how many were left out before it.
    pub(crate) fn line(&mut self, key: K, now: Instant) -> Option<u64> {
        if self.window.is_none_or(|start| now.saturating_duration_since(start) >= self.length) {
            self.window = Some(now);
            self.told.clear();
        }
        if self.told.len() >= self.lines_max || !self.told.insert(key) {
            self.suppressed += 1;
            return None;
        }
        Some(std::mem::take(&mut self.suppressed))
    }

    /// Whether no line was asked for yet.
    #[cfg(test)]
    pub(crate) fn is_untouched(&self) -> bool {
        self.window.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_line_a_window_and_all_keys_together_no_more_than_their_most() {
        let (length, start) = (Duration::from_secs(10), Instant::now());
        let mut lines = Lines::new(length, 2);
        assert_eq!(lines.line('a', start), Some(0));
        assert_eq!(lines.line('a', start + length / 2), None);
        assert_eq!(lines.line('b', start + length / 2), Some(1));
        assert_eq!(lines.line('c', start + length / 2), None, "two are the most");
        assert_eq!(lines.line('a', start + length), Some(1), "another window");
    }
}
