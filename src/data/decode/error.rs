//! What can go wrong in decoding a picture.

/// Why a picture cannot be decoded. The picture's name is not in it: the caller knows it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No bytes.
    #[error("empty file (0 bytes)")]
    Empty,
    /// Bytes of no known picture format.
    #[error(
        "not a picture: found {found}, expected JPEG, PNG, GIF, BMP, WebP, TIFF or another known format"
    )]
    Unrecognised {
        /// "text", or the first bytes in hexadecimal.
        found: String,
    },
    /// A picture format without a decoder here.
    #[error("{format} is not read here; {advice}")]
    Foreign {
        /// The format.
        format: &'static str,
        /// What to do instead.
        advice: &'static str,
    },
    /// More pixels than [`DecodeLimits::max_pixels`](super::DecodeLimits::max_pixels).
    #[error(
        "{width}x{height} pixels are more than the {limit_megapixels} megapixels that are decoded; make it smaller"
    )]
    TooManyPixels {
        /// Width by the header, in pixels.
        width: u32,
        /// Height by the header, in pixels.
        height: u32,
        /// The limit, in megapixels.
        limit_megapixels: u64,
    },
    /// More memory than [`DecodeLimits::max_bytes`](super::DecodeLimits::max_bytes).
    #[error(
        "decoding needs more than {limit_mib} MiB of memory, the most that is allowed; make it smaller"
    )]
    TooMuchMemory {
        /// The limit, in MiB.
        limit_mib: u64,
    },
    /// A file that ends before the picture does.
    #[error("truncated {format}: the file ends before the picture does")]
    Truncated {
        /// The format.
        format: &'static str,
    },
    /// A file with an error in it.
    #[error("damaged {format}: {reason}")]
    Damaged {
        /// The format.
        format: &'static str,
        /// The decoder's reason.
        reason: String,
    },
    /// A variant of the format that is not supported.
    #[error("{format} of a kind that is not read here: {reason}; convert it to PNG or JPEG")]
    Unsupported {
        /// The format.
        format: &'static str,
        /// The kind.
        reason: String,
    },
    /// Raw pixels whose number is not that of their size.
    #[error("found {found} bytes of pixels, expected {width}x{height}x{channels}")]
    PixelCount {
        /// Number of bytes.
        found: usize,
        /// Width, in pixels.
        width: u32,
        /// Height, in pixels.
        height: u32,
        /// Number of channels.
        channels: u8,
    },
}

/// The first line of a decoder's message, without a final period, cut to a length that fits into a table. What it quotes
/// from the file may be anything; nothing of it is to act on a terminal.
pub(super) fn in_one_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let short: String = line
        .chars()
        .take(120)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    short.trim_end_matches(['.', ' ']).to_owned()
}
