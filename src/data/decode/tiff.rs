//! A TIFF → RGB.
//!
//! The `tiff` crate unpacks the samples; what they mean is decided here, since `image` shows the first directory of a file
//! whatever it holds, and refuses palettes, chroma, half floats and more.

use std::io::Cursor;

use ::tiff::decoder::{Decoder, DecodingResult, Limits};
use ::tiff::{TiffError, TiffUnsupportedError};
use image::RgbImage;
use image::metadata::Orientation;

use super::colour::{cmyk_to_rgb, over_white, ycc_to_rgb};
use super::error::{DecodeError, in_one_line};
use super::jpeg;
use super::limits::DecodeLimits;
use super::tiff_directory::{Directory, Tiff};
use super::tiff_tags as tag;

const NAME: &str = "TIFF";

/// So many parts of a picture may be JPEGs of their own: tiles of 256 by 256 pixels, or strips of eight rows, are fewer.
pub(in crate::data) const MOST_JPEGS: usize = 1 << 14;
/// So far into a part its header is looked for.
const LONGEST_JPEG_HEADER: usize = 1 << 16;

/// How the samples of a pixel are to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Colours {
    /// One sample: 0 is white.
    White,
    /// One sample: 0 is black.
    Black,
    Rgb,
    /// One sample: an index.
    Palette(Vec<[u8; 3]>),
    Cmyk,
    Ycc,
}

impl Colours {
    /// How many samples of a pixel are colours.
    fn count(&self) -> usize {
        match self {
            Colours::White | Colours::Black | Colours::Palette(_) => 1,
            Colours::Rgb | Colours::Ycc => 3,
            Colours::Cmyk => 4,
        }
    }
}

/// What the sample behind the colours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alpha {
    None,
    Straight,
    /// The colours are multiplied by it.
    Premultiplied,
}

/// What a directory says of its picture.
struct Layout {
    width: u32,
    height: u32,
    /// Bits of a sample.
    bits: u64,
    is_float: bool,
    /// Samples of a pixel.
    samples: usize,
    /// Whether each sample has a plane of its own.
    is_planar: bool,
    colours: Colours,
    alpha: Alpha,
    orientation: Orientation,
}

/// What kind of camera raw picture this is; `None` where it is none. The pictures that can be read in one are previews.
pub(super) fn camera_raw(bytes: &[u8]) -> Option<&'static str> {
    let tiff = Tiff::new(bytes)?;
    let directories = tiff.directories();
    let has = |tag: u16, values: &[u64]| {
        directories
            .iter()
            .any(|one| tiff.value(one, tag).is_some_and(|v| values.contains(&v)))
    };
    // Colour filter array, linear raw.
    let is_raw = has(tag::PHOTOMETRIC, &[32_803, 34_892]);
    let first = directories.first()?;
    if tiff.value(first, tag::DNG_VERSION).is_some() {
        return Some("camera raw (DNG)");
    }
    if bytes.get(4..10) == Some(b"\x10\0\0\0CR") {
        return Some("camera raw (CR2)");
    }
    let make = tiff.text(first, tag::MAKE).to_ascii_uppercase();
    is_raw.then(|| match make.split([' ', '\0']).next() {
        Some("NIKON") => "camera raw (NEF)",
        Some("SONY") => "camera raw (ARW)",
        Some("PENTAX" | "RICOH") => "camera raw (PEF)",
        Some("SAMSUNG") => "camera raw (SRW)",
        _ => "camera raw",
    })
}

/// The orientation that EXIF data, which are a TIFF without a picture, say.
pub(super) fn exif_orientation(exif: &[u8]) -> Option<Orientation> {
    // A JPEG's name for them, which some programs write in other files too.
    let exif = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    let tiff = Tiff::new(exif)?;
    orientation_of(&tiff, tiff.directories().first()?)
}

fn orientation_of(tiff: &Tiff<'_>, directory: &Directory) -> Option<Orientation> {
    let value = tiff.whole_number(directory, tag::ORIENTATION)?;
    Orientation::from_exif(u8::try_from(value).ok()?)
}

