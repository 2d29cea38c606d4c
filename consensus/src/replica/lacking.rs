//! What a peer lacks, by its STATUS: each message with about how long it is, and a place in an order, so that whoever sends no more than a
//! part of an answer can go on where he stopped.

use crate::block::SealedBlock;
use crate::commit::Commit;
use crate::message::{
    Certificate, Extension, Message, Phase, PrePrepare, SignedVote, ViewChangeMessage,
};
use crate::validators::ValidatorIndex;
use crate::view::View;
use std::sync::Arc;

/// One message that a peer lacks, copied only once it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacking<'a> {
    /// Commit(h−1) of my start view, or one with the vote extensions.
    Prior(&'a Commit),
    /// A PRE-PREPARE or NEW-VIEW.
    PrePrepare(&'a PrePrepare),
    /// A pre-prepared block.
    Block(&'a Arc<SealedBlock>),
    /// A PREPARE or COMMIT.
    Vote(&'a SignedVote),
    /// The highest VIEW-CHANGE of a sender.
    ViewChange(&'a ViewChangeMessage),
}

/// About how many bytes a signed message or an entry of a commit has, besides what it carries.
const SIGNED_BYTES: usize = 224;

impl Lacking<'_> {
    /// The message itself.
    #[must_use]
    pub fn message(&self) -> Message {
        match *self {
            Lacking::Prior(commit) => Message::Prior(commit.clone()),
            Lacking::PrePrepare(message) => Message::PrePrepare(message.clone()),
            Lacking::Block(block) => Message::Block(block.clone()),
            Lacking::Vote(vote) => Message::Vote(vote.clone()),
            Lacking::ViewChange(message) => Message::ViewChange(message.clone()),
        }
    }

    /// About how many bytes it has on the network.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let extension = |extension: &Option<Extension>| {
            extension.as_ref().map_or(0, |extension| extension.data.len())
        };
        let certificate = |c: &Option<Certificate>| c.as_ref().map_or(0, |c| c.votes.len());
        let (signed, more) = match self {
            Lacking::Prior(commit) => {
                let entries = commit.signatures.iter().flatten();
                (commit.signatures.len(), entries.map(|entry| extension(&entry.extension)).sum())
            }
            Lacking::PrePrepare(message) => {
                let in_j = message.justification.as_ref();
                let in_j = in_j.map_or(0, |j| j.view_changes.len() + certificate(&j.certificate));
                (1 + in_j, 0)
            }
            Lacking::Block(block) => (0, block.bytes().len()),
            Lacking::Vote(vote) => (1, extension(&vote.message.extension)),
            Lacking::ViewChange(message) => (1 + certificate(&message.certificate), 0),
        };
        signed * SIGNED_BYTES + more
    }

    /// Its place among all that one peer can lack of a height: kind, view and sender. A few proposals and blocks share one.
    #[must_use]
    pub fn place(&self) -> (u8, View, ValidatorIndex) {
        match self {
            Lacking::Prior(commit) => (0, commit.view, 0),
            Lacking::PrePrepare(message) => (1, message.view(), 0),
            Lacking::Block(_) => (2, View::ZERO, 0),
            Lacking::Vote(vote) => {
                let kind = if vote.message.phase == Phase::Prepare { 3 } else { 4 };
                (kind, vote.message.view, vote.message.index)
            }
            Lacking::ViewChange(message) => (5, View::ZERO, message.signed.message.index),
        }
    }
}
