//! What the engine tells of the replica: views as rounds, PREPARE as prevote, COMMIT as precommit.

use super::bus::Bus;
use super::{Data, Event, Kind, Kinds};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tendermint::block::Height;
use tendermint::{Hash, Time};
use tercet_consensus::commit::CommitSig;
use tercet_consensus::key::Address;
use tercet_consensus::message::SignedVote;
use tercet_consensus::validators::ValidatorIndex;
use tercet_consensus::view::View;

/// The most events of consensus that wait to be told; further ones are left out, so that the engine never waits.
pub(super) const TOLD_MAX: usize = 4_096;

/// Where in a view the replica is, by the names of CometBFT's steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A view has begun.
    NewRound,
    /// Waiting for the pre-prepare.
    Propose,
    /// A pre-prepare is accepted: PREPARE.
    Prevote,
    /// A block is prepared: COMMIT.
    Precommit,
    /// Decided.
    Commit,
}

impl Step {
    /// CometBFT's name (`consensus/types/round_state.go`).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Step::NewRound => "RoundStepNewRound",
            Step::Propose => "RoundStepPropose",
            Step::Prevote => "RoundStepPrevote",
            Step::Precommit => "RoundStepPrecommit",
            Step::Commit => "RoundStepCommit",
        }
    }

    /// CometBFT's number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Step::NewRound => 2,
            Step::Propose => 3,
            Step::Prevote => 4,
            Step::Precommit => 6,
            Step::Commit => 8,
        }
    }
}

/// Where the replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Where {
    /// The height.
    pub height: Height,
    /// The view.
    pub view: View,
    /// The step.
    pub step: Step,
}

/// A vote, as far as others look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteSeen {
    /// The validator's index.
    pub index: ValidatorIndex,
    /// Its address.
    pub validator: Address,
    /// The block.
    pub block: Hash,
    /// When it was signed.
    pub time: Time,
    /// What the signature begins with.
    pub signature: [u8; FINGERPRINT_BYTES],
    /// What the extension begins with.
    pub extension: [u8; FINGERPRINT_BYTES],
}

/// What is shown of signatures and the like (CometBFT `libs/bytes`, `Fingerprint`).
const FINGERPRINT_BYTES: usize = 6;

fn fingerprint(bytes: &[u8]) -> [u8; FINGERPRINT_BYTES] {
    let mut print = [0; FINGERPRINT_BYTES];
    print.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    print
}

impl VoteSeen {
    /// A signature of a commit for this block.
    #[must_use]
    pub fn of_commit(index: ValidatorIndex, sig: &CommitSig, block: Hash) -> VoteSeen {
        VoteSeen {
            index,
            validator: sig.address,
            block,
            time: sig.time,
            signature: fingerprint(&sig.signature.0),
            extension: fingerprint(sig.extension.as_ref().map_or(&[], |e| &e.data[..])),
        }
    }
}

impl From<&SignedVote> for VoteSeen {
    fn from(signed: &SignedVote) -> VoteSeen {
        let vote = &signed.message;
        VoteSeen {
            index: vote.index,
            validator: vote.validator,
            block: vote.block_id.hash,
            time: vote.time,
            signature: fingerprint(&signed.signature.0),
            extension: fingerprint(vote.extension.as_ref().map_or(&[], |e| &e.data[..])),
        }
    }
}

/// The engine's side: leaves events in a bounded queue, where somebody listens. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tell {
    bus: Bus,
    sender: Sender<Event>,
    left_out: Arc<AtomicU64>,
}

impl Tell {
    /// A queue to the bus; its other end is for the thread that publishes.
    #[must_use]
    pub fn new(bus: &Bus) -> (Tell, Receiver<Event>) {
        let (sender, receiver) = bounded(TOLD_MAX);
        (Tell { bus: bus.clone(), sender, left_out: Arc::default() }, receiver)
    }

    /// Whether anybody listens to anything. One atomic load.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.bus.wanted() == Kinds::default()
    }

    /// Whether anybody listens to this kind. One atomic load.
    #[must_use]
    pub fn is_heard(&self, kind: Kind) -> bool {
        self.bus.wanted().has(kind)
    }

    /// Tells, where somebody listens. Never waits: where the queue is full, the event is left out and counted.
    pub fn tell(&self, kind: Kind, data: impl FnOnce() -> Data) {
        if !self.is_heard(kind) {
            return;
        }
        if let Err(TrySendError::Full(_)) = self.sender.try_send(Event::new(kind, data())) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many events found no room.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }
}

impl Default for Tell {
    /// One that nobody hears.
    fn default() -> Tell {
        Tell::new(&Bus::default()).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::bus::Most;
    use crate::events::query::Query;

    fn at() -> Data {
        let (height, view) = (Height::from(5u32), View::ZERO);
        Data::Round(Where { height, view, step: Step::Propose })
    }

    #[test]
    fn the_engine_tells_only_what_somebody_hears_and_never_waits() {
        let bus = Bus::default();
        let (tell, told) = Tell::new(&bus);
        tell.tell(Kind::Polka, at);
        assert!(told.is_empty());
        let query = Query::parse("tm.event = 'Polka'").unwrap();
        let _subscription =
            bus.subscribe(1, query, Most { clients: 1, per_client: 1, events: 10 }).unwrap();
        tell.tell(Kind::Lock, at);
        assert!(told.is_empty());
        for _ in 0..TOLD_MAX + 3 {
            tell.tell(Kind::Polka, at);
        }
        assert_eq!((told.len(), tell.left_out()), (TOLD_MAX, 3));
    }
}
