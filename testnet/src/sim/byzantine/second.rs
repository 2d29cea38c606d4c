//! Two commits of one height: COMMITs of later views are withheld until the others have moved on, and then used for a fresh proposal.

use super::{Delivery, Liar, Strategy};
use bytes::Bytes;
use std::sync::Arc;
use tendermint_proto::v0_38::types::EvidenceList;
use tercet_consensus::block::{Block, SealedBlock};
use tercet_consensus::commit::{Commit, CommitSig};
use tercet_consensus::message::{Message, Phase, PrePrepare, Proposal, SignedVote};

impl Liar<'_> {
    /// A COMMIT of the start view goes to one peer only; one of a later view to nobody.
    pub(super) fn withhold_second(&mut self, mut all: Vec<Delivery>) -> Vec<Delivery> {
        let Some(Message::Vote(vote)) = all.first().and_then(Delivery::message) else {
            return all;
        };
        if vote.message.phase != Phase::Commit || vote.message.validator != self.address() {
            return all;
        }
        let vote = vote.clone();
        self.keep_commit(&vote);
        let one = self.world.rng.index(self.world.nodes.len());
        all.retain(|delivery| delivery.to == one && vote.message.view.number() == 0);
        all
    }

    /// Keeps a COMMIT, and proposes afresh where a second commit of the height before is complete.
    pub(super) fn second_commit(&mut self, message: &Message) {
        let Message::Vote(vote) = message else { return };
        if vote.message.phase != Phase::Commit {
            return;
        }
        self.keep_commit(vote);
        // Not before somebody has prepared something at this height.
        if Some(vote.message.height) == self.height() {
            let _ = self.propose_on_second();
        }
    }

    fn keep_commit(&mut self, vote: &SignedVote) {
        let key = (vote.message.height, vote.message.view, vote.message.block_id);
        let votes = self.memory().commits.entry(key).or_default();
        votes.insert(vote.message.index, vote.clone());
    }

    fn propose_on_second(&mut self) -> Option<()> {
        let height = self.height()?;
        let me = self.index(height)?;
        let set = self.world.checks.set(height.value())?.clone();
        let before = self.world.checks.set(height.value().checked_sub(1)?)?.clone();
        let node = self.world.node(self.seat);
        let known = node.app.chain.last().filter(|_| node.app.state().next_height() == height)?;
        let block_id = known.block.id();
        let correct = self.world.seats().filter(|seat| self.world.is_correct(*seat));
        let replicas = correct.filter_map(|seat| self.world.node(seat).engine.as_ref());
        let here = replicas.map(|engine| engine.replica()).filter(|r| r.height() == height);
        let start = here.map(|replica| replica.view()).min()?;
        let (prior, own) = (known.commit.height, node.engine.as_ref()?.replica().view());
        let memory = self.world.byzantine.get(&self.seat)?;
        let usable = |view: &tercet_consensus::view::View| {
            *view > start && set.schedule.primary(height, *view) == me
        };
        let complete = memory.commits.iter().find(|((at, view, id), votes)| {
            let power: u64 = votes.keys().map(|index| before.validators.power_at(*index)).sum();
            (*at, *id) == (prior, block_id) && usable(view) && before.validators.is_quorum(power)
        });
        let ((_, view, _), votes) = complete?;
        let view = *view;
        let mut signatures = vec![None; before.validators.count()];
        for (index, vote) in votes {
            let entry = signatures.get_mut(usize::try_from(*index).ok()?)?;
            let (address, time) = (vote.message.validator, vote.message.time);
            *entry = Some(CommitSig { address, time, signature: vote.signature, extension: None });
        }
        let commit = Commit { height: prior, view, block_id, signatures };
        if !self.memory().second.insert((height, view)) {
            return None;
        }
        if own == view {
            // Its engine proposes by itself.
            self.met(Strategy::SecondCommit);
            return None;
        }
        let state = self.world.node(self.seat).app.state();
        let header = tercet_node::execution::block::header(state, Some(&commit), self.address())?;
        let evidence = EvidenceList::default();
        let txs = vec![Bytes::from_static(b"second")];
        let block = SealedBlock::seal(Block { header, txs, evidence, last_commit: Some(commit) });
        let (block_id, time) = (block.id(), block.header().time);
        let proposal = Proposal { height, view, prepared_view: None, block_id, time };
        let proposal = self.proposal(proposal)?;
        self.met(Strategy::SecondCommit);
        self.send_to_some(100, Message::Block(Arc::new(block)));
        self.send_to_some(100, Message::PrePrepare(PrePrepare { proposal, justification: None }));
        Some(())
    }
}
