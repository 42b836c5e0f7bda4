//! One picture's bytes → its RGB pixels.

use std::io::{Cursor, ErrorKind};
use std::panic::AssertUnwindSafe;

use image::error::LimitErrorKind;
use image::metadata::Orientation;
use image::{
    ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage,
};

use super::colour::over_white;
use super::error::{DecodeError, in_one_line};
use super::limits::DecodeLimits;
use super::reduced::{self, Reduced};
use super::{exr, format, gif, jpeg, png, scaled, tiff, whole};
use crate::data::budget::{self, Part};
use crate::data::sample::RawPicture;
use crate::panics::catch_silently;

/// Decodes one picture to RGB, eight bits per channel, by the rules of the module.
///
/// # Errors
///
/// [`DecodeError`] where the bytes are not a picture, damaged, truncated, or above `limits`.
pub fn decode(raw: &RawPicture<'_>, limits: &DecodeLimits) -> Result<RgbImage, DecodeError> {
    budget::one_picture(|| decode_one(raw, limits))
}

/// [`decode`] for a picture that will be resized: no more of it is decoded than is needed. `scale` gives, for its width
/// and height, the pixels of the result for one of its own, each way.
///
/// What is resized then differs from what would be of the whole picture by about 1 of 255 in the mean.
///
/// # Errors
///
/// As [`decode`].
pub(in crate::data) fn decode_reduced(
    raw: &RawPicture<'_>,
    limits: &DecodeLimits,
    scale: &dyn Fn(u32, u32) -> f64,
) -> Result<Reduced, DecodeError> {
    budget::one_picture(|| {
        let reduced = match raw {
            RawPicture::Encoded(bytes) => reduced_jpeg(bytes, limits, scale),
            RawPicture::Pixels { .. } => None,
        };
        match reduced {
            Some(reduced) => Ok(reduced),
            None => decode_one(raw, limits).map(Reduced::whole),
        }
    })
}

/// [`decode`] with the pixels of libjpeg-turbo where the picture is a JPEG, which differ from those of other decoders by
/// up to 4 of 255.
///
/// # Errors
///
/// As [`decode`].
pub(in crate::data) fn decode_exactly(
    raw: &RawPicture<'_>,
    limits: &DecodeLimits,
) -> Result<RgbImage, DecodeError> {
    budget::one_picture(|| {
        let exact = match raw {
            RawPicture::Encoded(bytes) => exact_jpeg(bytes, limits),
            RawPicture::Pixels { .. } => None,
        };
        match exact {
            Some(picture) => Ok(picture),
            None => decode_one(raw, limits),
        }
    })
}

/// `None` where the picture is to be decoded otherwise, which also tells what is wrong with it.
fn exact_jpeg(bytes: &[u8], limits: &DecodeLimits) -> Option<RgbImage> {
    if format::guess_format(bytes) != Some(ImageFormat::Jpeg) {
        return None;
    }
    let header = jpeg::Header::read(bytes).filter(jpeg::Header::can_be_decoded_exactly)?;
    let (width, height) = (u32::from(header.width), u32::from(header.height));
    limits.check_pixels(width, height).ok()?;
    let pixels = u64::from(width) * u64::from(height);
    limits.check_bytes(3 * pixels).ok()?;
    let orientation = jpeg::exif(bytes).and_then(tiff::exif_orientation);
    // A copy of the code, samples, and frequencies of two bytes where they come bit by bit; RGB, and once more while it is
    // turned.
    let samples = 3 * pixels;
    let frequencies = if jpeg::is_progressive(bytes) {
        2 * samples
    } else {
        0
    };
    let needed = bytes.len() as u64 + samples + frequencies + 6 * pixels;
    let taken = limits.take(needed).ok()?;
    let whole = jpeg::with_huffman_tables(bytes, &header);
    let decode = || whole::decode(&whole, header.colours());
    let decoded = catch_silently(AssertUnwindSafe(decode)).ok().flatten();
    if decoded.is_none() {
        budget::give_back(Part::Decoded, taken);
    }
    decoded.map(|picture| upright(picture, orientation))
}

