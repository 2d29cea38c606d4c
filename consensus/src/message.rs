//! The messages of the protocol, each bound to chain id (through its signature) and height. Source: docs/protocol.md "Messages".
//!
//! | PBFT | Tendermint format |
//! |---|---|
//! | PRE-PREPARE | `Proposal`, `round` = view, `pol_round` = view of the prepare certificate or −1 |
//! | PREPARE | `Vote` type 1 (prevote) |
//! | COMMIT | `Vote` type 2 (precommit) |
//! | VIEW-CHANGE | none: own format |
//! | NEW-VIEW | a PRE-PREPARE with a justification |

use crate::block::{BlockId, SealedBlock};
use crate::commit::Commit;
use crate::key::{Address, Signature};
use crate::validators::ValidatorIndex;
use crate::view::View;
use bytes::Bytes;
use std::sync::Arc;
use tendermint::Time;
use tendermint::block::Height;
use tendermint_proto::v0_38::types as pb;

/// A message with the signature that its sender put under it. Nothing is known about it until it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<T> {
    /// What was signed.
    pub message: T,
    /// The signature as received.
    pub signature: Signature,
}

/// A value whose signatures and structure were checked against the validators of its height. Only the verifying functions of
/// [`crate::verify`] (and a replica, for what it signed itself) make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    pub(crate) fn new(value: T) -> Verified<T> {
        Verified(value)
    }

    /// The value, for the wire or the disk.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> std::ops::Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// PREPARE or COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Tendermint's prevote.
    Prepare,
    /// Tendermint's precommit.
    Commit,
}

impl Phase {
    /// The type number in Tendermint's formats.
    #[must_use]
    pub fn signed_msg_type(self) -> pb::SignedMsgType {
        match self {
            Phase::Prepare => pb::SignedMsgType::Prevote,
            Phase::Commit => pb::SignedMsgType::Precommit,
        }
    }
}

/// A vote extension and its signature (ABCI 2.0).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The application's bytes.
    pub data: Bytes,
    /// Signature over `CanonicalVoteExtension`.
    pub signature: Signature,
}

/// PREPARE(h,v,b) or COMMIT(h,v,b,time).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Which of the two.
    pub phase: Phase,
    /// Height.
    pub height: Height,
    /// View, `round` in Tendermint's format.
    pub view: View,
    /// The block voted for; nothing is ever voted nil.
    pub block_id: BlockId,
    /// PREPARE: the time in the block's header. COMMIT: the voter's clock, but later than the block.
    pub time: Time,
    /// The voter.
    pub validator: Address,
    /// The voter's index in the validator set of the height.
    pub index: ValidatorIndex,
    /// The vote extension of a COMMIT, where extensions are enabled.
    pub extension: Option<Extension>,
}

/// A vote as it travels.
pub type SignedVote = Signed<Vote>;

/// The signed part of a PRE-PREPARE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Height.
    pub height: Height,
    /// View, `round` in Tendermint's format.
    pub view: View,
    /// View of the prepare certificate that binds the block, `pol_round` in Tendermint's format (−1 for none).
    pub prepared_view: Option<View>,
    /// The proposed block.
    pub block_id: BlockId,
    /// The time in the block's header.
    pub time: Time,
}

/// PRE-PREPARE, or NEW-VIEW where a justification is there. The block travels by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrePrepare {
    /// The proposal, signed by the primary of its view.
    pub proposal: Signed<Proposal>,
    /// J: why a replica may accept it though its view is not the start view; none for a fresh one.
    pub justification: Option<Justification>,
}

impl PrePrepare {
    /// The view.
    #[must_use]
    pub fn view(&self) -> View {
        self.proposal.message.view
    }

    /// The height.
    #[must_use]
    pub fn height(&self) -> Height {
        self.proposal.message.height
    }

    /// The proposed block.
    #[must_use]
    pub fn block_id(&self) -> BlockId {
        self.proposal.message.block_id
    }
}

/// J of a NEW-VIEW: a quorum of VIEW-CHANGEs for exactly (h,v') and one prepare certificate, that of the highest prepared view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Justification {
    /// The VIEW-CHANGEs, without their certificates.
    pub view_changes: Vec<Signed<ViewChange>>,
    /// The certificate of the highest prepared view among them; none where all say none.
    pub certificate: Option<Certificate>,
}

/// A quorum of PREPAREs for one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Height.
    pub height: Height,
    /// View in which the block was prepared.
    pub view: View,
    /// The block.
    pub block_id: BlockId,
    /// The PREPAREs, in ascending order of index.
    pub votes: Vec<SignedVote>,
}

/// What a VIEW-CHANGE says its sender has prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreparedClaim {
    /// View in which it was prepared.
    pub view: View,
    /// The prepared block.
    pub block_id: BlockId,
}

/// The signed part of VIEW-CHANGE(h,v',P).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewChange {
    /// Height.
    pub height: Height,
    /// The view asked for.
    pub view: View,
    /// The sender's prepared block, or none.
    pub prepared: Option<PreparedClaim>,
    /// The sender.
    pub validator: Address,
    /// The sender's index in the validator set of the height.
    pub index: ValidatorIndex,
}

/// A VIEW-CHANGE as it travels: with the certificate that proves its claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewChangeMessage {
    /// The signed part.
    pub signed: Signed<ViewChange>,
    /// The prepare certificate; there exactly where `prepared` is.
    pub certificate: Option<Certificate>,
}

/// DECIDED(h): a block and the commit that decided it; it proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The block.
    pub block: Arc<SealedBlock>,
    /// Its commit.
    pub commit: Commit,
}

/// What one replica sends to another about the height that both are at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// PRE-PREPARE or NEW-VIEW.
    PrePrepare(PrePrepare),
    /// A block that was pre-prepared.
    Block(Arc<SealedBlock>),
    /// PREPARE or COMMIT.
    Vote(SignedVote),
    /// VIEW-CHANGE.
    ViewChange(ViewChangeMessage),
    /// Commit(h−1) that explains a start view.
    Prior(Commit),
}

/// Something to be signed: the typed requests that a signer understands besides the hello. The node fills the clock in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignRequest {
    /// A PRE-PREPARE.
    Proposal(Proposal),
    /// A PREPARE, or a COMMIT whose time is the earliest that is allowed; `extend` asks for a vote extension.
    Vote {
        /// The vote; the extension is not filled in.
        vote: Vote,
        /// Whether the application is to extend it.
        extend: bool,
    },
    /// A VIEW-CHANGE.
    ViewChange(ViewChange),
}

/// What comes back from the signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignedMessage {
    /// A signed proposal.
    Proposal(Signed<Proposal>),
    /// A signed vote.
    Vote(SignedVote),
    /// A signed VIEW-CHANGE.
    ViewChange(Signed<ViewChange>),
}
