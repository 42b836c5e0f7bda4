//! Bytes that several owners share without copying: a memory-mapped file, or memory.

use std::fs::File;
use std::io::{self, Read};
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use memmap2::Mmap;

use super::error::DataError;

/// The most that a compressed file may unpack to in memory. Above it, an unpacked folder serves better than swapping.
pub(super) const UNPACKED_LIMIT_GIB: u64 = 8;

/// A range of a mapped file or of memory; cloning and slicing share the storage.
#[derive(Clone)]
pub(super) struct Bytes {
    store: Arc<Store>,
    range: Range<usize>,
}

enum Store {
    Mapped(Mmap),
    Memory(Vec<u8>),
}

impl Bytes {
    /// Maps a file. If another process shortens the file meanwhile, this process is killed, as with every mapped file.
    pub(super) fn map(path: &Path) -> Result<Bytes, DataError> {
        let file = File::open(path).map_err(DataError::io(path, "open"))?;
        // SAFETY: the map is only read; shortening the file meanwhile is the documented limit above.
        let map = unsafe { Mmap::map(&file) }.map_err(DataError::io(path, "map"))?;
        let range = 0..map.len();
        let store = Arc::new(Store::Mapped(map));
        Ok(Bytes { store, range })
    }

    /// The part of these bytes at `range`; `None` when it reaches past the end.
    pub(super) fn slice(&self, range: Range<usize>) -> Option<Bytes> {
        self.get(range.clone())?;
        Some(Bytes {
            store: Arc::clone(&self.store),
            range: self.range.start + range.start..self.range.start + range.end,
        })
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        let range = 0..bytes.len();
        let store = Arc::new(Store::Memory(bytes));
        Bytes { store, range }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &*self.store {
            Store::Mapped(map) => map,
            Store::Memory(bytes) => bytes,
        };
        &all[self.range.clone()]
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// Whether these bytes begin as gzip does.
pub(super) fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// Unpacks gzip (one member or several) into memory; `path` is for the error.
///
/// # Errors
///
/// [`DataError::Corrupt`] where it is truncated or damaged, [`DataError::TooLarge`] above [`UNPACKED_LIMIT_GIB`].
pub(super) fn gunzip(path: &Path, packed: &[u8]) -> Result<Vec<u8>, DataError> {
    let limit = UNPACKED_LIMIT_GIB << 30;
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(packed)
        .take(limit + 1)
        .read_to_end(&mut unpacked)
        .map_err(|error| gzip_error(path, &error, unpacked.len()))?;
    if unpacked.len() as u64 > limit {
        return Err(DataError::TooLarge {
            path: path.into(),
            limit_gib: UNPACKED_LIMIT_GIB,
        });
    }
    Ok(unpacked)
}

fn gzip_error(path: &Path, error: &io::Error, unpacked: usize) -> DataError {
    let reason = match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            format!("truncated gzip: it ends after {unpacked} unpacked bytes; fetch it again")
        }
        _ => format!("damaged gzip: {error} after {unpacked} unpacked bytes; fetch it again"),
    };
    DataError::corrupt(path, reason)
}

/// The first unpacked bytes of a gzip file, as many as there are up to `len`.
pub(super) fn gunzip_head(packed: &[u8], len: u64) -> Vec<u8> {
    let mut head = Vec::new();
    // An error only shortens the head here; unpacking the whole file reports it.
    let _ = MultiGzDecoder::new(packed).take(len).read_to_end(&mut head);
    head
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn slices_share_and_refuse_what_is_past_the_end() {
        let bytes = Bytes::from(vec![1, 2, 3, 4, 5]);
        let middle = bytes.slice(1..4).unwrap();
        assert_eq!(&*middle, &[2, 3, 4]);
        assert_eq!(&*middle.slice(2..3).unwrap(), &[4]);
        assert!(middle.slice(1..4).is_none());
    }

    #[test]
    fn truncated_gzip_is_an_error() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&[7; 999]).unwrap();
        let packed = encoder.finish().unwrap();
        assert_eq!(gunzip(Path::new("a.gz"), &packed).unwrap(), vec![7; 999]);
        let error = gunzip(Path::new("a.gz"), &packed[..packed.len() - 3]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("a.gz: truncated gzip: it ends after "),
            "{error}"
        );
    }
}
