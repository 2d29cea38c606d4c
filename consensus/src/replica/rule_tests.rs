//! One directed test a rule of PROTOCOL §5, its text above it. Four validators, equal powers; a quorum is three, blocking is two.

use super::{Action, HeightStart, Input, Replica, Settings, Timer, TimerKind};
use crate::block::{Block, BlockId, SealedBlock};
use crate::commit::{Commit, CommitSig};
use crate::key::Signature;
use crate::message::{
    Justification, Message, Phase, SignRequest, Signed, SignedMessage, Verified, ViewChangeMessage,
};
use crate::record::{Cause, Record};
use crate::testing::cluster::header;
use crate::testing::messages::{CHAIN_ID, Signers, block_id, view};
use crate::validators::ValidatorIndex;
use crate::{commit::median_time, sign_bytes};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tendermint::block::Height;

const T: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_millis(20);

/// One replica at height 5, whose Commit(4) is of `start` and signed by all.
struct Bench {
    s: Signers,
    me: ValidatorIndex,
    replica: Replica,
    /// Everything that came out, in order; signatures are answered at once.
    out: Vec<Action>,
}

impl Bench {
    fn new(me: ValidatorIndex) -> Bench {
        Bench::started(me, 0)
    }

    fn started(me: ValidatorIndex, start: u32) -> Bench {
        let s = Signers::new(&[1; 4], 5);
        let settings = Settings {
            me: Some(s.validators.at(me).unwrap().address),
            commit_grace: GRACE,
            disconnect_grace: GRACE,
            timeout: T,
        };
        let replica = Replica::new(settings, start_of(&s, start, &[0, 1, 2, 3]));
        Bench { s, me, replica, out: Vec::new() }
    }

    /// Feeds an input; signs what is asked for; returns what else came out.
    fn feed(&mut self, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        for action in self.replica.step(input) {
            match action {
                Action::Sign(request) => {
                    let signed = self.sign(request);
                    out.extend(self.feed(Input::Signed(signed)));
                }
                other => out.push(other),
            }
        }
        self.out.extend(out.clone());
        out
    }

    fn sign(&self, request: SignRequest) -> SignedMessage {
        let sign = |bytes: Vec<u8>| -> Signature { self.s.sign(self.me, &bytes) };
        match request {
            SignRequest::Proposal(message) => {
                let signature = sign(sign_bytes::proposal(CHAIN_ID, &message));
                SignedMessage::Proposal(Signed { message, signature })
            }
            SignRequest::Vote { vote: message, .. } => {
                let signature = sign(sign_bytes::vote(CHAIN_ID, &message));
                SignedMessage::Vote(Signed { message, signature })
            }
            SignRequest::ViewChange(message) => {
                let signature = sign(sign_bytes::view_change(CHAIN_ID, &message));
                SignedMessage::ViewChange(Signed { message, signature })
            }
        }
    }

    fn primary(&self, v: u32) -> ValidatorIndex {
        self.s.schedule.primary(self.s.height, view(v))
    }

    /// A block for this height whose last commit is of round `round`, proposed by the primary of `by`.
    fn block(&self, round: u32, by: u32, tx: &'static str) -> Arc<SealedBlock> {
        block(&self.s, &commit4(&self.s, round, &[0, 1, 2, 3]), self.primary(by), tx)
    }

    fn propose(&mut self, v: u32, block: &Arc<SealedBlock>, j: Option<Justification>) -> Vec<Action> {
        let message = Verified::new(self.s.pre_prepare(v, block.id(), j));
        let mut out = self.feed(Input::PrePrepare(message));
        out.extend(self.feed(Input::Block(block.clone())));
        out
    }

    fn accept(&mut self, block: &Arc<SealedBlock>) -> Vec<Action> {
        self.feed(Input::Validated { block_id: block.id(), accepted: true })
    }

    fn vote(&mut self, phase: Phase, from: ValidatorIndex, v: u32, id: BlockId) -> Vec<Action> {
        self.feed(Input::Vote(Verified::new(self.s.vote(phase, from, v, id))))
    }

    fn view_change(&mut self, from: ValidatorIndex, v: u32) -> Vec<Action> {
        let signed = self.s.view_change(from, v, None);
        self.feed(Input::ViewChange(Verified::new(ViewChangeMessage { signed, certificate: None })))
    }

