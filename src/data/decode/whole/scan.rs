//! The code of one scan (ITU-T T.81, annexes F and G).

use super::super::scaled::code::{Bits, Class, Code, Huffman, ZIGZAG};
use super::frame::Frame;

/// The tables that hold at a place of the file.
#[derive(Default)]
pub(super) struct Scan {
    dc: [Option<Huffman>; 4],
    ac: [Option<Huffman>; 4],
    quantization: [Option<[i32; 64]>; 4],
    /// MCUs from one restart marker to the next; 0 without them.
    pub(super) restart: usize,
}

/// What a scan holds of a block. `low` is how many bits of each number still follow.
#[derive(Clone, Copy)]
pub(super) enum Block {
    /// All of it: the picture is not progressive.
    Whole,
    Mean {
        low: u32,
    },
    /// One more bit of it.
    MeanBit {
        low: u32,
    },
    Band {
        band: (usize, usize),
        low: u32,
    },
    BandBit {
        band: (usize, usize),
        low: u32,
    },
}

/// One component of a scan: its index, its tables, and the mean of the block before.
struct Part<'a> {
    plane: usize,
    dc: Option<&'a Huffman>,
    ac: Option<&'a Huffman>,
    predicted: i32,
}

impl Scan {
    /// Takes Huffman tables.
    pub(super) fn huffman(&mut self, mut body: &[u8]) -> Option<()> {
        while let [kind, rest @ ..] = body {
            let counts = rest.first_chunk::<16>()?;
            let total: usize = counts.iter().map(|&count| usize::from(count)).sum();
            let symbols = rest.get(16..16 + total)?;
            let (class, tables) = match kind >> 4 {
                0 => (Class::Dc, &mut self.dc),
                1 => (Class::Ac, &mut self.ac),
                _ => return None,
            };
            let table = Huffman::new(class, counts, symbols)?;
            *tables.get_mut(usize::from(kind & 15))? = Some(table);
            body = &rest[16 + total..];
        }
        Some(())
    }

    /// Takes quantization tables, of 8 or 16 bits.
    pub(super) fn quantization(&mut self, mut body: &[u8]) -> Option<()> {
        while let [kind, rest @ ..] = body {
            let size = match kind >> 4 {
                0 => 1,
                1 => 2,
                _ => return None,
            };
            let stored = rest.get(..64 * size)?;
            let mut table = [0; 64];
            for (number, &place) in stored.chunks_exact(size).zip(&ZIGZAG) {
                let number = number
                    .iter()
                    .fold(0, |sum, &byte| sum << 8 | i32::from(byte));
                table[usize::from(place)] = number;
            }
            *self.quantization.get_mut(usize::from(kind & 15))? = Some(table);
            body = &rest[64 * size..];
        }
        Some(())
    }

