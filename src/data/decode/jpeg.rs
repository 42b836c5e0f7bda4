//! What the segments of a JPEG say without decoding it (ITU-T T.81), and the decoder for those kinds that `image`'s decoder
//! takes for others.

use std::borrow::Cow;

use image::RgbImage;
use jpeg_decoder::{ColorTransform, Decoder, PixelFormat, UnsupportedFeature};

use super::colour::{cmyk_to_rgb, ycc_to_rgb};
use super::error::{DecodeError, in_one_line};
use super::limits::DecodeLimits;

const NAME: &str = "JPEG";

/// The marker of a frame without loss.
const LOSSLESS: u8 = 0xc3;
/// The marker of a progressive frame.
const PROGRESSIVE: u8 = 0xc2;

/// The segments of a JPEG: the marker of each, and the position of its length field.
pub(super) fn segments(bytes: &[u8]) -> impl Iterator<Item = (u8, usize)> + '_ {
    let mut at = 2;
    std::iter::from_fn(move || {
        // Stray bytes between segments occur in practice, and fill bytes of 0xff are allowed.
        loop {
            at += memchr::memchr(0xff, bytes.get(at..)?)?;
            let marker = *bytes.get(at + 1)?;
            match marker {
                0xff => at += 1,
                0x00 | 0x01 | 0xd0..=0xd8 => at += 2,
                0xd9 => {
                    at = bytes.len();
                    return Some((marker, at));
                }
                _ => {
                    let length = usize::from(u16::from_be_bytes([
                        *bytes.get(at + 2)?,
                        *bytes.get(at + 3)?,
                    ]));
                    let start = at + 2;
                    at = start + length.max(2);
                    return Some((marker, start));
                }
            }
        }
    })
}

/// Whether the picture's data is followed by `end of image`. Within a scan 0xff is always escaped, so going from segment
/// to segment finds the picture's own end, not that of a thumbnail within a segment.
pub(super) fn has_end(bytes: &[u8]) -> bool {
    let mut scans = 0;
    for (marker, _) in segments(bytes) {
        match marker {
            0xda => scans += 1,
            0xd9 => return scans > 0,
            _ => {}
        }
    }
    false
}

/// The EXIF data before the picture's own. The decoder's own method parses the whole header again, which takes a third of
/// the time of decoding a 32×32 picture.
pub(super) fn exif(bytes: &[u8]) -> Option<&[u8]> {
    segments(bytes)
        .take_while(|&(marker, _)| marker != 0xda)
        .filter(|&(marker, _)| marker == 0xe1)
        .find_map(|(_, start)| body(bytes, start)?.strip_prefix(b"Exif\0\0"))
}

/// The bytes of a segment after its length field; `None` where the file ends before it does.
pub(super) fn body(bytes: &[u8], start: usize) -> Option<&[u8]> {
    let length = u16::from_be_bytes(bytes.get(start..start + 2)?.try_into().ok()?);
    // The length counts itself: one of less than two is none, as for other decoders.
    bytes.get(start + 2..start + usize::from(length))
}

/// One of the colours that a JPEG is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Component {
    name: u8,
    /// Sampling factors.
    across: u8,
    down: u8,
}

/// What is said before the first scan's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The marker of the frame: 0xc0 baseline, 0xc1 extended, 0xc2 progressive, 0xc3 lossless, …
    process: u8,
    /// Bits of a sample.
    bits: u8,
    pub(super) width: u16,
    pub(super) height: u16,
    components: Vec<Component>,
    /// How many of the components are in the first scan.
    in_first_scan: usize,
    is_jfif: bool,
    /// The colour transform of an Adobe segment.
    adobe: Option<u8>,
    has_huffman_tables: bool,
    /// Where the first scan's segment begins, at its marker.
    scan_at: usize,
}

