//! One picture's bytes → its RGB pixels.

use std::io::{Cursor, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::error::LimitErrorKind;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

use super::error::DecodeError;
use super::{format, jpeg};
use crate::data::sample::RawPicture;

/// Limits above which a picture is not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Largest number of pixels.
    pub max_pixels: u64,
    /// Largest size of the decoded picture in its own pixel format, in bytes, and largest memory that the decoder may
    /// allocate beside it.
    pub max_bytes: u64,
}

impl Default for DecodeLimits {
    /// 100 megapixels, twice those of a good camera, and 1 GiB, enough for them even with 16 bits and alpha.
    fn default() -> Self {
        DecodeLimits {
            max_pixels: 100_000_000,
            max_bytes: 1 << 30,
        }
    }
}

/// Decodes one picture to RGB, eight bits per channel, by the rules of the module.
///
/// # Errors
///
/// [`DecodeError`] where the bytes are not a picture, damaged, truncated, or above `limits`.
pub fn decode(raw: &RawPicture<'_>, limits: &DecodeLimits) -> Result<RgbImage, DecodeError> {
    match raw {
        RawPicture::Encoded(bytes) => decode_file(bytes, limits),
        RawPicture::Pixels {
            width,
            height,
            channels,
            data,
        } => {
            check_pixels(*width, *height, limits)?;
            let pixels = *width as usize * *height as usize;
            let rgb = match channels {
                3 if data.len() == pixels * 3 => data.to_vec(),
                1 if data.len() == pixels => data.iter().flat_map(|&grey| [grey; 3]).collect(),
                _ => Vec::new(),
            };
            RgbImage::from_raw(*width, *height, rgb)
                .filter(|_| pixels > 0)
                .ok_or(DecodeError::PixelCount {
                    found: data.len(),
                    width: *width,
                    height: *height,
                    channels: *channels,
                })
        }
    }
}

fn decode_file(bytes: &[u8], limits: &DecodeLimits) -> Result<RgbImage, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    if let Some(format) = format::without_decoder(bytes) {
        return Err(DecodeError::Foreign { format });
    }
    let format = format::guess_format(bytes).ok_or_else(|| DecodeError::Unrecognised {
        found: format::describe(bytes),
    })?;
    // A decoder that panics has a bug, which must not end a training.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode_as(format, bytes, limits)));
    decoded.unwrap_or_else(|_| {
        Err(DecodeError::Damaged {
            format: format::name(format),
            reason: "its decoder failed".to_owned(),
        })
    })
}

fn decode_as(
    format: ImageFormat,
    bytes: &[u8],
    limits: &DecodeLimits,
) -> Result<RgbImage, DecodeError> {
    // The JPEG decoder fills the missing part with grey and returns no error.
    if format == ImageFormat::Jpeg && !jpeg::has_end(bytes) {
        return Err(DecodeError::Truncated {
            format: format::name(format),
        });
    }
    let failed = |error| explain(error, format, limits);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut allowed = Limits::no_limits();
    allowed.max_alloc = Some(limits.max_bytes);
    reader.limits(allowed);
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    check_pixels(width, height, limits)?;
    if decoder.total_bytes() > limits.max_bytes {
        return Err(too_much_memory(limits));
    }
    if width == 0 || height == 0 {
        return Err(DecodeError::Damaged {
            format: format::name(format),
            reason: format!("its size is {width}x{height}"),
        });
    }
    // A picture whose EXIF is damaged is still a picture.
    let orientation = match format {
        ImageFormat::Jpeg if !jpeg::has_exif(bytes) => Orientation::NoTransforms,
        _ => decoder.orientation().unwrap_or(Orientation::NoTransforms),
    };
    let mut picture = DynamicImage::from_decoder(decoder).map_err(failed)?;
    picture.apply_orientation(orientation);
    Ok(to_rgb(picture))
}

fn to_rgb(picture: DynamicImage) -> RgbImage {
    if !picture.has_alpha() {
        return picture.into_rgb8();
    }
    let rgba = picture.into_rgba8();
    let over_white = |colour: u8, alpha: u8| {
        let (colour, alpha) = (u32::from(colour), u32::from(alpha));
        ((colour * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    let mut rgb = RgbImage::new(rgba.width(), rgba.height());
    for (to, from) in rgb.pixels_mut().zip(rgba.pixels()) {
        let [r, g, b, a] = from.0;
        to.0 = [r, g, b].map(|colour| over_white(colour, a));
    }
    rgb
}

fn check_pixels(width: u32, height: u32, limits: &DecodeLimits) -> Result<(), DecodeError> {
    if u64::from(width) * u64::from(height) > limits.max_pixels {
        return Err(DecodeError::TooManyPixels {
            width,
            height,
            limit_megapixels: limits.max_pixels / 1_000_000,
        });
    }
    Ok(())
}

fn too_much_memory(limits: &DecodeLimits) -> DecodeError {
    DecodeError::TooMuchMemory {
        limit_mib: limits.max_bytes >> 20,
    }
}

fn explain(error: ImageError, format: ImageFormat, limits: &DecodeLimits) -> DecodeError {
    let reason = one_line(&error.to_string());
    let format = format::name(format);
    match error {
        ImageError::Limits(limit) if limit.kind() == LimitErrorKind::InsufficientMemory => {
            too_much_memory(limits)
        }
        ImageError::Unsupported(_) => DecodeError::Unsupported { format, reason },
        ImageError::IoError(io) if io.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format }
        }
        // Some decoders report missing bytes only in the text of another error.
        _ if [
            "unexpected end",
            "unexpectedeof",
            "unexpected eof",
            "premature end",
            "exhausted",
        ]
        .iter()
        .any(|words| reason.to_lowercase().contains(words)) =>
        {
            DecodeError::Truncated { format }
        }
        _ => DecodeError::Damaged { format, reason },
    }
}

/// The first line of a decoder's message, without a final period, cut to a length that fits into a table.
fn one_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let short: String = line.chars().take(120).collect();
    short.trim_end_matches(['.', ' ']).to_owned()
}
