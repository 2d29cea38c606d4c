//! STATUS(h,v,have): what a replica has of its height, so that peers resend what it lacks. Source: docs/protocol.md §9. It carries no
//! signature: the channel is authenticated, and a lie costs only the liar what it is not sent.

use crate::block::BlockId;
use crate::validators::ValidatorIndex;
use crate::view::View;
use tendermint::block::Height;

/// The most views of votes that a STATUS lists for each phase.
pub const STATUS_VIEWS_MAX: usize = 16;
/// The most blocks that a STATUS lists.
pub const STATUS_BLOCKS_MAX: usize = 16;

/// A set of validator indices. Bits beyond what was sent read as absent, so no length can contradict another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bitmap(Vec<u8>);

impl Bitmap {
    /// The bitmap in these bytes, bit i of byte i/8.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Bitmap {
        Bitmap(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether `index` is in the set.
    #[must_use]
    pub fn has(&self, index: ValidatorIndex) -> bool {
        let byte = usize::try_from(index / 8).ok().and_then(|byte| self.0.get(byte));
        byte.is_some_and(|byte| byte >> (index % 8) & 1 == 1)
    }
}

impl FromIterator<ValidatorIndex> for Bitmap {
    fn from_iter<I: IntoIterator<Item = ValidatorIndex>>(indices: I) -> Bitmap {
        let mut bytes = Vec::new();
        for index in indices {
            let byte = usize::try_from(index / 8).expect("an index is below VALIDATORS_MAX");
            if bytes.len() <= byte {
                bytes.resize(byte + 1, 0);
            }
            if let Some(byte) = bytes.get_mut(byte) {
                *byte |= 1 << (index % 8);
            }
        }
        Bitmap(bytes)
    }
}

/// What a replica has of its height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The height it is at.
    pub height: Height,
    /// The round of the best Commit(h−1) that it knows.
    pub start_view: View,
    /// Its view.
    pub view: View,
    /// The PRE-PREPAREs that it holds of its view.
    pub pre_prepares: Vec<BlockId>,
    /// Whose PREPAREs it holds, by view.
    pub prepares: Vec<(View, Bitmap)>,
    /// Whose COMMITs it holds, by view.
    pub commits: Vec<(View, Bitmap)>,
    /// The highest view for which it holds a VIEW-CHANGE, by sender.
    pub view_changes: Vec<(ValidatorIndex, View)>,
    /// The blocks of the height that it holds whole.
    pub blocks: Vec<BlockId>,
    /// The validators of the height that it is directly connected to (it is one of them where it is a validator).
    pub direct: Bitmap,
    /// Whether its best Commit(h−1) lacks vote extensions that the height before has, so that it cannot propose on it.
    pub lacks_extensions: bool,
}
