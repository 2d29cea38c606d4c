//! How much one peer is sent in answer to its STATUS. A STATUS says what its sender lacks, and nobody can tell whether that is true: one that
//! says it lacks everything, fifty times a second, is sent no more than its share. What is left out comes with one of the next answers: each
//! begins where the last one ended, so nothing is left out twice before all else that is lacking was sent.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tendermint::block::Height;
use tercet_consensus::replica::Lacking;
use tercet_consensus::validators::ValidatorIndex;
use tercet_consensus::view::View;

/// No peer is sent the same VIEW-CHANGE again within this; a STATUS round takes a little longer, so a regular STATUS is answered in full.
const VIEW_CHANGE_AGAIN: Duration = Duration::from_millis(60);

/// How many bytes a peer is sent, bodies not counted: these have a bound of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// A second, in the long run.
    a_second: usize,
    /// At once.
    at_once: usize,
}

/// The share of a validator: several times all that a hundred validators sign in a view that fails.
pub(super) const VALIDATOR: Share = Share { a_second: 4 << 20, at_once: 4 << 20 };
/// The share of any other peer.
pub(super) const STRANGER: Share = Share { a_second: 256 << 10, at_once: 1 << 20 };

/// What one peer was sent lately.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Bytes that were sent and that time has not made up for, and when that was so.
    owed: Option<(usize, Instant)>,
    height: Option<Height>,
    /// The place of the last message of an answer that was cut short.
    last: Option<(u8, View, ValidatorIndex)>,
    /// The VIEW-CHANGEs of this height that were sent, and when.
    view_changes: BTreeMap<ValidatorIndex, (View, Instant)>,
}

impl Answers {
    /// What is to be sent now of what a peer is `lacking` at `height`; notes that it is. Whatever its length, one message more is sent as
    /// long as less than the share was.
    pub(super) fn choose<'a>(
        &mut self,
        mut lacking: Vec<Lacking<'a>>,
        height: Height,
        share: Share,
        now: Instant,
    ) -> Vec<Lacking<'a>> {
        if self.height.replace(height) != Some(height) {
            self.last = None;
            self.view_changes.clear();
        }
        lacking.retain(|message| !self.was_sent(message, now));
        lacking.sort_by_key(Lacking::place);
        let start = lacking.partition_point(|m| Some(m.place()) <= self.last);
        lacking.rotate_left(start);
        let mut owed = self.owed_at(share, now);
        let mut last = None;
        let sent = lacking.iter().take_while(|message| {
            // Those that share a place go together, or one of them could be left out for ever.
            let goes = owed < share.at_once || last == Some(message.place());
            if goes {
                owed = owed.saturating_add(cost(message));
                last = Some(message.place());
            }
            goes
        });
        let sent = sent.count();
        if sent == lacking.len() {
            self.last = None;
        } else if sent > 0 {
            self.last = last;
        }
        lacking.truncate(sent);
        self.owed = Some((owed, now));
        self.note_view_changes(&lacking, now);
        lacking
    }

    /// Bytes that are still to be made up for.
    fn owed_at(&self, share: Share, now: Instant) -> usize {
        self.owed.map_or(0, |(owed, at)| {
            let millis = now.saturating_duration_since(at).as_millis();
            let made_up = millis.saturating_mul(share.a_second as u128) / 1_000;
            owed.saturating_sub(usize::try_from(made_up).unwrap_or(usize::MAX))
        })
    }

    fn was_sent(&self, message: &Lacking<'_>, now: Instant) -> bool {
        let Lacking::ViewChange(message) = message else { return false };
        let message = &message.signed.message;
        self.view_changes.get(&message.index).is_some_and(|(view, at)| {
            *view >= message.view && now.saturating_duration_since(*at) < VIEW_CHANGE_AGAIN
        })
    }

    fn note_view_changes(&mut self, sent: &[Lacking<'_>], now: Instant) {
        for message in sent {
            if let Lacking::ViewChange(message) = message {
                let message = &message.signed.message;
                self.view_changes.insert(message.index, (message.view, now));
            }
        }
    }
}

/// What a message costs of the share.
fn cost(message: &Lacking<'_>) -> usize {
    match message {
        Lacking::Block(_) => 0,
        _ => message.bytes(),
    }
}

#[cfg(test)]
#[path = "answers_tests.rs"]
mod tests;
