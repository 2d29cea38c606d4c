//! Frames: each message after its length as an unsigned varint (CometBFT `libs/protoio`).

use crate::remote::MESSAGE_BYTES_MAX;
use bytes::{Buf, Bytes, BytesMut};

/// The most bytes of a varint.
pub(super) const VARINT_BYTES_MAX: usize = 10;

/// What is no frame.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoFrame {
    #[error("no length: {0}")]
    Length(String),
    #[error("a message of {0} bytes is larger than {MESSAGE_BYTES_MAX}")]
    TooLarge(u64),
}

/// Takes the first message out of what came, where all of it is there.
pub(super) fn take(inbox: &mut BytesMut) -> Result<Option<Bytes>, NoFrame> {
    let mut rest = &inbox[..];
    let length = match prost::encoding::decode_varint(&mut rest) {
        Ok(length) => length,
        Err(_) if inbox.len() < VARINT_BYTES_MAX => return Ok(None),
        Err(error) => return Err(NoFrame::Length(error.to_string())),
    };
    let size = usize::try_from(length).ok().filter(|size| *size <= MESSAGE_BYTES_MAX);
    let size = size.ok_or(NoFrame::TooLarge(length))?;
    if rest.len() < size {
        return Ok(None);
    }
    let prefix = inbox.len() - rest.len();
    inbox.advance(prefix);
    Ok(Some(inbox.split_to(size).freeze()))
}
