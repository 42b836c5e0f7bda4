//! One component of a picture, read block by block.

use super::code::{Bits, END, Huffman, LOOK, MOST_SKIPPED, ZIGZAG};
use super::inverse::{Inverse, inverse, pixel};
use super::{Component, Detail, Picture};

/// The pixels of one component in a row of MCUs, and what its blocks are read with.
pub(super) struct Plane<'a> {
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
    pub(super) predicted: i32,
    stride: usize,
    pub(super) pixels: Vec<u8>,
}

impl<'a> Plane<'a> {
    pub(super) fn new(
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
    pub(super) fn blocks(&mut self, bits: &mut Bits, code: &[u8], column: usize) -> Option<()> {
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