/// `None` where the picture is to be decoded as a whole, which also tells what is wrong with it.
fn reduced_jpeg(
    bytes: &[u8],
    limits: &DecodeLimits,
    scale: &dyn Fn(u32, u32) -> f64,
) -> Option<Reduced> {
    if format::guess_format(bytes) != Some(ImageFormat::Jpeg) {
        return None;
    }
    let header = jpeg::Header::read(bytes).filter(jpeg::Header::can_be_scaled)?;
    let (width, height) = (u32::from(header.width), u32::from(header.height));
    limits.check_pixels(width, height).ok()?;
    let whole = 3 * u64::from(width) * u64::from(height);
    limits.check_bytes(whole).ok()?;
    // What the decoder of whole pictures refuses by its header is refused.
    let head = Cursor::new(header.head(bytes)?);
    let reader = ImageReader::with_format(head, ImageFormat::Jpeg);
    reader.into_decoder().ok()?;
    let orientation = jpeg::exif(bytes)
        .and_then(tiff::exif_orientation)
        .unwrap_or(Orientation::NoTransforms);
    let detail = reduced::detail(scale(width, height))?;
    // A copy of the code; the pixels, and once more while they are turned; a row of blocks.
    let eighths = detail.eighths as u64;
    let pixels = whole * eighths * eighths / 64;
    let row = u64::from(width) * 3 * 4 * eighths;
    let taken = limits.take(bytes.len() as u64 + 2 * pixels + row).ok()?;
    let decode = || scaled::decode(bytes, header.colours(), detail);
    let decoded = catch_silently(AssertUnwindSafe(decode)).ok().flatten();
    let picture = decoded.and_then(|scaled| {
        let pixels = RgbImage::from_raw(scaled.width, scaled.height, scaled.pixels)?;
        let size = (width, height);
        Some(Reduced::upright(pixels, size, detail.eighths, orientation))
    });
    if picture.is_none() {
        budget::give_back(Part::Decoded, taken);
    }
    picture
}

