//! What the engine does of what the replica says: one match over actions.

use super::EngineError;
use super::run::Engine;
use crate::execution::Job;
use crate::wire::Consensus;
use std::ops::ControlFlow;
use tercet_consensus::message::{Decided, Message, SignRequest, Vote};
use tercet_consensus::replica::{Action, Input};

impl Engine {
    /// Has the replica and the journal take `inputs`, and does what comes of them.
    pub(super) fn step(&mut self, inputs: Vec<Input>) -> Result<(), EngineError> {
        let mut early = Vec::new();
        let late = {
            let (jobs, network, now) = (&self.parts.jobs, &self.parts.network, self.now);
            let (peers, tell) = (&mut self.peers, &self.parts.tell);
            self.parts.core.step(inputs, now.time, &mut |action| match asked(action) {
                ControlFlow::Break(job) => drop(jobs.send(job)),
                ControlFlow::Continue(Action::Broadcast(message)) => {
                    if let Message::Block(block) = &message {
                        peers.sent_body(block.id(), now.instant);
                    }
                    Engine::tell_message(tell, &message);
                    network.broadcast(Consensus::Message(message));
                }
                ControlFlow::Continue(other) => early.push(other),
            })?
        };
        for action in early.into_iter().chain(late) {
            self.carry_out(action);
        }
        let replica = self.parts.core.replica();
        if replica.has_accepted() && !replica.is_decided() {
            self.parts.pace.accepted(replica.height(), self.now.instant);
        }
        Ok(())
    }

    /// The match over actions. Everything that an action of this step needed durable is durable.
    pub(super) fn carry_out(&mut self, action: Action) {
        let action = match asked(action) {
            ControlFlow::Break(job) => return drop(self.parts.jobs.send(job)),
            ControlFlow::Continue(action) => action,
        };
        match action {
            Action::Broadcast(message) => {
                Engine::tell_message(&self.parts.tell, &message);
                self.parts.network.broadcast(Consensus::Message(message));
            }
            Action::Send(validator, message) => {
                if let Some(peer) = self.peers.peer_of(&validator) {
                    self.parts.network.send(peer, Consensus::Message(message));
                }
            }
            Action::Arm { timer, after } => self.unarmed.push((timer, after)),
            Action::Decide(decided) => self.decided(decided),
            Action::Evidence(votes) => self.evidence(*votes),
            Action::FetchBlock(_) => self.fetch_missing(true),
            Action::Alarm(what) => self.failure = Some(EngineError::Alarm(what)),
            Action::Note(note) => self.note(note),
            Action::Sign(SignRequest::Vote { vote, extend: true }) => self.extend(vote),
            // `Journaled` keeps these to itself; the others were jobs.
            Action::Persist(_)
            | Action::Sign(_)
            | Action::Validate(_)
            | Action::VerifyExtension(_)
            | Action::Propose { .. } => {}
        }
    }

    /// Has the application extend a COMMIT of this node.
    fn extend(&mut self, vote: Vote) {
        if let Some(Message::Block(block)) = self.parts.core.replica().block(&vote.block_id) {
            drop(self.parts.jobs.send(Job::Extend { vote, block }));
        }
    }

    fn decided(&mut self, decided: Decided) {
        self.note_foreign_commits(&decided);
        let replica = self.parts.core.replica();
        let Decided { block, commit } = decided;
        if replica.saw_view_change() && replica.height() == commit.height {
            self.parts.pace.view_change(commit.height);
        }
        self.note_time(&commit);
        self.work.decided(self.now.instant);
        self.unexecuted.insert(commit.height, block.txs().len());
        self.parts.pace.decided(commit.height, block.bytes().len());
        self.keep_decided(block.clone());
        // A closed channel means that the node is stopping.
        drop(self.parts.jobs.send(Job::Apply { block, commit }));
    }
}

/// What the application is asked; all else goes on.
fn asked(action: Action) -> ControlFlow<Job, Action> {
    ControlFlow::Break(match action {
        Action::Validate(block) => Job::Validate(block),
        Action::VerifyExtension(vote) => Job::VerifyExtension(vote),
        Action::Propose { height, view, last_commit } => Job::Propose { height, view, last_commit },
        other => return ControlFlow::Continue(other),
    })
}