    /// Reads the blocks of a scan; gives how many bytes are left behind the marker that ends it.
    pub(super) fn read(
        &self,
        frame: &mut Frame,
        header: &[u8],
        code: &[u8],
        block: Block,
    ) -> Option<usize> {
        let [count, rest @ ..] = header else {
            return None;
        };
        let of_parts = rest.get(..2 * usize::from(*count))?;
        if rest.len() != of_parts.len() + 3 {
            return None;
        }
        let mut parts: Vec<Part<'_>> = Vec::with_capacity(of_parts.len() / 2);
        for one in of_parts.chunks_exact(2) {
            let plane = frame.planes.iter().position(|plane| plane.name == one[0])?;
            let is_later = parts.last().is_none_or(|before| before.plane < plane);
            is_later.then_some(())?;
            let table = |tables: &'_ [Option<Huffman>; 4], number: u8| {
                let place = tables.get(usize::from(number));
                place.is_some_and(Option::is_some)
            };
            let (dc, ac) = (one[1] >> 4, one[1] & 15);
            let (needs_dc, needs_ac) = match block {
                Block::Whole => (true, true),
                Block::Mean { .. } => (true, false),
                Block::MeanBit { .. } => (false, false),
                Block::Band { .. } | Block::BandBit { .. } => (false, true),
            };
            let is_there = (!needs_dc || table(&self.dc, dc)) && (!needs_ac || table(&self.ac, ac));
            is_there.then_some(())?;
            let place = &mut frame.planes[plane];
            if place.quantization.is_none() {
                place.quantization = Some((*self.quantization.get(place.table)?)?);
            } else if matches!(block, Block::Whole) {
                return None;
            }
            parts.push(Part {
                plane,
                dc: self.dc.get(usize::from(dc)).and_then(Option::as_ref),
                ac: self.ac.get(usize::from(ac)).and_then(Option::as_ref),
                predicted: 0,
            });
        }
        let is_band = matches!(block, Block::Band { .. } | Block::BandBit { .. });
        if parts.is_empty() || (is_band && parts.len() > 1) {
            return None;
        }
        // The blocks of a single component are not grouped, whatever its factors are (T.81, A.2.2).
        let is_single = parts.len() == 1;
        let (columns, rows) = match parts.as_slice() {
            [only] => {
                let plane = &frame.planes[only.plane];
                (plane.width.div_ceil(8), plane.height.div_ceil(8))
            }
            _ => frame.mcus,
        };
        let mut code = Code::new(code);
        let mut bits = Bits::default();
        // Blocks that follow without a bit of this band.
        let mut empty = 0u32;
        let (mut done, all) = (0, rows * columns);
        let every = if self.restart == 0 { all } else { self.restart };
        for row in 0..rows {
            for column in 0..columns {
                if done % every == 0 {
                    if done > 0 {
                        bits.check_end(&code)?;
                        let number = (done / every - 1) % 8;
                        (code.marker == 0xd0 + number as u8).then_some(())?;
                    }
                    code.next()?;
                    bits = Bits::default();
                    empty = 0;
                    parts.iter_mut().for_each(|part| part.predicted = 0);
                }
                done += 1;
                for part in &mut parts {
                    let plane = &mut frame.planes[part.plane];
                    let (across, down) = match is_single {
                        true => (1, 1),
                        false => (plane.across, plane.down),
                    };
                    for y in 0..down {
                        for x in 0..across {
                            let (x, y) = (column * across + x, row * down + y);
                            if let Block::Whole = block {
                                let mut frequencies = [0; 64];
                                part.whole(&mut bits, &code.bytes, &mut frequencies)?;
                                plane.set(x, y, &frequencies);
                                continue;
                            }
                            let at = 64 * (y * (plane.stride / 8) + x);
                            let frequencies = plane.frequencies[at..].first_chunk_mut()?;
                            let mut reading = Reading {
                                bits: &mut bits,
                                code: &code.bytes,
                                empty: &mut empty,
                            };
                            part.progressive(&mut reading, frequencies, block)?;
                        }
                    }
                }
            }
        }
        bits.check_end(&code)?;
        Some(code.left())
    }
}

/// Where a progressive scan is.
struct Reading<'a> {
    bits: &'a mut Bits,
    code: &'a [u8],
    empty: &'a mut u32,
}

impl Reading<'_> {
    /// So many bits, at most 15.
    #[inline(always)]
    fn number(&mut self, count: u32) -> Option<u32> {
        self.bits.refill(self.code)?;
        let number = ((self.bits.buffer >> 1) >> (63 - count)) as u32;
        self.bits.skip(count);
        Some(number)
    }

    /// One more bit of a frequency that is not zero.
    #[inline(always)]
    fn refine(&mut self, frequency: &mut i16, low: u32) -> Option<()> {
        let bit = 1 << low;
        if self.number(1)? == 1 && *frequency & bit == 0 {
            *frequency += if *frequency < 0 { -bit } else { bit };
        }
        Some(())
    }
}