impl Header {
    /// Reads the segments up to the first scan; `None` where there is no frame or no scan.
    pub(super) fn read(bytes: &[u8]) -> Option<Header> {
        let mut header: Option<Header> = None;
        let (mut is_jfif, mut adobe, mut has_huffman_tables) = (false, None, false);
        for (marker, start) in segments(bytes) {
            let body = body(bytes, start)?;
            match marker {
                0xc4 => has_huffman_tables = true,
                0xe0 => is_jfif |= body.starts_with(b"JFIF\0"),
                0xee if body.starts_with(b"Adobe") => adobe = body.get(11).copied().or(adobe),
                0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf if header.is_none() => {
                    let [bits, h1, h0, w1, w0, count, components @ ..] = body else {
                        return None;
                    };
                    let components = components.chunks_exact(3).take(usize::from(*count));
                    header = Some(Header {
                        process: marker,
                        bits: *bits,
                        width: u16::from_be_bytes([*w1, *w0]),
                        height: u16::from_be_bytes([*h1, *h0]),
                        components: components
                            .map(|one| Component {
                                name: one[0],
                                across: one[1] >> 4,
                                down: one[1] & 15,
                            })
                            .collect(),
                        in_first_scan: 0,
                        is_jfif: false,
                        adobe: None,
                        has_huffman_tables: false,
                        scan_at: 0,
                    });
                }
                0xda => {
                    return header.map(|header| Header {
                        in_first_scan: body.first().map_or(0, |&count| usize::from(count)),
                        is_jfif,
                        adobe,
                        has_huffman_tables,
                        scan_at: start - 2,
                        ..header
                    });
                }
                0xd9 => return None,
                _ => {}
            }
        }
        None
    }

    /// Why no decoder here reads such a JPEG, where none does.
    pub(super) fn unread(&self) -> Option<String> {
        let colours = self.components.len();
        if self.process >= 0xc9 {
            return Some("arithmetic coding".to_owned());
        }
        if self.process >= 0xc5 {
            return Some("hierarchical coding".to_owned());
        }
        if self.bits != 8 && self.process != LOSSLESS {
            return Some(format!("{} bits a channel", self.bits));
        }
        if !matches!(colours, 1 | 3 | 4) {
            return Some(format!("{colours} channels"));
        }
        if self.height == 0 {
            return Some("its height only after the pixels".to_owned());
        }
        None
    }

    /// Whether `image`'s decoder, zune-jpeg 0.5.15, gives other pixels than these, or none.
    pub(super) fn needs_another_decoder(&self) -> bool {
        let is_lossless = self.process == LOSSLESS;
        // Where each component comes in a scan of its own, rows are lost, and colours where chroma is subsampled.
        let is_apart = self.in_first_scan < self.components.len();
        let (first, others) = self.components.split_at(1.min(self.components.len()));
        // It takes the first component for the one with most samples.
        let is_first_smaller = first.iter().any(|luma| {
            let is_larger = |one: &Component| {
                one.across >= luma.across
                    && one.down >= luma.down
                    && one.across * one.down > luma.across * luma.down
            };
            others.iter().any(is_larger)
        });
        let is_odd = self
            .components
            .iter()
            .any(|one| !one.across.is_power_of_two());
        // It takes them for red, green and blue.
        let is_chroma = self.components.len() == 3
            && self.colours() == Colours::Ycc
            && (self.adobe == Some(0) || self.components[0].name == b'R');
        is_lossless
            || (is_apart && self.process != PROGRESSIVE)
            || is_first_smaller
            || is_odd
            || is_chroma
    }

    /// The bytes before the data of the first scan.
    pub(super) fn head<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let scan = self.scan_at + 2;
        bytes.get(..scan + 2 + body(bytes, scan)?.len())
    }

    /// Whether a part of it may suffice ([`scaled`](super::scaled)).
    pub(super) fn can_be_scaled(&self) -> bool {
        self.process < PROGRESSIVE
            && self.unread().is_none()
            && !self.needs_another_decoder()
            && self.width > 0
    }

    /// Whether [`whole`](super::whole) may decode it.
    pub(super) fn can_be_decoded_exactly(&self) -> bool {
        self.process <= PROGRESSIVE && self.unread().is_none() && self.width > 0
    }

    /// How the components become red, green and blue: libjpeg's rules.
    pub(super) fn colours(&self) -> Colours {
        let names: Vec<u8> = self.components.iter().map(|one| one.name).collect();
        match (names.as_slice(), self.adobe) {
            ([_], _) => Colours::Grey,
            ([_, _, _], _) if self.is_jfif => Colours::Ycc,
            ([_, _, _], Some(0)) => Colours::Rgb,
            ([_, _, _], Some(_)) => Colours::Ycc,
            ([b'R', b'G', b'B'], None) => Colours::Rgb,
            ([_, _, _], None) if self.process == LOSSLESS => Colours::Rgb,
            ([_, _, _], None) => Colours::Ycc,
            (_, Some(2)) => Colours::Ycck,
            _ => Colours::Cmyk,
        }
    }
}

