//! What can go wrong between a picture's bytes and its pixels.

/// Why a picture cannot be decoded. It does not name the picture: who asked knows its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Nothing there.
    #[error("empty file (0 bytes)")]
    Empty,
    /// Bytes that are no picture.
    #[error(
        "not a picture: found {found}, expected JPEG, PNG, GIF, BMP, WebP, TIFF or another known format"
    )]
    Unrecognised {
        /// Text, or the first bytes.
        found: String,
    },
    /// A picture of a format without a decoder here.
    #[error("{format} is not read here; convert it to JPEG or PNG")]
    Foreign {
        /// Its format.
        format: &'static str,
    },
    /// A header that asks for too much.
    #[error(
        "{width}x{height} pixels are more than the {limit_megapixels} megapixels that are decoded; make it smaller"
    )]
    TooManyPixels {
        /// As the header says.
        width: u32,
        /// As the header says.
        height: u32,
        /// The limit.
        limit_megapixels: u64,
    },
    /// A picture that needs more memory than allowed.
    #[error(
        "decoding needs more than {limit_mib} MiB of memory, the most that is allowed; make it smaller"
    )]
    TooMuchMemory {
        /// The limit.
        limit_mib: u64,
    },
    /// The end is missing.
    #[error("truncated {format}: the file ends before the picture does")]
    Truncated {
        /// Its format.
        format: &'static str,
    },
    /// Something in it is wrong.
    #[error("damaged {format}: {reason}")]
    Damaged {
        /// Its format.
        format: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// A variant that is not decoded.
    #[error("{format} of a kind that is not supported: {reason}")]
    Unsupported {
        /// Its format.
        format: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// Raw pixels whose number is not what their size says.
    #[error("found {found} bytes of pixels, expected {width}x{height}x{channels}")]
    PixelCount {
        /// Bytes there.
        found: usize,
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
        /// 1 or 3.
        channels: u8,
    },
}