fn decode_one(raw: &RawPicture<'_>, limits: &DecodeLimits) -> Result<RgbImage, DecodeError> {
    match raw {
        RawPicture::Encoded(bytes) => decode_file(bytes, limits),
        RawPicture::Pixels {
            width,
            height,
            channels,
            data,
        } => {
            limits.check_pixels(*width, *height)?;
            let pixels = *width as usize * *height as usize;
            limits.take(3 * pixels as u64)?;
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
    if let Some((format, advice)) = format::without_decoder(bytes) {
        return Err(DecodeError::Foreign { format, advice });
    }
    let format = format::guess_format(bytes).ok_or_else(|| DecodeError::Unrecognised {
        found: format::describe(bytes),
    })?;
    // A decoder that panics has a bug, which must not end a training.
    let decoded = catch_silently(AssertUnwindSafe(|| match format {
        ImageFormat::Jpeg => decode_jpeg(bytes, limits),
        ImageFormat::Tiff => decode_tiff(bytes, limits),
        ImageFormat::Png | ImageFormat::Ico => {
            decode_as(format, &png::without_profiles_and_texts(bytes), limits)
        }
        ImageFormat::OpenExr => {
            exr::check_windows(bytes, limits)?;
            decode_as(format, bytes, limits)
        }
        ImageFormat::Gif => {
            gif::check_frame(bytes, limits)?;
            decode_as(format, bytes, limits)
        }
        _ => decode_as(format, bytes, limits),
    }));
    decoded.unwrap_or_else(|_| {
        Err(DecodeError::Damaged {
            format: format::name(format),
            reason: "its decoder failed".to_owned(),
        })
    })
}

fn decode_jpeg(bytes: &[u8], limits: &DecodeLimits) -> Result<RgbImage, DecodeError> {
    const FORMAT: ImageFormat = ImageFormat::Jpeg;
    // The decoder fills the missing part with grey and returns no error.
    if !jpeg::has_end(bytes) {
        return Err(DecodeError::Truncated {
            format: format::name(FORMAT),
        });
    }
    let Some(header) = jpeg::Header::read(bytes) else {
        return decode_as(FORMAT, bytes, limits);
    };
    if let Some(reason) = header.unread() {
        return Err(DecodeError::Unsupported {
            format: format::name(FORMAT),
            reason,
        });
    }
    let whole = jpeg::with_huffman_tables(bytes, &header);
    let copied = bytes.len() as u64;
    if !header.needs_another_decoder() {
        return decode_as(FORMAT, &whole, limits);
    }
    limits.check_pixels(u32::from(header.width), u32::from(header.height))?;
    limits.take(copied + jpeg::memory(&header))?;
    let picture = jpeg::decode(&whole, &header, limits)?;
    let orientation = jpeg::exif(bytes).and_then(tiff::exif_orientation);
    Ok(upright(picture, orientation))
}

fn decode_tiff(bytes: &[u8], limits: &DecodeLimits) -> Result<RgbImage, DecodeError> {
    if let Some(format) = tiff::camera_raw(bytes) {
        return Err(DecodeError::Foreign {
            format,
            advice: format::CONVERT,
        });
    }
    let (picture, orientation) = tiff::decode(bytes, limits)?;
    Ok(upright(picture, Some(orientation)))
}

fn upright(picture: RgbImage, orientation: Option<Orientation>) -> RgbImage {
    let mut picture = DynamicImage::from(picture);
    picture.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    picture.into_rgb8()
}

fn decode_as(
    format: ImageFormat,
    bytes: &[u8],
    limits: &DecodeLimits,
) -> Result<RgbImage, DecodeError> {
    let failed = |error| explain(error, format, limits);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut allowed = Limits::no_limits();
    // Before the pixels, nothing that is needed is larger than the file.
    allowed.max_alloc = Some(bytes.len() as u64 + FOR_A_HEADER);
    reader.limits(allowed.clone());
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    limits.check_pixels(width, height)?;
    limits.check_bytes(decoder.total_bytes())?;
    if width == 0 || height == 0 {
        return Err(DecodeError::Damaged {
            format: format::name(format),
            reason: format!("its size is {width}x{height}"),
        });
    }
    // A picture whose EXIF is damaged is still a picture.
    let orientation = match format {
        ImageFormat::Jpeg => jpeg::exif(bytes).and_then(tiff::exif_orientation),
        ImageFormat::Png => png::exif(bytes).and_then(tiff::exif_orientation),
        ImageFormat::WebP => decoder
            .exif_metadata()
            .ok()
            .flatten()
            .and_then(|exif| tiff::exif_orientation(&exif)),
        _ => decoder.orientation().ok(),
    };
    let orientation = orientation.unwrap_or(Orientation::NoTransforms);
    let own = decoder.total_bytes();
    let decoding = own + decoders_memory(format, bytes, &decoder);
    limits.take(decoding.max(converting_memory(orientation, &decoder)))?;
    allowed.max_alloc = Some(decoding + FOR_A_HEADER);
    decoder.set_limits(allowed).map_err(failed)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(failed)?;
    picture.apply_orientation(orientation);
    Ok(to_rgb(picture))
}

/// What a decoder may take before it knows the size of the picture, beside as much as the file has.
const FOR_A_HEADER: u64 = 16 << 20;

/// What the decoder of a format takes beside the picture that it gives, in bytes.
fn decoders_memory(format: ImageFormat, bytes: &[u8], decoder: &impl ImageDecoder) -> u64 {
    let pixels = pixels_of(decoder);
    let file = bytes.len() as u64;
    match format {
        // A copy of the file and, of a progressive picture, coefficients of two bytes for four channels at most.
        ImageFormat::Jpeg if jpeg::is_progressive(bytes) => file + 8 * pixels,
        ImageFormat::Jpeg => file,
        // Indices and colours of the first frame, which may be larger than the canvas.
        ImageFormat::Gif => 5 * gif::frame_pixels(bytes).max(pixels),
        // Planes of luma, chroma and alpha, and a canvas.
        ImageFormat::WebP => file + 8 * pixels,
        ImageFormat::OpenExr => decoder.total_bytes(),
        // A copy without profiles and texts.
        ImageFormat::Png | ImageFormat::Ico => file + 4 * pixels,
        _ => 0,
    }
}

/// What a picture takes while it is turned upright and becomes RGB of eight bits, in bytes.
fn converting_memory(orientation: Orientation, decoder: &impl ImageDecoder) -> u64 {
    let (own, pixels) = (decoder.total_bytes(), pixels_of(decoder));
    let turned = match orientation {
        Orientation::NoTransforms => own,
        _ => 2 * own,
    };
    match decoder.color_type() {
        ColorType::Rgb8 => turned,
        colour if colour.has_alpha() => turned.max(own + 4 * pixels).max(7 * pixels),
        _ => turned.max(own + 3 * pixels),
    }
}

fn pixels_of(decoder: &impl ImageDecoder) -> u64 {
    let (width, height) = decoder.dimensions();
    u64::from(width) * u64::from(height)
}

fn to_rgb(picture: DynamicImage) -> RgbImage {
    if !picture.has_alpha() {
        return picture.into_rgb8();
    }
    let rgba = picture.into_rgba8();
    let mut rgb = RgbImage::new(rgba.width(), rgba.height());
    for (to, from) in rgb.pixels_mut().zip(rgba.pixels()) {
        let [r, g, b, a] = from.0;
        to.0 = [r, g, b].map(|colour| over_white(colour, a));
    }
    rgb
}

fn explain(error: ImageError, format: ImageFormat, limits: &DecodeLimits) -> DecodeError {
    let reason = in_one_line(&error.to_string());
    let format = format::name(format);
    match error {
        ImageError::Limits(limit) if limit.kind() == LimitErrorKind::InsufficientMemory => {
            limits.too_much_memory()
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
