//! Recognises a data set by what it holds, not by a flag.
//!
//! Two kinds of place hold files, folders and archives (`files.rs`, `archive/`); in either lies one kind of data set:
//! class folders (`folder.rs`), CIFAR binary files (`cifar.rs`), IDX files (`idx.rs`) or Parquet files (`parquet.rs`).
//! A new kind is one new file and one line in [`recognise`].

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::archive::{TarFiles, ZipFiles, is_tar, is_zip};
use super::bytes::Bytes;
use super::error::DataError;
use super::extensions::archive_stem;
use super::files::{Files, FolderFiles};
use super::listing::{Listing, SourceKind};
use super::outputs::{is_run, without_outputs};
use super::packed::Packing;
use super::sample::SplitName;
use super::{cifar, folder, foreign, idx, parquet, split_names, webdataset};
use crate::names::{self, base_name};

/// A data set in a folder: what the folder's files are, or the archives that lie there.
pub(super) fn open_folder(path: &Path) -> Result<Vec<Listing>, DataError> {
    if is_run(path) {
        return Err(DataError::Unrecognised {
            path: path.into(),
            found: "a run directory, where the data set that it was trained on is to be named"
                .into(),
        });
    }
    let files = without_outputs(Box::new(FolderFiles::open(path)?));
    let archives = archives_in(&*files);
    let Some((first, _)) = archives.first() else {
        return Ok(vec![recognise(files, SourceKind::Folder, None)?]);
    };
    if let Some(index) =
        (0..files.names().len()).find(|&index| folder::is_candidate(&*files, index))
    {
        let reason = format!(
            "found {} beside pictures such as {}; keep one of the two, or name the one that is meant",
            base_name(&names::text(first)),
            files.names()[index],
        );
        return Err(DataError::Layout {
            path: path.into(),
            reason,
        });
    }
    let mut listings = archives
        .iter()
        .map(|(path, part)| open_file(path, *part))
        .collect::<Result<Vec<Listing>, DataError>>()?;
    let mut seen = BTreeSet::new();
    for entry in listings.iter().flat_map(|listing| &listing.entries) {
        if !seen.insert((entry.split, &entry.name)) {
            let reason = format!(
                "two of its archives have the picture {}; unpack them into folders and name the one around these",
                entry.name
            );
            return Err(DataError::Layout {
                path: path.into(),
                reason,
            });
        }
    }
    listings[0].notes.splice(0..0, files.aside().notes.clone());
    listings[0]
        .skipped
        .splice(0..0, files.aside().left_out.clone());
    let read: HashSet<&OsStr> = archives
        .iter()
        .filter_map(|(path, _)| path.file_name())
        .collect();
    for (index, name) in archive_names(&*files) {
        let path = files.on_disk(index);
        if !path.is_some_and(|path| path.file_name().is_some_and(|name| read.contains(name))) {
            let note = format!("{name} is not read: its name is none of a split");
            listings[0].notes.push(note);
        }
    }
    Ok(listings)
}

/// The archives directly in a folder: their indices and names.
fn archive_names(files: &dyn Files) -> Vec<(usize, &str)> {
    files
        .names()
        .iter()
        .enumerate()
        .filter(|(_, name)| !name.contains('/') && archive_stem(name).is_some())
        .map(|(index, name)| (index, name.as_str()))
        .collect()
}

/// `train.tar` and its like directly in a folder, each with the split it is named for; or the only archive there, where
/// nothing else is a data set, as a download leaves it.
fn archives_in(files: &dyn Files) -> Vec<(PathBuf, Option<SplitName>)> {
    let archives = archive_names(files);
    let path = |index: usize| files.on_disk(index).expect("a folder's files are on disk");
    let stems: Vec<&str> = archives
        .iter()
        .map(|(_, name)| archive_stem(name).unwrap_or(name))
        .collect();
    let sets: Vec<&str> = stems.iter().map(|stem| without_shard(stem)).collect();
    let split_archives: Vec<_> = archives
        .iter()
        .zip(split_names::assign(&sets, |_| Vec::new()))
        .filter_map(|(&(index, _), split)| Some((path(index), Some(split?))))
        .collect();
    match archives.as_slice() {
        [(index, _)] if holds_only_archives(files) => vec![(path(*index), None)],
        _ if split_archives.is_empty() && are_numbered(&stems) && holds_only_archives(files) => {
            archives
                .iter()
                .map(|&(index, _)| (path(index), None))
                .collect()
        }
        _ => split_archives,
    }
}

