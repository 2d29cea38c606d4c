//! Messages to bytes and back, with their limits: the only place that decodes what comes from the network or from the disk.
//!
//! - Every frame holds the version of its format; an unknown one is refused.
//! - Before anything is allocated, `bounds` walks the bytes and counts what may repeat, so that a frame of tiny elements cannot
//!   become a large value. The size of a whole frame is bounded by the network, by class.
//! - A block and a transaction share the bytes of the frame that they came in and keep it alive; votes are copied out of it.
//! - What is decoded is well formed and no more: [`tercet_consensus::verify`] says whether it holds.
//!
//! The bytes are pinned by golden vectors (`golden/v1.txt`): a change of format is a visible act, and a new version.

mod body;
mod bounds;
mod certificate;
mod commit;
mod consensus;
mod pre_prepare;
mod primitive;
mod record;
mod status;
mod sync;
mod transactions;
mod view_change;
mod vote;

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod property_tests;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod samples;

pub use body::{Body, decode_block, decode_evidence, decode_last_commit};
pub use commit::{decode_commit, encode_commit};
pub use consensus::{Consensus, FetchBlock, Frame};
pub use record::{decode_record, encode_record};
pub use sync::{
    ItemLimits, ResponseLimits, SYNC_ITEMS_MAX, Sync, SyncItem, SyncRequest, SyncResponse, SyncTip,
    UNASKED,
};
pub use transactions::{
    PIECES_MAX, TXS_MAX, Transactions, decode_transactions, encode_pieces, encode_transactions,
};

use tercet_consensus::verify::Reject;

/// The version of every frame that this build writes, and the only one that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Refuses a frame of another version.
fn check_version(version: u32) -> Result<(), Reject> {
    if version == FORMAT_VERSION {
        Ok(())
    } else {
        Err(Reject::Malformed("unknown format version"))
    }
}
