//! The files of a zip archive, unpacked one by one.

use std::borrow::Cow;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::data::budget::{self, Part};
use crate::data::bytes::Bytes;
use crate::data::decode::is_picture_head;
use crate::data::encoded::{MAX_UNRECOGNISED, too_large};
use crate::data::error::DataError;
use crate::data::files::{Aside, Files};
use crate::data::leftovers::is_hidden;

use super::method::Method;
use super::names::ZipNames;

/// What the first part of a split archive begins with.
const SPLIT_MARK: &[u8] = b"PK\x07\x08";

/// Whether these bytes are a zip archive: by their beginning or, behind a program that unpacks it or in the last part of
/// several, by their end.
pub(in crate::data) fn is_zip(bytes: &[u8]) -> bool {
    let marks = [b"PK\x03\x04", b"PK\x05\x06", SPLIT_MARK];
    marks.iter().any(|mark| bytes.starts_with(mark)) || end_record(bytes).is_some()
}

/// The record that a zip archive ends with, and a comment of up to 65,535 bytes, whose length it states, after it.
fn end_record(bytes: &[u8]) -> Option<&[u8; 22]> {
    let tail = &bytes[bytes.len().saturating_sub(22 + 65_535)..];
    let is_end = |at: &usize| {
        let record = &tail[*at..];
        let comment = usize::from(u16::from_le_bytes([record[20], record[21]]));
        record.starts_with(b"PK\x05\x06") && record.len() == 22 + comment
    };
    let at = (0..(tail.len() + 1).saturating_sub(22))
        .rev()
        .find(is_end)?;
    tail[at..].first_chunk()
}

/// Whether this is one part of an archive in several files.
fn is_split(bytes: &[u8]) -> bool {
    match end_record(bytes) {
        // The last part states its number, counted from 0; all ones mean that it is stated elsewhere.
        Some(end) => (1..u16::MAX).contains(&u16::from_le_bytes([end[4], end[5]])),
        None => bytes.starts_with(SPLIT_MARK),
    }
}

/// A zip archive, indexed once. Entries are unpacked here rather than through the zip crate's reader, which only one
/// thread at a time may use.
pub(in crate::data) struct ZipFiles {
    path: PathBuf,
    bytes: Bytes,
    names: Vec<String>,
    entries: Vec<ZipEntry>,
    aside: Aside,
}

struct ZipEntry {
    packed: Range<usize>,
    size: u64,
    crc32: u32,
    method: Method,
}

impl ZipFiles {
    /// Indexes `bytes`, the archive at `path`.
    ///
    /// # Errors
    ///
    /// [`DataError::Corrupt`] where it is damaged, encrypted, one part of several, or compressed by a method that is not read.
    pub(crate) fn open(path: &Path, bytes: Bytes) -> Result<ZipFiles, DataError> {
        let damaged = |error: &dyn std::fmt::Display| {
            DataError::corrupt(
                path,
                format!("damaged zip archive: {error}; fetch it again"),
            )
        };
        if is_split(&bytes) {
            let reason = "one part of a split archive; join the parts (zip -s 0 PARTS.zip -O WHOLE.zip), or unpack them into a folder and name that";
            return Err(DataError::corrupt(path, reason));
        }
        let mut archive =
            zip::ZipArchive::new(Cursor::new(&*bytes)).map_err(|error| damaged(&error))?;
        let names = ZipNames::find(&bytes, &mut archive).map_err(|error| damaged(&error))?;
        let mut files: Vec<(String, ZipEntry)> = Vec::new();
        let mut guessed: Vec<String> = Vec::new();
        for index in 0..archive.len() {
            let entry = archive
                .by_index_raw(index)
                .map_err(|error| damaged(&error))?;
            let (name, is_guess) = names.name(&bytes, &entry);
            if name.is_empty() || name.ends_with('/') || is_hidden(&name) {
                continue;
            }
            if is_guess {
                guessed.push(name.clone());
            }
            let refused = |why: &str| DataError::corrupt(path.join(crate::names::path(&name)), why);
            if entry.encrypted() {
                return Err(refused(
                    "it is encrypted; unpack the archive with its password into a folder and name that",
                ));
            }
            let method = Method::of(entry.compression()).ok_or_else(|| {
                refused(&format!(
                    "its compression {:?} is not read; unpack the archive into a folder and name that",
                    entry.compression()
                ))
            })?;
            let start = entry
                .data_start()
                .and_then(|start| usize::try_from(start).ok());
            let packed = start.and_then(|start| {
                let end = start.checked_add(usize::try_from(entry.compressed_size()).ok()?)?;
                (end <= bytes.len()).then_some(start..end)
            });
            let packed = packed
                .ok_or_else(|| refused("it reaches past the end of the archive; fetch it again"))?;
            let (size, crc32) = (entry.size(), entry.crc32());
            files.push((
                name.clone(),
                ZipEntry {
                    packed,
                    size,
                    crc32,
                    method,
                },
            ));
        }
        files.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some([(name, _), _]) = files.array_windows().find(|[a, b]| a.0 == b.0) {
            let reason = format!(
                "two of its files have the name {name}; unpack it into a folder and name that"
            );
            return Err(DataError::corrupt(path, reason));
        }
        let mut aside = Aside::default();
        if let Some(first) = guessed.first() {
            aside.notes.push(match names.are_page_437() {
                true => format!(
                    "names in the archive are not UTF-8 and were read in code page 437, as the zip standard says, such as {first}; if they look wrong, unpack it with the code page of the system that made it and name the folder"
                ),
                false => format!(
                    "names in the archive are not UTF-8 and in a code page that it does not name, so that their bytes are shown, such as {first}; for readable names unpack it with the code page of the system that made it (`unzip -O gbk`, `unzip -O shift-jis`) and name the folder"
                ),
            });
        }
        if archive.has_duplicate_names() {
            aside
                .notes
                .push("the archive holds files of one name; the last of each is read".to_owned());
        }
        let (names, entries) = files.into_iter().unzip();
        Ok(ZipFiles {
            path: path.into(),
            bytes,
            names,
            entries,
            aside,
        })
    }
}

