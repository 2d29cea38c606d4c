//! Those who lie: a Byzantine node runs the real engine, so that it takes part, and small named strategies change what it says and add to
//! it. Signatures cannot be forged: whatever a strategy signs, it signs with its own key.

mod blocks;
mod equivocate;
mod extend;
mod fuzz;
mod new_view;
mod replay;
mod second;
mod status;
mod votes;
mod withhold;

use super::happening::What;
use super::keys::{self, key, seat_of};
use super::network::{Sent, Wire};
use super::plan::Seat;
use super::rng::Rng;
use super::world::World;
use super::{MS, Nanos};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use tendermint::block::Height;
use tercet_consensus::block::{BlockId, SealedBlock};
use tercet_consensus::message::{
    Message, Phase, Proposal, SignRequest, Signed, SignedMessage, SignedVote, ViewChange,
    ViewChangeMessage, Vote,
};
use tercet_consensus::validators::ValidatorIndex;
use tercet_consensus::view::View;
use tercet_node::execution::Refusal;
use tercet_node::network::PeerId;
use tercet_node::wire::Consensus;

/// One way to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Strategy {
    /// Two proposals for one view, to different peers.
    EquivocatePrePrepare,
    /// Two PREPAREs for one view.
    EquivocatePrepare,
    /// Two COMMITs for one view.
    EquivocateCommit,
    /// Says nothing, now and then.
    Withhold,
    /// Speaks to some peers only, to others at each height.
    Subset,
    /// COMMITs at the last moment, or never.
    LateCommit,
    /// Proposes just after the others have lost patience.
    Slow,
    /// Proposes just before the others lose patience.
    SlowEnough,
    /// Leaves transactions out.
    Censor,
    /// Says that it has prepared nothing, or something older, or without proof.
    LiesAboutPrepared,
    /// Changes a part of its NEW-VIEW.
    ForgesNewView,
    /// As primary makes NEW-VIEWs of any quorum that it has heard.
    JustifiesAtWill,
    /// Signs for whatever it hears of.
    SignsAnything,
    /// Asks for views at will.
    AsksForViews,
    /// Sends old messages of other views and heights again, its own and others'.
    Replays,
    /// Proposes blocks of which one part is wrong.
    InvalidBlocks,
    /// Changes view, height, digest or signer of its messages by a little (ByzzFuzz).
    Fuzzes,
    /// Keeps a second commit of a height back, and proposes on it when the others have moved on.
    SecondCommit,
    /// Extends its COMMITs with what every application refuses.
    WrongExtension,
    /// COMMITs of many later views behind each of its own, and bodies to few.
    CommitsAhead,
    /// Says what it has as it is not.
    FalseStatus,
    /// Two correct copies with one key (Twins).
    Twin,
}

impl Strategy {
    /// All.
    pub(crate) const ALL: &[Strategy] = &[
        Strategy::EquivocatePrePrepare,
        Strategy::EquivocatePrepare,
        Strategy::EquivocateCommit,
        Strategy::Withhold,
        Strategy::Subset,
        Strategy::LateCommit,
        Strategy::Slow,
        Strategy::SlowEnough,
        Strategy::Censor,
        Strategy::LiesAboutPrepared,
        Strategy::ForgesNewView,
        Strategy::JustifiesAtWill,
        Strategy::SignsAnything,
        Strategy::AsksForViews,
        Strategy::Replays,
        Strategy::InvalidBlocks,
        Strategy::Fuzzes,
        Strategy::SecondCommit,
        Strategy::WrongExtension,
        Strategy::CommitsAhead,
        Strategy::FalseStatus,
        Strategy::Twin,
    ];

    /// Its name in coverage and scenarios.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Strategy::EquivocatePrePrepare => "equivocate-pre-prepare",
            Strategy::EquivocatePrepare => "equivocate-prepare",
            Strategy::EquivocateCommit => "equivocate-commit",
            Strategy::Withhold => "withhold",
            Strategy::Subset => "subset",
            Strategy::LateCommit => "late-commit",
            Strategy::Slow => "slow",
            Strategy::SlowEnough => "slow-enough",
            Strategy::Censor => "censor",
            Strategy::LiesAboutPrepared => "lies-about-prepared",
            Strategy::ForgesNewView => "forges-new-view",
            Strategy::JustifiesAtWill => "justifies-at-will",
            Strategy::SignsAnything => "signs-anything",
            Strategy::AsksForViews => "asks-for-views",
            Strategy::Replays => "replays",
            Strategy::InvalidBlocks => "invalid-blocks",
            Strategy::Fuzzes => "fuzzes",
            Strategy::SecondCommit => "second-commit",
            Strategy::WrongExtension => "wrong-extension",
            Strategy::CommitsAhead => "commits-ahead",
            Strategy::FalseStatus => "false-status",
            Strategy::Twin => "twin",
        }
    }

    /// One to three of them, but for twins, which need two nodes.
    pub(crate) fn choose(rng: &mut Rng) -> Vec<Strategy> {
        let mut all: Vec<Strategy> =
            Strategy::ALL.iter().copied().filter(|s| *s != Strategy::Twin).collect();
        rng.shuffle(&mut all);
        all.truncate(1 + rng.index(3));
        all.sort_unstable();
        all
    }
}