    /// Lets the running timer of `kind` fire.
    fn fire(&mut self, kind: TimerKind) -> Vec<Action> {
        let timer = self.armed(kind).expect("the timer was armed").0;
        self.feed(Input::Timer(timer))
    }

    /// The last arming of `kind`.
    fn armed(&self, kind: TimerKind) -> Option<(Timer, Duration)> {
        self.out.iter().rev().find_map(|action| match action {
            Action::Arm { timer, after } if timer.kind == kind => Some((*timer, *after)),
            _ => None,
        })
    }

    fn others(&self) -> Vec<ValidatorIndex> {
        (0..4).filter(|index| *index != self.me).collect()
    }

    /// J of a NEW-VIEW for `v` from three validators of whom none has prepared.
    fn free(&self, v: u32) -> Justification {
        let view_changes = (0..3).map(|index| self.s.view_change(index, v, None)).collect();
        Justification { view_changes, certificate: None }
    }

    /// J of a NEW-VIEW for `v` that binds `id`, prepared in `p`.
    fn bound(&self, v: u32, p: u32, id: BlockId) -> Justification {
        let mut j = self.free(v);
        j.view_changes[0] = self.s.view_change(0, v, Some((p, id)));
        j.certificate = Some(self.s.certificate(p, id, &[0, 1, 2]));
        j
    }
}

fn commit4(s: &Signers, round: u32, present: &[ValidatorIndex]) -> Commit {
    let below = Signers::new(&[1; 4], 4);
    let entry = |index: ValidatorIndex| {
        present.contains(&index).then(|| {
            let vote = below.vote(Phase::Commit, index, round, block_id(4));
            let (address, time) = (vote.message.validator, vote.message.time);
            CommitSig { address, time, signature: vote.signature, extension: None }
        })
    };
    let signatures = (0..u32::try_from(s.validators.count()).unwrap()).map(entry).collect();
    Commit { height: Height::from(4u32), view: view(round), block_id: block_id(4), signatures }
}

fn start_of(s: &Signers, round: u32, present: &[ValidatorIndex]) -> HeightStart {
    HeightStart {
        height: s.height,
        validators: Arc::new(s.validators.clone()),
        schedule: Arc::new(s.schedule.clone()),
        prior: Some(commit4(s, round, present)),
        extensions: false,
    }
}

fn block(s: &Signers, last: &Commit, proposer: ValidatorIndex, tx: &'static str) -> Arc<SealedBlock> {
    let time = median_time(last, &s.validators).unwrap();
    let proposer = s.validators.at(proposer).unwrap().address;
    let header = header(last.height.increment(), time, proposer, &s.validators, Some(last));
    let txs = vec![Bytes::from_static(tx.as_bytes())];
    let last_commit = Some(last.clone());
    Arc::new(SealedBlock::seal(Block { header, txs, evidence: Default::default(), last_commit }))
}

/// The votes that left, as (phase, view, block).
fn votes(actions: &[Action]) -> Vec<(Phase, u32, BlockId)> {
    let vote = |action: &Action| match action {
        Action::Broadcast(Message::Vote(vote)) => {
            Some((vote.message.phase, vote.message.view.number(), vote.message.block_id))
        }
        _ => None,
    };
    actions.iter().filter_map(vote).collect()
}

fn view_changes(actions: &[Action]) -> Vec<u32> {
    let sent = |action: &Action| match action {
        Action::Broadcast(Message::ViewChange(m)) => Some(m.signed.message.view.number()),
        _ => None,
    };
    actions.iter().filter_map(sent).collect()
}

fn has<F: Fn(&Action) -> bool>(actions: &[Action], wanted: F) -> bool {
    actions.iter().any(wanted)
}

fn validates(actions: &[Action]) -> bool {
    has(actions, |action| matches!(action, Action::Validate(_)))
}

/// The primary of view 0 at height 5 and some other validator.
fn primary_and_other() -> (ValidatorIndex, ValidatorIndex) {
    let primary = Bench::new(0).primary(0);
    (primary, (primary + 1) % 4)
}

