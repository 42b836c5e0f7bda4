//! Files inside an archive, read in place: `.tar` and `.zip` from a map, `.tar.gz` unpacked once into memory.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use flate2::read::DeflateDecoder;
use tar::EntryType;
use zip::CompressionMethod;

use super::bytes::{Bytes, UNPACKED_LIMIT_GIB};
use super::error::DataError;
use super::extensions::is_picture_name;
use super::files::{Files, base_name, folder_of, is_hidden};

/// The name of an archive without its folder and extension, or nothing when it does not end as one.
pub(super) fn stem(name: &str) -> Option<&str> {
    let base = base_name(name);
    let lower = base.to_ascii_lowercase();
    [".tar.gz", ".tgz", ".tar", ".zip"]
        .iter()
        .find(|extension| lower.ends_with(*extension))
        .map(|extension| &base[..base.len() - extension.len()])
}

/// Whether these bytes begin as a tar archive does: a block with a correct header checksum (which old tars have too).
pub(super) fn is_tar(bytes: &[u8]) -> bool {
    let Some(block) = bytes.first_chunk::<512>() else {
        return false;
    };
    let header = tar::Header::from_byte_slice(block);
    // The checksum field counts as blanks.
    let sum: u32 = block[..148]
        .iter()
        .chain(&block[156..])
        .map(|&byte| u32::from(byte))
        .sum::<u32>()
        + 8 * 32;
    block[0] != 0 && header.cksum().is_ok_and(|stated| stated == sum)
}

