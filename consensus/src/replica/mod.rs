//! The replica: PBFT one height at a time, pure. `step` takes an input and returns what to do; it has no clock, no I/O, no
//! randomness and no error, because what reaches it is verified and bounded.
//!
//! An input is recorded, then one method per rule runs until none fires (see `rules`). Everything but what is listed in
//! [`Replica`] itself is new at each height: a new `height::At` is built, nothing is reset.

mod blocks;
mod candidates;
mod extensions;
mod future;
mod height;
mod inputs;
mod judged;
mod lacking;
mod restore;
mod rules;
mod signing;
mod status;
#[cfg(test)]
mod tests;
mod timers;
mod unused;
mod view_changes;
mod votes;

use crate::block::{BlockId, SealedBlock};
use crate::commit::Commit;
use crate::key::Address;
use crate::message::{
    Decided, Message, Phase, PrePrepare, SignRequest, SignedMessage, SignedVote, Verified,
    ViewChangeMessage,
};
use crate::record::{Cause, Record};
use crate::schedule::Schedule;
use crate::validators::{ValidatorIndex, Validators};
use crate::view::View;
use height::At;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tendermint::block::Height;

pub use lacking::Lacking;
#[cfg(any(test, feature = "testing"))]
pub use status::Kept;
pub use timers::{BACKOFF_MAX, Timer, TimerKind};
pub use unused::Unused;
pub use votes::VOTE_VIEWS_MAX;

/// What a replica is told.
#[expect(
    clippy::large_enum_variant,
    reason = "each lives for one step and is never stored in bulk"
)]
#[derive(Clone, Debug)]
pub enum Input {
    /// A PRE-PREPARE or NEW-VIEW.
    PrePrepare(Verified<PrePrepare>),
    /// A whole block. Whoever gives it has decoded it ([`SealedBlock::decode`]) and verified its last commit under V(h−1) for the
    /// block decided there.
    Block(Arc<SealedBlock>),
    /// A PREPARE or COMMIT.
    Vote(Verified<SignedVote>),
    /// A VIEW-CHANGE.
    ViewChange(Verified<ViewChangeMessage>),
    /// The block decided at this height, with its commit.
    Decided(Verified<Decided>),
    /// A Commit(h−1), perhaps of a higher round than the one known.
    Prior(Verified<Commit>),
    /// The answer to [`Action::Validate`]: header and application accept the block, or not.
    Validated {
        /// The block.
        block_id: BlockId,
        /// Whether it is valid.
        accepted: bool,
    },
    /// The answer to [`Action::VerifyExtension`]: the application accepts the vote extension of this COMMIT, or not.
    ExtensionVerified {
        /// The COMMIT that was asked about.
        vote: Verified<SignedVote>,
        /// Whether it counts.
        accepted: bool,
    },
    /// The answer to [`Action::Propose`].
    Built {
        /// The view that it was asked for.
        view: View,
        /// The block.
        block: Arc<SealedBlock>,
    },
    /// The answer to [`Action::Sign`].
    Signed(SignedMessage),
    /// A timer fired.
    Timer(Timer),
    /// Whether there is something to order at this height: a transaction or an empty block that is due, and the last block is at least
    /// `min_block_interval` old.
    Work(bool),
    /// Whether to sign nothing: after a restart until peers were heard, while stale data is suspected, while blocks are ingested.
    Hold(bool),
    /// Whether the direct connection to a validator is closed and refused: its process died.
    Down {
        /// The validator.
        validator: Address,
        /// Down, or back.
        down: bool,
    },
    /// T, the view-change timeout, as the node computed it.
    Timeout(Duration),
    /// The node suspects the primary of this view by its own policy (age of a transaction).
    Suspect {
        /// The height.
        height: Height,
        /// The view.
        view: View,
    },
    /// What is known of the next height; follows [`Action::Decide`].
    Advance(HeightStart),
    /// A durable record of this height, at a restart, in order.
    Restored(Record),
}

/// What a replica asks for. Whoever carries it out makes every [`Record`] of one `step` durable before anything else of it leaves.
#[expect(
    clippy::large_enum_variant,
    reason = "each lives for one step and is never stored in bulk"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Build a block for this view with this last commit (none at the initial height) and answer [`Input::Built`].
    Propose {
        /// The height.
        height: Height,
        /// The view.
        view: View,
        /// Commit(h−1) to include.
        last_commit: Option<Commit>,
    },
    /// Check header and application and answer [`Input::Validated`].
    Validate(Arc<SealedBlock>),
    /// Ask the application about the vote extension of another's COMMIT and answer [`Input::ExtensionVerified`]. It counts only then.
    VerifyExtension(Verified<SignedVote>),
    /// Sign and answer [`Input::Signed`].
    Sign(SignRequest),
    /// Make durable.
    Persist(Record),
    /// Send to every peer.
    Broadcast(Message),
    /// Send to one validator, where it is connected.
    Send(Address, Message),
    /// Start a timer; it replaces one of the same kind.
    Arm {
        /// The timer, given back when it fires.
        timer: Timer,
        /// How long from now.
        after: Duration,
    },
    /// This height is decided.
    Decide(Decided),
    /// A validator signed two votes for one (height, view, phase).
    Evidence(Box<(SignedVote, SignedVote)>),
    /// The block of a COMMIT quorum is missing: fetch it by id.
    FetchBlock(BlockId),
    /// Two valid certificates for one (height, view): more than f validators are faulty. Stop.
    Alarm(String),
    /// Something worth a log line.
    Note(Note),
}