/// A replica that is neither primary in view 0 nor in view 1.
fn backup() -> Bench {
    let probe = Bench::new(0);
    let (a, b) = (probe.primary(0), probe.primary(1));
    Bench::new((0..4).find(|index| *index != a && *index != b).unwrap())
}

/// "Start view of h = round of the best known Commit(h-1) […] A valid Commit(h-1) of a higher round, e.g. inside a received block,
/// raises my view. My view never falls at a height."
#[test]
fn a_commit_of_a_higher_round_raises_the_view_and_a_lower_one_does_not_lower_it() {
    let mut b = Bench::started(0, 2);
    assert_eq!(b.replica.view(), view(2));
    let commit = commit4(&b.s, 3, &[0, 1, 2]);
    b.feed(Input::Prior(Verified::new(commit)));
    assert_eq!((b.replica.view(), b.replica.start_view()), (view(3), view(3)));
    b.feed(Input::Prior(Verified::new(commit4(&b.s, 1, &[0, 1, 2]))));
    assert_eq!(b.replica.view(), view(3));
    let higher = b.block(5, 5, "x");
    b.feed(Input::Block(higher));
    assert_eq!(b.replica.view(), view(5));
}

/// "fresh: block.last_commit.round == v, pol_round = -1, and the receiver has prepared = none." "PREPARE(h,v,b): […] pre-prepare
/// justified, whole block here, header valid, application accepted."
#[test]
fn a_fresh_pre_prepare_is_prepared_once_block_and_application_agree() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    let message = Verified::new(b.s.pre_prepare(0, block.id(), None));
    assert!(!validates(&b.feed(Input::PrePrepare(message))), "not before the block is here");
    assert!(validates(&b.feed(Input::Block(block.clone()))));
    let out = b.accept(&block);
    assert_eq!(votes(&out), [(Phase::Prepare, 0, block.id())]);
    assert!(has(&out, |a| matches!(a, Action::Persist(Record::Prepare { block: Some(_), .. }))));
    assert!(b.accept(&block).is_empty(), "my first at (h,v) is my only one");
}

/// "fresh: block.last_commit.round == v": a block on a lower commit is no fresh one. And the proposer in the header is the primary.
#[test]
fn a_fresh_block_on_another_round_or_of_another_proposer_is_ignored() {
    let mut b = backup();
    b.feed(Input::Prior(Verified::new(commit4(&b.s, 1, &[0, 1, 2]))));
    let old = b.block(0, 1, "x");
    assert!(!validates(&b.propose(1, &old, None)), "last commit of round 0 in view 1");
    let mut b = backup();
    let wrong = b.block(0, 1, "x");
    assert!(!validates(&b.propose(0, &wrong, None)), "header names another proposer");
}

/// "the receiver has prepared = none": a prepared replica ignores fresh pre-prepares.
#[test]
fn a_locked_replica_ignores_a_fresh_block() {
    let mut b = backup();
    let first = b.block(0, 0, "x");
    b.propose(0, &first, None);
    b.accept(&first);
    for from in b.others() {
        b.vote(Phase::Prepare, from, 0, first.id());
    }
    assert_eq!(b.replica.prepared(), Some((view(0), first.id())));
    b.feed(Input::Prior(Verified::new(commit4(&b.s, 1, &[0, 1, 2]))));
    let second = b.block(1, 1, "y");
    assert!(!validates(&b.propose(1, &second, None)));
}

/// "new view, free: J is a quorum of VIEW-CHANGE(h,v), all with prepared = none; any valid block by primary(h,v)."
#[test]
fn a_free_new_view_enters_its_view_and_is_prepared() {
    let mut b = backup();
    let block = b.block(0, 1, "x");
    let j = b.free(1);
    assert!(validates(&b.propose(1, &block, Some(j))));
    assert_eq!(b.replica.view(), view(1));
    assert_eq!(votes(&b.accept(&block)), [(Phase::Prepare, 1, block.id())]);
}

