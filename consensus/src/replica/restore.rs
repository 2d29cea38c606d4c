//! A restart: the durable records of the height go through `step` like everything else, but no rule runs before the next other input,
//! because a later record may say that its signature exists. They restore what was signed, so that it is resent and never signed again. Source: docs/protocol.md §5 "Start view", §8.

use super::height::{OwnProposal, Prepared, Promise, Verdict};
use super::{Action, Replica};
use crate::message::{Certificate, Decided, PrePrepare, SignedVote, Verified, ViewChangeMessage};
use crate::record::{Cause, Record};
use crate::view::View;
use std::sync::Arc;

impl Replica {
    /// Takes one record of this height; those of other heights are ignored.
    pub(super) fn restore(&mut self, record: Record, out: &mut Vec<Action>) {
        if record.height() != self.height() {
            return;
        }
        if let Some(block) = record.block() {
            self.at.durable_blocks.insert(block.id());
            if let Some(commit) = block.last_commit() {
                self.record_prior(commit, out);
            }
            self.at.keep_block(Arc::clone(block));
        }
        match record {
            Record::PrePrepare { message } => self.restore_proposal(message),
            Record::Prepare { pre_prepare, vote, .. } => {
                self.restore_prepare(pre_prepare, vote, out)
            }
            Record::Commit { certificate, vote, .. } => {
                let view = certificate.view;
                self.restore_view(view);
                self.restore_prepared(certificate);
                self.at.commit_asked = self.at.commit_asked.max(Some(view));
                self.count(Verified::new(vote), out);
            }
            Record::ViewChange { message, cause } => self.restore_view_change(message, cause),
            Record::Decided { commit, .. } => {
                if let Some(block) = self.at.blocks.get(&commit.block_id).cloned() {
                    self.at.unseen = self.at.unseen_of(&commit);
                    self.at.decision = Some(commit.clone());
                    out.push(Action::Decide(Decided { block, commit }));
                }
            }
        }
    }

    /// On restart, view = max(start view, highest view of any own signed PRE-PREPARE, PREPARE or COMMIT of h).
    fn restore_view(&mut self, view: View) {
        self.at.view = self.at.view.max(view);
    }

    fn restore_proposal(&mut self, message: PrePrepare) {
        let (view, block_id) = (message.view(), message.block_id());
        self.restore_view(view);
        let justification = message.justification.clone();
        self.at.own_proposal = Some(OwnProposal { view, block_id, justification, signed: true });
        self.restore_candidate(message);
    }

    fn restore_prepare(
        &mut self,
        pre_prepare: PrePrepare,
        vote: SignedVote,
        out: &mut Vec<Action>,
    ) {
        let (view, block_id) = (pre_prepare.view(), pre_prepare.block_id());
        self.restore_view(view);
        self.restore_candidate(pre_prepare);
        self.at.verdicts.insert(block_id, Verdict::Accepted);
        self.at.accepted = Some((view, block_id));
        self.at.prepare_asked = self.at.prepare_asked.max(Some(view));
        self.count(Verified::new(vote), out);
    }

    /// Only a higher view replaces what is prepared.
    fn restore_prepared(&mut self, certificate: Certificate) {
        let (view, block_id) = (certificate.view, certificate.block_id);
        if self.at.prepared.as_ref().is_none_or(|prepared| prepared.view < view) {
            self.at.prepared = Some(Prepared { view, block_id, certificate });
        }
    }

    fn restore_candidate(&mut self, message: PrePrepare) {
        let message = Verified::new(message);
        if message.view() == self.at.view && message.justification.is_some() {
            self.at.new_view = Some(message.clone());
        }
        self.at.candidates.add(message, self.at.view);
    }

    fn restore_view_change(&mut self, message: ViewChangeMessage, cause: Cause) {
        let (view, index) = (message.signed.message.view, message.signed.message.index);
        if self.at.promise.is_none_or(|promise| promise.view < view) {
            self.at.promise = Some(Promise { view, cause });
        }
        if let Some(certificate) = message.certificate.clone() {
            self.restore_prepared(certificate);
        }
        if self.at.view_changes.view_of(index) < Some(view) {
            self.at.add_view_change(Verified::new(message));
        }
    }
}
