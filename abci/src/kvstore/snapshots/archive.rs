//! What is in a snapshot: entries of the database, written and read one by one.

use super::{Chunked, SnapshotError};
use crate::kvstore::store::View;
use std::io::{self, BufRead, Read as _};
use std::sync::atomic::{AtomicBool, Ordering};

/// The longest key or value: no transaction is larger than a message.
const PART_BYTES_MAX: u64 = crate::remote::MESSAGE_BYTES_MAX as u64;

/// Writes all entries, unless told to stop.
pub(super) fn write(
    view: &View<'_>,
    out: &mut Chunked,
    stop: &AtomicBool,
) -> Result<(), SnapshotError> {
    let mut length = Vec::new();
    for entry in view.entries() {
        if stop.load(Ordering::Relaxed) {
            return Err(SnapshotError::Ends);
        }
        let (key, value) = entry?;
        for part in [&key, &value] {
            length.clear();
            prost::encoding::encode_varint(part.len() as u64, &mut length);
            out.put(&length)?;
            out.put(part)?;
        }
    }
    Ok(())
}

/// An entry of the database.
pub(super) type Entry = (Vec<u8>, Vec<u8>);

/// Reads the next entry; none at the end. What is no entry is an error of kind `InvalidData` or `UnexpectedEof`.
pub(super) fn read(from: &mut impl BufRead) -> io::Result<Option<Entry>> {
    if from.fill_buf()?.is_empty() {
        return Ok(None);
    }
    Ok(Some((part(from)?, part(from)?)))
}

/// Takes no more memory than there are bytes.
fn part(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let length = varint(from)?;
    if length > PART_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut part = Vec::new();
    let read = from.by_ref().take(length).read_to_end(&mut part)?;
    if read as u64 == length { Ok(part) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn varint(from: &mut impl BufRead) -> io::Result<u64> {
    let mut bytes = Vec::with_capacity(10);
    loop {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        bytes.push(byte[0]);
        if byte[0] < 0x80 {
            break;
        }
        if bytes.len() == 10 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    let decoded = prost::encoding::decode_varint(&mut bytes.as_slice());
    decoded.map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hostile_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut from = bytes.as_slice();
            while let Ok(Some((key, value))) = read(&mut from) {
                prop_assert!(key.len() + value.len() < bytes.len());
            }
        }
    }

    #[test]
    fn a_length_that_is_not_there_takes_no_memory() {
        let mut wrong = Vec::new();
        prost::encoding::encode_varint(PART_BYTES_MAX, &mut wrong);
        wrong.push(7);
        let error = read(&mut wrong.as_slice()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let mut wrong = Vec::new();
        prost::encoding::encode_varint(PART_BYTES_MAX + 1, &mut wrong);
        assert_eq!(read(&mut wrong.as_slice()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(
            read(&mut [0xff; 11].as_slice()).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
