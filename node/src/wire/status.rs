//! STATUS.

use super::bounds::Rule;
use super::primitive::{RawBlockId, block_id, height, index, view};
use tercet_consensus::block::BlockId;
use tercet_consensus::status::{Bitmap, STATUS_BLOCKS_MAX, STATUS_VIEWS_MAX, Status};
use tercet_consensus::validators::VALIDATORS_MAX;
use tercet_consensus::verify::Reject;
use tercet_consensus::view::View;

/// The most bytes of a bitmap of validators.
const BITMAP_BYTES_MAX: usize = VALIDATORS_MAX.div_ceil(8);

pub(super) const STATUS: &[Rule] = &[
    Rule::many(4, STATUS_BLOCKS_MAX, &[]),
    Rule::many(5, STATUS_VIEWS_MAX, &[]),
    Rule::many(6, STATUS_VIEWS_MAX, &[]),
    Rule::many(7, VALIDATORS_MAX, &[]),
    Rule::many(8, STATUS_BLOCKS_MAX, &[]),
];

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RawStatus {
    #[prost(uint64, tag = "1")]
    height: u64,
    #[prost(uint32, tag = "2")]
    start_view: u32,
    #[prost(uint32, tag = "3")]
    view: u32,
    #[prost(message, repeated, tag = "4")]
    pre_prepares: Vec<RawBlockId>,
    #[prost(message, repeated, tag = "5")]
    prepares: Vec<RawVoters>,
    #[prost(message, repeated, tag = "6")]
    commits: Vec<RawVoters>,
    #[prost(message, repeated, tag = "7")]
    view_changes: Vec<RawSender>,
    #[prost(message, repeated, tag = "8")]
    blocks: Vec<RawBlockId>,
    #[prost(bytes = "vec", tag = "9")]
    direct: Vec<u8>,
    #[prost(bool, tag = "10")]
    lacks_extensions: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawVoters {
    #[prost(uint32, tag = "1")]
    view: u32,
    #[prost(bytes = "vec", tag = "2")]
    validators: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawSender {
    #[prost(uint32, tag = "1")]
    index: u32,
    #[prost(uint32, tag = "2")]
    view: u32,
}

impl From<&Status> for RawStatus {
    fn from(status: &Status) -> RawStatus {
        let ids = |ids: &[BlockId]| ids.iter().map(RawBlockId::from).collect();
        let voters = |list: &[(View, Bitmap)]| {
            let raw = |(view, validators): &(View, Bitmap)| RawVoters {
                view: view.number(),
                validators: validators.as_bytes().to_vec(),
            };
            list.iter().map(raw).collect()
        };
        let senders = status.view_changes.iter();
        RawStatus {
            height: status.height.value(),
            start_view: status.start_view.number(),
            view: status.view.number(),
            pre_prepares: ids(&status.pre_prepares),
            prepares: voters(&status.prepares),
            commits: voters(&status.commits),
            view_changes: senders
                .map(|(index, view)| RawSender { index: *index, view: view.number() })
                .collect(),
            blocks: ids(&status.blocks),
            direct: status.direct.as_bytes().to_vec(),
            lacks_extensions: status.lacks_extensions,
        }
    }
}

impl TryFrom<RawStatus> for Status {
    type Error = Reject;

    fn try_from(raw: RawStatus) -> Result<Status, Reject> {
        let senders = raw.view_changes.iter();
        Ok(Status {
            height: height(raw.height)?,
            start_view: view(raw.start_view)?,
            view: view(raw.view)?,
            pre_prepares: block_ids(raw.pre_prepares)?,
            prepares: voters(raw.prepares)?,
            commits: voters(raw.commits)?,
            view_changes: senders
                .map(|sender| Ok((index(sender.index)?, view(sender.view)?)))
                .collect::<Result<_, Reject>>()?,
            blocks: block_ids(raw.blocks)?,
            direct: bitmap(raw.direct)?,
            lacks_extensions: raw.lacks_extensions,
        })
    }
}

fn block_ids(raw: Vec<RawBlockId>) -> Result<Vec<BlockId>, Reject> {
    raw.into_iter().map(|id| block_id(Some(id))).collect()
}

fn voters(raw: Vec<RawVoters>) -> Result<Vec<(View, Bitmap)>, Reject> {
    raw.into_iter().map(|voters| Ok((view(voters.view)?, bitmap(voters.validators)?))).collect()
}

fn bitmap(bytes: Vec<u8>) -> Result<Bitmap, Reject> {
    if bytes.len() > BITMAP_BYTES_MAX {
        Err(Reject::TooLarge)
    } else {
        Ok(Bitmap::from_bytes(bytes))
    }
}