impl ZipFiles {
    /// The first bytes of a file.
    fn beginning(&self, index: usize, len: u64) -> Vec<u8> {
        let entry = &self.entries[index];
        let packed = &self.bytes[entry.packed.clone()];
        let mut beginning = Vec::new();
        // An error only shortens it; reading the whole file reports it.
        let _ = entry
            .method
            .unpack(packed, entry.size)
            .and_then(|reader| reader.take(len).read_to_end(&mut beginning));
        beginning
    }
}

impl Files for ZipFiles {
    fn root(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> &[String] {
        &self.names
    }

    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError> {
        let entry = &self.entries[index];
        let packed = &self.bytes[entry.packed.clone()];
        let damaged = |reason: String| {
            DataError::corrupt(
                self.path(index),
                format!("{reason}; fetch the archive again"),
            )
        };
        let unpacked = if entry.method == Method::Stored {
            Cow::Borrowed(packed)
        } else {
            budget::check_unpacked(&self.path(index), packed.len() as u64, entry.size)?;
            let mut unpacked = Vec::new();
            // One byte more than the stated size shows that the size is wrong, without unpacking a zip bomb.
            entry
                .method
                .unpack(packed, entry.size)
                .and_then(|reader| {
                    reader
                        .take(entry.size.saturating_add(1))
                        .read_to_end(&mut unpacked)
                })
                .map_err(|error| damaged(format!("cannot be unpacked: {error}")))?;
            Cow::Owned(unpacked)
        };
        if unpacked.len() as u64 != entry.size {
            return Err(damaged(format!(
                "unpacks to {} bytes, expected {}",
                unpacked.len(),
                entry.size
            )));
        }
        let mut checksum = flate2::Crc::new();
        checksum.update(&unpacked);
        if checksum.sum() != entry.crc32 {
            return Err(damaged(format!(
                "checksum {:08x}, expected {:08x}",
                checksum.sum(),
                entry.crc32
            )));
        }
        Ok(unpacked)
    }

    fn picture(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError> {
        let entry = &self.entries[index];
        if entry.method == Method::Stored {
            return self.read(index);
        }
        if entry.size > MAX_UNRECOGNISED {
            let beginning = self.beginning(index, 4096);
            if !is_picture_head(&beginning) {
                return Ok(Cow::Owned(beginning));
            }
        }
        if entry.size > budget::ENCODED {
            return Err(DataError::corrupt(self.path(index), too_large()));
        }
        budget::take(Part::Encoded, entry.size);
        self.read(index)
    }

    fn size(&self, index: usize) -> u64 {
        self.entries[index].size
    }

    fn head(&self, index: usize) -> Vec<u8> {
        self.beginning(index, 16)
    }

    fn on_disk(&self, _index: usize) -> Option<PathBuf> {
        None
    }

    fn bytes(&self, index: usize) -> Result<Bytes, DataError> {
        let entry = &self.entries[index];
        match self.read(index)? {
            Cow::Borrowed(_) => Ok(self
                .bytes
                .slice(entry.packed.clone())
                .expect("every range was checked when the archive was indexed")),
            Cow::Owned(unpacked) => Ok(Bytes::kept(unpacked, entry.packed.len() as u64)),
        }
    }

    fn aside(&self) -> &Aside {
        &self.aside
    }
}
