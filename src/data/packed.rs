//! Files that are compressed as a whole, known by their first bytes: gzip, xz, bzip2 and Zstandard.

use std::io::{self, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;

use super::budget::Kept;
use super::bytes::Bytes;
use super::error::DataError;

/// The most memory that a decoder may take for its window, which the file states: 2 GiB, what `xz` and `zstd --long=31`
/// use at most.
const WINDOW_LOG: u32 = 31;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Xz,
    Bzip2,
    Zstd,
}

impl Packing {
    /// How these bytes are compressed, by the first of them; `None` where they are not.
    pub(super) fn of(bytes: &[u8]) -> Option<Packing> {
        match bytes {
            [0x1f, 0x8b, ..] => Some(Packing::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Packing::Xz),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some(Packing::Bzip2),
            // The second may come first: a frame that is to be skipped.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Some(Packing::Zstd)
            }
            _ => None,
        }
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Packing::Gzip => "gzip",
            Packing::Xz => "xz",
            Packing::Bzip2 => "bzip2",
            Packing::Zstd => "Zstandard",
        }
    }

    /// Unpacks one member (stream, frame) from the front of `packed`, which is left at what follows it.
    fn member<'a>(self, packed: &'a mut &[u8]) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Packing::Gzip => Box::new(GzDecoder::new(packed)),
            Packing::Xz => Box::new(XzReader::new_mem_limit(
                packed,
                false,
                1 << (WINDOW_LOG - 10),
            )),
            Packing::Bzip2 => Box::new(bzip2::bufread::BzDecoder::new(packed)),
            Packing::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?.single_frame();
                decoder.window_log_max(WINDOW_LOG)?;
                Box::new(decoder)
            }
        })
    }

    /// Unpacks all members into memory; `path` is for the error. What follows the last is ignored, as by the programs
    /// that unpack such files: tapes and some tools fill up with zeros. Whether the contents are whole, their reader knows.
    ///
    /// # Errors
    ///
    /// [`DataError::Corrupt`] where it is truncated or damaged, [`DataError::Inflated`] where it unpacks to more than its
    /// size justifies.
    pub(super) fn unpack(self, path: &Path, packed: &[u8]) -> Result<Bytes, DataError> {
        let size = packed.len() as u64;
        let limit = Kept::most(size);
        let mut rest = packed;
        let mut unpacked = Vec::new();
        while Packing::of(rest) == Some(self) {
            let left = limit + 1 - unpacked.len() as u64;
            self.member(&mut rest)
                .and_then(|member| member.take(left).read_to_end(&mut unpacked))
                .map_err(|error| self.error(path, &error, unpacked.len()))?;
            if unpacked.len() as u64 > limit {
                return Err(DataError::Inflated {
                    path: path.into(),
                    packed: size,
                    most: limit,
                });
            }
        }
        Ok(Bytes::kept(unpacked, size))
    }

    fn error(self, path: &Path, error: &io::Error, unpacked: usize) -> DataError {
        let name = self.name();
        let reason = match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                format!("truncated {name}: it ends after {unpacked} unpacked bytes; fetch it again")
            }
            _ => format!("damaged {name}: {error} after {unpacked} unpacked bytes; fetch it again"),
        };
        DataError::corrupt(path, reason)
    }

    /// The first unpacked bytes, as many as there are up to `len`.
    pub(super) fn head(self, packed: &[u8], len: u64) -> Vec<u8> {
        let mut head = Vec::new();
        let mut rest = packed;
        while Packing::of(rest) == Some(self) && (head.len() as u64) < len {
            let left = len - head.len() as u64;
            // An error only shortens the head here; unpacking the whole file reports it.
            let read = self
                .member(&mut rest)
                .and_then(|member| member.take(left).read_to_end(&mut head));
            if read.is_err() {
                break;
            }
        }
        head
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstandard(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    /// `printf 'one two three four' | xz`: the crate's encoder is not compiled in.
    const XZ: &[u8] = b"\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x02\x00!\x01\x16\x00\x00\x00t/\xe5\xa3\x01\x00\x11one two three four\x00\x00\x00Y,#>y\x87\x1b\xd1\x00\x01*\x12K\x08T\xbc\x1f\xb6\xf3}\x01\x00\x00\x00\x00\x04YZ";

    #[test]
    fn members_follow_each_other_and_zeros_may_follow_them() {
        let text: &[u8] = b"one two three four";
        let packed: [(&str, Vec<u8>); 4] = [
            ("gzip", gzip(text)),
            ("bzip2", bzip2(text)),
            ("Zstandard", zstandard(text)),
            ("xz", XZ.to_vec()),
        ];
        for (name, whole) in packed {
            let packing = Packing::of(&whole).unwrap();
            assert_eq!(packing.name(), name);
            let unpack = |bytes: &[u8]| packing.unpack(Path::new("a"), bytes).unwrap().to_vec();
            assert_eq!(unpack(&whole), text, "{name}");
            assert_eq!(unpack(&[&whole[..], &[0; 1024]].concat()), text, "{name}");
            assert_eq!(
                unpack(&[&whole[..], &whole[..]].concat()),
                [text, text].concat()
            );
            assert_eq!(packing.head(&whole, 7), b"one two");
            let error = packing
                .unpack(Path::new("a"), &whole[..whole.len() - 3])
                .map(|_| ())
                .unwrap_err();
            let start = format!("a: truncated {name}: it ends after ");
            assert!(error.to_string().starts_with(&start), "{error}");
        }
    }

    #[test]
    fn frames_to_skip_are_skipped() {
        let frame = [&b"\x53\x2a\x4d\x18\x03\0\0\0abc"[..], &zstandard(b"text")].concat();
        let packing = Packing::of(&frame).unwrap();
        assert_eq!(&*packing.unpack(Path::new("a"), &frame).unwrap(), b"text");
        assert_eq!(packing.head(&frame, 2), b"te");
    }
}
