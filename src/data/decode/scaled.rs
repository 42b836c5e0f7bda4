//! Baseline JPEG at an eighth, a quarter or half of its size, from the low frequencies alone (ITU-T T.81).
//!
//! A block of 8×8 pixels is stored as 64 frequencies. Its inverse transform of size n×n takes the n×n lowest of them and
//! gives the block in n×n pixels; for n = 1 that is the mean, for which one frequency is enough. What remains is reading
//! the code, most of which is only skipped: one look at a table takes several symbols at a time.
//!
//! Whatever is not an ordinary picture (several scans, progressive, arithmetic, 12 bits, unusual sampling) and whatever is
//! damaged in any way gets no answer here, and is left to the decoders that read all of it.

use super::jpeg::{Colours, body, segments};

/// How much of a picture is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Detail {
    /// Pixels for eight of the picture's, each way: 1, 2 or 4.
    pub(super) eighths: usize,
    /// Whether chroma needs only half of that.
    pub(super) is_chroma_coarse: bool,
}

/// RGB pixels, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scaled {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) pixels: Vec<u8>,
}

/// Decodes with so much detail; the size is rounded up. `None` where the picture is to be decoded as a whole.
pub(super) fn decode(bytes: &[u8], colours: Colours, detail: Detail) -> Option<Scaled> {
    let picture = Picture::read(bytes)?;
    let wanted = match colours {
        Colours::Grey => 1,
        Colours::Rgb | Colours::Ycc => 3,
        Colours::Cmyk | Colours::Ycck => return None,
    };
    if picture.components.len() != wanted {
        return None;
    }
    picture.decode(colours, detail)
}

/// The positions of the frequencies in the order in which they are stored (T.81, figure A.6).
#[rustfmt::skip]
const ZIGZAG: [u8; 64] = [
     0,  1,  8, 16,  9,  2,  3, 10, 17, 24, 32, 25, 18, 11,  4,  5,
    12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13,  6,  7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
    58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// One of the colours that the picture is made of.
struct Component {
    /// Sampling factors: blocks of an MCU, across and down.
    across: usize,
    down: usize,
    quantization: usize,
    dc: usize,
    ac: usize,
}

/// What the segments say.
struct Picture<'a> {
    width: usize,
    height: usize,
    components: Vec<Component>,
    quantization: [Option<[u16; 64]>; 4],
    dc: [Option<Huffman>; 4],
    ac: [Option<Huffman>; 4],
    /// MCUs from one restart marker to the next; 0 without them.
    restart: usize,
    /// From the first byte of the scan's code.
    code: &'a [u8],
}