/// How a JPEG's components are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colours {
    Grey,
    Rgb,
    Ycc,
    /// Inks: 255 is none, as Adobe's programs write it and all others take it.
    Cmyk,
    /// The same, with cyan, magenta and yellow as luma and chroma.
    Ycck,
}

/// Whether a picture comes over several scans, each of all of it.
pub(super) fn is_progressive(bytes: &[u8]) -> bool {
    Header::read(bytes).is_none_or(|header| header.process == PROGRESSIVE)
}

/// What [`decode`] takes, in bytes: samples and coefficients of two bytes each, twice at sixteen bits, and RGB.
pub(super) fn memory(header: &Header) -> u64 {
    let pixels = u64::from(header.width) * u64::from(header.height);
    pixels * (header.components.len() as u64 * 6 + 3)
}

/// Decodes with `jpeg-decoder`, which is slower than `image`'s decoder and knows more kinds.
///
/// # Errors
///
/// [`DecodeError::Damaged`], and [`DecodeError::Unsupported`] for what it does not know either.
pub(super) fn decode(
    bytes: &[u8],
    header: &Header,
    limits: &DecodeLimits,
) -> Result<RgbImage, DecodeError> {
    let pixels = u64::from(header.width) * u64::from(header.height);
    // Samples, and coefficients of two bytes where they come over several scans.
    limits.check_bytes(pixels * header.components.len() as u64 * 4)?;
    let mut decoder = Decoder::new(bytes);
    // Without one of its own transforms: those follow other rules. For four components it has none that
    // leaves the samples as they are; this one inverts them.
    match header.components.len() {
        3 => decoder.set_color_transform(ColorTransform::RGB),
        4 => decoder.set_color_transform(ColorTransform::CMYK),
        _ => {}
    }
    let mut samples = decoder.decode().map_err(explain)?;
    let format = decoder.info().map(|info| info.pixel_format);
    if header.bits > 8 {
        let deep = 65_535.0 / f32::from(u16::MAX >> (16 - header.bits));
        samples = samples
            .chunks_exact(2)
            .map(|pair| u16::from_ne_bytes([pair[0], pair[1]]))
            .map(|sample| (f32::from(sample) * deep / 257.0).round() as u8)
            .collect();
    } else if format == Some(PixelFormat::CMYK32) && header.process != LOSSLESS {
        samples.iter_mut().for_each(|sample| *sample = !*sample);
    }
    let colours = header.colours();
    let rgb: Vec<u8> = match colours {
        Colours::Grey => samples.iter().flat_map(|&grey| [grey; 3]).collect(),
        Colours::Rgb => samples,
        Colours::Ycc => {
            for pixel in samples.chunks_exact_mut(3) {
                pixel.copy_from_slice(&ycc_to_rgb([pixel[0], pixel[1], pixel[2]]));
            }
            samples
        }
        Colours::Cmyk => samples
            .chunks_exact(4)
            .flat_map(|four| cmyk_to_rgb([0, 1, 2, 3].map(|ink| 255 - four[ink])))
            .collect(),
        Colours::Ycck => samples
            .chunks_exact(4)
            .flat_map(|four| {
                let [cyan, magenta, yellow] = ycc_to_rgb([four[0], four[1], four[2]]);
                cmyk_to_rgb([cyan, magenta, yellow, 255 - four[3]])
            })
            .collect(),
    };
    RgbImage::from_raw(u32::from(header.width), u32::from(header.height), rgb).ok_or_else(|| {
        DecodeError::Damaged {
            format: NAME,
            reason: "its decoder gave another number of pixels".to_owned(),
        }
    })
}

