//! Baseline JPEG at an eighth, a quarter or half of its size, from the low frequencies alone (ITU-T T.81).
//!
//! A block of 8×8 pixels is stored as 64 frequencies. Its inverse transform of size n×n takes the n×n lowest of them and
//! gives the block in n×n pixels; for n = 1 that is the mean, for which one frequency is enough. What remains is reading
//! the code, most of which is only skipped: one look at a table takes several symbols at a time.
//!
//! Whatever is not an ordinary picture (several scans, progressive, arithmetic, 12 bits, unusual sampling) and whatever is
//! damaged in any way gets no answer here, and is left to the decoders that read all of it.

pub(super) mod code;
mod inverse;
mod plane;

use self::code::{Bits, Class, Code, Huffman};
use self::plane::Plane;
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
pub(super) fn to_rgb(luma: &[u8], blue: &[u8], red: &[u8], pixels: &mut Vec<u8>) {
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
