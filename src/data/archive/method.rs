//! How an entry of a zip archive is compressed.

use std::io::{self, Read};

use deflate64::Deflate64Decoder;
use flate2::bufread::DeflateDecoder;
use lzma_rust2::{LzmaReader, XzReader};
use zip::CompressionMethod;

/// The methods that are read, of those in APPNOTE.TXT 4.4.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Stored,
    Deflate,
    /// What Windows writes above 2 GiB.
    Deflate64,
    Bzip2,
    Lzma,
    Zstd,
    Xz,
}

impl Method {
    pub(super) fn of(method: CompressionMethod) -> Option<Method> {
        Some(match method {
            CompressionMethod::Stored => Method::Stored,
            CompressionMethod::Deflated => Method::Deflate,
            CompressionMethod::DEFLATE64 => Method::Deflate64,
            CompressionMethod::BZIP2 => Method::Bzip2,
            CompressionMethod::LZMA => Method::Lzma,
            CompressionMethod::ZSTD => Method::Zstd,
            CompressionMethod::XZ => Method::Xz,
            _ => return None,
        })
    }

    /// A reader of the entry, of `size` bytes, that is packed in these bytes.
    pub(super) fn unpack<'a>(self, packed: &'a [u8], size: u64) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Method::Stored => Box::new(packed),
            Method::Deflate => Box::new(DeflateDecoder::new(packed)),
            Method::Deflate64 => Box::new(Deflate64Decoder::with_buffer(packed)),
            Method::Bzip2 => Box::new(bzip2::bufread::BzDecoder::new(packed)),
            Method::Lzma => Box::new(lzma(packed, size)?),
            Method::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(packed)?),
            Method::Xz => Box::new(XzReader::new_mem_limit(packed, false, window_kib(size))),
        })
    }
}

/// The window that a size justifies, in KiB: 64 MiB, which the usual settings take, or the size itself.
fn window_kib(size: u64) -> u32 {
    u32::try_from((size >> 10).max(128 << 10)).unwrap_or(u32::MAX)
}

/// LZMA after its header in a zip archive: two bytes of version, two of the header's length, one of properties, four of
/// the window's size (APPNOTE.TXT 5.8.8).
fn lzma(packed: &[u8], size: u64) -> io::Result<LzmaReader<&[u8]>> {
    let [_, _, 5, 0, properties, window @ ..] = *packed
        .first_chunk::<9>()
        .ok_or(io::ErrorKind::UnexpectedEof)?
    else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "unknown LZMA header",
        ));
    };
    // Nothing refers further back than the beginning.
    let most = u32::try_from(size.max(1 << 12)).unwrap_or(u32::MAX);
    let window = u32::from_le_bytes(window).min(most);
    LzmaReader::new_with_props(&packed[9..], size, properties, window, None)
}
