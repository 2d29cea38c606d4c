//! How far the application is, and its hash.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Length of the application hash.
const HASH_BYTES: usize = 8;

/// What the kvstore keeps about itself: the JSON `{"size":N,"height":H}`, as CometBFT's has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// The transactions that all blocks so far had.
    pub(super) size: u64,
    /// The last block, 0 before the first.
    pub(super) height: i64,
}

impl State {
    /// Eight bytes that begin with Go's `binary.PutVarint(size)`: zig-zag, then seven bits a byte, lowest first.
    pub(super) fn hash(self) -> Bytes {
        let mut hash = [0; HASH_BYTES];
        let mut rest = self.size << 1;
        for byte in &mut hash {
            let [low, ..] = rest.to_le_bytes();
            *byte = if rest < 0x80 { low } else { low | 0x80 };
            rest >>= 7;
            if rest == 0 {
                break;
            }
        }
        Bytes::copy_from_slice(&hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_hash_is_that_of_cometbft() {
        let vectors = [
            (0, "0000000000000000"),
            (1, "0200000000000000"),
            (3, "0600000000000000"),
            (63, "7e00000000000000"),
            (64, "8001000000000000"),
            (8191, "fe7f000000000000"),
            (8192, "8080010000000000"),
        ];
        for (size, expected) in vectors {
            let state = State { size, height: 7 };
            assert_eq!(hex::encode(state.hash()), expected, "size {size}");
        }
    }

    proptest! {
        #[test]
        fn the_hash_decodes_to_the_size(size in 0..1_u64 << 55) {
            let hash = State { size, height: 0 }.hash();
            prop_assert_eq!(hash.len(), HASH_BYTES);
            let mut decoded = 0;
            for (place, byte) in hash.iter().enumerate() {
                decoded |= u64::from(byte & 0x7f) << (7 * place);
                if byte & 0x80 == 0 {
                    break;
                }
            }
            prop_assert_eq!(decoded, size << 1);
        }
    }
}