/// "new view, bound: […] the block is b, byte for byte (original header, proposer address, time, last commit)." "Free and bound both
/// override a local lock."
#[test]
fn a_bound_new_view_keeps_its_block_and_overrides_a_lock() {
    let mut b = backup();
    let mine = b.block(0, 0, "x");
    b.propose(0, &mine, None);
    b.accept(&mine);
    for from in b.others() {
        b.vote(Phase::Prepare, from, 0, mine.id());
    }
    let theirs = b.block(0, 1, "y");
    let j = b.bound(3, 2, theirs.id());
    assert!(validates(&b.propose(3, &theirs, Some(j))), "proposed by view 1's primary, bound in view 3");
    assert_eq!(votes(&b.accept(&theirs)), [(Phase::Prepare, 3, theirs.id())]);
}

/// "In every case block.last_commit.round <= v."
#[test]
fn no_block_builds_on_a_later_round_than_its_view() {
    let mut b = backup();
    let later = b.block(2, 1, "x");
    let j = b.free(1);
    let message = Verified::new(b.s.pre_prepare(1, later.id(), Some(j)));
    b.feed(Input::PrePrepare(message));
    assert!(!validates(&b.feed(Input::Block(later))));
}

/// "PREPARE(h,v,b): my height is h, view v, v >= promise."
#[test]
fn nothing_is_prepared_below_the_promise() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    b.feed(Input::Work(true));
    b.fire(TimerKind::Propose);
    assert_eq!(b.replica.promise(), Some(view(1)));
    assert!(votes(&b.accept(&block)).is_empty());
}

/// "Prepared: quorum of PREPAREs for (h,v,b) from distinct validators, and the block, while v is my view and v >= promise → prepared →
/// persist → COMMIT."
#[test]
fn a_quorum_of_prepares_commits_once_with_its_certificate_durable() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    b.accept(&block);
    let others = b.others();
    assert!(votes(&b.vote(Phase::Prepare, others[0], 0, block.id())).is_empty(), "two of four");
    assert!(votes(&b.vote(Phase::Prepare, others[0], 0, block.id())).is_empty(), "counted once");
    let out = b.vote(Phase::Prepare, others[1], 0, block.id());
    assert_eq!(votes(&out), [(Phase::Commit, 0, block.id())]);
    let persisted = out.iter().position(|a| matches!(a, Action::Persist(Record::Commit { .. })));
    let sent = out.iter().position(|a| matches!(a, Action::Broadcast(Message::Vote(_))));
    assert!(persisted.unwrap() < sent.unwrap());
    assert!(votes(&b.vote(Phase::Prepare, others[2], 0, block.id())).is_empty());
}

/// "Otherwise no COMMIT: without this guard […] the protocol forks": neither below the promise nor in another view.
#[test]
fn no_commit_below_the_promise_or_outside_my_view() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    b.accept(&block);
    b.fire(TimerKind::Commit);
    for from in b.others() {
        assert!(votes(&b.vote(Phase::Prepare, from, 0, block.id())).is_empty(), "below the promise");
    }
    let mut b = backup();
    b.feed(Input::Prior(Verified::new(commit4(&b.s, 1, &[0, 1, 2]))));
    let block = b.block(0, 0, "x");
    b.feed(Input::Block(block.clone()));
    for from in b.others() {
        assert!(votes(&b.vote(Phase::Prepare, from, 0, block.id())).is_empty(), "view 0 is over");
    }
    assert_eq!(b.replica.prepared(), None);
}

/// "every guard of the rule is checked again when it returns, and a signature whose guard no longer holds is discarded."
#[test]
fn a_late_signature_is_discarded() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    let asked = b.replica.step(Input::Validated { block_id: block.id(), accepted: true });
    let request = asked.iter().find_map(|action| match action {
        Action::Sign(request) => Some(request.clone()),
        _ => None,
    });
    b.out.extend(asked);
    b.fire(TimerKind::Commit);
    let signed = b.sign(request.expect("a PREPARE is asked for"));
    assert!(votes(&b.feed(Input::Signed(signed))).is_empty());
}

/// "Decide: quorum of COMMITs for (h,v,b), of ANY view, also during a view change → decide b."
#[test]
fn a_commit_quorum_of_any_view_decides_even_during_a_view_change() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    b.fire(TimerKind::Propose);
    let mut out = Vec::new();
    for from in b.others() {
        out.extend(b.vote(Phase::Commit, from, 0, block.id()));
    }
    let decided = out.iter().find_map(|action| match action {
        Action::Decide(decided) => Some(decided.commit.clone()),
        _ => None,
    });
    assert_eq!(decided.map(|c| (c.view, c.block_id)), Some((view(0), block.id())));
    assert!(has(&out, |a| matches!(a, Action::Persist(Record::Decided { .. }))));
}

