//! The bench of the rules' tests: one replica, its signer, and three other validators with equal powers; a quorum is three, blocking
//! power is two. One directed test a rule of docs/protocol.md §5, the text of the rule above it.

mod bounds;
mod extensions;
mod restart;
mod rules;
mod signing;
mod timers;
mod unused;
mod views;

use super::{Action, HeightStart, Input, Note, Replica, Settings, Timer, TimerKind};
use crate::block::{Block, BlockId, SealedBlock};
use crate::commit::{Commit, CommitSig};
use crate::key::Signature;
use crate::message::{
    Decided, Extension, Justification, Message, Phase, SignRequest, Signed, SignedMessage,
    Verified, ViewChangeMessage,
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
    /// Whether the signer has vanished; then its requests end up in `unsigned`.
    signer_gone: bool,
    unsigned: Vec<SignRequest>,
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
        Bench { s, me, replica, out: Vec::new(), signer_gone: false, unsigned: Vec::new() }
    }

    /// Feeds an input; signs what is asked for; returns what else came out.
    fn feed(&mut self, input: Input) -> Vec<Action> {
        let out = self.step(input);
        self.out.extend(out.clone());
        out
    }

    fn step(&mut self, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        for action in self.replica.step(input) {
            match action {
                Action::Sign(request) if self.signer_gone => self.unsigned.push(request),
                Action::Sign(request) => {
                    let signed = self.sign(request);
                    out.extend(self.step(Input::Signed(signed)));
                }
                other => out.push(other),
            }
        }
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

    fn propose(
        &mut self,
        v: u32,
        block: &Arc<SealedBlock>,
        j: Option<Justification>,
    ) -> Vec<Action> {
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
        prior_extensions: false,
    }
}

fn block(
    s: &Signers,
    last: &Commit,
    proposer: ValidatorIndex,
    tx: &'static str,
) -> Arc<SealedBlock> {
    let time = median_time(last, &s.validators).unwrap();
    let proposer = s.validators.at(proposer).unwrap().address;
    let header = header(last.height.increment(), time, proposer, &s.validators, Some(last));
    let txs = vec![Bytes::from_static(tx.as_bytes())];
    let last_commit = Some(last.clone());
    Arc::new(SealedBlock::seal(Block { header, txs, evidence: Default::default(), last_commit }))
}

/// `block` of the height of `s`, decided in view `v` by the COMMITs of `present`.
fn decided(s: &Signers, block: &Arc<SealedBlock>, v: u32, present: &[ValidatorIndex]) -> Decided {
    let mut signatures = vec![None; s.validators.count()];
    for index in present {
        let vote = s.vote(Phase::Commit, *index, v, block.id());
        let (address, time) = (vote.message.validator, vote.message.time);
        let entry = CommitSig { address, time, signature: vote.signature, extension: None };
        signatures[*index as usize] = Some(entry);
    }
    let commit = Commit { height: s.height, view: view(v), block_id: block.id(), signatures };
    Decided { block: block.clone(), commit }
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