/// A name without the number of a shard: `train` of `train-000017` and of `train-00017-of-00128`.
fn without_shard(stem: &str) -> &str {
    let before_number = |text: &'_ str, fewest: usize| {
        let rest = text.trim_end_matches(|c: char| c.is_ascii_digit());
        (text.len() - rest.len() >= fewest).then_some(rest.len())
    };
    let cut = |separator: &[char], fewest: usize, text: &str| {
        let length = before_number(text, fewest)?;
        text[..length].strip_suffix(separator).map(str::len)
    };
    let numbered = cut(&['-', '_', '.'], 1, stem)
        .and_then(|length| stem[..length].strip_suffix("-of"))
        .unwrap_or(stem);
    match cut(&['-', '_', '.'], 3, numbered) {
        Some(length) => &numbered[..length],
        None => stem,
    }
}

/// Whether archives are parts of one set by their names, which differ in nothing but a number, as shards of a WebDataset
/// do.
fn are_numbered(stems: &[&str]) -> bool {
    let digits = |c: char| c.is_ascii_digit();
    let word = |stem: &str| stem.trim_end_matches(digits).to_owned();
    stems.len() > 1
        && stems
            .iter()
            .all(|stem| stem.ends_with(digits) && word(stem) == word(stems[0]))
}

/// Whether nothing in a folder but its archives may be a data set.
fn holds_only_archives(files: &dyn Files) -> bool {
    let names = files.names();
    cifar::find_batches(names).is_none()
        && idx::find_pairs(names).is_none()
        && !names.iter().any(|name| parquet::is_shard(name))
        && !(0..names.len()).any(|index| folder::is_candidate(files, index))
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
    if let Some(archive) = open_archive(path, &bytes)? {
        return recognise(without_outputs(archive), SourceKind::Archive, part);
    }
    if bytes.starts_with(b"PAR1") {
        return parquet::list_rows(&[(path.into(), base_name(&names::text(path)).into())]);
    }
    Err(unrecognised(path, &bytes))
}

/// The files of an archive, whatever its name is; `None` where these bytes are none.
fn open_archive(path: &Path, bytes: &Bytes) -> Result<Option<Box<dyn Files>>, DataError> {
    Ok(if is_tar(bytes) {
        Some(Box::new(TarFiles::open(path, bytes.clone())?))
    } else if let Some(packing) = Packing::of(bytes) {
        let is_archive = is_tar(&packing.head(bytes, 512));
        // One that is named so is unpacked for the reason why it is none.
        if !is_archive && archive_stem(&names::text(path)).is_none() {
            return Ok(None);
        }
        let unpacked = packing.unpack(path, bytes)?;
        if !is_archive {
            return Ok(None);
        }
        Some(Box::new(TarFiles::open(path, unpacked)?))
    } else if is_zip(bytes) {
        Some(Box::new(ZipFiles::open(path, bytes.clone())?))
    } else {
        None
    })
}

