//! The format of a picture, from its first bytes.

use image::ImageFormat;

/// [`image::guess_format`], which does not recognise TGA, and TGA.
pub(super) fn guess_format(bytes: &[u8]) -> Option<ImageFormat> {
    match image::guess_format(bytes) {
        Ok(format) => Some(format),
        Err(_) => is_tga(bytes).then_some(ImageFormat::Tga),
    }
}

/// The format of bytes that are a picture, but of a kind without a decoder here: HEIC and AVIF, known by their brand
/// (ISO/IEC 23008-12).
pub(super) fn without_decoder(bytes: &[u8]) -> Option<&'static str> {
    let [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] = bytes.first_chunk::<12>()? else {
        return None;
    };
    match brand {
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"mif1" | b"msf1" => Some("HEIC"),
        b"avif" | b"avis" => Some("AVIF"),
        _ => None,
    }
}

/// Whether these bytes begin with a plausible header of TGA, which has no magic number (Truevision 1991, TGA file format
/// 2.0): kind of colour map, kind of picture, width, height, bits a pixel.
fn is_tga(bytes: &[u8]) -> bool {
    let Some(head) = bytes.first_chunk::<18>() else {
        return false;
    };
    let (mapped, kind, bits) = (head[1], head[2], head[16]);
    let is_sized = (head[12] | head[13] != 0) && (head[14] | head[15] != 0);
    let is_known = match mapped {
        0 => matches!(kind, 2 | 3 | 10 | 11),
        1 => matches!(kind, 1 | 9),
        _ => false,
    };
    is_known && is_sized && matches!(bits, 8 | 15 | 16 | 24 | 32)
}

/// How a format is usually written.
pub(super) fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Png => "PNG",
        ImageFormat::Gif => "GIF",
        ImageFormat::WebP => "WebP",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Tiff => "TIFF",
        ImageFormat::Pnm => "PNM",
        ImageFormat::Ico => "ICO",
        ImageFormat::Qoi => "QOI",
        ImageFormat::Hdr => "HDR",
        ImageFormat::OpenExr => "OpenEXR",
        ImageFormat::Dds => "DDS",
        ImageFormat::Farbfeld => "farbfeld",
        ImageFormat::Avif => "AVIF",
        ImageFormat::Tga => "TGA",
        _ => "picture",
    }
}

/// What bytes of no known format look like: text, or the first of them in hexadecimal.
pub(super) fn describe(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(256)];
    // The last character of the head may be incomplete.
    let text = match std::str::from_utf8(head) {
        Ok(text) => Some(text),
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    if text.is_some_and(|text| {
        !text.is_empty() && !text.chars().any(|c| c.is_control() && !c.is_whitespace())
    }) {
        return "text".to_owned();
    }
    let shown: Vec<String> = bytes
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("bytes {}", shown.join(" "))
}
