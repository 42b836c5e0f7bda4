//! The files of a zip archive, unpacked one by one.

use std::borrow::Cow;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use flate2::read::DeflateDecoder;
use zip::CompressionMethod;

use super::names::ZipNames;
use crate::data::bytes::{Bytes, UNPACKED_LIMIT_GIB};
use crate::data::error::DataError;
use crate::data::files::{Aside, Files};
use crate::data::leftovers::is_hidden;

/// A zip archive, indexed once. Entries are inflated here rather than through the zip crate's reader, which only one
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
    deflated: bool,
}

impl ZipFiles {
    /// Indexes `bytes`, the archive at `path`.
    ///
    /// # Errors
    ///
    /// [`DataError::Corrupt`] where it is damaged, encrypted, or compressed by another method than deflate.
    pub(crate) fn open(path: &Path, bytes: Bytes) -> Result<ZipFiles, DataError> {
        let damaged = |error: &dyn std::fmt::Display| {
            DataError::corrupt(
                path,
                format!("damaged zip archive: {error}; fetch it again"),
            )
        };
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
                    "it is encrypted; unpack the archive into a folder and name that",
                ));
            }
            let deflated = match entry.compression() {
                CompressionMethod::Stored => false,
                CompressionMethod::Deflated => true,
                other => {
                    let why = format!(
                        "its compression {other:?} is not read, only stored and deflate; unpack the archive into a folder and name that"
                    );
                    return Err(refused(&why));
                }
            };
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
                    deflated,
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
            aside.notes.push(format!(
                "names in the archive are not UTF-8 and were read in code page 437, as the zip standard says, such as {first}; if they look wrong, unpack it with the code page of the system that made it and name the folder"
            ));
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
        if entry.size > UNPACKED_LIMIT_GIB << 30 {
            return Err(DataError::TooLarge {
                path: self.path(index),
                limit_gib: UNPACKED_LIMIT_GIB,
            });
        }
        let unpacked = if entry.deflated {
            let mut unpacked = Vec::new();
            // One byte more than the stated size shows that the size is wrong, without unpacking a zip bomb.
            DeflateDecoder::new(packed)
                .take(entry.size.saturating_add(1))
                .read_to_end(&mut unpacked)
                .map_err(|error| damaged(format!("cannot be inflated: {error}")))?;
            Cow::Owned(unpacked)
        } else {
            Cow::Borrowed(packed)
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

    fn head(&self, index: usize) -> Vec<u8> {
        let entry = &self.entries[index];
        let packed = &self.bytes[entry.packed.clone()];
        let mut head = Vec::new();
        // An error only shortens the head; reading the whole file reports it.
        let _ = match entry.deflated {
            true => DeflateDecoder::new(packed).take(16).read_to_end(&mut head),
            false => packed.take(16).read_to_end(&mut head),
        };
        head
    }

    fn on_disk(&self, _index: usize) -> Option<PathBuf> {
        None
    }

    fn aside(&self) -> &Aside {
        &self.aside
    }
}