/// What a Byzantine node remembers.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Its blocks that it replaced, by the id of the right one.
    swapped: BTreeMap<BlockId, Arc<SealedBlock>>,
    /// Messages to send again.
    old: Vec<Message>,
    /// VIEW-CHANGEs that it has heard.
    changes: BTreeMap<(Height, View), BTreeMap<ValidatorIndex, ViewChangeMessage>>,
    /// To whom it speaks at a height, one bit a seat.
    masks: BTreeMap<u64, u64>,
    /// COMMITs that it knows.
    commits: BTreeMap<(Height, View, BlockId), BTreeMap<ValidatorIndex, SignedVote>>,
    /// Where it has proposed on a second commit.
    second: BTreeSet<(Height, View)>,
    /// The heights whose commits it has sent.
    priors: BTreeSet<u64>,
    /// What it has signed for.
    signed: BTreeSet<(Height, View, BlockId)>,
    /// The last view that it asked for, by height.
    asked: BTreeMap<Height, View>,
}

/// A message on its way to one peer.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    /// To whom.
    pub(super) to: Seat,
    /// What.
    pub(super) sent: Rc<Sent>,
    /// How much later.
    pub(super) after: Nanos,
}

impl Delivery {
    /// The message of the protocol, where it is one.
    pub(super) fn message(&self) -> Option<&Message> {
        match &self.sent.wire {
            Wire::Consensus(Consensus::Message(message)) => Some(message),
            _ => None,
        }
    }
}

/// A Byzantine node at its seat, with the world around it.
pub(super) struct Liar<'a> {
    /// The world.
    pub(super) world: &'a mut World,
    /// The seat.
    pub(super) seat: Seat,
}

impl Liar<'_> {
    /// What it remembers.
    pub(super) fn memory(&mut self) -> &mut Memory {
        self.world.byzantine.entry(self.seat).or_default()
    }

    /// A strategy was used.
    pub(super) fn met(&mut self, strategy: Strategy) {
        self.world.coverage.met("byzantine", strategy.name());
    }

    /// The height that it is at.
    pub(super) fn height(&self) -> Option<Height> {
        Some(self.world.node(self.seat).engine.as_ref()?.replica().height())
    }

    /// Its index at a height, where it is a validator.
    pub(super) fn index(&self, height: Height) -> Option<ValidatorIndex> {
        let set = self.world.checks.set(height.value())?;
        set.validators.index_of(&self.address())
    }

    /// Its address.
    pub(super) fn address(&self) -> tercet_consensus::key::Address {
        key(self.key()).address
    }

    fn key(&self) -> usize {
        self.world.node(self.seat).plan.key
    }

    fn sign(&self, request: SignRequest) -> SignedMessage {
        let now = self.world.clocks(self.seat).time;
        keys::sign(self.key(), self.world.plan.real_signatures, request, now)
    }

    /// Signs a vote.
    pub(super) fn vote(&self, vote: Vote) -> Option<SignedVote> {
        let extend = vote.phase == Phase::Commit && self.world.plan.extends(vote.height.value());
        match self.sign(SignRequest::Vote { vote: Vote { extension: None, ..vote }, extend }) {
            SignedMessage::Vote(vote) => Some(vote),
            _ => None,
        }
    }

    /// Signs a proposal.
    pub(super) fn proposal(&self, proposal: Proposal) -> Option<Signed<Proposal>> {
        match self.sign(SignRequest::Proposal(proposal)) {
            SignedMessage::Proposal(proposal) => Some(proposal),
            _ => None,
        }
    }

    /// Signs a VIEW-CHANGE.
    pub(super) fn view_change(&self, change: ViewChange) -> Option<Signed<ViewChange>> {
        match self.sign(SignRequest::ViewChange(change)) {
            SignedMessage::ViewChange(change) => Some(change),
            _ => None,
        }
    }

    /// Something to be sent.
    pub(super) fn wrap(&mut self, message: Message) -> Rc<Sent> {
        self.world.envelope(Wire::Consensus(Consensus::Message(message)))
    }

    /// Sends to everyone, in so many percent of the cases.
    pub(super) fn send_to_some(&mut self, percent: u64, message: Message) {
        let sent = self.wrap(message);
        for to in self.world.seats().filter(|to| *to != self.seat) {
            if self.world.rng.percent(percent) {
                self.world.transmit(self.seat, to, &sent);
            }
        }
    }

    /// A block that it has.
    pub(super) fn block(&self, id: &BlockId) -> Option<Arc<SealedBlock>> {
        let replica = self.world.node(self.seat).engine.as_ref()?.replica();
        match replica.block(id)? {
            Message::Block(block) => Some(block),
            _ => None,
        }
    }

    fn tell(&mut self, strategy: Strategy, all: Vec<Delivery>) -> Vec<Delivery> {
        match strategy {
            Strategy::EquivocatePrePrepare => self.equivocate_pre_prepare(all),
            Strategy::EquivocatePrepare | Strategy::EquivocateCommit => {
                self.equivocate_vote(strategy, all)
            }
            Strategy::Withhold => self.withhold(all),
            Strategy::Subset => self.subset(all),
            Strategy::LateCommit => self.late_commit(all),
            Strategy::Slow | Strategy::SlowEnough => self.slow(strategy, all),
            Strategy::Censor | Strategy::InvalidBlocks => self.swap_blocks(strategy, all),
            Strategy::LiesAboutPrepared => self.lie_about_prepared(all),
            Strategy::ForgesNewView => self.forge_new_view(all),
            Strategy::Replays => self.replay(all),
            Strategy::Fuzzes => self.fuzz(all),
            Strategy::SecondCommit => self.withhold_second(all),
            Strategy::WrongExtension => self.extend_wrongly(all),
            Strategy::CommitsAhead => self.commit_ahead(all),
            Strategy::Twin => {
                self.met(strategy);
                all
            }
            Strategy::JustifiesAtWill
            | Strategy::SignsAnything
            | Strategy::AsksForViews
            | Strategy::FalseStatus => all,
        }
    }
}

