//! Recognises a data set by what it holds, not by a flag.
//!
//! Two kinds of place hold files, folders and archives (`files.rs`, `archive.rs`); in either lies one kind of data set:
//! class folders (`folder.rs`), CIFAR binary files (`cifar.rs`), IDX files (`idx.rs`) or Parquet files (`parquet.rs`).
//! A new kind is one new file and one line in [`recognise`].

use std::fs;
use std::path::{Path, PathBuf};

use super::archive::{TarFiles, ZipFiles, is_tar};
use super::bytes::{self, Bytes};
use super::error::DataError;
use super::extensions::archive_stem;
use super::files::{Files, FolderFiles, base_name};
use super::listing::{Listing, SourceKind};
use super::sample::SplitName;
use super::{cifar, folder, idx, parquet};
use crate::names;

/// A data set in a folder: what the folder's files are, or the archives that lie there.
pub(super) fn open_folder(path: &Path) -> Result<Vec<Listing>, DataError> {
    let files = FolderFiles::open(path)?;
    let archives = archives_in(&files);
    if archives.is_empty() {
        return Ok(vec![recognise(Box::new(files), SourceKind::Folder, None)?]);
    }
    if let Some(index) = (0..files.names().len()).find(|&index| folder::is_candidate(&files, index))
    {
        let reason = format!(
            "found {} beside pictures such as {}; keep one of the two, or name the one that is meant",
            base_name(&names::text(&archives[0].0)),
            files.names()[index],
        );
        return Err(DataError::Layout {
            path: path.into(),
            reason,
        });
    }
    archives
        .iter()
        .map(|(path, part)| open_file(path, *part))
        .collect()
}

/// `train.tar` and its like directly in a folder, each with the split it is named for; or the only archive there, when
/// it is the only file, as a download leaves it.
fn archives_in(files: &FolderFiles) -> Vec<(PathBuf, Option<SplitName>)> {
    let archives: Vec<(usize, &str)> = files
        .names()
        .iter()
        .enumerate()
        .filter(|(_, name)| !name.contains('/'))
        .filter_map(|(index, name)| archive_stem(name).map(|stem| (index, stem)))
        .collect();
    let path = |index: usize| files.on_disk(index).expect("a folder's files are on disk");
    let split_archives: Vec<_> = archives
        .iter()
        .filter_map(|&(index, stem)| {
            SplitName::from_folder(stem).map(|split| (path(index), Some(split)))
        })
        .collect();
    match archives.as_slice() {
        [(index, _)] if files.names().len() == 1 => vec![(path(*index), None)],
        _ => split_archives,
    }
}

/// A data set in one file: an archive, or Parquet.
pub(super) fn open_file(path: &Path, part: Option<SplitName>) -> Result<Listing, DataError> {
    // Opening a pipe would wait for its writer, perhaps for ever.
    if !path.is_file() {
        return Err(DataError::Unrecognised {
            path: path.into(),
            found: "neither a file nor a folder".into(),
        });
    }
    let bytes = Bytes::map(path)?;
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        return recognise(
            Box::new(ZipFiles::open(path, bytes)?),
            SourceKind::Archive,
            part,
        );
    }
    if is_tar(&bytes) {
        return recognise(
            Box::new(TarFiles::open(path, bytes)?),
            SourceKind::Archive,
            part,
        );
    }
    if bytes::is_gzip(&bytes) && is_tar(&bytes::gunzip_head(&bytes, 512)) {
        let unpacked = Bytes::from(bytes::gunzip(path, &bytes)?);
        return recognise(
            Box::new(TarFiles::open(path, unpacked)?),
            SourceKind::Archive,
            part,
        );
    }
    if bytes.starts_with(b"PAR1") {
        return parquet::list_rows(&[(path.into(), base_name(&names::text(path)).into())]);
    }
    Err(unrecognised(path, &bytes))
}

/// The one place where a kind of data set is chosen.
fn recognise(
    files: Box<dyn Files>,
    kind: SourceKind,
    part: Option<SplitName>,
) -> Result<Listing, DataError> {
    if let Some(layout) = cifar::find_batches(files.names()) {
        cifar::list_records(&*files, &layout)
    } else if let Some(pairs) = idx::find_pairs(files.names()) {
        idx::list_images(&*files, &pairs)
    } else if let Some(shards) = parquet::find_shards(&*files)? {
        parquet::list_rows(&shards)
    } else {
        folder::list_class_folders(files, kind, part)
    }
}