/// "A COMMIT quorum without the block stops all signing at h; the body is fetched by BlockID."
#[test]
fn a_commit_quorum_without_the_block_stops_signing_and_fetches() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    let mut out = Vec::new();
    for from in b.others() {
        out.extend(b.vote(Phase::Commit, from, 0, block.id()));
    }
    assert!(out.contains(&Action::FetchBlock(block.id())));
    assert_eq!(b.replica.missing(), [block.id()]);
    for from in b.others() {
        assert!(view_changes(&b.view_change(from, 1)).is_empty());
    }
    assert!(has(&b.feed(Input::Block(block)), |a| matches!(a, Action::Decide(_))));
}

/// "A timer sends VIEW-CHANGE for max(view, promise) + 1. promise = v', persist, broadcast."
#[test]
fn a_timer_promises_the_next_view_durably() {
    let mut b = backup();
    b.feed(Input::Work(true));
    let out = b.fire(TimerKind::Propose);
    assert_eq!(view_changes(&out), [1]);
    assert!(has(&out, |a| matches!(a, Action::Persist(Record::ViewChange { cause: Cause::Timer, .. }))));
    let others = b.others();
    b.view_change(others[0], 1);
    b.view_change(others[1], 1);
    assert_eq!(view_changes(&b.fire(TimerKind::NewView)), [2]);
}

/// "or when blocking power of senders have highest VIEW-CHANGE >= u > max(view, promise) (take the largest such u)."
#[test]
fn blocking_power_is_joined_at_the_largest_view_and_less_is_not() {
    let mut b = backup();
    let others = b.others();
    assert!(view_changes(&b.view_change(others[0], 7)).is_empty(), "one liar moves nobody");
    assert_eq!(view_changes(&b.view_change(others[1], 4)), [4]);
    assert!(view_changes(&b.view_change(others[2], 4)).is_empty(), "already promised");
    assert_eq!(view_changes(&b.view_change(others[2], 9)), [7]);
}

/// "on proof of primary equivocation": two proposals of the primary for one view.
#[test]
fn a_primary_that_signs_two_blocks_is_left() {
    let mut b = backup();
    let (one, two) = (b.block(0, 0, "x"), b.block(0, 0, "y"));
    b.propose(0, &one, None);
    assert_eq!(view_changes(&b.propose(0, &two, None)), [1]);
}

/// A refused block is as good as none: its primary is left at once.
#[test]
fn a_refused_block_leads_to_a_view_change() {
    let mut b = backup();
    let block = b.block(0, 0, "x");
    b.propose(0, &block, None);
    let out = b.feed(Input::Validated { block_id: block.id(), accepted: false });
    assert_eq!(view_changes(&out), [1]);
    assert!(votes(&out).is_empty());
}

/// "J is not covered by the proposal's signature: an unjustified PRE-PREPARE leaves no trace in protocol state."
#[test]
fn a_new_view_stripped_of_its_justification_spoils_nothing() {
    let mut b = backup();
    let block = b.block(0, 1, "x");
    let j = b.free(1);
    assert!(!validates(&b.propose(1, &block, None)));
    assert_eq!(b.replica.view(), view(0));
    assert!(validates(&b.propose(1, &block, Some(j))));
    assert!(view_changes(&b.out).is_empty(), "the primary is not blamed");
}

/// "Carry-over: if I decide h in w after sending VIEW-CHANGE(h,>w) by a timer or by joining and having seen VIEW-CHANGE(h,>w) from
/// blocking power, myself included, I send VIEW-CHANGE(h+1,w+1) on entering h+1."
#[test]
fn a_view_change_that_blocking_power_wanted_is_carried_over_once() {
    for (seen, carried) in [(true, vec![1]), (false, vec![])] {
        let mut b = backup();
        let block = b.block(0, 0, "x");
        b.propose(0, &block, None);
        b.fire(TimerKind::Propose);
        let others = b.others();
        if seen {
            b.view_change(others[0], 1);
        }
        for from in others {
            b.vote(Phase::Commit, from, 0, block.id());
        }
        let mut next = start_of(&b.s, 0, &[]);
        next.height = Height::from(6u32);
        assert_eq!(view_changes(&b.feed(Input::Advance(next))), carried, "seen: {seen}");
    }
}