/// The one place where a kind of data set is chosen.
fn recognise(
    files: Box<dyn Files>,
    kind: SourceKind,
    part: Option<SplitName>,
) -> Result<Listing, DataError> {
    let names = files.names();
    let aside = files.aside().clone();
    let mut listing = if let Some(layout) = cifar::find_batches(names) {
        alone(&*files, "CIFAR", &names[layout.first()])?;
        cifar::list_records(&*files, &layout)?
    } else if let Some(pairs) = idx::find_pairs(names) {
        alone(&*files, "IDX", &names[pairs[0].images])?;
        idx::list_images(&*files, &pairs)?
    } else if let Some(table) = names.iter().find(|name| parquet::is_shard(name)) {
        if parquet::has_pictures(&*files) || folder::class_folders(&*files).is_none() {
            alone(&*files, "Parquet", table)?;
            let shards = parquet::find_shards(&*files)?;
            parquet::list_rows(&shards.unwrap_or_default())?
        } else {
            let note = format!(
                "{table} is not read: it has no pictures with labels, and the class folders have"
            );
            let mut listing = folder::list_class_folders(files, kind, part)?;
            listing.notes.push(note);
            return Ok(listing);
        }
    } else {
        let files = webdataset::in_class_folders(files);
        let hints = foreign::Hints::of(files.names());
        let path = files.root().to_path_buf();
        return match folder::list_class_folders(files, kind, part) {
            Ok(listing) => match hints.other_task(&listing.classes) {
                Some(found) => Err(found.error(&path)),
                None => Ok(listing),
            },
            Err(error) => Err(hints.explain(error)),
        };
    };
    listing.notes.splice(0..0, aside.notes);
    listing.skipped.splice(0..0, aside.left_out);
    Ok(listing)
}

/// Checks that there are no class folders beside files of another kind.
///
/// # Errors
///
/// [`DataError::Layout`]: either may be meant.
fn alone(files: &dyn Files, kind: &str, name: &str) -> Result<(), DataError> {
    match folder::class_folders(files) {
        None => Ok(()),
        Some(folders) => Err(DataError::Layout {
            path: files.root().into(),
            reason: format!(
                "found {name}, which is {kind}, beside class folders of pictures, {folders}; move one of the two elsewhere, or name the one that is meant"
            ),
        }),
    }
}

