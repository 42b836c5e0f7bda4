//! JPEG with the pixels of libjpeg-turbo, which Pillow, OpenCV and torchvision decode with.
//!
//! The standard leaves the rounding of the inverse transform, the enlarging of chroma and the conversion to red, green and
//! blue to the decoder. Where weights were trained on the pixels of one, another's differ by up to 4 of 255: enough to
//! tell in the tensor of a picture that is not shrunk. So each step here follows libjpeg-turbo's defaults: its accurate
//! integer transform (jidctint.c), its "fancy" enlarging (jdsample.c), its tables of colours (jdcolor.c).
//!
//! Baseline, extended and progressive pictures of one component or three are decoded, of any number of scans. Whatever
//! else it is, and whatever is damaged in any way, gets no answer here and is left to the other decoders.

mod enlarge;
mod frame;
mod inverse;
mod scan;

use image::RgbImage;

use self::enlarge::Enlarged;
use self::frame::Frame;
use self::scan::{Block, Scan};
use super::jpeg::{Colours, body, segments};
use super::scaled::to_rgb;

/// Decodes a whole picture. `None` where it is to be decoded otherwise.
pub(super) fn decode(bytes: &[u8], colours: Colours) -> Option<RgbImage> {
    let components = match colours {
        Colours::Grey => 1,
        Colours::Rgb | Colours::Ycc => 3,
        Colours::Cmyk | Colours::Ycck => return None,
    };
    let frame = read(bytes).filter(|frame| frame.planes.len() == components)?;
    let (width, height) = (frame.width, frame.height);
    let mut pixels = Vec::with_capacity(3 * width * height);
    let mut enlarged: Vec<Enlarged> = Vec::with_capacity(components);
    for plane in &frame.planes {
        enlarged.push(Enlarged::new(plane, &frame)?);
    }
    for y in 0..height {
        for one in &mut enlarged {
            one.row(y);
        }
        let mut rows = enlarged.iter().map(|one| &one.row[..width]);
        match (colours, rows.next()?, rows.next(), rows.next()) {
            (Colours::Ycc, luma, Some(blue), Some(red)) => to_rgb(luma, blue, red, &mut pixels),
            (Colours::Rgb, red, Some(green), Some(blue)) => {
                let others = green.iter().zip(blue);
                let all = red.iter().zip(others);
                pixels.extend(all.flat_map(|(&r, (&g, &b))| [r, g, b]));
            }
            (_, grey, ..) => pixels.extend(grey.iter().flat_map(|&grey| [grey; 3])),
        }
    }
    RgbImage::from_raw(width as u32, height as u32, pixels)
}

/// Reads all scans.
fn read(bytes: &[u8]) -> Option<Frame> {
    let mut frame: Option<Frame> = None;
    let mut scan = Scan::default();
    let mut expected = 2;
    for (marker, start) in segments(bytes) {
        if marker == 0xd9 {
            let mut frame = frame?;
            frame.finish();
            return frame.is_whole().then_some(frame);
        }
        let body = body(bytes, start)?;
        // Stray bytes between segments: decoders disagree on what they skip.
        if start != expected + 2 {
            return None;
        }
        expected = start + 2 + body.len();
        match marker {
            0xc0..=0xc2 if frame.is_none() => frame = Some(Frame::new(marker, body)?),
            0xc4 => scan.huffman(body)?,
            0xdb => scan.quantization(body)?,
            0xdd => scan.restart = usize::from(u16::from_be_bytes(*body.first_chunk()?)),
            0xda => {
                let frame = frame.as_mut()?;
                let code = bytes.get(expected..)?;
                let left = match frame.is_progressive {
                    true => {
                        let band = Band::new(body)?;
                        scan.read(frame, body, code, band.block())?
                    }
                    // All frequencies, at once: other decoders differ on what else they take.
                    false if body.ends_with(&[0, 63, 0]) => {
                        scan.read(frame, body, code, Block::Whole)?
                    }
                    false => return None,
                };
                // The marker that ended the code is the next segment's.
                expected = bytes.len() - left - 2;
            }
            0xc0..=0xcf | 0xde | 0xdf => return None,
            _ => {}
        }
    }
    None
}

/// What a progressive scan holds of each block (T.81, G.1.1.1).
struct Band {
    first: usize,
    last: usize,
    /// Bits that came before, and that still follow.
    high: u32,
    low: u32,
}

impl Band {
    /// From the end of the scan's header.
    fn new(header: &[u8]) -> Option<Self> {
        let [first, last, bits] = *header.last_chunk()?;
        let band = Self {
            first: usize::from(first),
            last: usize::from(last),
            high: u32::from(bits >> 4),
            low: u32::from(bits & 15),
        };
        let is_ordered = band.first <= band.last && band.last < 64 && band.low <= 13;
        let is_one_kind = band.first > 0 || band.last == 0;
        let is_next_bit = band.high == 0 || band.high == band.low + 1;
        (is_ordered && is_one_kind && is_next_bit).then_some(band)
    }

    fn block(&self) -> Block {
        let band = (self.first, self.last);
        match (self.first, self.high) {
            (0, 0) => Block::Mean { low: self.low },
            (0, _) => Block::MeanBit { low: self.low },
            (_, 0) => Block::Band {
                band,
                low: self.low,
            },
            _ => Block::BandBit {
                band,
                low: self.low,
            },
        }
    }
}