/// Decodes a TIFF; its orientation is applied by the caller.
///
/// # Errors
///
/// [`DecodeError`] where it is damaged, of a kind that is not read, or above `limits`.
pub(super) fn decode(
    bytes: &[u8],
    limits: &DecodeLimits,
) -> Result<(RgbImage, Orientation), DecodeError> {
    let tiff = Tiff::new(bytes).ok_or_else(|| damaged("its header"))?;
    let directories = tiff.directories();
    let directory = tiff
        .picture(&directories)
        .ok_or(DecodeError::Truncated { format: NAME })?;
    let layout = layout_of(&tiff, directory, limits)?;
    check_parts(&tiff, directory, bytes, &layout, limits)?;

    // A copy of the file; the samples as they are, of eight bits, and as RGB.
    let samples = layout.pixels() as u64 * layout.samples as u64;
    let of_a_sample = layout.bits.div_ceil(8);
    let converting = samples.max(3 * layout.pixels() as u64);
    limits.take(bytes.len() as u64 + samples * of_a_sample + converting)?;
    let mut allowed = Limits::default();
    allowed.decoding_buffer_size = usize::try_from(limits.max_bytes).unwrap_or(usize::MAX);
    // Neither a part of the picture nor a list in a directory is larger than the file.
    allowed.intermediate_buffer_size = bytes.len();
    allowed.ifd_value_size = bytes.len();
    let unpack = |bytes: Vec<u8>| {
        let mut samples = DecodingResult::U8(Vec::new());
        Decoder::new(Cursor::new(bytes))
            .map(|decoder| decoder.with_limits(allowed.clone()))
            .and_then(|mut decoder| decoder.read_image_to_buffer(&mut samples))
            .map_err(|error| explain(error, limits))?;
        Ok(samples)
    };
    let is_tiled = tiff.value(directory, tag::TILE_WIDTH).is_some();
    let samples = if layout.is_planar && is_tiled {
        // The decoder reads tiles of all samples together, or of one.
        let planes = layout.samples as u64;
        let mut all = unpack(tiff.as_plane(directory, 0, planes))?;
        for plane in 1..planes {
            append(&mut all, unpack(tiff.as_plane(directory, plane, planes))?)?;
        }
        all
    } else {
        unpack(tiff.as_samples(directory))?
    };
    let wrong_number = || damaged("its decoder gave another number of pixels");
    let expected = layout.pixels() * layout.samples;
    let rgb = match samples {
        // Its black is taken away at sixteen bits.
        DecodingResult::U16(deep) if layout.colours == Colours::Cmyk && deep.len() == expected => {
            to_rgb(&layout, |at| {
                let four: [u16; 4] = std::array::from_fn(|ink| deep[layout.place(at, ink)]);
                let [r, g, b] = deep_cmyk_to_rgb(four).map(to_eight);
                (
                    [r, g, b],
                    layout.alpha_at(at, |place| to_eight(deep[place])),
                )
            })
        }
        samples => {
            let eight = to_eight_bits(samples, &layout)?;
            if eight.len() != expected {
                return Err(wrong_number());
            }
            to_rgb(&layout, |at| {
                let sample = |channel| eight[layout.place(at, channel)];
                let colour = match &layout.colours {
                    Colours::White => [255 - sample(0); 3],
                    Colours::Black => [sample(0); 3],
                    Colours::Rgb => [sample(0), sample(1), sample(2)],
                    Colours::Ycc => ycc_to_rgb([sample(0), sample(1), sample(2)]),
                    Colours::Cmyk => cmyk_to_rgb([sample(0), sample(1), sample(2), sample(3)]),
                    Colours::Palette(colours) => colours
                        .get(usize::from(sample(0)))
                        .copied()
                        .unwrap_or([0; 3]),
                };
                (colour, layout.alpha_at(at, |place| eight[place]))
            })
        }
    };
    let picture = RgbImage::from_raw(layout.width, layout.height, rgb).ok_or_else(wrong_number)?;
    Ok((picture, layout.orientation))
}

impl Layout {
    /// Where a sample of a pixel lies.
    fn place(&self, pixel: usize, channel: usize) -> usize {
        if self.is_planar {
            channel * self.pixels() + pixel
        } else {
            pixel * self.samples + channel
        }
    }

    fn pixels(&self) -> usize {
        self.width as usize * self.height as usize
    }

    /// A pixel's alpha, 255 where it has none.
    fn alpha_at(&self, pixel: usize, sample: impl Fn(usize) -> u8) -> u8 {
        match self.alpha {
            Alpha::None => 255,
            _ => sample(self.place(pixel, self.colours.count())),
        }
    }
}