impl<'a> Picture<'a> {
    /// Reads the segments up to the data of the only scan (T.81, B.2).
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut frame = None;
        let mut quantization = [None; 4];
        let (mut dc, mut ac) = ([const { None }; 4], [const { None }; 4]);
        let mut restart = 0;
        let mut expected = 2;
        for (marker, start) in segments(bytes) {
            let mut body = body(bytes, start)?;
            // Stray bytes and markers without a length between segments: decoders disagree on what they skip.
            if start != expected + 2 {
                return None;
            }
            expected = start + 2 + body.len();
            match marker {
                0xc0 | 0xc1 if frame.is_none() => frame = Some(body),
                0xc4 => {
                    while let [kind, rest @ ..] = body {
                        let counts = rest.first_chunk::<16>()?;
                        let total: usize = counts.iter().map(|&count| usize::from(count)).sum();
                        let symbols = rest.get(16..16 + total)?;
                        let (class, tables) = match kind >> 4 {
                            0 => (Class::Dc, &mut dc),
                            1 => (Class::Ac, &mut ac),
                            _ => return None,
                        };
                        *tables.get_mut(usize::from(kind & 15))? =
                            Some(Huffman::new(class, counts, symbols)?);
                        body = &rest[16 + total..];
                    }
                }
                0xdb => {
                    while let [number, rest @ ..] = body {
                        // A number of four or more is also one of 16 bits.
                        let values = rest.first_chunk::<64>()?;
                        *quantization.get_mut(usize::from(*number))? = Some(values.map(u16::from));
                        body = &rest[64..];
                    }
                }
                0xdd => restart = usize::from(u16::from_be_bytes(*body.first_chunk()?)),
                0xda => {
                    let code = bytes.get(start + 2 + body.len()..)?;
                    let [8, h1, h0, w1, w0, count, of_frame @ ..] = frame? else {
                        return None;
                    };
                    let count = usize::from(*count);
                    let [in_scan, of_scan @ ..] = body else {
                        return None;
                    };
                    let is_whole = of_frame.len() == 3 * count
                        && usize::from(*in_scan) == count
                        && of_scan.len() == 2 * count + 3
                        && of_scan.ends_with(&[0, 63, 0]);
                    if !is_whole {
                        return None;
                    }
                    let mut components = Vec::with_capacity(count);
                    for (one, tables) in of_frame.chunks_exact(3).zip(of_scan.chunks_exact(2)) {
                        if one[0] != tables[0] {
                            return None;
                        }
                        components.push(Component {
                            across: usize::from(one[1] >> 4),
                            down: usize::from(one[1] & 15),
                            quantization: usize::from(one[2]),
                            dc: usize::from(tables[1] >> 4),
                            ac: usize::from(tables[1] & 15),
                        });
                    }
                    // The blocks of a single component are not grouped, whatever its factors are (T.81, A.2.2).
                    if let [only] = components.as_mut_slice() {
                        (only.across, only.down) = (1, 1);
                    }
                    return Some(Picture {
                        width: usize::from(u16::from_be_bytes([*w1, *w0])),
                        height: usize::from(u16::from_be_bytes([*h1, *h0])),
                        components,
                        quantization,
                        dc,
                        ac,
                        restart,
                        code,
                    });
                }
                // Any other frame, arithmetic coding, a second frame, the end.
                0xc0..=0xcf | 0xd9 | 0xde | 0xdf => return None,
                _ => {}
            }
        }
        None
    }

    fn decode(&self, colours: Colours, detail: Detail) -> Option<Scaled> {
        let most = |factor: fn(&Component) -> usize| self.components.iter().map(factor).max();
        let (across, down) = (most(|one| one.across)?, most(|one| one.down)?);
        if self.width == 0 || self.height == 0 || across == 0 || down == 0 {
            return None;
        }
        let mcus = self.width.div_ceil(8 * across);
        let stride = mcus * across * detail.eighths;
        let mut planes = Vec::with_capacity(self.components.len());
        for one in &self.components {
            planes.push(Plane::new(self, one, (across, down), stride, detail)?);
        }

        let scaled = |length: usize| (length * detail.eighths).div_ceil(8);
        let (width, height) = (scaled(self.width), scaled(self.height));
        let mut pixels = Vec::with_capacity(3 * width * height);
        let mut code = Code::new(self.code);
        let mut bits = Bits::default();
        let rows = self.height.div_ceil(8 * down);
        let (mut done, all) = (0, rows * mcus);
        let every = if self.restart == 0 { all } else { self.restart };
        for row in 0..rows {
            for column in 0..mcus {
                if done % every == 0 {
                    if done > 0 {
                        bits.check_end(&code)?;
                        let number = (done / every - 1) % 8;
                        (code.marker == 0xd0 + number as u8).then_some(())?;
                    }
                    code.next()?;
                    bits = Bits::default();
                    for plane in &mut planes {
                        plane.predicted = 0;
                    }
                }
                done += 1;
                for plane in &mut planes {
                    plane.blocks(&mut bits, &code.bytes, column)?;
                }
            }
            let own = down * detail.eighths;
            for y in 0..own.min(height - row * own) {
                let mut rows = planes.iter();
                let mut next = || Some(&rows.next()?.pixels[y * stride..][..width]);
                let first = next()?;
                match colours {
                    Colours::Ycc => to_rgb(first, next()?, next()?, &mut pixels),
                    Colours::Rgb => {
                        let others = next()?.iter().zip(next()?);
                        let all = first.iter().zip(others);
                        pixels.extend(all.flat_map(|(&r, (&g, &b))| [r, g, b]));
                    }
                    _ => pixels.extend(first.iter().flat_map(|&grey| [grey; 3])),
                }
            }
        }
        bits.check_end(&code)?;
        (code.marker == 0xd9).then_some(Scaled {
            width: width as u32,
            height: height as u32,
            pixels,
        })
    }
}

