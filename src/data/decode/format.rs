//! The format of a picture, from its first bytes.

use image::ImageFormat;

use crate::data::foreign;

/// [`image::guess_format`], which does not recognise TGA and BigTIFF, and these.
pub(in crate::data) fn guess_format(bytes: &[u8]) -> Option<ImageFormat> {
    if bytes.starts_with(b"II\x2b\0\x08\0\0\0") || bytes.starts_with(b"MM\0\x2b\0\x08\0\0") {
        return Some(ImageFormat::Tiff);
    }
    match image::guess_format(bytes) {
        Ok(format) => Some(format),
        Err(_) => is_tga(bytes).then_some(ImageFormat::Tga),
    }
}

/// The advice for a picture of another format.
pub(super) const CONVERT: &str = "convert it to JPEG or PNG";

/// What files of other kinds that people keep beside pictures begin with, and where in the file that is.
const FOREIGN: [(usize, &[u8], &str, &str); 27] = [
    (0, b"\xff\x0a", "JPEG XL", CONVERT),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL", CONVERT),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000", CONVERT),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000", CONVERT),
    (0, b"8BPS", "a Photoshop file (PSD)", CONVERT),
    (0, b"gimp xcf", "a GIMP file (XCF)", CONVERT),
    (0, b"PF\n", "a portable float map (PFM)", CONVERT),
    (0, b"Pf\n", "a portable float map (PFM)", CONVERT),
    (0, b"\0\0\x02\0\x01\0", "a cursor (CUR)", CONVERT),
    (0, b"FUJIFILMCCD-RAW", "camera raw (RAF)", CONVERT),
    (0, b"IIRO", "camera raw (ORF)", CONVERT),
    (0, b"IIRS", "camera raw (ORF)", CONVERT),
    (0, b"MMOR", "camera raw (ORF)", CONVERT),
    (0, b"IIU\0", "camera raw (RW2)", CONVERT),
    (0, b"FOVb", "camera raw (X3F)", CONVERT),
    (0, b"\0MRM", "camera raw (MRW)", CONVERT),
    (4, b"ftypcrx ", "camera raw (CR3)", CONVERT),
    (0, b"%PDF-", "PDF", "save its pictures as JPEG or PNG"),
    (0, b"%!PS", "PostScript", CONVERT),
    (0, b"SIMPLE  =", "FITS", CONVERT),
    (128, b"DICM", "DICOM", CONVERT),
    (4, b"ftypqt  ", "a video (QuickTime)", FRAMES),
    (4, b"moov", "a video (QuickTime)", FRAMES),
    (0, b"\x1a\x45\xdf\xa3", "a video (Matroska or WebM)", FRAMES),
    (8, b"AVI LIST", "a video (AVI)", FRAMES),
    (0, b"OggS", "Ogg, sound or video,", FRAMES),
    (0, b"\0\0\x01\xba", "a video (MPEG)", FRAMES),
];
const FRAMES: &str = "save frames of it as JPEG or PNG";

/// What the bytes are, and what to do with them, where they are of a kind without a decoder here.
pub(super) fn without_decoder(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let begins = |at: usize, magic: &[u8]| bytes.get(at..at + magic.len()) == Some(magic);
    if let Some((_, _, name, advice)) = FOREIGN.iter().find(|(at, magic, _, _)| begins(*at, magic))
    {
        return Some((name, advice));
    }
    // Files of ISO/IEC 14496-12 are told apart by their brand.
    if let Some(brand) = bytes.get(8..12).filter(|_| begins(4, b"ftyp")) {
        return Some(match brand {
            // The brand of any still picture: what it is compatible with tells which.
            b"mif1" | b"msf1"
                if bytes[12..bytes.len().min(64)]
                    .chunks(4)
                    .any(|one| one == b"avif") =>
            {
                ("AVIF", CONVERT)
            }
            b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1" => {
                ("HEIC", CONVERT)
            }
            b"avif" | b"avis" => ("AVIF", CONVERT),
            b"jp2 " | b"jpx " => ("JPEG 2000", CONVERT),
            b"jxl " => ("JPEG XL", CONVERT),
            _ => ("a video (MP4)", FRAMES),
        });
    }
    is_svg(bytes).then_some(("SVG", CONVERT))
}

/// Whether this is a text whose first element, behind declarations and comments, is `svg`.
fn is_svg(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(4096)];
    let mut text = String::from_utf8_lossy(head).into_owned();
    text = text.trim_start_matches('\u{feff}').trim_start().to_owned();
    while text.starts_with("<?") || text.starts_with("<!") {
        let end = if text.starts_with("<!--") { "-->" } else { ">" };
        let Some(at) = text.find(end) else {
            return false;
        };
        text = text[at + end.len()..].trim_start().to_owned();
    }
    text.starts_with("<svg") || text.starts_with("<svg:svg")
}

/// Whether a file that begins with these bytes may be a picture that is decoded here.
pub(crate) fn is_picture_head(bytes: &[u8]) -> bool {
    guess_format(bytes).is_some()
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
    let is_web_page = text.is_some_and(|text| {
        let text = text.trim_start().to_ascii_lowercase();
        text.starts_with("<!doctype html") || text.starts_with("<html")
    });
    if is_web_page {
        return "a web page (HTML)".to_owned();
    }
    if let Some(foreign) = foreign::by_bytes(bytes).or_else(|| foreign::collection(bytes)) {
        return format!("{} ({})", foreign.found, foreign.next);
    }
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