/// Adds the samples of one plane to those before it.
fn append(all: &mut DecodingResult, plane: DecodingResult) -> Result<(), DecodeError> {
    use DecodingResult::{F16, F32, F64, U8, U16};
    match (all, plane) {
        (U8(all), U8(plane)) => all.extend(plane),
        (U16(all), U16(plane)) => all.extend(plane),
        (F16(all), F16(plane)) => all.extend(plane),
        (F32(all), F32(plane)) => all.extend(plane),
        (F64(all), F64(plane)) => all.extend(plane),
        _ => return Err(damaged("its channels are of different kinds")),
    }
    Ok(())
}

/// All pixels, laid over white.
fn to_rgb(layout: &Layout, pixel: impl Fn(usize) -> ([u8; 3], u8)) -> Vec<u8> {
    let mut rgb = Vec::with_capacity(layout.pixels() * 3);
    for at in 0..layout.pixels() {
        let (colour, alpha) = pixel(at);
        rgb.extend(match layout.alpha {
            Alpha::None => colour,
            Alpha::Straight => colour.map(|value| over_white(value, alpha)),
            Alpha::Premultiplied => colour.map(|value| value.saturating_add(255 - alpha)),
        });
    }
    rgb
}

/// What the directory says, where it is of a kind that is read.
///
/// # Errors
///
/// [`DecodeError::Unsupported`] with the kind, [`DecodeError::Damaged`], and those of the limits.
fn layout_of(
    tiff: &Tiff<'_>,
    directory: &Directory,
    limits: &DecodeLimits,
) -> Result<Layout, DecodeError> {
    let value = |tag| tiff.value(directory, tag);
    let (width, height) = match (value(tag::WIDTH), value(tag::HEIGHT)) {
        (Some(width), Some(height)) => (
            u32::try_from(width).unwrap_or(u32::MAX),
            u32::try_from(height).unwrap_or(u32::MAX),
        ),
        _ => return Err(damaged("it does not say its size")),
    };
    limits.check_pixels(width, height)?;
    if width == 0 || height == 0 {
        return Err(damaged(&format!("its size is {width}x{height}")));
    }
    let samples = value(tag::SAMPLES).unwrap_or(1) as usize;
    let mut bits = tiff.values(directory, tag::BITS);
    bits.dedup();
    let bits = match bits.as_slice() {
        [] => 1,
        [bits] => *bits,
        _ => return Err(unsupported("channels of different bits")),
    };
    let format = value(tag::SAMPLE_FORMAT).unwrap_or(1);
    let is_float = match (format, bits) {
        // 4: undefined, which libtiff takes for whole numbers too.
        (1 | 4, 1 | 2 | 4 | 8 | 16) => false,
        (3, 16 | 32 | 64) => true,
        (2, _) => return Err(unsupported("whole numbers with a sign")),
        (5 | 6, _) => return Err(unsupported("complex numbers")),
        (3, _) => return Err(unsupported(&format!("{bits}-bit floating-point numbers"))),
        _ => return Err(unsupported(&format!("{bits} bits a channel"))),
    };
    limits
        .check_bytes(u64::from(width) * u64::from(height) * (samples as u64) * bits.div_ceil(8))?;
    check_coding(tiff, directory)?;
    let colours = colours_of(tiff, directory, bits, is_float)?;
    let extra = tiff.values(directory, tag::EXTRA_SAMPLES);
    let alpha = match (samples.checked_sub(colours.count()), extra.as_slice()) {
        (None, _) => return Err(damaged(&format!("its colours are of {samples} channels"))),
        (Some(0), _) => Alpha::None,
        (Some(_), [1, ..]) => Alpha::Premultiplied,
        (Some(_), [2, ..]) => Alpha::Straight,
        // What some programs write for red, green, blue and alpha.
        (Some(1), []) if colours == Colours::Rgb => Alpha::Straight,
        (Some(1), [0]) => Alpha::None,
        (Some(_), [_, ..]) if colours.count() > 1 => Alpha::None,
        _ => {
            return Err(unsupported(&format!("{samples} channels without colours")));
        }
    };
    Ok(Layout {
        width,
        height,
        bits,
        is_float,
        samples,
        is_planar: samples > 1 && value(tag::PLANAR) == Some(2),
        colours,
        alpha,
        orientation: orientation_of(tiff, directory).unwrap_or(Orientation::NoTransforms),
    })
}

