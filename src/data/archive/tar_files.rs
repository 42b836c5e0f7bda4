//! The files of a tar archive, read in place from its bytes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use tar::EntryType;

use super::names::{inside, plain};
use crate::data::bytes::Bytes;
use crate::data::error::DataError;
use crate::data::extensions::is_picture_name;
use crate::data::files::{Files, split_at_backslashes};
use crate::data::leftovers::is_hidden;
use crate::names::{self, base_name, folder_of};

/// Whether these bytes begin with a tar header: a block of 512 bytes with a correct checksum, which pre-POSIX archives
/// have too.
pub(in crate::data) fn is_tar(bytes: &[u8]) -> bool {
    let Some(block) = bytes.first_chunk::<512>() else {
        return false;
    };
    let header = tar::Header::from_byte_slice(block);
    // The checksum is computed as if its own field held spaces.
    let sum: u32 = block[..148]
        .iter()
        .chain(&block[156..])
        .map(|&byte| u32::from(byte))
        .sum::<u32>()
        + 8 * 32;
    // A name may be empty where an extended header has it; a block of zeros ends an archive.
    (block[0] != 0 || block[257..].starts_with(b"ustar"))
        && header.cksum().is_ok_and(|stated| stated == sum)
}

/// A tar archive, indexed once.
pub(in crate::data) struct TarFiles {
    path: PathBuf,
    bytes: Bytes,
    names: Vec<String>,
    ranges: Vec<Range<usize>>,
}

impl TarFiles {
    /// Indexes `bytes`, the unpacked archive at `path`.
    ///
    /// # Errors
    ///
    /// [`DataError::Corrupt`] where it is truncated, damaged or sparse, or a link leads to no file of it.
    pub(crate) fn open(path: &Path, bytes: Bytes) -> Result<TarFiles, DataError> {
        let mut index = Index {
            path,
            bytes: &bytes,
            by_name: HashMap::new(),
            links: Vec::new(),
            last: String::from("its start"),
        };
        // Archives that were put one behind the other are read as one.
        let mut next = Some(0);
        while let Some(start) = next {
            next = index.add(start)?;
        }
        let Index {
            mut by_name, links, ..
        } = index;
        resolve_links(path, &mut by_name, links)?;
        let mut files: Vec<(String, Range<usize>)> = by_name.into_iter().collect();
        split_at_backslashes(&mut files);
        files.sort_by(|a, b| a.0.cmp(&b.0));
        let (names, ranges) = files.into_iter().unzip();
        Ok(TarFiles {
            path: path.into(),
            bytes,
            names,
            ranges,
        })
    }
}

/// What is found while an archive is read.
struct Index<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    by_name: HashMap<String, Range<usize>>,
    /// The names of links and of their targets.
    links: Vec<(String, String)>,
    /// The last entry, for errors.
    last: String,
}

impl Index<'_> {
    /// Indexes the archive that begins at `start`, and returns where another one does behind its end mark.
    fn add(&mut self, start: usize) -> Result<Option<usize>, DataError> {
        let damaged = |after: &str, error: &dyn std::fmt::Display| {
            DataError::corrupt(
                self.path,
                format!("damaged tar archive after {after}: {error}; fetch it again"),
            )
        };
        let mut end = start;
        let mut archive = tar::Archive::new(Cursor::new(&self.bytes[start..]));
        for entry in archive
            .entries_with_seek()
            .map_err(|error| damaged(&self.last, &error))?
        {
            let mut entry = entry.map_err(|error| damaged(&self.last, &error))?;
            let name = inside(&names::text_of_bytes(&entry.path_bytes()));
            let position = entry.raw_file_position().saturating_add(start as u64);
            let range = range_in(self.path, self.bytes, &name, position, entry.size())?;
            end = range.end.next_multiple_of(512);
            self.last.clone_from(&name);
            if is_hidden(&name) {
                continue;
            }
            if is_sparse(&mut entry) {
                let reason = format!("{name} is stored sparse; pack it without --sparse");
                return Err(DataError::corrupt(self.path, reason));
            }
            let target = || {
                let link = entry.link_name_bytes().unwrap_or_default();
                names::text_of_bytes(&link)
            };
            match entry.header().entry_type() {
                // An archive that was appended to may hold a file twice; the later one counts.
                EntryType::Regular | EntryType::Continuous => {
                    self.by_name.insert(name, range);
                }
                // The target is relative to the archive's root.
                EntryType::Link => self.links.push((name, inside(&target()))),
                EntryType::Symlink => {
                    let target = plain(&format!("{}{}", folder_of(&name), target()));
                    self.links.push((name, target));
                }
                _ => {}
            }
        }
        // A tar archive ends with blocks of zeros; without them, whole files may be missing.
        let rest = self.bytes.get(end..).unwrap_or_default();
        if rest.is_empty() {
            let reason = format!(
                "truncated tar archive: it ends after {}, without its end mark; fetch it again",
                self.last
            );
            return Err(DataError::corrupt(self.path, reason));
        }
        let is_zero = |block: &&[u8]| block.iter().all(|&byte| byte == 0);
        let next = end + rest.chunks(512).take_while(is_zero).count() * 512;
        let follows = next > start && self.bytes.get(next..).is_some_and(is_tar);
        Ok(follows.then_some(next))
    }
}

