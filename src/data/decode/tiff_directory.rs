//! The directories of a TIFF, one for each of its pictures (TIFF 6.0, BigTIFF), and which of them is the picture.
//!
//! The decoder opens the first one only. Scanners, microscopes and raw converters put a thumbnail there.

use std::collections::BTreeSet;

use super::tiff_tags as tag;

/// Of a chain that is longer, or runs in a circle, no more is read.
pub(in crate::data) const MOST_DIRECTORIES: usize = 256;
/// Of all directories together no more entries are read.
pub(in crate::data) const MOST_ENTRIES: u64 = 1 << 17;
/// Of a longer list no more values are read.
const MOST_VALUES: u64 = 1 << 17;

/// A TIFF's bytes and how its numbers are written.
pub(super) struct Tiff<'a> {
    bytes: &'a [u8],
    is_little: bool,
    is_big_tiff: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Directory {
    /// Where it begins in the file.
    at: u64,
    entries: Vec<Entry>,
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where it begins in the file.
    at: u64,
    tag: u16,
    /// Of its values: 1 byte, 2 text, 3 two bytes, 4 four bytes, 5 a fraction, 16 eight bytes, …
    kind: u16,
    count: u64,
    /// Where its values begin in the file.
    values_at: u64,
}

impl<'a> Tiff<'a> {
    /// `None` where the bytes are no TIFF.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Tiff<'a>> {
        let (is_little, is_big_tiff) = match bytes.first_chunk::<4>()? {
            b"II\x2a\0" => (true, false),
            b"MM\0\x2a" => (false, false),
            b"II\x2b\0" => (true, true),
            b"MM\0\x2b" => (false, true),
            _ => return None,
        };
        Some(Tiff {
            bytes,
            is_little,
            is_big_tiff,
        })
    }

    /// All directories that are reached: those of the chain, each with its own sub-directories behind it.
    pub(super) fn directories(&self) -> Vec<Directory> {
        let first = if self.is_big_tiff {
            self.number(8, 8)
        } else {
            self.number(4, 4)
        };
        let mut found: Vec<Directory> = Vec::new();
        let mut entries_left = MOST_ENTRIES;
        let mut seen = BTreeSet::new();
        // The last is read first.
        let mut waiting = vec![first.unwrap_or(0)];
        while let Some(at) = waiting.pop() {
            if at == 0 || found.len() == MOST_DIRECTORIES || !seen.insert(at) {
                continue;
            }
            let Some(directory) = self.directory(at, &mut entries_left) else {
                continue;
            };
            waiting.push(directory.next);
            let mut inside = self.values(&directory, tag::SUB_DIRECTORIES);
            inside.truncate(MOST_DIRECTORIES);
            waiting.extend(inside.into_iter().rev());
            found.push(directory);
        }
        found
    }

    fn directory(&self, at: u64, entries_left: &mut u64) -> Option<Directory> {
        // Sizes of the number of entries, of an entry, and of an offset or count.
        let (count_size, entry_size, word) = if self.is_big_tiff {
            (8, 20, 8)
        } else {
            (2, 12, 4)
        };
        let count = self.number(at, count_size)?;
        let end = at
            .checked_add(count_size)?
            .checked_add(count.checked_mul(entry_size)?)?;
        // What behind it is cut off, as in some EXIF data, is not missed here.
        let next = self.number(end, word).unwrap_or(0);
        let count = count.min(*entries_left);
        *entries_left -= count;
        let entries = (0..count).map_while(|index| {
            let at = at + count_size + index * entry_size;
            let kind = self.number(at + 2, 2)? as u16;
            let count = self.number(at + 4, word)?;
            let inline_at = at + 4 + word;
            let values_at = match count.checked_mul(size_of(kind)) {
                Some(size) if size <= word => inline_at,
                _ => self.number(inline_at, word)?,
            };
            Some(Entry {
                at,
                tag: self.number(at, 2)? as u16,
                kind,
                count,
                values_at,
            })
        });
        Some(Directory {
            at,
            entries: entries.collect(),
            next,
        })
    }

    /// The values of a tag; none where it is missing or reaches past the end. Fractions are rounded.
    pub(super) fn values(&self, directory: &Directory, tag: u16) -> Vec<u64> {
        let Some(entry) = directory.entry(tag) else {
            return Vec::new();
        };
        (0..entry.count.min(MOST_VALUES))
            .map_while(|index| {
                let at = entry.values_at.checked_add(index * size_of(entry.kind))?;
                match entry.kind {
                    5 | 10 => {
                        let (over, under) = (self.number(at, 4)?, self.number(at + 4, 4)?);
                        Some((over + under / 2) / under.max(1))
                    }
                    kind => self.number(at, size_of(kind)),
                }
            })
            .collect()
    }

    /// The first value of a tag.
    pub(super) fn value(&self, directory: &Directory, tag: u16) -> Option<u64> {
        self.values(directory, tag).first().copied()
    }

    /// The first value of a tag, where it is of two or four bytes: others take no single byte for a number either.
    pub(super) fn whole_number(&self, directory: &Directory, tag: u16) -> Option<u64> {
        let kind = directory.entry(tag)?.kind;
        self.value(directory, tag).filter(|_| matches!(kind, 3 | 4))
    }

    /// A tag's text.
    pub(super) fn text(&self, directory: &Directory, tag: u16) -> String {
        let values = self.values(directory, tag);
        let text: Vec<u8> = values.iter().take(64).map(|&byte| byte as u8).collect();
        String::from_utf8_lossy(&text)
            .trim_end_matches('\0')
            .to_owned()
    }

    /// The directory of the picture: the first, or, where that is said to be a reduced picture or a mask, the first that
    /// is neither.
    pub(super) fn picture<'b>(&self, directories: &'b [Directory]) -> Option<&'b Directory> {
        let is_whole = |directory: &&Directory| {
            let new = self
                .value(directory, tag::NEW_SUBFILE_TYPE)
                .unwrap_or_default();
            let old = self.value(directory, tag::SUBFILE_TYPE).unwrap_or_default();
            new & 0b101 == 0 && old != 2 && self.value(directory, tag::WIDTH).is_some()
        };
        directories
            .iter()
            .find(is_whole)
            .or_else(|| directories.first())
    }

    /// The bytes of this TIFF, changed so that `directory` is its first and its samples are shades of grey in as many
    /// bands as there are samples: the decoder then gives them as they are.
    pub(super) fn as_samples(&self, directory: &Directory) -> Vec<u8> {
        let mut bytes = self.bytes.to_vec();
        if self.is_big_tiff {
            self.put(&mut bytes, 8, 8, directory.at);
        } else {
            self.put(&mut bytes, 4, 4, directory.at);
        }
        const BLACK_IS_ZERO: u64 = 1;
        self.set(&mut bytes, directory, tag::PHOTOMETRIC, BLACK_IS_ZERO);
        bytes
    }

    /// [`as_samples`](Self::as_samples), of one of `planes` alone: a picture of one sample, whose tiles are its share of
    /// the tiles.
    pub(super) fn as_plane(&self, directory: &Directory, plane: u64, planes: u64) -> Vec<u8> {
        let mut bytes = self.as_samples(directory);
        for tag in [tag::SAMPLES, tag::PLANAR] {
            self.set(&mut bytes, directory, tag, 1);
        }
        let of_tiles = [tag::TILE_OFFSETS, tag::TILE_SIZES];
        let of_samples = [tag::BITS, tag::SAMPLE_FORMAT];
        for tag in of_tiles.into_iter().chain(of_samples) {
            let Some(entry) = directory.entry(tag) else {
                continue;
            };
            // What is stated once holds for all samples.
            let count = match of_tiles.contains(&tag) {
                true => entry.count / planes,
                false => 1,
            };
            let first = (plane * count).min(entry.count.saturating_sub(count));
            self.keep(&mut bytes, entry, first, count);
        }
        // The only sample is no further one.
        if let Some(entry) = directory.entry(tag::EXTRA_SAMPLES) {
            self.keep(&mut bytes, entry, 0, 0);
        }
        bytes
    }

    /// Writes a number; a place past the end was not read either.
    fn put(&self, bytes: &mut [u8], at: u64, size: usize, value: u64) {
        let number = if self.is_little {
            value.to_le_bytes()[..size].to_vec()
        } else {
            value.to_be_bytes()[8 - size..].to_vec()
        };
        let place = usize::try_from(at)
            .ok()
            .and_then(|at| bytes.get_mut(at..at.checked_add(size)?));
        if let Some(place) = place {
            place.copy_from_slice(&number);
        }
    }

    /// Gives a tag's first value another one.
    fn set(&self, bytes: &mut [u8], directory: &Directory, tag: u16, value: u64) {
        if let Some(entry) = directory.entry(tag) {
            let size = size_of(entry.kind) as usize;
            self.put(bytes, entry.values_at, size, value);
        }
    }

    /// Leaves an entry `count` of its values, from `first` on.
    fn keep(&self, bytes: &mut [u8], entry: &Entry, first: u64, count: u64) {
        let word = if self.is_big_tiff { 8 } else { 4 };
        let size = size_of(entry.kind);
        let count_at = entry.at + 4;
        let inline_at = count_at + word;
        let from = entry.values_at.saturating_add(first.saturating_mul(size));
        self.put(bytes, count_at, word as usize, count);
        if count.saturating_mul(size) > word {
            self.put(bytes, inline_at, word as usize, from);
            return;
        }
        // So few values stand where otherwise their place does.
        for index in 0..count {
            let value = self.number(from + index * size, size).unwrap_or(0);
            self.put(bytes, inline_at + index * size, size as usize, value);
        }
    }

    fn number(&self, at: u64, size: u64) -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let bytes = self.bytes.get(at..at.checked_add(size as usize)?)?;
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(if self.is_little {
            bytes.iter().rev().fold(0, add)
        } else {
            bytes.iter().fold(0, add)
        })
    }
}

impl Directory {
    fn entry(&self, tag: u16) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.tag == tag)
    }
}

/// The size of a value of this kind, in bytes.
fn size_of(kind: u16) -> u64 {
    match kind {
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16 | 17 | 18 => 8,
        _ => 1,
    }
}