impl Part<'_> {
    /// The mean of the next block.
    #[inline(always)]
    fn mean(&mut self, bits: &mut Bits, code: &[u8]) -> Option<i32> {
        bits.refill(code)?;
        self.predicted += self.dc?.difference(bits)?;
        (self.predicted.unsigned_abs() < 1 << 15).then_some(self.predicted)
    }

    /// A block that is coded as a whole (T.81, F.2.2).
    #[inline(always)]
    fn whole(&mut self, bits: &mut Bits, code: &[u8], frequencies: &mut [i16; 64]) -> Option<()> {
        frequencies[0] = self.mean(bits, code)? as i16;
        let ac = self.ac?;
        let mut next = 1;
        while next < 64 {
            bits.refill(code)?;
            let valued = ac.valued(bits);
            let number = if valued.bits > 0 {
                bits.skip(u32::from(valued.bits));
                next += usize::from(valued.steps);
                valued.number
            } else {
                let symbol = ac.symbol(bits)?;
                match (usize::from(symbol >> 4), u32::from(symbol & 15)) {
                    (0, 0) => break,
                    (15, 0) => {
                        next += 16;
                        continue;
                    }
                    (_, 0) => return None,
                    (zeros, length) => {
                        next += zeros + 1;
                        bits.number(length) as i16
                    }
                }
            };
            frequencies[usize::from(*ZIGZAG.get(next - 1)?) & 63] = number;
        }
        (next <= 64).then_some(())
    }

    /// A block of a progressive scan (T.81, G.2).
    #[inline(always)]
    fn progressive(
        &mut self,
        reading: &mut Reading<'_>,
        frequencies: &mut [i16; 64],
        block: Block,
    ) -> Option<()> {
        match block {
            Block::Whole => None,
            Block::Mean { low } => {
                let mean = self.mean(reading.bits, reading.code)?;
                frequencies[0] = i16::try_from(mean << low).ok()?;
                Some(())
            }
            Block::MeanBit { low } => {
                frequencies[0] |= (reading.number(1)? as i16) << low;
                Some(())
            }
            Block::Band { band, low } => self.band(reading, frequencies, band, low),
            Block::BandBit { band, low } => self.band_bit(reading, frequencies, band, low),
        }
    }

    fn band(
        &self,
        reading: &mut Reading<'_>,
        frequencies: &mut [i16; 64],
        (first, last): (usize, usize),
        low: u32,
    ) -> Option<()> {
        if *reading.empty > 0 {
            *reading.empty -= 1;
            return Some(());
        }
        let mut next = first;
        while next <= last {
            reading.bits.refill(reading.code)?;
            let symbol = self.ac?.symbol(reading.bits)?;
            match (usize::from(symbol >> 4), u32::from(symbol & 15)) {
                (15, 0) => next += 16,
                (run, 0) => {
                    *reading.empty = (1 << run) - 1 + reading.number(run as u32)?;
                    return Some(());
                }
                (zeros, length) => {
                    next += zeros;
                    let number = reading.bits.number(length) << low;
                    let place = usize::from(*ZIGZAG.get(next)?);
                    (next <= last).then_some(())?;
                    frequencies[place] = i16::try_from(number).ok()?;
                    next += 1;
                }
            }
        }
        (next == last + 1).then_some(())
    }

    fn band_bit(
        &self,
        reading: &mut Reading<'_>,
        frequencies: &mut [i16; 64],
        (first, last): (usize, usize),
        low: u32,
    ) -> Option<()> {
        let mut next = first;
        while *reading.empty == 0 && next <= last {
            reading.bits.refill(reading.code)?;
            let symbol = self.ac?.symbol(reading.bits)?;
            let (mut zeros, mut new) = (symbol >> 4, 0);
            match (zeros, symbol & 15) {
                (15, 0) => {}
                (run, 0) => {
                    *reading.empty = (1 << run) + reading.number(u32::from(run))?;
                    break;
                }
                (_, 1) => {
                    new = if reading.number(1)? == 1 {
                        1 << low
                    } else {
                        -1 << low
                    }
                }
                _ => return None,
            }
            // Frequencies that are known already are passed, with a bit for each.
            while next <= last {
                let frequency = &mut frequencies[usize::from(ZIGZAG[next])];
                if *frequency != 0 {
                    reading.refine(frequency, low)?;
                } else if zeros == 0 {
                    *frequency = new;
                    next += 1;
                    break;
                } else {
                    zeros -= 1;
                }
                next += 1;
            }
        }
        if *reading.empty > 0 {
            for &place in &ZIGZAG[next..=last] {
                let frequency = &mut frequencies[usize::from(place)];
                if *frequency != 0 {
                    reading.refine(frequency, low)?;
                }
            }
            *reading.empty -= 1;
        }
        Some(())
    }
}