/// A Byzantine node's engine says something.
pub(crate) fn says(world: &mut World, seat: Seat, to: Option<PeerId>, message: Consensus) {
    let strategies = world.node(seat).plan.byzantine.clone();
    let message = match message {
        Consensus::Status(status) if strategies.contains(&Strategy::FalseStatus) => {
            Consensus::Status(Liar { world, seat }.false_status(&status))
        }
        message => message,
    };
    let sent = world.envelope(Wire::Consensus(message));
    let peers: Vec<Seat> = match to {
        Some(to) => seat_of(&to).into_iter().collect(),
        None => world.seats().filter(|to| *to != seat).collect(),
    };
    let delivery = |to| Delivery { to, sent: Rc::clone(&sent), after: 0 };
    let mut all: Vec<Delivery> = peers.into_iter().map(delivery).collect();
    if matches!(sent.wire, Wire::Consensus(Consensus::Message(_))) {
        for strategy in strategies {
            all = Liar { world, seat }.tell(strategy, all);
        }
    }
    for Delivery { to, sent, after } in all {
        world.trace.sends(world.now, seat, Some(&keys::peer(to)), &sent);
        match after {
            0 => world.transmit(seat, to, &sent),
            after => {
                let epoch = world.node(to).epoch;
                world.after(after, What::Deliver { from: seat, to, epoch, sent });
            }
        }
    }
}

/// A Byzantine node hears something.
pub(crate) fn hears(world: &mut World, seat: Seat, message: &Message) {
    let strategies = world.node(seat).plan.byzantine.clone();
    for strategy in strategies {
        let mut liar = Liar { world, seat };
        match strategy {
            Strategy::SignsAnything => liar.sign_anything(message),
            Strategy::JustifiesAtWill => liar.justify_at_will(message),
            Strategy::AsksForViews => liar.ask_for_views(message),
            Strategy::Replays => liar.remember(message),
            Strategy::SecondCommit => liar.second_commit(message),
            Strategy::WrongExtension => liar.commit_wrongly(),
            _ => {}
        }
    }
}

/// What was refused about a block, for coverage.
pub(crate) fn refused_field(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Header { field, .. } => field,
        Refusal::Future(_) => "time, too far ahead",
        Refusal::TooLarge(..) => "size",
        Refusal::Evidence(_) => "evidence",
        Refusal::Application | Refusal::Status(_) => "application",
    }
}

/// How long the others wait in the view that a node is in.
pub(super) fn patience(world: &World, seat: Seat) -> Nanos {
    let timeout = world.node(seat).snapshot.load().timeout_ms.saturating_mul(MS);
    let replica = world.node(seat).engine.as_ref().map(|engine| engine.replica());
    let depth = replica.map_or(0, |r| r.view().number().saturating_sub(r.start_view().number()));
    timeout.saturating_mul(2u64.saturating_pow(depth))
}