/// # Errors
///
/// [`DecodeError::Unsupported`] with the kind.
fn check_coding(tiff: &Tiff<'_>, directory: &Directory) -> Result<(), DecodeError> {
    let coding = match tiff.value(directory, tag::COMPRESSION).unwrap_or(1) {
        1 | 4 | 5 | 7 | 8 | 32_773 | 32_946 | 50_000 | 50_001 => None,
        2 | 3 | 32_771 => Some("fax coding (CCITT group 3)"),
        6 => Some("JPEG of the old kind"),
        34_925 => Some("LZMA"),
        33_003 | 33_005 | 34_712 => Some("JPEG 2000"),
        50_002 | 52_546 => Some("JPEG XL"),
        34_887 => Some("LERC"),
        _ => Some("an unknown coding"),
    };
    if let Some(coding) = coding {
        return Err(unsupported(coding));
    }
    if tiff.value(directory, tag::FILL_ORDER) == Some(2) {
        return Err(unsupported("bits in reverse order"));
    }
    Ok(())
}

/// # Errors
///
/// [`DecodeError::Unsupported`] with the kind.
fn colours_of(
    tiff: &Tiff<'_>,
    directory: &Directory,
    bits: u64,
    is_float: bool,
) -> Result<Colours, DecodeError> {
    let value = |tag| tiff.value(directory, tag);
    Ok(match value(tag::PHOTOMETRIC) {
        Some(0) => Colours::White,
        Some(1) => Colours::Black,
        Some(2) if bits >= 8 => Colours::Rgb,
        Some(3) if bits <= 8 => Colours::Palette(palette(&tiff.values(directory, tag::PALETTE))),
        Some(5) if value(tag::INK_SET) == Some(2) => {
            return Err(unsupported(
                "inks that are not cyan, magenta, yellow and black",
            ));
        }
        Some(5) if bits >= 8 && !is_float => Colours::Cmyk,
        Some(6) if bits == 8 => {
            let is_jpeg = value(tag::COMPRESSION) == Some(7);
            let subsampling = tiff.values(directory, tag::YCC_SUBSAMPLING);
            // A JPEG brings its own.
            if !is_jpeg && subsampling != [1, 1] {
                return Err(unsupported("subsampled chroma"));
            }
            let range = tiff.values(directory, tag::REFERENCE_BLACK_WHITE);
            if !matches!(range.as_slice(), [] | [0, 255, 128, 255, 128, 255]) {
                return Err(unsupported("chroma of a narrow range"));
            }
            Colours::Ycc
        }
        Some(4) => return Err(unsupported("a mask, not a picture")),
        Some(8..=10) => return Err(unsupported("Lab colours")),
        Some(32_844 | 32_845) => return Err(unsupported("LogLuv colours")),
        Some(2 | 3 | 5 | 6) => return Err(unsupported(&format!("colours of {bits} bits"))),
        Some(other) => return Err(unsupported(&format!("colours of kind {other}"))),
        None => return Err(damaged("it does not say what its colours mean")),
    })
}

/// The colours of a palette: all red, all green, all blue.
fn palette(values: &[u64]) -> Vec<[u8; 3]> {
    let count = values.len() / 3;
    // Sixteen bits by the standard; some programs write eight.
    let shift = if values.iter().all(|&value| value < 256) {
        0
    } else {
        8
    };
    (0..count)
        .map(|index| [0, 1, 2].map(|channel| (values[channel * count + index] >> shift) as u8))
        .collect()
}

/// Checks what the parts of the picture would unpack to.
///
/// # Errors
///
/// [`DecodeError::Unsupported`] for a JPEG that the decoder takes for another kind, and those of the limits.
fn check_parts(
    tiff: &Tiff<'_>,
    directory: &Directory,
    bytes: &[u8],
    layout: &Layout,
    limits: &DecodeLimits,
) -> Result<(), DecodeError> {
    let value = |tag| tiff.value(directory, tag);
    let mut part = layout.pixels() as u64;
    if let (Some(across), Some(down)) = (value(tag::TILE_WIDTH), value(tag::TILE_HEIGHT)) {
        part = part.max(across.saturating_mul(down));
        let of_pixel = layout.samples as u64 * layout.bits.div_ceil(8);
        limits.check_bytes(part.saturating_mul(of_pixel))?;
    }
    if value(tag::COMPRESSION) != Some(7) {
        return Ok(());
    }
    let mut places = tiff.values(directory, tag::STRIP_OFFSETS);
    places.extend(tiff.values(directory, tag::TILE_OFFSETS));
    if places.len() > MOST_JPEGS {
        return Err(unsupported(&format!("{} JPEGs in one", places.len())));
    }
    for place in places {
        let coded = usize::try_from(place).ok().and_then(|at| bytes.get(at..));
        let Some(coded) = coded else {
            continue;
        };
        let head = &coded[..coded.len().min(LONGEST_JPEG_HEADER)];
        let Some(header) = jpeg::Header::read(head) else {
            return Err(damaged("a part of it has no header of a JPEG"));
        };
        // Whole blocks of sixteen by sixteen at the edges.
        let pixels = u64::from(header.width) * u64::from(header.height);
        if pixels > part.saturating_mul(2).max(1 << 16) {
            return Err(damaged("a part of it is larger than the whole"));
        }
        if header.unread().is_some() || header.needs_another_decoder() {
            return Err(unsupported("JPEG of an unusual kind"));
        }
    }
    Ok(())
}

