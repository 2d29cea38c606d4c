//! Optimistic execution of a simulated node, by the node's own [`Speculation`]: what is executed before it is decided must lead to what every other node computes.

use super::application::results;
use super::plan::Plan;
use std::sync::Arc;
use tercet_abci::optimistic::Speculation;
use tercet_consensus::block::SealedBlock;
use tercet_node::execution::updates::after_block;
use tercet_node::execution::{Applied, State, finalize_request};

/// A node's block that is executed before it is decided.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// Whether the node does that; every other one does, so that both kinds are compared.
    optimistic: bool,
    accepted: Option<Arc<SealedBlock>>,
    work: Speculation<()>,
    /// Whether there is any.
    has_work: bool,
    /// What became of it last, for the coverage.
    pub(crate) met: Option<&'static str>,
}

impl Ahead {
    /// Of the node with this key.
    pub(crate) fn of(key: usize) -> Ahead {
        Ahead { optimistic: key.is_multiple_of(2), ..Ahead::default() }
    }

    /// The application accepted a block.
    pub(crate) fn accepted(&mut self, block: &Arc<SealedBlock>) {
        self.accepted = self.optimistic.then(|| Arc::clone(block));
    }

    /// No job waits.
    pub(crate) fn idle(&mut self, state: &State, plan: &Plan) {
        let Some(block) = self.accepted.take() else { return };
        if state.next_height() != block.header().height {
            return;
        }
        let request = finalize_request(&block, state);
        self.work.begin(request, |_| (results(&block, state, plan), ()));
        self.has_work = true;
    }

    /// A block is decided: what came of it, where it was executed before.
    pub(crate) fn decided(&mut self, block: &SealedBlock, state: &State) -> Option<Applied> {
        self.accepted = None;
        let done = self.work.take(&finalize_request(block, state));
        if std::mem::take(&mut self.has_work) {
            self.met = Some(if done.is_some() { "used" } else { "thrown away" });
        }
        done.map(|(results, ())| after_block(state, block, results).expect("sound updates"))
    }

    /// The process ends.
    pub(crate) fn crash(&mut self) {
        if std::mem::take(&mut self.has_work) {
            self.met = Some("lost in a crash");
        }
        self.accepted = None;
        self.work.discard();
    }
}