/// "Entering v': the new primary with a quorum of VIEW-CHANGE(h,v'). It sends NEW-VIEW at once, with an empty block if need be."
#[test]
fn the_new_primary_proposes_freely_on_a_quorum() {
    let me = Bench::new(0).primary(1);
    let mut b = Bench::new(me);
    let mut out = Vec::new();
    for from in b.others() {
        out.extend(b.view_change(from, 1));
    }
    assert!(has(&out, |a| matches!(a, Action::Propose { view, .. } if view.number() == 1)));
    let block = b.block(0, 1, "x");
    let out = b.feed(Input::Built { view: view(1), block: block.clone() });
    let new_view = out.iter().find_map(|action| match action {
        Action::Broadcast(Message::PrePrepare(message)) => Some(message.clone()),
        _ => None,
    });
    let j = new_view.expect("a NEW-VIEW").justification.expect("its J");
    assert!(j.certificate.is_none() && j.view_changes.len() >= 3);
    assert!(validates(&out));
}

/// "may use any quorum whose bound block it has": bound to the highest prepared view, byte for byte.
#[test]
fn the_new_primary_is_bound_by_the_highest_certificate() {
    let me = Bench::new(0).primary(1);
    let mut b = Bench::new(me);
    let block = b.block(0, 0, "x");
    b.feed(Input::Block(block.clone()));
    let others = b.others();
    let signed = b.s.view_change(others[0], 1, Some((0, block.id())));
    let certificate = Some(b.s.certificate(0, block.id(), &[0, 1, 2]));
    b.feed(Input::ViewChange(Verified::new(ViewChangeMessage { signed, certificate })));
    let out = b.view_change(others[1], 1);
    let sent = out.iter().find_map(|action| match action {
        Action::Broadcast(Message::PrePrepare(message)) => Some(message.clone()),
        _ => None,
    });
    let sent = sent.expect("a NEW-VIEW at once");
    assert_eq!((sent.block_id(), sent.proposal.message.prepared_view), (block.id(), Some(view(0))));
    assert!(!has(&b.out, |a| matches!(a, Action::Propose { .. })));
}

/// "A primary that already signed fresh (h,v') sends no NEW-VIEW for v'."
#[test]
fn a_primary_that_proposed_fresh_sends_no_new_view() {
    let (primary, _) = primary_and_other();
    let mut b = Bench::new(primary);
    b.feed(Input::Work(true));
    let block = b.block(0, 0, "x");
    let out = b.feed(Input::Built { view: view(0), block });
    assert!(has(&out, |a| matches!(a, Action::Broadcast(Message::PrePrepare(_)))));
    let sent = b.out.len();
    for from in b.others() {
        b.view_change(from, 0);
    }
    assert!(!has(&b.out[sent..], |a| matches!(a, Action::Broadcast(Message::PrePrepare(_)))));
}

/// "propose […] runs only while there is something to order: an eligible transaction […] or PREPARE, COMMIT or VIEW-CHANGE of it from
/// blocking power (one liar cannot rotate an idle chain)."
#[test]
fn an_idle_replica_runs_no_timer() {
    let mut b = backup();
    let others = b.others();
    b.vote(Phase::Prepare, others[0], 0, block_id(1));
    assert_eq!(b.armed(TimerKind::Propose), None);
    b.vote(Phase::Prepare, others[1], 0, block_id(1));
    assert_eq!(b.armed(TimerKind::Propose).map(|(_, after)| after), Some(T));
    let mut b = backup();
    b.feed(Input::Work(true));
    assert!(b.armed(TimerKind::Propose).is_some());
}