/// Worth a log line; carries no duty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A VIEW-CHANGE is on its way.
    ViewChange {
        /// The view asked for.
        view: View,
        /// Why.
        cause: Cause,
    },
    /// A view was entered.
    Entered {
        /// The view.
        view: View,
        /// Its primary.
        primary: Address,
    },
    /// The primary of the view signed two proposals.
    Equivocation(View),
    /// The pre-prepared block is invalid or the application refuses it.
    Refused(BlockId),
}

/// What is known of a height when it starts. Validators are always those of that height.
#[derive(Clone, Debug)]
pub struct HeightStart {
    /// The height.
    pub height: Height,
    /// V(height).
    pub validators: Arc<Validators>,
    /// The schedule of V(height).
    pub schedule: Arc<Schedule>,
    /// Commit(height−1); none at the initial height. A replica that decided height−1 itself takes its own, which may have more votes.
    pub prior: Option<Commit>,
    /// Whether COMMITs carry vote extensions at this height.
    pub extensions: bool,
    /// Whether they do at the height before, so that a block needs a `prior` with them.
    pub prior_extensions: bool,
}

/// What stays the same over all heights.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The validator key's address; none for a full node.
    pub me: Option<Address>,
    /// How long a primary waits for late COMMITs before it pre-prepares.
    pub commit_grace: Duration,
    /// How long a timer runs where the primary's process died.
    pub disconnect_grace: Duration,
    /// T at the start.
    pub timeout: Duration,
}

/// A replica at one height.
#[derive(Clone, Debug)]
pub struct Replica {
    settings: Settings,
    at: At,
    future: future::Future,
    /// T.
    timeout: Duration,
    hold: bool,
    /// An alarm was raised: nothing is signed any more.
    halted: bool,
    /// The view whose primary is to be suspected at the next height.
    suspicion: Option<View>,
    /// Validators whose process died.
    down: BTreeSet<Address>,
    /// Whose COMMIT for the height before the last has arrived.
    committers: BTreeSet<Address>,
    /// The generation of the last timer, over all heights.
    generation: u64,
}

impl Replica {
    /// A replica at the start of a height, holding nothing.
    #[must_use]
    pub fn new(settings: Settings, start: HeightStart) -> Replica {
        let at = At::new(start, settings.me.as_ref());
        Replica {
            timeout: settings.timeout,
            settings,
            at,
            future: future::Future::default(),
            hold: false,
            halted: false,
            suspicion: None,
            down: BTreeSet::new(),
            committers: BTreeSet::new(),
            generation: 0,
        }
    }

    /// Takes one input and returns what to do. Total: no input is an error.
    pub fn step(&mut self, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        let restoring = matches!(input, Input::Restored(_));
        self.record(input, &mut out);
        if !restoring {
            self.run(&mut out);
        }
        out
    }

    /// The height it is at.
    #[must_use]
    pub fn height(&self) -> Height {
        self.at.start.height
    }

    /// Its view.
    #[must_use]
    pub fn view(&self) -> View {
        self.at.view
    }

    /// The highest view for which it sent VIEW-CHANGE at this height.
    #[must_use]
    pub fn promise(&self) -> Option<View> {
        self.at.promise.map(|promise| promise.view)
    }

    /// The round of the best known Commit(h−1).
    #[must_use]
    pub fn start_view(&self) -> View {
        self.at.start_view()
    }

    /// View and block that it has prepared at this height.
    #[must_use]
    pub fn prepared(&self) -> Option<(View, BlockId)> {
        self.at.prepared.as_ref().map(|prepared| (prepared.view, prepared.block_id))
    }

    /// The primary of its view.
    #[must_use]
    pub fn primary(&self) -> Address {
        self.at.primary_address(self.at.view)
    }

    /// Whether COMMITs of its height carry vote extensions.
    #[must_use]
    pub fn has_extensions(&self) -> bool {
        self.at.start.extensions
    }

    /// Whether it is a validator of its height.
    #[must_use]
    pub fn is_validator(&self) -> bool {
        self.at.me.is_some()
    }

