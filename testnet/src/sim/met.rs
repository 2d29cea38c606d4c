//! Which rules a run has met, seen from outside: by what became durable, and by how a replica stood before and after a turn.

use super::disk::Write;
use super::plan::Seat;
use super::world::World;
use tendermint::block::Height;
use tercet_consensus::block::{BlockId, SealedBlock};
use tercet_consensus::commit::Commit;
use tercet_consensus::message::{Justification, Message, PrePrepare};
use tercet_consensus::record::{Cause, Record};
use tercet_consensus::replica::Replica;
use tercet_consensus::verify::Reject;
use tercet_consensus::view::View;

/// How a replica stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    height: Height,
    start_view: View,
    view: View,
    promise: Option<View>,
    prepared: Option<(View, BlockId)>,
}

impl Standing {
    /// That of a replica.
    pub(crate) fn of(replica: &Replica) -> Standing {
        Standing {
            height: replica.height(),
            start_view: replica.start_view(),
            view: replica.view(),
            promise: replica.promise(),
            prepared: replica.prepared(),
        }
    }
}

impl World {
    /// What a turn of a correct replica shows.
    pub(crate) fn met_turn(&mut self, before: Standing, after: Standing) {
        let mut met = |name| self.coverage.met("rule", name);
        if before.height != after.height {
            if before.promise > Some(before.view) {
                met("decided during a view change");
            }
            if after.start_view > before.view {
                met("decided in a later view than the own");
            } else if after.start_view < before.view {
                met("decided in an earlier view than the own");
            }
            return;
        }
        if after.start_view > before.start_view {
            met("start view raised by a better commit");
        } else if after.view > before.view {
            met("new view entered");
            if after.prepared.is_some() {
                met("new view entered with a lock");
            }
        }
        if let (Some((old, first)), Some((new, other))) = (before.prepared, after.prepared)
            && new > old
        {
            met("lock replaced by a higher view");
            if first != other {
                met("lock replaced by another block");
            }
        }
    }

    /// A proposal reaches a correct replica that is locked on another block.
    pub(crate) fn met_proposal(&mut self, to: Seat, message: &PrePrepare) {
        let Some(engine) = &self.node(to).engine else { return };
        let replica = engine.replica();
        let other = replica.prepared().is_some_and(|(_, id)| id != message.block_id());
        let here = replica.height() == message.height() && replica.view() <= message.view();
        if other && here {
            self.coverage.met(
                "rule",
                match message.justification {
                    None => "a fresh block against a lock",
                    Some(_) => "a new view against a lock",
                },
            );
        }
    }

    /// A message is refused.
    pub(crate) fn met_reject(&mut self, message: &Message, reject: &Reject) {
        let name = match (reject, message) {
            (Reject::Malformed(what) | Reject::Justification(what), _) => what,
            (Reject::TooLarge, _) => "too large",
            (Reject::Height, _) => "wrong height",
            (Reject::Past, _) => "a height that is over",
            (Reject::UnknownValidator, _) => "unknown validator",
            (Reject::NotPrimary, _) => "not the primary of its view",
            (Reject::Signature, Message::PrePrepare(_)) => "signature of a proposal or in its J",
            (Reject::Signature, _) => "another signature",
            (Reject::NoQuorum, Message::PrePrepare(_)) => "no quorum in a J",
            (Reject::NoQuorum, _) => "no quorum in a certificate",
        };
        self.coverage.met("rejected", name);
    }

    /// A record became durable.
    pub(crate) fn met_record(&mut self, record: &Record) {
        let rule = match record {
            Record::PrePrepare { message } => match &message.justification {
                None => "fresh pre-prepare",
                Some(j) => self.met_justification(message.view(), j),
            },
            Record::Prepare { .. } => "prepare",
            Record::Commit { .. } => "commit",
            Record::Decided { .. } => "decide",
            Record::ViewChange { message, cause } => {
                self.liveness.view_changes += 1;
                let change = &message.signed.message;
                let name = match change.prepared {
                    None => "none in a VIEW-CHANGE",
                    Some(claim) if claim.view.next() == change.view => {
                        "in a VIEW-CHANGE, of the view before"
                    }
                    Some(_) => "in a VIEW-CHANGE, of an earlier view",
                };
                self.coverage.met("certificate", name);
                match cause {
                    Cause::Timer => "view change by timer",
                    Cause::Join => "view change by joining",
                    Cause::Carried => "view change carried over",
                    Cause::Primary => "view change for a faulty primary",
                }
            }
        };
        self.coverage.met("rule", rule);
    }

    fn met_justification(&mut self, view: View, j: &Justification) -> &'static str {
        let Some(certificate) = &j.certificate else { return "new view, free" };
        let mut met = |name| self.coverage.met("certificate", name);
        met(match certificate.view.next() == view {
            true => "in a NEW-VIEW, of the view before",
            false => "in a NEW-VIEW, of an earlier view",
        });
        let claims = || j.view_changes.iter().map(|signed| signed.message.prepared);
        if claims().any(|claim| claim.is_none()) {
            met("in a NEW-VIEW, some have none");
        }
        if claims().flatten().any(|claim| claim.view != certificate.view) {
            met("in a NEW-VIEW, of two views");
        }
        if claims().flatten().any(|claim| claim.block_id != certificate.block_id) {
            met("in a NEW-VIEW, for two blocks");
        }
        "new view, bound"
    }

    /// A height is decided for the first time.
    pub(crate) fn met_decision(&mut self, block: &SealedBlock, commit: &Commit) {
        let (height, view) = (commit.height.value(), commit.view.number());
        let before =
            self.checks.decided.get(&height.saturating_sub(1)).map_or(0, |(_, view)| *view);
        let depth = match view.saturating_sub(before) {
            0 => "0",
            1 => "1",
            2 => "2",
            3 => "3",
            4 => "4",
            _ => "5 and more",
        };
        self.coverage.met("view", depth);
        let empty = block.txs().is_empty();
        self.coverage.met("rule", if empty { "an empty block" } else { "a block of transactions" });
        let primary = |height: u64| {
            let set = self.checks.set(height)?;
            let height = Height::try_from(height).ok()?;
            let primary = set.schedule.primary(height, commit.view);
            set.validators.at(primary).map(|validator| validator.address)
        };
        if primary(height) != primary(height.saturating_sub(1)) {
            self.coverage.met("rule", "planned rotation");
        }
    }
}

/// The name of what was written, or lost, last before a crash.
pub(crate) fn write_name(write: Option<&Write>) -> &'static str {
    match write {
        None => "nothing",
        Some(Write::Reserve(_)) => "reservation in the journal",
        Some(Write::File(_)) => "reservation in the file",
        Some(Write::Record(record)) => match &**record {
            Record::PrePrepare { .. } => "pre-prepare",
            Record::Prepare { .. } => "prepare",
            Record::Commit { .. } => "commit",
            Record::ViewChange { .. } => "view change",
            Record::Decided { .. } => "decision",
        },
    }
}