fn explain(error: jpeg_decoder::Error) -> DecodeError {
    match error {
        jpeg_decoder::Error::Unsupported(what) => DecodeError::Unsupported {
            format: NAME,
            reason: match what {
                UnsupportedFeature::SubsamplingRatio
                | UnsupportedFeature::NonIntegerSubsamplingRatio => {
                    "chroma sampled in an unusual way".to_owned()
                }
                other => format!("{other:?}"),
            },
        },
        jpeg_decoder::Error::Io(_) => DecodeError::Truncated { format: NAME },
        other => DecodeError::Damaged {
            format: NAME,
            reason: in_one_line(&other.to_string()),
        },
    }
}

/// The bytes with the usual Huffman tables (T.81, annex K.3) before the first scan, where there are none: frames of
/// Motion JPEG leave them out.
pub(super) fn with_huffman_tables<'a>(bytes: &'a [u8], header: &Header) -> Cow<'a, [u8]> {
    if header.has_huffman_tables || header.process >= PROGRESSIVE {
        return Cow::Borrowed(bytes);
    }
    let (before, after) = bytes.split_at(header.scan_at);
    let mut whole = before.to_vec();
    for (kind, lengths, symbols) in USUAL_TABLES {
        whole.extend([0xff, 0xc4]);
        whole.extend((19 + symbols.len() as u16).to_be_bytes());
        whole.push(kind);
        whole.extend(lengths);
        whole.extend(symbols);
    }
    whole.extend(after);
    Cow::Owned(whole)
}

/// The class and number of each table, how many codes of 1 to 16 bits it has, and their symbols.
const USUAL_TABLES: [(u8, [u8; 16], &[u8]); 4] = [
    (
        0x00,
        [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0],
        &DC_SYMBOLS,
    ),
    (
        0x01,
        [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0],
        &DC_SYMBOLS,
    ),
    (
        0x10,
        [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125],
        &AC_LUMA,
    ),
    (
        0x11,
        [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 119],
        &AC_CHROMA,
    ),
];

const DC_SYMBOLS: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

#[rustfmt::skip]
const AC_LUMA: [u8; 162] = [
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71, 0x14, 0x32,
    0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0, 0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0a, 0x16,
    0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45,
    0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69,
    0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94,
    0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6,
    0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8,
    0xd9, 0xda, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8,
    0xf9, 0xfa,
];

#[rustfmt::skip]
const AC_CHROMA: [u8; 162] = [
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22, 0x32, 0x81,
    0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0, 0x15, 0x62, 0x72, 0xd1, 0x0a, 0x16, 0x24, 0x34,
    0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44,
    0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68,
    0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92,
    0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4,
    0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6,
    0xd7, 0xd8, 0xd9, 0xda, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8,
    0xf9, 0xfa,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_the_pictures_own() {
        let scan = [0xff, 0xda, 0, 2, 1, 0xff, 0, 2, 0xff, 0xd0, 3];
        let whole = [&[0xff, 0xd8], &scan[..], &[0xff, 0xd9]].concat();
        assert!(has_end(&whole));
        assert!(has_end(&[&whole[..], b"trailing bytes"].concat()));
        for length in 0..whole.len() {
            assert!(!has_end(&whole[..length]), "{length} bytes");
        }
        // An end within a segment is not the picture's, and neither is one before any scan.
        let comment = [0xff, 0xd8, 0xff, 0xfe, 0, 4, 0xff, 0xd9];
        assert!(!has_end(&[&comment[..], &scan[..]].concat()));
        assert!(!has_end(&[0xff, 0xd8, 0xff, 0xd9]));
    }

    #[test]
    fn exif_is_found_before_the_data_only() {
        let segment = [0xff, 0xe1, 0, 10, b'E', b'x', b'i', b'f', 0, 0, b'I', b'I'];
        let scan = [0xff, 0xda, 0, 2, 7];
        assert_eq!(
            exif(&[&[0xff, 0xd8], &segment[..], &scan[..]].concat()),
            Some(b"II".as_slice())
        );
        assert_eq!(
            exif(&[&[0xff, 0xd8], &scan[..], &segment[..]].concat()),
            None
        );
        assert_eq!(exif(&[0xff, 0xd8, 0xff, 0xe1]), None);
    }
}