    /// Whether its height is decided and it waits for [`Input::Advance`].
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.at.decision.is_some()
    }

    /// V(height).
    #[must_use]
    pub fn validators(&self) -> &Arc<Validators> {
        &self.at.start.validators
    }

    /// Whether a PRE-PREPARE was accepted in its view.
    #[must_use]
    pub fn has_accepted(&self) -> bool {
        self.at.accepted.is_some_and(|(view, _)| view == self.at.view)
    }

    /// The block whose PRE-PREPARE was accepted in its view.
    #[must_use]
    pub fn accepted(&self) -> Option<BlockId> {
        self.at.accepted.filter(|(view, _)| *view == self.at.view).map(|(_, id)| id)
    }

    /// How many votes of a phase there are in its view.
    #[must_use]
    pub fn votes(&self, phase: Phase) -> usize {
        self.at.votes(phase).count(self.at.view)
    }

    /// The vote of a validator in its view.
    #[must_use]
    pub fn vote_of(&self, phase: Phase, index: ValidatorIndex) -> Option<&SignedVote> {
        self.at.votes(phase).of(self.at.view, index)
    }

    /// Whether it has sent or received a VIEW-CHANGE at this height.
    #[must_use]
    pub fn saw_view_change(&self) -> bool {
        !self.at.view_changes.is_empty()
    }

    /// The highest VIEW-CHANGE of each sender.
    pub fn view_changes(&self) -> impl Iterator<Item = &Verified<ViewChangeMessage>> {
        self.at.view_changes.all().map(|(_, message)| message)
    }

    /// Stores one input where it belongs.
    fn record(&mut self, input: Input, out: &mut Vec<Action>) {
        match input {
            Input::PrePrepare(message) => self.record_pre_prepare(message, out),
            Input::Block(block) => self.record_block(block, out),
            Input::Vote(vote) => self.record_vote(vote, out),
            Input::ViewChange(message) => self.record_view_change(message, out),
            Input::Decided(decided) => self.record_decided(&decided, out),
            Input::Prior(commit) => self.record_prior(&commit, out),
            Input::Validated { block_id, accepted } => {
                if let Some(verdict @ height::Verdict::Asked) = self.at.verdicts.get_mut(&block_id)
                {
                    *verdict = height::Verdict::answer(accepted);
                }
            }
            Input::ExtensionVerified { vote, accepted } => {
                self.record_extension_verified(vote, accepted, out);
            }
            Input::Built { view, block } => self.record_built(view, block),
            Input::Signed(message) => self.record_signed(message, out),
            Input::Timer(timer) => self.record_timer(timer, out),
            Input::Work(work) => self.at.work = work,
            Input::Hold(hold) => {
                let ends = std::mem::replace(&mut self.hold, hold) && !hold;
                if ends {
                    self.ask_again(out);
                }
            }
            Input::Down { validator, down: true } => drop(self.down.insert(validator)),
            Input::Down { validator, down: false } => drop(self.down.remove(&validator)),
            Input::Timeout(timeout) => self.timeout = timeout,
            Input::Suspect { height, view } => self.record_suspicion(height, view),
            Input::Advance(start) => self.advance(start, out),
            Input::Restored(record) => self.restore(record, out),
        }
    }

    /// Moves to the next height. Carry-over, late COMMITs and what arrived early are handed over. No height is left that is not decided:
    /// what was given as its decision may have been refused.
    fn advance(&mut self, mut start: HeightStart, out: &mut Vec<Action>) {
        if start.height <= self.at.start.height || self.at.decision.is_none() {
            return;
        }
        let next = self.at.start.height.increment() == start.height;
        let carried = self.at.carry_over().filter(|_| next);
        let suspicion = self.suspicion.take().filter(|_| next);
        let suspicion = suspicion.map(|view| (view, self.at.primary_address(view)));
        let (mut better, mut judged) = (None, None);
        if next {
            judged = Some(self.at.judged_decision());
            self.committers = self.at.prior_committers();
            if let Some(own) = self.at.decision.take() {
                better = start.prior.replace(own);
            }
        } else {
            self.committers.clear();
        }
        self.at = At::new(start, self.settings.me.as_ref());
        self.at.carried = carried;
        self.at.judged = judged.unwrap_or_default();
        if let Some(commit) = better {
            self.record_prior(&commit, out);
        }
        // The primary that was suspected may have been replaced by the plan meanwhile.
        let suspected = suspicion.filter(|(view, who)| self.at.primary_address(*view) == *who);
        self.at.suspected = suspected.map(|(view, _)| view);
        for input in self.future.take(self.at.start.height) {
            self.record(input, out);
        }
    }
}

/// A map that is small and ordered; named for what it is used for.
type ByValidator<T> = BTreeMap<crate::validators::ValidatorIndex, T>;