fn unrecognised(path: &Path, bytes: &[u8]) -> DataError {
    if let Some(foreign) = foreign::by_bytes(bytes)
        .or_else(|| foreign::by_name(&names::text(path)))
        .filter(|_| !bytes.is_empty())
    {
        return foreign.error(path);
    }
    let packing = Packing::of(bytes);
    let unpacked = packing.map_or(Vec::new(), |packing| packing.head(bytes, 4));
    let found = if bytes.is_empty() {
        "an empty file".into()
    } else if image::guess_format(bytes).is_ok() {
        "a single picture, which `vitrine classify` takes".into()
    } else if idx::is_idx(bytes) || idx::is_idx(&unpacked) {
        "one IDX file, whose folder is to be named".into()
    } else if let Some(packing) = packing {
        format!("a {} file that holds no tar archive", packing.name())
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
        None => parquet::stem(&own).unwrap_or(&own),
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
            found("pets.zip", b"half\0!"),
            "a damaged or truncated archive (its first bytes are 68 61 6c 66 00 21)"
        );
        assert_eq!(
            found("list.csv.gz", b"\x1f\x8b\x08\0\0\0"),
            "a gzip file that holds no tar archive"
        );
    }

    /// What is said of files that are not read here, in a folder of their own.
    fn said(files: &[(&str, &[u8])], open: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        message(&folder.path().join(open)).replace(&folder.path().display().to_string(), "DIR")
    }

    #[test]
    fn other_containers_are_called_by_their_name() {
        for (name, bytes, found) in [
            (
                "pets.7z",
                &b"7z\xbc\xaf\x27\x1c...."[..],
                "a 7z archive; unpack it into a folder and name that",
            ),
            (
                "pets",
                b"Rar!\x1a\x07\x01\0",
                "a RAR archive; unpack it into a folder and name that",
            ),
            (
                "pets.zip.001",
                b"PK\x01\x02",
                "one part of a split archive; join its parts",
            ),
            (
                "pets.zip",
                b"\n<!doctype html>",
                "a web page (HTML); the server answered with a page",
            ),
            (
                "a.parquet",
                b"version https://git-lfs.github.com/spec/v1\noid",
                "a Git LFS pointer in the place of a file; fetch",
            ),
            (
                "x",
                b"ARROW1\0\0",
                "an Arrow file; write the set as Parquet",
            ),
            (
                "a-train.tfrecord-00000-of-00002",
                b"\x01\0\0\0\0\0\0\0",
                "TFRecord files; write each picture as PNG",
            ),
            (
                "a.npy",
                b"\x93NUMPY\x01\0",
                "a NumPy array; write each picture",
            ),
            (
                "a.mat",
                b"MATLAB 5.0 MAT-file, Platform",
                "a MATLAB file; write each picture",
            ),
        ] {
            let said = said(&[(name, bytes)], name);
            assert!(
                said.starts_with(&format!("DIR/{name}: found {found}")),
                "{said}"
            );
        }
    }

    #[test]
    fn folders_of_other_containers_are_called_by_their_name() {
        for (files, found) in [
            (
                &["data-0.arrow", "state.json"][..],
                "Arrow files, as `save_to_disk` writes them such as data-0.arrow; write the set as Parquet",
            ),
            (
                &["a/x.npz", "readme.md"],
                "NumPy arrays such as a/x.npz; write each picture",
            ),
            (
                &["b/batches.meta", "b/data_batch_1"],
                "the Python version of CIFAR-10 (pickles); the binary version is read",
            ),
            (
                &["a.zip", "b.zip", "labels.csv"],
                "archives such as a.zip; name the one that is meant, or unpack",
            ),
            (
                &["000.cls", "001.cls"],
                "WebDataset shards, which keep classes in files such as 000.cls; expected class folders",
            ),
            (
                &["images/train/1.jpg", "labels/train/1.txt"],
                "a set for object detection, with boxes in labels (YOLO)",
            ),
            (
                &[
                    "JPEGImages/1.jpg",
                    "SegmentationClass/1.png",
                    "Annotations/1.xml",
                ],
                "a set for object detection, with boxes in Annotations",
            ),
            (
                &["train/images/1.jpg", "train/_annotations.coco.json"],
                "a set for object detection, with boxes in annotations (COCO)",
            ),
        ] {
            let files: Vec<(&str, &[u8])> = files.iter().map(|name| (*name, &b"abc"[..])).collect();
            let said = said(&files, "");
            assert!(said.starts_with(&format!("DIR/: found {found}")), "{said}");
        }
        for (picture, found) in [
            (
                "a.jpg",
                "its 1 picture is in no class folder, the first a.jpg; expected class folders such as cat/ and dog/, or split folders such as train/cat/ and test/cat/; train.csv may hold their classes, which are read from the names of folders only",
            ),
            (
                "images/a.jpg",
                "found no classes but images; train.csv may hold them; expected class folders such as cat/ and dog/: to classify, put each picture into the folder of its class",
            ),
        ] {
            let said = said(&[(picture, b"a"), ("train.csv", b"id,label\n")], "");
            assert_eq!(said, format!("DIR/: {found}"));
        }
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
            ("Cats.PARQUET", "cats"),
            ("dogs.tar.zst", "dogs"),
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
    fn shards_have_the_name_of_their_set() {
        for (stem, set) in [
            ("train-000017", "train"),
            ("pets-train-00017-of-00128", "pets-train"),
            ("val_000", "val"),
            // Of a competition that has no labels, and a year.
            ("test1", "test1"),
            ("val2017", "val2017"),
            ("part-1", "part-1"),
            ("2017", "2017"),
            ("ä-001", "ä"),
        ] {
            assert_eq!(without_shard(stem), set, "{stem}");
        }
        assert!(are_numbered(&["00000", "00001"]) && are_numbered(&["set-1", "set-10"]));
        assert!(!are_numbered(&["00000"]) && !are_numbered(&["a1", "b1"]));
    }

    #[test]
    fn two_numbered_archives_may_not_have_one_picture() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["part-1.tar", "part-2.tar"] {
            let mut builder =
                tar::Builder::new(fs::File::create(folder.path().join(name)).unwrap());
            for name in ["cat/1.jpg", "dog/1.jpg"] {
                let mut header = tar::Header::new_gnu();
                header.set_size(3);
                builder.append_data(&mut header, name, &b"abc"[..]).unwrap();
            }
            builder.finish().unwrap();
        }
        assert_eq!(
            message(folder.path()),
            format!(
                "{}: two of its archives have the picture cat/1.jpg; unpack them into folders and name the one around these",
                folder.path().display()
            )
        );
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
