//! Protobuf's wire format, as much of it as ONNX needs: numbers, texts, bytes and messages in messages.

use std::borrow::Cow;

/// Wire types (Protocol Buffers, "Encoding").
const VARINT: u64 = 0;
const BYTES: u64 = 2;
const FIXED_32: u64 = 5;

/// A message that is being written: pieces of bytes, one behind the other. Large ones are only borrowed, so
/// that weights are not copied into every message that encloses them.
#[derive(Debug, Default)]
pub(super) struct Message<'a> {
    pieces: Vec<Cow<'a, [u8]>>,
    length: usize,
}

impl<'a> Message<'a> {
    pub(super) fn int(&mut self, field: u64, value: i64) {
        self.varint(field << 3 | VARINT);
        // Negative numbers are their two's complement of 64 bits.
        self.varint(value as u64);
    }

    pub(super) fn float(&mut self, field: u64, value: f32) {
        self.varint(field << 3 | FIXED_32);
        self.own(&value.to_le_bytes());
    }

    pub(super) fn text(&mut self, field: u64, text: &str) {
        self.varint(field << 3 | BYTES);
        self.varint(text.len() as u64);
        self.own(text.as_bytes());
    }

    pub(super) fn bytes(&mut self, field: u64, bytes: &'a [u8]) {
        self.varint(field << 3 | BYTES);
        self.varint(bytes.len() as u64);
        self.length += bytes.len();
        self.pieces.push(Cow::Borrowed(bytes));
    }

    pub(super) fn message(&mut self, field: u64, message: Message<'a>) {
        self.varint(field << 3 | BYTES);
        self.varint(message.length as u64);
        for piece in message.pieces {
            match piece {
                Cow::Owned(piece) => self.own(&piece),
                Cow::Borrowed(piece) => {
                    self.length += piece.len();
                    self.pieces.push(Cow::Borrowed(piece));
                }
            }
        }
    }

    /// Bytes in all.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// The message's bytes, piece by piece.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(|piece| &**piece)
    }

    /// Seven bits a byte, lowest first; the eighth says that more follow.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.own(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.own(&[value as u8]);
    }

    fn own(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        match self.pieces.last_mut() {
            Some(Cow::Owned(last)) => last.extend_from_slice(bytes),
            _ => self.pieces.push(Cow::Owned(bytes.to_vec())),
        }
    }
}

/// A field's value as it stands in a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Field<'a> {
    Int(i64),
    Float(f32),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    pub(super) fn int(self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(value),
            _ => None,
        }
    }

    pub(super) fn float(self) -> Option<f32> {
        match self {
            Self::Float(value) => Some(value),
            _ => None,
        }
    }

    pub(super) fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn text(self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }
}

/// The fields of a message, each with its number, in the order in which they stand there; `None` where the
/// bytes are no message of what is written here.
pub(super) fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let field = match tag & 7 {
            VARINT => Field::Int(varint(&mut bytes)? as i64),
            FIXED_32 => {
                let (value, rest) = bytes.split_first_chunk()?;
                bytes = rest;
                Field::Float(f32::from_le_bytes(*value))
            }
            BYTES => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (value, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Field::Bytes(value)
            }
            _ => return None,
        };
        fields.push((tag >> 3, field));
    }
    Some(fields)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn bytes(message: &Message<'_>) -> Vec<u8> {
        let bytes: Vec<u8> = message.pieces().flatten().copied().collect();
        assert_eq!(bytes.len(), message.length());
        bytes
    }

    #[test]
    fn examples_of_the_specification_are_written_as_it_has_them() {
        let mut a = Message::default();
        a.int(1, 150);
        assert_eq!(bytes(&a), [0x08, 0x96, 0x01]);
        let mut b = Message::default();
        b.text(2, "testing");
        assert_eq!(bytes(&b), *b"\x12\x07testing");
        let mut c = Message::default();
        c.message(3, a);
        assert_eq!(bytes(&c), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        let mut minus = Message::default();
        minus.int(1, -2);
        assert_eq!(
            bytes(&minus)[1..],
            [254, 255, 255, 255, 255, 255, 255, 255, 255, 1]
        );
    }

    #[test]
    fn what_is_written_is_read() {
        let weights = vec![7u8; 300];
        let mut inner = Message::default();
        inner.bytes(9, &weights);
        inner.float(2, -1.5);
        let mut outer = Message::default();
        outer.int(1, i64::MIN);
        outer.message(7, inner);
        outer.text(1000, "β");
        let written = bytes(&outer);
        let read = fields(&written).unwrap();
        assert_eq!(read[0], (1, Field::Int(i64::MIN)));
        assert_eq!(
            (read[2].0, read[2].1.text().unwrap()),
            (1000, "β".to_owned())
        );
        let inner = fields(read[1].1.bytes().unwrap()).unwrap();
        assert_eq!(
            inner,
            [(9, Field::Bytes(&weights)), (2, Field::Float(-1.5))]
        );
    }

    #[test]
    fn whatever_is_cut_or_is_no_message_is_none() {
        let mut message = Message::default();
        message.int(1, 300);
        message.float(2, 1.0);
        message.text(3, "abc");
        let written = bytes(&message);
        let ends = [3, 8, 13];
        for end in 1..=written.len() {
            let whole = ends.contains(&end);
            assert_eq!(fields(&written[..end]).is_some(), whole, "{end}");
        }
        assert!(fields(&[0x0b]).is_none(), "a group");
        assert!(fields(&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]).is_none());
    }
}
