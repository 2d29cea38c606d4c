//! The chart of a run: one line for each message that leaves or arrives, each decision and each fault. The same seed gives the same
//! bytes.

use super::keys::seat_of;
use super::network::{Sent, Wire};
use super::plan::{Fault, Seat};
use super::{MS, Nanos};
use std::fmt::Write as _;
use tercet_consensus::block::{BlockId, SealedBlock};
use tercet_consensus::commit::Commit;
use tercet_consensus::message::{Message, Phase, Vote};
use tercet_node::execution::Done;
use tercet_node::network::PeerId;
use tercet_node::wire::Consensus;

/// What is told of a run; nothing where nobody listens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace(Option<String>);

impl Trace {
    /// One that is kept.
    pub(crate) fn kept() -> Trace {
        Trace(Some(String::new()))
    }

    /// What was told.
    pub(crate) fn take(&mut self) -> String {
        self.0.take().unwrap_or_default()
    }

    fn line(&mut self, now: Nanos, who: &str, what: &str) {
        if let Some(text) = &mut self.0 {
            let (ms, rest) = (now / MS, now % MS / 1_000);
            let _ = writeln!(text, "{ms:>7}.{rest:03} {who:<4} {what}");
        }
    }

    /// Something about one node.
    pub(crate) fn say(&mut self, now: Nanos, seat: Seat, what: impl FnOnce() -> String) {
        if self.0.is_some() {
            self.line(now, &format!("n{seat}"), &what());
        }
    }

    /// Something about all.
    pub(crate) fn say_all(&mut self, now: Nanos, what: &str) {
        self.line(now, "*", what);
    }

    /// A fault begins.
    pub(crate) fn fault(&mut self, now: Nanos, fault: &Fault) {
        if self.0.is_some() {
            self.line(now, "*", &format!("FAULT {fault:?}"));
        }
    }

    /// A node says something; STATUS is left out.
    pub(crate) fn sends(&mut self, now: Nanos, seat: Seat, to: Option<&PeerId>, sent: &Sent) {
        if self.0.is_none() {
            return;
        }
        let what = match &sent.wire {
            Wire::Consensus(Consensus::Message(message)) => name(message),
            Wire::Consensus(Consensus::FetchBlock(fetch)) => format!("FETCH {}", fetch.height),
            _ => return,
        };
        let to = to.and_then(seat_of).map_or("all".into(), |to| format!("n{to}"));
        self.line(now, &format!("n{seat}"), &format!("-> {to:<4} {what}"));
    }

    /// A message arrives.
    pub(crate) fn hears(&mut self, now: Nanos, seat: Seat, from: Seat, message: &Message) {
        self.say(now, seat, || format!("<- n{from:<3} {}", name(message)));
    }

    /// A replica decides.
    pub(crate) fn decided(&mut self, now: Nanos, seat: Seat, block: &SealedBlock, commit: &Commit) {
        self.say(now, seat, || {
            let (height, view, txs) = (commit.height, commit.view, block.txs().len());
            let signed = commit.present().count();
            let id = short(&commit.block_id);
            format!("== DECIDED {height} in view {view}: {id}, {txs} txs, {signed} commits")
        });
    }

    /// An application is done with something.
    pub(crate) fn done(&mut self, now: Nanos, seat: Seat, done: &Done) {
        self.say(now, seat, || match done {
            Done::Proposed { height, view, block } => {
                format!("   built {height}/{view} {}", short(&block.id()))
            }
            Done::Validated { block_id, result: Ok(()) } => format!("   valid {}", short(block_id)),
            Done::Validated { block_id, result: Err(refusal) } => {
                format!("   REFUSED {}: {refusal}", short(block_id))
            }
            Done::Extended { vote, .. } => format!("   extended {}/{}", vote.height, vote.view),
            Done::ExtensionVerified { vote, accepted } => {
                let Vote { height, view, index, .. } = vote.message;
                let verdict = if *accepted { "good" } else { "BAD" };
                format!("   {verdict} extension of {index} at {height}/{view}")
            }
            Done::Applied(outcome) => format!("   executed {}", outcome.applied.height),
            Done::Failed(error) => format!("   FAILED {error}"),
        });
    }
}

fn short(id: &BlockId) -> String {
    id.hash.to_string().chars().take(6).collect()
}

/// A message in a few words.
pub(crate) fn name(message: &Message) -> String {
    match message {
        Message::Vote(vote) => {
            let vote = &vote.message;
            let phase = if vote.phase == Phase::Prepare { "PREPARE" } else { "COMMIT" };
            let (height, view, index) = (vote.height, vote.view, vote.index);
            format!("{phase} {height}/{view} {} by #{index}", short(&vote.block_id))
        }
        Message::PrePrepare(message) => {
            let kind = match &message.justification {
                None => "PRE-PREPARE".into(),
                Some(j) => match &j.certificate {
                    None => format!("NEW-VIEW of {} free", j.view_changes.len()),
                    Some(c) => format!("NEW-VIEW of {} bound by {}", j.view_changes.len(), c.view),
                },
            };
            let (height, view) = (message.height(), message.view());
            format!("{kind} {height}/{view} {}", short(&message.block_id()))
        }
        Message::ViewChange(message) => {
            let change = &message.signed.message;
            let (height, view, index) = (change.height, change.view, change.index);
            let prepared = change.prepared.map_or("none".into(), |claim| {
                format!("{} in {}", short(&claim.block_id), claim.view)
            });
            format!("VIEW-CHANGE {height}/{view} prepared {prepared} by #{index}")
        }
        Message::Block(block) => format!("BLOCK {} {}", block.header().height, short(&block.id())),
        Message::Prior(commit) => format!("COMMIT OF {} in view {}", commit.height, commit.view),
    }
}
