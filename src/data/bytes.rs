//! Bytes that several owners share without copying: a memory-mapped file, or memory.

use std::fs::File;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use super::budget::Kept;
use super::error::DataError;

/// A range of a mapped file or of memory; cloning and slicing share the storage.
#[derive(Clone)]
pub(super) struct Bytes {
    store: Arc<Store>,
    range: Range<usize>,
}

enum Store {
    Mapped(Mmap),
    Memory(Vec<u8>),
    Unpacked { bytes: Vec<u8>, _kept: Kept },
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

    /// What `packed` bytes unpacked to: it counts as long as it is held.
    pub(super) fn kept(unpacked: Vec<u8>, packed: u64) -> Bytes {
        let range = 0..unpacked.len();
        let store = Arc::new(Store::Unpacked {
            _kept: Kept::new(packed, range.len() as u64),
            bytes: unpacked,
        });
        Bytes { store, range }
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
            Store::Memory(bytes) | Store::Unpacked { bytes, .. } => bytes,
        };
        &all[self.range.clone()]
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn slices_share_and_refuse_what_is_past_the_end() {
        let bytes = Bytes::from(vec![1, 2, 3, 4, 5]);
        let middle = bytes.slice(1..4).unwrap();
        assert_eq!(&*middle, &[2, 3, 4]);
        assert_eq!(&*middle.slice(2..3).unwrap(), &[4]);
        assert!(middle.slice(1..4).is_none());
    }
}
