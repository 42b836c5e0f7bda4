//! Thrift's compact protocol, as far as needed to look into a footer and into page headers before the parquet crate does:
//! <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>.
//!
//! Every step takes at least a byte, so that no length that is stated leads further than the bytes that are there.

/// The kinds of values that are looked at here.
pub(super) const I32: u8 = 5;
pub(super) const LIST: u8 = 9;
pub(super) const STRUCT: u8 = 12;

/// Deeper than anything in Parquet's definition.
const DEPTH: usize = 32;

/// What is left to read. Each function returns `None` where the bytes are no such value.
pub(super) struct Thrift<'a>(&'a [u8]);

impl<'a> Thrift<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Thrift<'a> {
        Thrift(bytes)
    }

    /// What follows the values that were read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// An integer without a sign.
    pub(super) fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn len(&mut self) -> Option<usize> {
        usize::try_from(self.unsigned()?).ok()
    }

    /// An integer of any width.
    pub(super) fn integer(&mut self) -> Option<i64> {
        let value = self.unsigned()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Reads a struct: `visit` is called with the number and the kind of each field, and says whether it has read its
    /// value.
    pub(super) fn fields(
        &mut self,
        visit: &mut dyn FnMut(&mut Thrift<'a>, i64, u8) -> Option<bool>,
    ) -> Option<()> {
        self.fields_within(DEPTH, visit)
    }

    fn fields_within(
        &mut self,
        depth: usize,
        visit: &mut dyn FnMut(&mut Thrift<'a>, i64, u8) -> Option<bool>,
    ) -> Option<()> {
        let mut number: i64 = 0;
        loop {
            let head = self.byte()?;
            let kind = head & 0x0f;
            if kind == 0 {
                return Some(());
            }
            number = match head >> 4 {
                0 => self.integer()?,
                step => number.checked_add(i64::from(step))?,
            };
            if !visit(self, number, kind)? {
                self.skip(kind, depth.checked_sub(1)?)?;
            }
        }
    }

    /// The kind of a list's elements, and their number.
    pub(super) fn list(&mut self) -> Option<(u8, usize)> {
        let head = self.byte()?;
        let len = match head >> 4 {
            15 => self.len()?,
            short => usize::from(short),
        };
        (len <= self.0.len()).then_some((head & 0x0f, len))
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        match kind {
            // The value of a flag is its kind.
            1 | 2 => {}
            3 => {
                self.byte()?;
            }
            4..=6 => {
                self.unsigned()?;
            }
            7 => {
                self.take(8)?;
            }
            8 => {
                let len = self.len()?;
                self.take(len)?;
            }
            LIST | 10 => {
                let (kind, len) = self.list()?;
                // Parquet has no list of flags here, and the crate takes one to be without bytes.
                if matches!(kind, 1 | 2) {
                    return None;
                }
                for _ in 0..len {
                    self.skip(kind, depth.checked_sub(1)?)?;
                }
            }
            STRUCT => self.fields_within(depth, &mut |_, _, _| Some(false))?,
            13 => {
                self.take(16)?;
            }
            // Parquet has no maps.
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> Option<usize> {
        let mut thrift = Thrift::new(bytes);
        thrift.fields(&mut |_, _, _| Some(false))?;
        Some(thrift.rest().len())
    }

    #[test]
    fn a_struct_is_stepped_over() {
        // 1: −3; 2: "ab"; 4: a list of two integers; 5: a struct of a flag; 20: eight bytes.
        let bytes = b"\x15\x05\x18\x02ab\x29\x25\x02\x04\x1c\x11\x00\x07\x28........\x00rest";
        assert_eq!(whole(bytes), Some(4));
        let mut first = None;
        Thrift::new(bytes).fields(&mut |thrift, number, kind| {
            if (number, kind) != (1, I32) {
                return Some(false);
            }
            first = thrift.integer();
            Some(true)
        });
        assert_eq!(first, Some(-3));
        for len in 0..bytes.len() - 4 {
            assert_eq!(whole(&bytes[..len]), None, "{len}");
        }
    }

    #[test]
    fn lengths_lead_no_further_than_the_bytes() {
        for bytes in [
            &b"\x19\xf1\xff\xff\xff\xff\x07\x00"[..],
            b"\x19\xf5\xff\xff\xff\xff\x07\x00",
            b"\x1b\xff\xff\xff\xff\x07\x11\x00",
            b"\x18\xff\xff\xff\xff\x07\x00",
        ] {
            assert_eq!(whole(bytes), None, "{bytes:x?}");
        }
        assert_eq!(whole(&[0x1c; 100_000]), None);
    }
}
