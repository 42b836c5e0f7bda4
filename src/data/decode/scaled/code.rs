//! The code of a scan: its bits, its Huffman tables, and the skipping of what is not needed (ITU-T T.81, annex F).

/// The positions of the frequencies in the order in which they are stored (T.81, figure A.6).
#[rustfmt::skip]
pub(in crate::data::decode) const ZIGZAG: [u8; 64] = [
     0,  1,  8, 16,  9,  2,  3, 10, 17, 24, 32, 25, 18, 11,  4,  5,
    12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13,  6,  7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
    58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// The code of a scan, from one restart marker to the next.
pub(in crate::data::decode) struct Code<'a> {
    rest: &'a [u8],
    /// Without the zeros that follow each 0xff (T.81, F.1.2.3), and with [`PADDING`] zeros at the end.
    pub(in crate::data::decode) bytes: Vec<u8>,
    /// What ended it.
    pub(in crate::data::decode) marker: u8,
}

/// So many bytes may be read beyond the end.
const PADDING: usize = 16;

impl<'a> Code<'a> {
    pub(in crate::data::decode) fn new(rest: &'a [u8]) -> Self {
        Code {
            rest,
            bytes: Vec::new(),
            marker: 0,
        }
    }

    /// How many bytes there are behind what ended it.
    pub(in crate::data::decode) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(in crate::data::decode) fn next(&mut self) -> Option<()> {
        self.bytes.clear();
        self.bytes
            .reserve(if self.marker == 0 { self.rest.len() } else { 0 });
        loop {
            let at = memchr::memchr(0xff, self.rest)?;
            let next = *self.rest.get(at + 1)?;
            if next != 0 {
                self.bytes.extend_from_slice(&self.rest[..at]);
                self.bytes.extend([0; PADDING]);
                self.marker = next;
                self.rest = &self.rest[at + 2..];
                return Some(());
            }
            self.bytes.extend_from_slice(&self.rest[..=at]);
            self.rest = &self.rest[at + 2..];
        }
    }
}

/// Reads bits, the highest first.
#[derive(Clone, Copy, Default)]
pub(in crate::data::decode) struct Bits {
    /// The next bits are the highest.
    pub(in crate::data::decode) buffer: u64,
    /// How many of them are there.
    count: u32,
    /// The byte from which on nothing is in the buffer as a whole.
    at: usize,
}

impl Bits {
    /// 56 bits or more.
    #[inline(always)]
    pub(in crate::data::decode) fn refill(&mut self, code: &[u8]) -> Option<()> {
        let word = u64::from_be_bytes(*code.get(self.at..)?.first_chunk()?);
        self.buffer |= word >> self.count;
        self.at += (63 - self.count as usize) >> 3;
        self.count |= 56;
        Some(())
    }

    #[inline(always)]
    pub(in crate::data::decode) fn skip(&mut self, bits: u32) {
        self.buffer <<= bits;
        self.count -= bits;
    }

    /// A number of so many bits, of which half are negative (T.81, F.2.2.1).
    #[inline(always)]
    pub(in crate::data::decode) fn number(&mut self, bits: u32) -> i32 {
        let value = ((self.buffer >> 1) >> (63 - bits)) as i32;
        self.skip(bits);
        value_of(value, bits)
    }

    /// `None` unless all was read, but for bits that fill up the last byte.
    pub(in crate::data::decode) fn check_end(&self, code: &Code) -> Option<()> {
        let (there, read) = (
            8 * (code.bytes.len() - PADDING),
            8 * self.at - self.count as usize,
        );
        (read <= there && there - read < 8).then_some(())
    }
}

/// What a number of so many bits stands for: half of them are negative (T.81, figure F.12).
#[inline(always)]
fn value_of(number: i32, bits: u32) -> i32 {
    // -1 where the first bit is 0 or there is none. Written without a branch, which would be guessed wrong half the time.
    let is_negative = (number >> bits.saturating_sub(1) & 1) - 1;
    number + (is_negative & (1 - (1 << bits)))
}

/// What a table's symbols are for: means or the other frequencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::data::decode) enum Class {
    Dc,
    Ac,
}

/// A Huffman table, and what several symbols in a row skip.
pub(in crate::data::decode) struct Huffman {
    /// By the next bits: a symbol << 8 and the length of its code; 0 where that is longer.
    one: Box<[u16; 1 << LOOK]>,
    /// By fewer of the next bits: a symbol and the number after it, where they end within these. 0 elsewhere.
    valued: Box<[Valued; 1 << VALUED]>,
    /// By the next bits, of AC frequencies: how many are passed by as many symbols as are known << 8, and the bits of these
    /// symbols with their numbers. [`END`] more where the block ends; [`UNKNOWN`] where the first symbol is not known.
    pub(in crate::data::decode) skips: Vec<u16>,
    /// For each length, one more than the last code of it, with 16 bits, and the index of that code's symbol, plus one,
    /// less the code.
    longer: [(u32, i32); 17],
    symbols: Vec<u8>,
}

/// A number other than zero, the frequencies that it takes with the zeros before it, and the bits of both.
#[derive(Clone, Copy, Default)]
pub(in crate::data::decode) struct Valued {
    pub(in crate::data::decode) number: i16,
    pub(in crate::data::decode) steps: u8,
    pub(in crate::data::decode) bits: u8,
}

