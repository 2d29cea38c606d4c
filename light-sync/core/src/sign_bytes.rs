//! What the signatures of a commit cover: the length-delimited `CanonicalVote` (CometBFT `types/canonical.go`). All votes of a
//! commit differ in their time alone, so the rest is encoded once.

use crate::commit::Commit;
use crate::time::Time;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use tendermint_proto::v0_38::types as pb;

const TIME: u32 = 5;
const CHAIN_ID: u32 = 6;

/// The sign bytes of one commit's votes.
pub(crate) struct SignBytes {
    before: Vec<u8>,
    after: Vec<u8>,
    out: Vec<u8>,
}

impl SignBytes {
    /// Of votes for the block.
    pub(crate) fn new(chain_id: &[u8], commit: &Commit) -> SignBytes {
        let id = &commit.block_id;
        let block_id = pb::CanonicalBlockId {
            hash: id.hash.as_bytes().to_vec(),
            part_set_header: Some(pb::CanonicalPartSetHeader {
                total: id.parts,
                hash: id.parts_hash.map_or(vec![], |hash| hash.as_bytes().to_vec()),
            }),
        };
        SignBytes::of(chain_id, commit, Some(block_id))
    }

    /// Of votes for nil.
    pub(crate) fn nil(chain_id: &[u8], commit: &Commit) -> SignBytes {
        SignBytes::of(chain_id, commit, None)
    }

    fn of(chain_id: &[u8], commit: &Commit, block_id: Option<pb::CanonicalBlockId>) -> SignBytes {
        let before = pb::CanonicalVote {
            r#type: pb::SignedMsgType::Precommit.into(),
            height: commit.height.cast_signed(),
            round: i64::from(commit.round),
            block_id,
            timestamp: None,
            chain_id: String::new(),
        };
        let mut after = Vec::new();
        if !chain_id.is_empty() {
            encode_key(CHAIN_ID, WireType::LengthDelimited, &mut after);
            encode_varint(chain_id.len() as u64, &mut after);
            after.extend_from_slice(chain_id);
        }
        SignBytes { before: before.encode_to_vec(), after, out: Vec::new() }
    }

    /// What the vote at `time` covers.
    pub(crate) fn at(&mut self, time: Time) -> &[u8] {
        let time = time.to_proto();
        let length = time.encoded_len();
        let body =
            self.before.len() + 1 + encoded_len_varint(length as u64) + length + self.after.len();
        self.out.clear();
        encode_varint(body as u64, &mut self.out);
        self.out.extend_from_slice(&self.before);
        encode_key(TIME, WireType::LengthDelimited, &mut self.out);
        encode_varint(length as u64, &mut self.out);
        time.encode_raw(&mut self.out);
        self.out.extend_from_slice(&self.after);
        &self.out
    }
}
