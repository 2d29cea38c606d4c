//! A reader of protobuf that takes the canonical form alone: fields in ascending order, each once, the shortest varints, no default
//! written out. So two different byte strings never mean the same header, and bytes that are stored can be trusted to be nothing
//! else.

use std::ops::Range;

/// The bytes are not the canonical form of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not canonical protobuf")]
pub struct Malformed;

/// The value of a field.
pub(crate) enum Value {
    /// A number.
    Varint(u64),
    /// Where its bytes are.
    Bytes(Range<usize>),
}

impl Value {
    /// A number, which is never the default.
    pub(crate) fn number(&self) -> Result<u64, Malformed> {
        match self {
            Value::Varint(number) if *number != 0 => Ok(*number),
            _ => Err(Malformed),
        }
    }

    /// Bytes, which are never the default.
    pub(crate) fn bytes(&self) -> Result<Range<usize>, Malformed> {
        self.message().and_then(|range| if range.is_empty() { Err(Malformed) } else { Ok(range) })
    }

    /// A message inside, which may be empty.
    pub(crate) fn message(&self) -> Result<Range<usize>, Malformed> {
        match self {
            Value::Bytes(range) => Ok(range.clone()),
            Value::Varint(_) => Err(Malformed),
        }
    }
}

/// The fields of one message.
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
    last: u64,
}

impl<'a> Fields<'a> {
    /// The fields of the message that stands at `range` of `bytes`.
    pub(crate) fn new(bytes: &'a [u8], range: Range<usize>) -> Fields<'a> {
        Fields { bytes, at: range.start, end: range.end.min(bytes.len()), last: 0 }
    }

    /// The next field: its number and value; none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Value)>, Malformed> {
        if self.at >= self.end {
            return Ok(None);
        }
        let tag = self.varint()?;
        let (number, kind) = (tag >> 3, tag & 7);
        if number <= self.last {
            return Err(Malformed);
        }
        self.last = number;
        let value = match kind {
            0 => Value::Varint(self.varint()?),
            2 => Value::Bytes(self.delimited()?),
            _ => return Err(Malformed),
        };
        Ok(Some((number, value)))
    }

    fn delimited(&mut self) -> Result<Range<usize>, Malformed> {
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.end).ok_or(Malformed)?;
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).filter(|_| self.at < self.end).ok_or(Malformed)?;
            self.at += 1;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && byte > 1 {
                return Err(Malformed);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                // The last byte of more than one is not zero: that would be a longer form of the same.
                return if byte == 0 && shift > 0 { Err(Malformed) } else { Ok(number) };
            }
        }
        Err(Malformed)
    }
}