/// Appends pixels of luma and chroma (JFIF) as red, green and blue.
fn to_rgb(luma: &[u8], blue: &[u8], red: &[u8], pixels: &mut Vec<u8>) {
    // In 65,536ths.
    const HALF: i32 = 1 << 15;
    let start = pixels.len();
    pixels.resize(start + 3 * luma.len(), 0);
    let places = pixels[start..].chunks_exact_mut(3);
    for (((place, &y), &cb), &cr) in places.zip(luma).zip(blue).zip(red) {
        let (y, cb, cr) = (i32::from(y) << 16, i32::from(cb) - 128, i32::from(cr) - 128);
        let byte = |value: i32| ((value + HALF) >> 16).clamp(0, 255) as u8;
        place[0] = byte(y + 91_881 * cr);
        place[1] = byte(y - 22_554 * cb - 46_802 * cr);
        place[2] = byte(y + 116_130 * cb);
    }
}

/// The code of a scan, from one restart marker to the next.
struct Code<'a> {
    rest: &'a [u8],
    /// Without the zeros that follow each 0xff (T.81, F.1.2.3), and with [`PADDING`] zeros at the end.
    bytes: Vec<u8>,
    /// What ended it.
    marker: u8,
}

/// So many bytes may be read beyond the end.
const PADDING: usize = 16;

impl<'a> Code<'a> {
    fn new(rest: &'a [u8]) -> Self {
        Code {
            rest,
            bytes: Vec::new(),
            marker: 0,
        }
    }