fn unrecognised(path: &Path, bytes: &[u8]) -> DataError {
    let unpacked = bytes::gunzip_head(bytes, 4);
    let found = if bytes.is_empty() {
        "an empty file".into()
    } else if image::guess_format(bytes).is_ok() {
        "a single picture, which `vitrine classify` takes".into()
    } else if idx::is_idx(bytes) || idx::is_idx(&unpacked) {
        "one IDX file, whose folder is to be named".into()
    } else if archive_stem(&names::text(path)).is_some() {
        format!(
            "a damaged or truncated archive (its first bytes are {})",
            hex(bytes)
        )
    } else {
        format!("a file whose first bytes are {}", hex(bytes))
    };
    DataError::Unrecognised {
        path: path.into(),
        found,
    }
}

fn hex(bytes: &[u8]) -> String {
    let head: Vec<String> = bytes
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    head.join(" ")
}

/// A name for run directories: the file's or folder's, or its folder's where the file is only called `train`.
pub(super) fn short_name(path: &Path) -> String {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let part = |path: &Path| path.file_name().map(names::text).unwrap_or_default();
    let own = part(&real);
    let stem = match archive_stem(&own) {
        Some(stem) => stem,
        None => own.strip_suffix(".parquet").unwrap_or(&own),
    };
    let is_part = stem
        .split(['-', '.'])
        .next()
        .and_then(SplitName::from_folder)
        .is_some();
    let name = match real.parent() {
        Some(parent) if is_part => part(parent),
        _ => stem.to_string(),
    };
    let name: String = name
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || c == '-' || c == '_' {
                c
            } else {
                '-'
            }
        })
        .collect();
    // The name of a run adds the model's and a number, and may have 255 bytes in all.
    let name = name.to_lowercase();
    match &name[..name.floor_char_boundary(200)] {
        "" => "data".into(),
        name => name.into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::data::source::Dataset;

    fn message(path: &Path) -> String {
        Dataset::open(path).unwrap_err().to_string()
    }

    #[test]
    fn an_absent_path_is_named() {
        assert_eq!(
            message(Path::new("no/such/place")),
            "no/such/place: no such file or folder"
        );
    }

    #[test]
    fn what_is_no_data_set_is_described() {
        let folder = tempfile::tempdir().unwrap();
        let found = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            let message = message(&path);
            let rest = message
                .strip_prefix(&format!("{}: not a data set: found ", path.display()))
                .unwrap();
            rest.split_once("; known are a folder of class folders")
                .unwrap()
                .0
                .to_string()
        };
        assert_eq!(found("empty", b""), "an empty file");
        assert_eq!(
            found("a.jpg", b"\xff\xd8\xff\xe0...."),
            "a single picture, which `vitrine classify` takes"
        );
        assert_eq!(
            found("labels", &[0, 0, 8, 1, 0, 0, 0, 0]),
            "one IDX file, whose folder is to be named"
        );
        assert_eq!(
            found("list.csv", b"a,b\n1,2\n"),
            "a file whose first bytes are 61 2c 62 0a 31 2c 32 0a"
        );
        assert_eq!(
            found("pets.zip", b"<html>"),
            "a damaged or truncated archive (its first bytes are 3c 68 74 6d 6c 3e)"
        );
    }

    #[test]
    fn run_directories_get_short_names() {
        let folder = tempfile::tempdir().unwrap();
        let set = folder.path().join("My Pets");
        fs::create_dir(&set).unwrap();
        for (file, name) in [
            ("train.tar", "my-pets"),
            ("Cats & dogs.tar.gz", "cats---dogs"),
            ("test-0.parquet", "my-pets"),
        ] {
            fs::write(set.join(file), b"").unwrap();
            assert_eq!(short_name(&set.join(file)), name);
        }
        assert_eq!(short_name(&set), "my-pets");
        let long = folder.path().join("Ä".repeat(127));
        fs::create_dir(&long).unwrap();
        assert_eq!(short_name(&long), "ä".repeat(100));
    }

    #[test]
    fn an_archive_named_for_a_split_beside_pictures_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("train/cat")).unwrap();
        fs::write(folder.path().join("train/cat/1.jpg"), b"abc").unwrap();
        fs::write(folder.path().join("test.zip"), b"PK").unwrap();
        assert_eq!(
            message(folder.path()),
            format!(
                "{}: found test.zip beside pictures such as train/cat/1.jpg; keep one of the two, or name the one that is meant",
                folder.path().display()
            )
        );
    }

    #[test]
    fn a_download_folder_with_one_archive_opens_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut builder =
            tar::Builder::new(fs::File::create(folder.path().join("pets.tar")).unwrap());
        for name in ["cat/1.jpg", "dog/1.jpg"] {
            let mut header = tar::Header::new_gnu();
            header.set_size(3);
            builder.append_data(&mut header, name, &b"abc"[..]).unwrap();
        }
        builder.finish().unwrap();
        assert_eq!(
            Dataset::open(folder.path())
                .unwrap()
                .given(SplitName::Train)
                .len(),
            2
        );
    }
}