/// "The new-view timer for my promise p starts when senders, myself included, whose highest VIEW-CHANGE is >= p hold a quorum."
#[test]
fn the_new_view_timer_counts_later_views_too() {
    let mut b = backup();
    b.feed(Input::Work(true));
    b.fire(TimerKind::Propose);
    let others = b.others();
    b.view_change(others[0], 1);
    assert_eq!(b.armed(TimerKind::NewView), None);
    b.view_change(others[1], 5);
    assert_eq!(b.armed(TimerKind::NewView).map(|(t, after)| (t.view, after)), Some((view(1), 2 * T)));
}

/// "each lasts T·2^(k − start view) […] capped at 30 s"; "if any of (height, view, kind, generation) is stale it is dropped."
#[test]
fn timers_back_off_to_a_cap_and_stale_ones_are_dropped() {
    let mut b = backup();
    b.feed(Input::Work(true));
    let (stale, _) = b.armed(TimerKind::Propose).unwrap();
    b.fire(TimerKind::Propose);
    assert!(b.feed(Input::Timer(stale)).is_empty());
    let others = b.others();
    for from in &others[..2] {
        b.view_change(*from, 20);
    }
    assert_eq!(b.armed(TimerKind::NewView).map(|(_, after)| after), Some(super::BACKOFF_MAX));
    let wrong = Timer { generation: u64::MAX, ..b.armed(TimerKind::NewView).unwrap().0 };
    assert!(view_changes(&b.feed(Input::Timer(wrong))).is_empty());
}

/// "disconnected primary: […] the running propose or commit timer expires after disconnect_grace, at most once a height."
#[test]
fn a_dead_primary_hurries_one_timer_a_height() {
    let mut b = backup();
    b.feed(Input::Work(true));
    let validator = b.replica.primary();
    let out = b.feed(Input::Down { validator, down: true });
    assert!(has(&out, |a| matches!(a, Action::Arm { after, .. } if *after == GRACE)));
    let out = b.feed(Input::Down { validator, down: true });
    assert!(out.is_empty(), "once a height");
    assert_eq!(view_changes(&b.fire(TimerKind::Propose)), [1]);
}

/// "before pre-preparing h+1 the primary waits, at most commit_grace after deciding, for every validator whose COMMIT for either of the
/// last two heights has arrived […] So one dead validator delays no one."
#[test]
fn the_primary_waits_for_late_commits_but_not_for_the_dead() {
    let (primary, other) = primary_and_other();
    let run = |committers: &[ValidatorIndex], present: &[ValidatorIndex]| {
        let mut b = Bench::new(primary);
        b.replica.committers =
            committers.iter().map(|index| b.s.validators.at(*index).unwrap().address).collect();
        b.replica.at.start.prior = Some(commit4(&b.s, 0, present));
        let out = b.feed(Input::Work(true));
        (b, has(&out, |a| matches!(a, Action::Propose { .. })))
    };
    let without_other: Vec<_> = (0..4).filter(|index| *index != other).collect();
    assert!(run(&without_other, &without_other).1, "absent for two heights: not waited for");
    let (mut b, proposed) = run(&[0, 1, 2, 3], &without_other);
    assert!(!proposed, "it committed the height before: waited for");
    let below = Signers::new(&[1; 4], 4);
    let late = Verified::new(below.vote(Phase::Commit, other, 0, block_id(4)));
    let out = b.feed(Input::Vote(late));
    let full = out.iter().any(|action| match action {
        Action::Propose { last_commit: Some(commit), .. } => commit.present().count() == 4,
        _ => false,
    });
    assert!(full, "the late COMMIT is in the block's last commit");
    let (mut b, _) = run(&[0, 1, 2, 3], &without_other);
    assert!(has(&b.fire(TimerKind::Grace), |a| matches!(a, Action::Propose { .. })));
}

