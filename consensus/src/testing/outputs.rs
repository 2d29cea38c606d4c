//! What a cluster does with the actions of its replicas.

use super::cluster::{CHAIN_ID, Cluster, MS, Seat};
use super::key;
use super::sets::header;
use crate::block::{Block, SealedBlock};
use crate::commit::{Commit, median_time};
use crate::key::Signature;
use crate::message::{Decided, Extension, Phase, SignRequest, Signed, SignedMessage};
use crate::replica::{Action, Input, Timer};
use crate::sign_bytes;
use bytes::Bytes;
use ed25519_dalek::Signer as _;
use rand::Rng;
use std::sync::Arc;
use std::time::Duration;
use tendermint::Time;
use tendermint::block::Height;
use tendermint_proto::v0_38::types as pb;

impl Cluster {
    pub(super) fn carry_out(&mut self, at: Seat, action: Action) {
        match action {
            Action::Broadcast(message) if self.lies(at) => self.lie(&message),
            Action::Broadcast(message) => {
                let (address, height) = (self.node(at).address, self.node(at).replica.height());
                let scene = self.sets.scene(address, height, self.liar.as_ref());
                self.checker.released(&scene, &message);
                for to in self.seats().filter(|to| *to != at) {
                    self.send(at, to, message.clone());
                }
            }
            Action::Send(to, message) => {
                if let Some(to) = self.seats().find(|seat| self.node(*seat).address == to) {
                    self.send(at, to, message);
                }
            }
            Action::Arm { timer, after } => self.arm(at, timer, after),
            Action::Sign(request) => self.sign_later(at, request),
            Action::Propose { height, view, last_commit } => {
                let block = self.build(at, height, last_commit);
                self.feed_later(at, Input::Built { view, block }, MS);
            }
            Action::Validate(block) => {
                self.feed_later(at, Input::Validated { block_id: block.id(), accepted: true }, MS);
            }
            Action::VerifyExtension(vote) => {
                self.feed_later(at, Input::ExtensionVerified { vote, accepted: true }, MS);
            }
            Action::Decide(decided) => self.decided(at, decided),
            Action::Evidence(votes) => {
                let author = votes.0.message.validator;
                let liar = self.liar.as_ref().is_some_and(|l| self.node(l.seat).address == author);
                assert!(liar, "S11: evidence against a correct replica: {votes:?}");
            }
            Action::Alarm(what) => assert!(self.lies(at), "alarm at a correct replica: {what}"),
            Action::FetchBlock(_) | Action::Note(_) | Action::Persist(_) => {}
        }
    }

    fn arm(&mut self, at: Seat, timer: Timer, after: Duration) {
        self.feed_later(at, Input::Timer(timer), after);
    }

    /// Slow, lost and doubled signatures; the second of two has another clock.
    fn sign_later(&mut self, at: Seat, request: SignRequest) {
        let percent = self.faults.signers;
        let bad = self.faulty() && self.chance(percent);
        let after = self.rng.random_range(Duration::ZERO..3 * MS);
        match (bad, self.rng.random_range(0..3)) {
            (true, 0) => {}
            (true, 1) => {
                let late = self.rng.random_range(MS..2_000 * MS);
                self.sign_at(at, request, late);
            }
            (true, _) => {
                self.sign_at(at, request.clone(), after);
                self.sign_at(at, request, after + 5 * MS);
            }
            (false, _) => self.sign_at(at, request, after),
        }
    }

    fn sign_at(&mut self, at: Seat, request: SignRequest, after: Duration) {
        let signed = sign(at, request, clock(self.now + after));
        self.feed_later(at, Input::Signed(signed), after);
    }

    fn decided(&mut self, at: Seat, decided: Decided) {
        let height = decided.commit.height;
        if !self.lies(at) {
            let scene = self.sets.scene(self.node(at).address, height, self.liar.as_ref());
            self.checker.decided(&scene, &decided.block, &decided.commit);
        }
        self.nodes[usize::from(at)].chain.push(decided);
        let start = self.start(height.increment(), None);
        self.feed(at, Input::Advance(start));
        self.feed(at, Input::Work(true));
    }

    pub(super) fn build(
        &mut self,
        at: Seat,
        height: Height,
        last_commit: Option<Commit>,
    ) -> Arc<SealedBlock> {
        let time = match &last_commit {
            Some(commit) => median_time(commit, &self.sets.at(commit.height).0).expect("a median"),
            None => clock(Duration::ZERO),
        };
        let tx = Bytes::copy_from_slice(&self.rng.random::<u64>().to_be_bytes());
        let validators = &self.sets.at(height).0;
        let header = header(height, time, self.node(at).address, validators, last_commit.as_ref());
        let evidence = pb::EvidenceList::default();
        Arc::new(SealedBlock::seal(Block { header, txs: vec![tx], evidence, last_commit }))
    }
}

/// Signs as a validator's signer does.
pub(super) fn sign(seat: Seat, request: SignRequest, now: Time) -> SignedMessage {
    let sign = |bytes: Vec<u8>| Signature(key(seat).sign(&bytes).to_bytes());
    match request {
        SignRequest::Proposal(message) => {
            let signature = sign(sign_bytes::proposal(CHAIN_ID, &message));
            SignedMessage::Proposal(Signed { message, signature })
        }
        SignRequest::Vote { vote: mut message, extend } => {
            if message.phase == Phase::Commit {
                message.time = message.time.max(now);
            }
            if extend {
                let data = Bytes::copy_from_slice(&message.view.number().to_be_bytes());
                let signature = sign(sign_bytes::extension(CHAIN_ID, &message, &data));
                message.extension = Some(Extension { data, signature });
            }
            let signature = sign(sign_bytes::vote(CHAIN_ID, &message));
            SignedMessage::Vote(Signed { message, signature })
        }
        SignRequest::ViewChange(message) => {
            let signature = sign(sign_bytes::view_change(CHAIN_ID, &message));
            SignedMessage::ViewChange(Signed { message, signature })
        }
    }
}

/// The time of day at a moment of virtual time.
pub(super) fn clock(now: Duration) -> Time {
    Time::from_unix_timestamp(1_700_000_000, 0)
        .ok()
        .and_then(|start| start.checked_add(now))
        .expect("a time")
}