/// Bits that are looked at for a number.
const VALUED: u32 = 10;
/// Bits that are looked at at once.
pub(in crate::data::decode) const LOOK: u32 = 12;
/// The most bits that one look skips: those looked at, and a number of fifteen after them.
pub(in crate::data::decode) const MOST_SKIPPED: u32 = LOOK + 15;
/// Frequencies passed: so many more where the block ends.
pub(in crate::data::decode) const END: usize = 128;
/// Frequencies passed, where the first symbol is not known by so few bits: as many as there are.
const UNKNOWN: usize = 64;

impl Huffman {
    /// A table of so many codes of each length (T.81, annex C). `None` where there are more than fit, or where a mean
    /// would have more than 15 bits, which other decoders refuse, too.
    pub(in crate::data::decode) fn new(
        class: Class,
        counts: &[u8; 16],
        symbols: &[u8],
    ) -> Option<Self> {
        if class == Class::Dc && symbols.iter().any(|&bits| bits > 15) {
            return None;
        }
        let mut one = vec![0u16; 1 << LOOK];
        let mut longer = [(0, 0); 17];
        let (mut code, mut index) = (0usize, 0usize);
        for (length, &count) in (1u32..).zip(counts) {
            for _ in 0..count {
                if code >= 1 << length {
                    return None;
                }
                if let Some(left) = LOOK.checked_sub(length) {
                    let entry = u16::from(symbols[index]) << 8 | length as u16;
                    one[code << left..(code + 1) << left].fill(entry);
                }
                code += 1;
                index += 1;
            }
            longer[length as usize] = ((code as u32) << (16 - length), index as i32 - code as i32);
            code <<= 1;
        }
        let valued = (0..1usize << VALUED)
            .map(|bits| {
                let first = one[bits << (LOOK - VALUED)];
                let (symbol, length) = (first >> 8, u32::from(first & 0xff));
                let own = u32::from(symbol & 15);
                let is_number = own > 0 || class == Class::Dc;
                if length == 0 || !is_number || length + own > VALUED {
                    return Valued::default();
                }
                let number = bits >> (VALUED - length - own) & ((1 << own) - 1);
                Valued {
                    number: value_of(number as i32, own) as i16,
                    steps: (symbol >> 4) as u8 + 1,
                    bits: (length + own) as u8,
                }
            })
            .collect::<Vec<Valued>>();
        let skips = match class {
            Class::Dc => Vec::new(),
            Class::Ac => skips(&one),
        };
        Some(Huffman {
            one: one.try_into().ok()?,
            valued: valued.try_into().ok()?,
            skips,
            longer,
            symbols: symbols.to_vec(),
        })
    }

    #[inline(always)]
    pub(in crate::data::decode) fn valued(&self, bits: &Bits) -> Valued {
        self.valued[(bits.buffer >> (64 - VALUED)) as usize]
    }

    /// The next symbol.
    #[inline(always)]
    pub(in crate::data::decode) fn symbol(&self, bits: &mut Bits) -> Option<u8> {
        let entry = self.one[(bits.buffer >> (64 - LOOK)) as usize];
        if entry != 0 {
            bits.skip(u32::from(entry & 0xff));
            return Some((entry >> 8) as u8);
        }
        self.long_symbol(bits)
    }

    /// The difference of a mean from the one before.
    #[inline(always)]
    pub(in crate::data::decode) fn difference(&self, bits: &mut Bits) -> Option<i32> {
        let valued = self.valued(bits);
        if valued.bits > 0 {
            bits.skip(u32::from(valued.bits));
            return Some(i32::from(valued.number));
        }
        let length = u32::from(self.symbol(bits)?);
        (length <= 15).then(|| bits.number(length))
    }

    /// Passes the AC frequency `next` and the zeros before it; gives the one after, which is 64 at the end of a block.
    #[inline(never)]
    pub(in crate::data::decode) fn pass(&self, bits: &mut Bits, next: usize) -> Option<usize> {
        let symbol = self.symbol(bits)?;
        let after = match (symbol >> 4, symbol & 15) {
            (0, 0) => 64,
            (15, 0) => next + 16,
            (_, 0) => return None,
            (zeros, length) => {
                bits.skip(u32::from(length));
                next + usize::from(zeros) + 1
            }
        };
        (after <= 64).then_some(after)
    }

    #[cold]
    fn long_symbol(&self, bits: &mut Bits) -> Option<u8> {
        let next = (bits.buffer >> 48) as u32;
        let length = (LOOK + 1..=16).find(|&length| next < self.longer[length as usize].0)?;
        let index = (next >> (16 - length)) as i32 + self.longer[length as usize].1;
        bits.skip(length);
        self.symbols.get(usize::try_from(index).ok()?).copied()
    }
}

/// The table [`Huffman::skips`].
fn skips(one: &[u16]) -> Vec<u16> {
    let of = |bits: usize| {
        let (mut passed, mut read) = (0, 0);
        while read < LOOK && passed < END {
            let next = one[bits << read & ((1 << LOOK) - 1)];
            let (symbol, length) = (usize::from(next >> 8), u32::from(next & 0xff));
            // Beyond the last bit are zeros, which are not the code's.
            if length == 0 || read + length > LOOK {
                break;
            }
            let more = match (symbol >> 4, symbol & 15) {
                (0, 0) => END,
                (15, 0) => 16,
                (_, 0) => break,
                (zeros, _) => zeros + 1,
            };
            if more < END && passed + more > 62 {
                break;
            }
            passed += more;
            read += length + (symbol & 15) as u32;
        }
        let passed = if read == 0 { UNKNOWN } else { passed };
        (passed << 8) as u16 | read as u16
    };
    (0..1 << LOOK).map(of).collect()
}