/// A path without `./`, and without `..` where what is above is known.
fn plain(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match (part, parts.last()) {
            (".", _) => {}
            ("..", Some(above)) if *above != ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// A tar archive, indexed once.
pub(super) struct TarFiles {
    path: PathBuf,
    bytes: Bytes,
    names: Vec<String>,
    ranges: Vec<Range<usize>>,
}

impl TarFiles {
    /// Indexes `bytes`, the unpacked archive that lies at `path`.
    pub fn open(path: &Path, bytes: Bytes) -> Result<TarFiles, DataError> {
        let damaged = |after: &str, error: &dyn std::fmt::Display| {
            DataError::corrupt(
                path,
                format!("damaged tar archive after {after}: {error}; fetch it again"),
            )
        };
        let mut by_name: HashMap<String, Range<usize>> = HashMap::new();
        let mut links: Vec<(String, String)> = Vec::new();
        let mut end = 0;
        let mut last = String::from("its start");
        let mut archive = tar::Archive::new(Cursor::new(&*bytes));
        for entry in archive
            .entries_with_seek()
            .map_err(|error| damaged(&last, &error))?
        {
            let entry = entry.map_err(|error| damaged(&last, &error))?;
            let name = plain(&String::from_utf8_lossy(&entry.path_bytes()));
            let start = usize::try_from(entry.raw_file_position()).unwrap_or(usize::MAX);
            let size = usize::try_from(entry.size()).unwrap_or(usize::MAX);
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
            end = range.end.next_multiple_of(512);
            last.clone_from(&name);
            if is_hidden(&name) {
                continue;
            }
            let target = || {
                let link = entry.link_name_bytes().unwrap_or_default();
                String::from_utf8_lossy(&link).into_owned()
            };
            match entry.header().entry_type() {
                // An archive that was appended to holds a file twice, and the later one counts.
                EntryType::Regular | EntryType::Continuous => {
                    by_name.insert(name, range);
                }
                // From the archive's root, and to a file before it.
                EntryType::Link => links.push((name, plain(&target()))),
                EntryType::Symlink => {
                    let target = plain(&format!("{}{}", folder_of(&name), target()));
                    links.push((name, target));
                }
                EntryType::GNUSparse => {
                    let reason = format!("{name} is stored sparse; pack it without --sparse");
                    return Err(DataError::corrupt(path, reason));
                }
                _ => {}
            }
        }
        // A link may lead to a later entry, or to another link.
        let mut waiting = usize::MAX;
        while links.len() < waiting {
            waiting = links.len();
            links.retain(|(name, target)| match by_name.get(target).cloned() {
                Some(range) => {
                    by_name.insert(name.clone(), range);
                    false
                }
                None => true,
            });
        }
        // A link without an extension may be to a folder of pictures.
        let matters =
            |name: &str| is_picture_name(Path::new(name)) || !base_name(name).contains('.');
        if let Some((name, target)) = links.iter().find(|(name, _)| matters(name)) {
            let reason = format!(
                "{name} is a link to {target}, which is no file of the archive; pack what links lead to (tar --dereference)"
            );
            return Err(DataError::corrupt(path, reason));
        }
        // Every tar writer ends with blocks of zeros; without them, whole files may be missing.
        if bytes.get(end..).is_none_or(<[u8]>::is_empty) {
            let reason = format!(
                "truncated tar archive: it ends after {last}, without its end mark; fetch it again"
            );
            return Err(DataError::corrupt(path, reason));
        }
        let mut files: Vec<(String, Range<usize>)> = by_name.into_iter().collect();
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

    fn bytes(&self, index: usize) -> Result<Bytes, DataError> {
        let slice = self.bytes.slice(self.ranges[index].clone());
        Ok(slice.expect("every range was checked when the archive was indexed"))
    }

    fn on_disk(&self, _index: usize) -> Option<PathBuf> {
        None
    }
}

/// A zip archive, indexed once. Entries are inflated here rather than through the crate's reader, which one thread at a
/// time would own.
pub(super) struct ZipFiles {
    path: PathBuf,
    bytes: Bytes,
    names: Vec<String>,
    entries: Vec<ZipEntry>,
}

struct ZipEntry {
    packed: Range<usize>,
    size: u64,
    crc32: u32,
    deflated: bool,
}

impl ZipFiles {
    /// Indexes `bytes`, the archive that lies at `path`.
    pub fn open(path: &Path, bytes: Bytes) -> Result<ZipFiles, DataError> {
        let damaged = |error: &dyn std::fmt::Display| {
            DataError::corrupt(
                path,
                format!("damaged zip archive: {error}; fetch it again"),
            )
        };
        let mut archive =
            zip::ZipArchive::new(Cursor::new(&*bytes)).map_err(|error| damaged(&error))?;
        let mut files: Vec<(String, ZipEntry)> = Vec::new();
        for index in 0..archive.len() {
            let entry = archive
                .by_index_raw(index)
                .map_err(|error| damaged(&error))?;
            let name = entry
                .name()
                .map_err(|error| damaged(&error))?
                .trim_start_matches("./")
                .to_string();
            if entry.is_dir() || is_hidden(&name) {
                continue;
            }
            let refused = |why: &str| DataError::corrupt(path.join(&name), why);
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
        let (names, entries) = files.into_iter().unzip();
        Ok(ZipFiles {
            path: path.into(),
            bytes,
            names,
            entries,
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
            // One byte past the stated size shows a false statement without unpacking a bomb.
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
        // Whoever reads the file whole reports the error.
        let _ = match entry.deflated {
            true => DeflateDecoder::new(packed).take(16).read_to_end(&mut head),
            false => packed.take(16).read_to_end(&mut head),
        };
        head
    }

    fn on_disk(&self, _index: usize) -> Option<PathBuf> {
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::data::listing::SourceKind;
    use crate::data::sample::{RawPicture, SplitName};
    use crate::data::source::Dataset;

    fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn zip_of(files: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        for (name, bytes) in files {
            writer.start_file(*name, options).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    const LONG: &str = "train/dog/a-name-that-is-longer-than-the-hundred-bytes-which-the-header-of-a-tar-archive-has-room-for-0001.jpg";
    const FILES: [(&str, &[u8]); 4] = [
        ("train/cat/1.jpg", b"cat one"),
        (LONG, b"dog one"),
        ("test/cat/2.jpg", b""),
        ("train/.DS_Store", b"hidden"),
    ];

    fn check(dataset: &Dataset) {
        assert_eq!(dataset.kind, SourceKind::Archive);
        assert_eq!(dataset.classes, ["cat", "dog"]);
        let [cat, dog] = dataset.given(SplitName::Train) else {
            panic!("two training pictures")
        };
        assert_eq!(
            (cat.name.as_str(), dog.name.as_str()),
            ("train/cat/1.jpg", LONG)
        );
        assert!(
            matches!(dataset.read(dog).unwrap(), RawPicture::Encoded(bytes) if &*bytes == b"dog one")
        );
        let error = dataset
            .read(&dataset.given(SplitName::Test)[0])
            .unwrap_err();
        assert_eq!(error.to_string(), "test/cat/2.jpg: empty file (0 bytes)");
    }

    #[test]
    fn tar_targz_and_zip_read_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let tar = tar_of(&FILES);
        for (name, bytes) in [
            ("pets.tar", tar.clone()),
            ("pets.tar.gz", gzip(&tar)),
            ("pets.zip", zip_of(&FILES, CompressionMethod::Deflated)),
            ("stored.zip", zip_of(&FILES, CompressionMethod::Stored)),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            check(&Dataset::open(&path).unwrap());
        }
        assert_eq!(
            Dataset::open(&folder.path().join("pets.tar.gz"))
                .unwrap()
                .name,
            "pets"
        );
    }

    #[test]
    fn links_in_a_tar_are_the_files_they_lead_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pets.tar");
        let write = |links: &[(EntryType, &str, &str)]| {
            let mut builder = tar::Builder::new(fs::File::create(&path).unwrap());
            for (name, bytes) in [("./all/1.jpg", b"one"), ("./train/dog/2.jpg", b"two")] {
                let mut header = tar::Header::new_gnu();
                header.set_size(3);
                builder.append_data(&mut header, name, &bytes[..]).unwrap();
            }
            for (kind, name, target) in links {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(*kind);
                header.set_size(0);
                builder.append_link(&mut header, name, target).unwrap();
            }
            builder.finish().unwrap();
        };
        write(&[
            (EntryType::Symlink, "./train/cat/b.jpg", "a.jpg"),
            (EntryType::Symlink, "./train/cat/a.jpg", "../../all/1.jpg"),
            (EntryType::Link, "./test/dog/2.jpg", "./train/dog/2.jpg"),
            (EntryType::Symlink, "./notes.md", "elsewhere"),
        ]);
        let dataset = Dataset::open(&path).unwrap();
        let read = |split, index: usize| {
            let sample = &dataset.given(split)[index];
            let RawPicture::Encoded(bytes) = dataset.read(sample).unwrap() else {
                panic!("an archive holds encoded pictures")
            };
            (
                sample.name.clone(),
                String::from_utf8_lossy(&bytes).into_owned(),
            )
        };
        assert_eq!(
            read(SplitName::Train, 0),
            ("train/cat/a.jpg".into(), "one".into())
        );
        assert_eq!(
            read(SplitName::Train, 1),
            ("train/cat/b.jpg".into(), "one".into())
        );
        assert_eq!(
            read(SplitName::Test, 0),
            ("test/dog/2.jpg".into(), "two".into())
        );

        write(&[(EntryType::Symlink, "./train/cat", "/data/cats")]);
        let error = Dataset::open(&path).unwrap_err().to_string();
        assert!(
            error.ends_with(
                "pets.tar: train/cat is a link to train//data/cats, which is no file of the archive; pack what links lead to (tar --dereference)"
            ),
            "{error}"
        );
    }

    #[test]
    fn a_folder_of_split_archives_opens_all() {
        let folder = tempfile::tempdir().unwrap();
        let files: [(&str, &[u8]); 2] = [("cat/1.jpg", b"c"), ("dog/1.jpg", b"d")];
        fs::write(folder.path().join("train.tar"), tar_of(&files)).unwrap();
        fs::write(
            folder.path().join("test.zip"),
            zip_of(&files[..1], CompressionMethod::Stored),
        )
        .unwrap();
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!(dataset.given(SplitName::Train)[1].name, "train/dog/1.jpg");
        assert_eq!(dataset.given(SplitName::Test)[0].name, "test/cat/1.jpg");
        assert!(
            matches!(dataset.read(&dataset.given(SplitName::Test)[0]).unwrap(), RawPicture::Encoded(b) if &*b == b"c")
        );
    }

    fn message(name: &str, bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let error = Dataset::open(&path).unwrap_err().to_string();
        error.replace(&folder.path().display().to_string(), "DIR")
    }

    #[test]
    fn truncated_archives_are_named() {
        let tar = tar_of(&[("cat/1.jpg", &[1; 700]), ("dog/1.jpg", &[2; 700])]);
        assert_eq!(
            message("a.tar", &tar[..512 + 1024 + 512 + 99]),
            "DIR/a.tar: truncated tar archive: dog/1.jpg has 99 of its 700 bytes; fetch it again"
        );
        assert_eq!(
            message("a.tar", &tar[..512 + 1024]),
            "DIR/a.tar: truncated tar archive: it ends after cat/1.jpg, without its end mark; fetch it again"
        );
        assert_eq!(
            message("a.tar", &tar[..100]),
            "DIR/a.tar: not a data set: found a damaged or truncated archive (its first bytes are 63 61 74 2f 31 2e 6a 70); known are a folder of class folders, a .tar, .tar.gz or .zip of one, CIFAR-10 and CIFAR-100 binary files, IDX files and Parquet files"
        );
        let packed = gzip(&tar);
        assert_eq!(
            message("a.tgz", &packed[..packed.len() - 9]),
            "DIR/a.tgz: truncated gzip: it ends after 4096 unpacked bytes; fetch it again"
        );
        let zipped = zip_of(&FILES, CompressionMethod::Deflated);
        let truncated = message("a.zip", &zipped[..zipped.len() - 30]);
        assert!(
            truncated.starts_with("DIR/a.zip: damaged zip archive: "),
            "{truncated}"
        );
        assert!(truncated.ends_with("; fetch it again"), "{truncated}");
    }

    #[test]
    fn a_damaged_header_and_a_damaged_entry_are_named() {
        let mut tar = tar_of(&[("cat/1.jpg", &[1; 700]), ("dog/1.jpg", &[2; 700])]);
        tar[512 + 1024 + 3] ^= 1;
        assert!(
            message("a.tar", &tar).starts_with("DIR/a.tar: damaged tar archive after cat/1.jpg: ")
        );

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zip");
        let mut zipped = zip_of(
            &[("cat/1.jpg", b"one"), ("dog/1.jpg", b"two")],
            CompressionMethod::Stored,
        );
        let place = zipped
            .windows(3)
            .position(|window| window == b"two")
            .unwrap();
        zipped[place] = b'x';
        fs::write(&path, zipped).unwrap();
        let dataset = Dataset::open(&path).unwrap();
        let error = dataset
            .read(&dataset.given(SplitName::Train)[1])
            .unwrap_err()
            .to_string();
        assert!(error.contains("a.zip/dog/1.jpg: checksum "), "{error}");
        assert!(error.ends_with("; fetch the archive again"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damaged_archives_never_panic(place in 0usize..4096, byte: u8, cut in 0usize..4096, zipped: bool) {
            let files: [(&str, &[u8]); 2] = [("cat/1.jpg", &[1; 700]), ("dog/1.jpg", &[2; 700])];
            let mut bytes = if zipped { zip_of(&files, CompressionMethod::Deflated) } else { tar_of(&files) };
            let place = place % bytes.len();
            bytes[place] = byte;
            bytes.truncate(cut.max(1));
            let path = Path::new("a");
            let opened: Result<Box<dyn Files>, DataError> = if zipped {
                ZipFiles::open(path, bytes.into()).map(|files| Box::new(files) as Box<dyn Files>)
            } else {
                TarFiles::open(path, bytes.into()).map(|files| Box::new(files) as Box<dyn Files>)
            };
            if let Ok(files) = opened {
                for index in 0..files.names().len() {
                    let _ = files.read(index);
                }
            }
        }
    }
}