/// Samples of any kind → 0 to 255, or the index into a palette.
///
/// # Errors
///
/// [`DecodeError::Unsupported`] where floating-point samples are not of 0 to 1.
fn to_eight_bits(samples: DecodingResult, layout: &Layout) -> Result<Vec<u8>, DecodeError> {
    Ok(match samples {
        DecodingResult::U8(packed) if layout.bits < 8 => unpack(&packed, layout),
        DecodingResult::U8(samples) => samples,
        DecodingResult::U16(samples) if !layout.is_float => {
            samples.into_iter().map(to_eight).collect()
        }
        DecodingResult::F16(samples) => floats(samples.into_iter().map(f64::from))?,
        DecodingResult::F32(samples) => floats(samples.into_iter().map(f64::from))?,
        DecodingResult::F64(samples) => floats(samples.into_iter())?,
        _ => return Err(unsupported("numbers of an unknown kind")),
    })
}

/// Samples of less than a byte; each row begins with a byte.
fn unpack(packed: &[u8], layout: &Layout) -> Vec<u8> {
    let bits = layout.bits as usize;
    let in_row = if layout.is_planar {
        layout.width as usize
    } else {
        layout.width as usize * layout.samples
    };
    let most = (1u16 << bits) - 1;
    let scale = match layout.colours {
        Colours::Palette(_) => 1,
        _ => 255 / most,
    };
    let mut samples = Vec::with_capacity(layout.pixels() * layout.samples);
    for row in packed.chunks_exact((in_row * bits).div_ceil(8)) {
        samples.extend((0..in_row).map(|at| {
            let first = at * bits;
            let shift = 8 - bits - first % 8;
            ((u16::from(row[first / 8]) >> shift & most) * scale) as u8
        }));
    }
    samples
}

fn to_eight(sample: u16) -> u8 {
    ((u32::from(sample) + 128) / 257) as u8
}

/// What floating-point samples may be. A little beyond 0 to 1 is what enlarging a picture leaves at its edges.
const FLOATS: std::ops::RangeInclusive<f64> = -0.5..=1.5;

fn floats(samples: impl Iterator<Item = f64>) -> Result<Vec<u8>, DecodeError> {
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    let eight: Vec<u8> = samples
        .map(|sample| {
            // Not a number is a pixel without a value: black.
            least = least.min(sample);
            most = most.max(sample);
            ((sample as f32).clamp(0.0, 1.0) * 255.0).round() as u8
        })
        .collect();
    if least < *FLOATS.start() || most > *FLOATS.end() {
        return Err(unsupported(&format!(
            "floating-point values of {least} to {most}, expected 0 to 1"
        )));
    }
    Ok(eight)
}

/// [`cmyk_to_rgb`] at sixteen bits.
fn deep_cmyk_to_rgb([cyan, magenta, yellow, key]: [u16; 4]) -> [u16; 3] {
    let left = 1.0 - f32::from(key) / 65_535.0;
    [cyan, magenta, yellow].map(|ink| (f32::from(65_535 - ink) * left) as u16)
}

fn unsupported(reason: &str) -> DecodeError {
    DecodeError::Unsupported {
        format: NAME,
        reason: reason.to_owned(),
    }
}

fn damaged(reason: &str) -> DecodeError {
    DecodeError::Damaged {
        format: NAME,
        reason: reason.to_owned(),
    }
}

fn explain(error: TiffError, limits: &DecodeLimits) -> DecodeError {
    match error {
        TiffError::LimitsExceeded => limits.too_much_memory(),
        TiffError::UnsupportedError(TiffUnsupportedError::MisalignedTileBoundaries) => {
            unsupported("tiles that do not begin with a byte")
        }
        TiffError::UnsupportedError(what) => unsupported(&in_one_line(&what.to_string())),
        TiffError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: NAME }
        }
        other => damaged(&in_one_line(&other.to_string())),
    }
}