/// Whether holes of a file are left out, as old GNU archives and extended headers say in ways of their own.
fn is_sparse<R: Read>(entry: &mut tar::Entry<'_, R>) -> bool {
    entry.header().entry_type() == EntryType::GNUSparse
        || entry.pax_extensions().is_ok_and(|extensions| {
            extensions.is_some_and(|mut extensions| {
                extensions.any(|extension| {
                    extension
                        .is_ok_and(|extension| extension.key_bytes().starts_with(b"GNU.sparse."))
                })
            })
        })
}

/// Where a file of `size` bytes lies that begins at `start`.
///
/// # Errors
///
/// [`DataError::Corrupt`] where it reaches past the end of the archive.
fn range_in(
    path: &Path,
    bytes: &[u8],
    name: &str,
    start: u64,
    size: u64,
) -> Result<Range<usize>, DataError> {
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let range = start..start.saturating_add(size);
    if range.end > bytes.len() {
        let there = bytes.len().saturating_sub(start);
        return Err(DataError::corrupt(
            path,
            format!(
                "truncated tar archive: {name} has {there} of its {size} bytes; fetch it again"
            ),
        ));
    }
    Ok(range)
}

/// Gives each link, as its name and its target's, the bytes of the file it leads to.
///
/// # Errors
///
/// [`DataError::Corrupt`] where what may be a picture, or a folder of pictures, is a link to no file of the archive.
fn resolve_links(
    path: &Path,
    by_name: &mut HashMap<String, Range<usize>>,
    links: Vec<(String, String)>,
) -> Result<(), DataError> {
    // A link may lead to a later entry, or to another link: it waits for the name that it leads to.
    let mut waiting: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut ready = Vec::new();
    for first in 0..links.len() {
        ready.push(first);
        while let Some(index) = ready.pop() {
            let (name, target) = &links[index];
            let Some(range) = by_name.get(target).cloned() else {
                waiting.entry(target).or_default().push(index);
                continue;
            };
            by_name.insert(name.clone(), range);
            ready.extend(waiting.remove(name.as_str()).into_iter().flatten().rev());
        }
    }
    let mut dangling: Vec<usize> = waiting.into_values().flatten().collect();
    dangling.sort_unstable();
    // A link without an extension may lead to a folder of pictures.
    let matters = |name: &str| is_picture_name(Path::new(name)) || !base_name(name).contains('.');
    let mut dangling = dangling.iter().map(|&index| &links[index]);
    if let Some((name, target)) = dangling.find(|(name, _)| matters(name)) {
        let reason = format!(
            "{name} is a link to {target}, which is no file of the archive; pack what links lead to (tar --dereference)"
        );
        return Err(DataError::corrupt(path, reason));
    }
    Ok(())
}

impl Files for TarFiles {
    fn root(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> &[String] {
        &self.names
    }

    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError> {
        Ok(Cow::Borrowed(&self.bytes[self.ranges[index].clone()]))
    }

    fn size(&self, index: usize) -> u64 {
        self.ranges[index].len() as u64
    }

    fn bytes(&self, index: usize) -> Result<Bytes, DataError> {
        let slice = self.bytes.slice(self.ranges[index].clone());
        Ok(slice.expect("every range was checked when the archive was indexed"))
    }

    fn on_disk(&self, _index: usize) -> Option<PathBuf> {
        None
    }
}