    fn next(&mut self) -> Option<()> {
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
struct Bits {
    /// The next bits are the highest.
    buffer: u64,
    /// How many of them are there.
    count: u32,
    /// The byte from which on nothing is in the buffer as a whole.
    at: usize,
}

impl Bits {
    /// 56 bits or more.
    #[inline(always)]
    fn refill(&mut self, code: &[u8]) -> Option<()> {
        let word = u64::from_be_bytes(*code.get(self.at..)?.first_chunk()?);
        self.buffer |= word >> self.count;
        self.at += (63 - self.count as usize) >> 3;
        self.count |= 56;
        Some(())
    }

    #[inline(always)]
    fn skip(&mut self, bits: u32) {
        self.buffer <<= bits;
        self.count -= bits;
    }

    /// A number of so many bits, of which half are negative (T.81, F.2.2.1).
    #[inline(always)]
    fn number(&mut self, bits: u32) -> i32 {
        let value = ((self.buffer >> 1) >> (63 - bits)) as i32;
        self.skip(bits);
        value_of(value, bits)
    }

    /// `None` unless all was read, but for bits that fill up the last byte.
    fn check_end(&self, code: &Code) -> Option<()> {
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
enum Class {
    Dc,
    Ac,
}

/// A Huffman table, and what several symbols in a row skip.
struct Huffman {
    /// By the next bits: a symbol << 8 and the length of its code; 0 where that is longer.
    one: Box<[u16; 1 << LOOK]>,
    /// By fewer of the next bits: a symbol and the number after it, where they end within these. 0 elsewhere.
    valued: Box<[Valued; 1 << VALUED]>,
    /// By the next bits, of AC frequencies: how many are passed by as many symbols as are known << 8, and the bits of these
    /// symbols with their numbers. [`END`] more where the block ends; [`UNKNOWN`] where the first symbol is not known.
    skips: Vec<u16>,
    /// For each length, one more than the last code of it, with 16 bits, and the index of that code's symbol, plus one,
    /// less the code.
    longer: [(u32, i32); 17],
    symbols: Vec<u8>,
}

/// A number other than zero, the frequencies that it takes with the zeros before it, and the bits of both.
#[derive(Clone, Copy, Default)]
struct Valued {
    number: i16,
    steps: u8,
    bits: u8,
}

/// Bits that are looked at for a number.
const VALUED: u32 = 10;
/// Bits that are looked at at once.
const LOOK: u32 = 12;
/// The most bits that one look skips: those looked at, and a number of fifteen after them.
const MOST_SKIPPED: u32 = LOOK + 15;
/// Frequencies passed: so many more where the block ends.
const END: usize = 128;
/// Frequencies passed, where the first symbol is not known by so few bits: as many as there are.
const UNKNOWN: usize = 64;

impl Huffman {
    /// A table of so many codes of each length (T.81, annex C). `None` where there are more than fit.
    fn new(class: Class, counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
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
    fn valued(&self, bits: &Bits) -> Valued {
        self.valued[(bits.buffer >> (64 - VALUED)) as usize]
    }

    /// The next symbol.
    #[inline(always)]
    fn symbol(&self, bits: &mut Bits) -> Option<u8> {
        let entry = self.one[(bits.buffer >> (64 - LOOK)) as usize];
        if entry != 0 {
            bits.skip(u32::from(entry & 0xff));
            return Some((entry >> 8) as u8);
        }
        self.long_symbol(bits)
    }

    /// The difference of a mean from the one before.
    #[inline(always)]
    fn difference(&self, bits: &mut Bits) -> Option<i32> {
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
    fn pass(&self, bits: &mut Bits, next: usize) -> Option<usize> {
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

/// The pixels of one component in a row of MCUs, and what its blocks are read with.
struct Plane<'a> {
    across: usize,
    down: usize,
    inverse: Inverse,
    /// Of a block, in pixels.
    width: usize,
    height: usize,
    /// The last frequency that is needed.
    last: usize,
    quantization: [i32; 64],
    dc: &'a Huffman,
    ac: &'a Huffman,
    /// The mean of the block before.
    predicted: i32,
    stride: usize,
    pixels: Vec<u8>,
}

impl<'a> Plane<'a> {
    fn new(
        picture: &'a Picture<'_>,
        one: &Component,
        (across, down): (usize, usize),
        stride: usize,
        detail: Detail,
    ) -> Option<Self> {
        let is_even = |most: usize, own: usize| own > 0 && most.is_multiple_of(own);
        if !is_even(across, one.across) || !is_even(down, one.down) {
            return None;
        }
        let width = detail.eighths * (across / one.across);
        let height = detail.eighths * (down / one.down);
        let (dc, ac) = (
            picture.dc.get(one.dc)?.as_ref()?,
            picture.ac.get(one.ac)?.as_ref()?,
        );
        let is_coarse = detail.is_chroma_coarse && width <= 2 && height <= 2;
        Some(Plane {
            across: one.across,
            down: one.down,
            inverse: inverse(width, height)?,
            width,
            height,
            last: if is_coarse { 0 } else { last_of(width, height) },
            quantization: (*picture.quantization.get(one.quantization)?)?.map(i32::from),
            dc,
            ac,
            predicted: 0,
            stride,
            pixels: vec![0; stride * down * detail.eighths],
        })
    }

    /// Where the pixels of a block of an MCU begin.
    #[inline(always)]
    fn place(&self, column: usize, x: usize, y: usize) -> usize {
        y * self.height * self.stride + (column * self.across + x) * self.width
    }

    /// Takes the difference of a mean from the one before (T.81, F.1.1.5.1).
    #[inline(always)]
    fn predict(&mut self, difference: i32) -> Option<()> {
        self.predicted += difference;
        (self.predicted.unsigned_abs() <= 1 << 15).then_some(())
    }

    /// Gives a block its mean.
    #[inline(always)]
    fn fill(&mut self, at: usize) {
        let mean = pixel(self.predicted * self.quantization[0]);
        if self.width == 1 && self.height == 1 {
            self.pixels[at] = mean;
            return;
        }
        for y in 0..self.height {
            self.pixels[at + y * self.stride..][..self.width].fill(mean);
        }
    }

    /// Reads the blocks of an MCU and writes their pixels.
    #[inline(always)]
    fn blocks(&mut self, bits: &mut Bits, code: &[u8], column: usize) -> Option<()> {
        for y in 0..self.down {
            for x in 0..self.across {
                let at = self.place(column, x, y);
                match self.last {
                    0 => self.mean(bits, code, at)?,
                    _ => self.block(bits, code, at)?,
                }
            }
        }
        Some(())
    }

    /// [`block`](Self::block) where the mean suffices.
    #[inline(always)]
    fn mean(&mut self, bits: &mut Bits, code: &[u8], at: usize) -> Option<()> {
        let dc = self.dc;
        bits.refill(code)?;
        let difference = dc.difference(bits)?;
        self.predict(difference)?;
        self.fill(at);
        self.skip(bits, code, 1)
    }

    /// Reads one block (T.81, F.2.2) and writes its pixels.
    #[inline(always)]
    fn block(&mut self, bits: &mut Bits, code: &[u8], at: usize) -> Option<()> {
        bits.refill(code)?;
        let difference = self.dc.difference(bits)?;
        self.predict(difference)?;
        let mut frequencies = [0; 64];
        let (mut next, mut is_flat) = (1, true);
        while next <= self.last {
            bits.refill(code)?;
            let valued = self.ac.valued(bits);
            let number = if valued.bits > 0 {
                bits.skip(u32::from(valued.bits));
                next += usize::from(valued.steps);
                i32::from(valued.number)
            } else {
                let symbol = self.ac.symbol(bits)?;
                let (zeros, length) = (usize::from(symbol >> 4), u32::from(symbol & 15));
                match (zeros, length) {
                    (0, 0) => {
                        next = 64;
                        break;
                    }
                    (15, 0) => {
                        next += 16;
                        continue;
                    }
                    (_, 0) => return None,
                    _ => next += zeros + 1,
                }
                bits.number(length)
            };
            let place = usize::from(*ZIGZAG.get(next - 1)?) & 63;
            frequencies[place] = number * self.quantization[next - 1];
            is_flat = false;
        }
        if next < 64 {
            self.skip(bits, code, next)?;
        } else if next > 64 {
            return None;
        }
        if is_flat {
            self.fill(at);
            return Some(());
        }
        frequencies[0] = self.predicted * self.quantization[0];
        (self.inverse)(&frequencies, &mut self.pixels[at..], self.stride);
        Some(())
    }

    /// Skips what a block has from its frequency `next` on, which is not the last yet.
    #[inline(always)]
    fn skip(&self, bits: &mut Bits, code: &[u8], mut next: usize) -> Option<()> {
        let skips = self.ac.skips.first_chunk::<{ 1 << LOOK }>()?;
        loop {
            bits.refill(code)?;
            for _ in 0..56 / MOST_SKIPPED {
                let entry = skips[(bits.buffer >> (64 - LOOK)) as usize];
                let after = next + usize::from(entry >> 8);
                if after > 63 {
                    if after >= END && after - END < 64 {
                        bits.skip(u32::from(entry & 63));
                        return Some(());
                    }
                    // One at a time: what follows the last frequency is another block's.
                    while next < 64 {
                        bits.refill(code)?;
                        next = self.ac.pass(bits, next)?;
                    }
                    return Some(());
                }
                next = after;
                bits.skip(u32::from(entry & 63));
            }
        }
    }
}

/// The last frequency, in the order in which they are stored, of those that a block of so many pixels needs.
fn last_of(width: usize, height: usize) -> usize {
    let is_needed = |&place: &u8| usize::from(place % 8) < width && usize::from(place / 8) < height;
    ZIGZAG.iter().rposition(is_needed).unwrap_or(0)
}

/// Writes the pixels of a block from its frequencies; the last argument is the length of a row.
type Inverse = fn(&[i32; 64], &mut [u8], usize);

/// The inverse transform for blocks of so many pixels, of which one way has twice as many as the other at most.
fn inverse(width: usize, height: usize) -> Option<Inverse> {
    Some(match (width, height) {
        // Never called: it is the mean.
        (1, 1) => inverse_of::<1, 1>,
        (1, 2) => inverse_of::<1, 2>,
        (2, 1) => inverse_of::<2, 1>,
        (2, 2) => inverse_of_four,
        (2, 4) => inverse_of::<2, 4>,
        (4, 2) => inverse_of::<4, 2>,
        (4, 4) => inverse_of::<4, 4>,
        (4, 8) => inverse_of::<4, 8>,
        (8, 4) => inverse_of::<8, 4>,
        (8, 8) => inverse_of::<8, 8>,
        _ => return None,
    })
}

/// [`inverse_of`] for blocks of 2×2 pixels, whose waves are 1 and -1.
fn inverse_of_four(from: &[i32; 64], to: &mut [u8], stride: usize) {
    let [a, b, c, d] = [0, 1, 8, 9].map(|place| from[place]);
    to[..2].copy_from_slice(&[pixel(a + b + c + d), pixel(a - b + c - d)]);
    to[stride..][..2].copy_from_slice(&[pixel(a + b - c - d), pixel(a - b - c + d)]);
}

/// T.81, A.3.3, with the lowest W × H frequencies, and as many pixels.
fn inverse_of<const W: usize, const H: usize>(from: &[i32; 64], to: &mut [u8], stride: usize) {
    let (across, down) = (waves::<W>(), waves::<H>());
    let mut rows = [[0f32; W]; H];
    for (y, row) in rows.iter_mut().enumerate() {
        for u in 0..W {
            let value = from[8 * y + u] as f32;
            for x in 0..W {
                row[x] += value * across[u][x];
            }
        }
    }
    for y in 0..H {
        let mut sum = [0f32; W];
        for v in 0..H {
            for x in 0..W {
                sum[x] += rows[v][x] * down[v][y];
            }
        }
        for (to, value) in to[y * stride..][..W].iter_mut().zip(sum) {
            // The cast keeps to 0 to 255.
            *to = (value / 8.0 + 128.5) as u8;
        }
    }
}

/// By frequency, then by pixel: √2 · cos((2x + 1) u π / 2n), and 1 for the mean.
#[inline(always)]
const fn waves<const N: usize>() -> [[f32; N]; N] {
    // √2 · cos(i π / 16), for i from 0 to 8.
    #[allow(clippy::approx_constant)]
    const COSINES: [f32; 9] = [
        1.414_213_6,
        1.387_039_8,
        1.306_563,
        1.175_875_6,
        1.0,
        0.785_695,
        0.541_196_1,
        0.275_899_4,
        0.0,
    ];
    let mut waves = [[1.0; N]; N];
    let mut u = 1;
    while u < N {
        let mut x = 0;
        while x < N {
            // In sixteenths of π, of which a turn has 32.
            let turn = (2 * x + 1) * u * (8 / N) % 32;
            let turn = if turn > 16 { 32 - turn } else { turn };
            waves[u][x] = if turn > 8 {
                -COSINES[16 - turn]
            } else {
                COSINES[turn]
            };
            x += 1;
        }
        u += 1;
    }
    waves
}

/// A pixel from eight times what it is above the middle.
#[inline(always)]
fn pixel(eightfold: i32) -> u8 {
    ((eightfold + 4 + 8 * 128) >> 3).clamp(0, 255) as u8
}