/// "On restart, view = max(start view, highest view of any own signed PRE-PREPARE, PREPARE or COMMIT of h); the promise is restored
/// apart […] Locks stay." "A restart resends the SAME signed messages, never signs again."
#[test]
fn a_restart_restores_view_promise_and_lock_and_resends_the_same_bytes() {
    let mut b = backup();
    let block = b.block(0, 1, "x");
    let j = b.free(1);
    b.propose(1, &block, Some(j));
    b.accept(&block);
    for from in b.others() {
        b.vote(Phase::Prepare, from, 1, block.id());
    }
    b.fire(TimerKind::Commit);
    let records = b.out.iter().filter_map(|action| match action {
        Action::Persist(record) => Some(record.clone()),
        _ => None,
    });
    let mut restarted = Bench::new(b.me);
    for record in records.collect::<Vec<_>>() {
        assert_eq!(restarted.feed(Input::Restored(record)), [], "nothing is signed again");
    }
    assert_eq!(restarted.replica.view(), view(1));
    assert_eq!(restarted.replica.promise(), Some(view(2)));
    assert_eq!(restarted.replica.prepared(), Some((view(1), block.id())));
    let lacking = Bench::new(b.me).replica.status([]);
    let resent = restarted.replica.answer(&lacking);
    let mine: Vec<&Message> = b
        .out
        .iter()
        .filter_map(|action| match action {
            Action::Broadcast(message @ (Message::Vote(_) | Message::ViewChange(_))) => Some(message),
            _ => None,
        })
        .collect();
    assert_eq!(mine.len(), 3);
    assert!(mine.iter().all(|message| resent.contains(message)));
    restarted.feed(Input::Work(true));
    assert!(restarted.propose(1, &b.block(0, 1, "y"), Some(b.free(1))).iter().all(|action| {
        !matches!(action, Action::Broadcast(Message::Vote(_)))
    }));
}

/// "a node signs nothing new until it has STATUS […] or one timeout has passed": while held it signs nothing, afterwards it goes on.
#[test]
fn a_held_replica_signs_nothing_and_goes_on_afterwards() {
    let mut b = backup();
    b.feed(Input::Hold(true));
    let block = b.block(0, 0, "x");
    assert!(!validates(&b.propose(0, &block, None)));
    assert!(validates(&b.feed(Input::Hold(false))));
    assert_eq!(votes(&b.accept(&block)).len(), 1);
}

/// "PREPARE and COMMIT equivocation (same height, view, type, different block) is standard DuplicateVoteEvidence."
#[test]
fn two_votes_of_one_validator_are_evidence_and_count_once() {
    let mut b = backup();
    let others = b.others();
    b.vote(Phase::Commit, others[0], 0, block_id(1));
    let out = b.vote(Phase::Commit, others[0], 0, block_id(2));
    assert!(has(&out, |a| matches!(a, Action::Evidence(_))));
}

/// "STATUS […] peers resend every signed message of h that they hold and the STATUS lacks […] To a peer with a lower start view or view
/// I send what put me here."
#[test]
fn a_status_brings_back_everything_that_was_lost() {
    let mut b = backup();
    let block = b.block(0, 1, "x");
    let j = b.free(1);
    b.propose(1, &block, Some(j));
    b.accept(&block);
    let others = b.others();
    b.vote(Phase::Commit, others[0], 0, block_id(9));
    b.view_change(others[1], 3);
    let fresh = backup().replica.status([]);
    let answer = b.replica.answer(&fresh);
    assert!(answer.iter().any(|m| matches!(m, Message::PrePrepare(p) if p.justification.is_some())));
    assert!(answer.iter().any(|m| matches!(m, Message::Block(_))));
    assert_eq!(answer.iter().filter(|m| matches!(m, Message::Vote(_))).count(), 2);
    assert!(answer.iter().any(|m| matches!(m, Message::ViewChange(_))));
    assert_eq!(b.replica.answer(&b.replica.status([])), [], "who has all gets nothing");
    let mut raised = Bench::started(b.me, 2);
    raised.feed(Input::Work(true));
    let answer = raised.replica.answer(&fresh);
    assert!(answer.iter().any(|m| matches!(m, Message::Prior(commit) if commit.view == view(2))));
}

/// S12: whatever one validator sends, what is kept of it is bounded.
#[test]
fn a_flood_of_votes_and_view_changes_keeps_memory_bounded() {
    let mut b = backup();
    let from = b.others()[0];
    for v in 0..200 {
        b.vote(Phase::Prepare, from, v, block_id(1));
        b.vote(Phase::Commit, from, v, block_id(1));
        b.view_change(from, v);
    }
    let status = b.replica.status([]);
    assert!(status.prepares.len() <= super::VOTE_VIEWS_MAX);
    assert!(status.commits.len() <= super::VOTE_VIEWS_MAX);
    assert_eq!(status.view_changes.len(), 1);
}
