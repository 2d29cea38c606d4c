//! How many messages of one author are verified: a validator can sign as many as it likes, each of them valid, and each costs whoever verifies
//! it the time of a signature.
//!
//! A correct validator signs at most four messages in a view (PRE-PREPARE or NEW-VIEW, PREPARE, COMMIT, VIEW-CHANGE), and the views of a height
//! last T, 2 T, 4 T and so on, but for those whose primary proposes what is refused: each of them may be over within milliseconds, as long as
//! fewer views of the height have failed than there are validators (`docs/adr/009`). Where it joins others in a later view it signs one
//! VIEW-CHANGE for that. What it said long ago comes back as an answer to STATUS: votes in at most eight views, and one VIEW-CHANGE. So with n
//! validators it signs at most [`PER_VIEW`] n messages in views that fail at once, and the others of a second stay far below [`FRESH_MAX`]. Only
//! messages that its key has signed are counted, so nobody can use up what is another's, and a copy of what was verified is not counted. What
//! comes beyond is lost as on a bad network; that of a correct validator would come back by STATUS a second later.

use std::collections::HashMap;
use std::time::{Duration, Instant};
use tendermint::block::Height;
use tercet_consensus::key::Address;

/// So many new messages of one author and height are verified within [`WINDOW`], beside those of views that fail at once.
const FRESH_MAX: u32 = 64;
/// So many more for each validator of the height: what a correct one signs in a view.
const PER_VIEW: u32 = 4;
/// See [`FRESH_MAX`].
const WINDOW: Duration = Duration::from_secs(1);

/// Counts messages whose signatures were new and good. Bounded by what can be verified in a [`WINDOW`].
#[derive(Debug, Default)]
pub(super) struct Fresh {
    since: Option<Instant>,
    counts: HashMap<(Height, Address), u32>,
}

impl Fresh {
    /// Whether a message of `author` at `height` is worth a look.
    pub(super) fn allows(
        &mut self,
        (height, author): (Height, Address),
        validators: usize,
        now: Instant,
    ) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            self.since = Some(now);
            self.counts.clear();
        }
        self.counts.get(&(height, author)).is_none_or(|count| *count < fresh_max(validators))
    }

    /// One of them was verified.
    pub(super) fn add(&mut self, height: Height, author: Address) {
        let count = self.counts.entry((height, author)).or_default();
        *count = count.saturating_add(1);
    }
}

/// How many new messages of an author are verified where the height has so many validators.
fn fresh_max(validators: usize) -> u32 {
    let views = u32::try_from(validators).unwrap_or(u32::MAX);
    FRESH_MAX.saturating_add(PER_VIEW.saturating_mul(views))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_author_is_verified_a_few_times_a_height_and_second_and_others_are_not_held_up() {
        let (mut fresh, now) = (Fresh::default(), Instant::now());
        let (author, other) = (Address::new([1; 20]), Address::new([2; 20]));
        let (height, next) = (Height::from(7u32), Height::from(8u32));
        for _ in 0..FRESH_MAX + 4 * PER_VIEW {
            assert!(fresh.allows((height, author), 4, now));
            fresh.add(height, author);
        }
        assert!(!fresh.allows((height, author), 4, now) && fresh.allows((height, author), 5, now));
        assert!(fresh.allows((next, author), 4, now) && fresh.allows((height, other), 4, now));
        assert!(fresh.allows((height, author), 4, now + WINDOW));
        assert_eq!(fresh.counts.len(), 0, "what is over is forgotten");
    }
}
