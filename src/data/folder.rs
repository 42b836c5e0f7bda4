//! Pictures in class folders, with or without split folders around them, on disk or in an archive.
//!
//! - `cat/1.jpg`, `dog/2.jpg`: class folders; everything is for training.
//! - `train/cat/1.jpg`, `val/cat/2.jpg`, `test/dog/3.jpg`: split folders.
//! - Deeper folders belong to the class folder they lie in. Folders around everything are skipped: see `layout.rs`.
//! - Classes are sorted by name; by number where all names are numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::error::DataError;
use super::extensions::{EXTENSIONS, NOT_PICTURES, UNREAD};
use super::files::{Files, FolderFiles};
use super::layout::{Layout, PlaceOf};
use super::listing::{Container, Entry, Listing, SourceKind};
use super::masks::{masks_beside, pictures_and_masks};
use super::outputs::without_outputs;
use super::sample::{RawPicture, Skipped, SplitName};
use crate::names::{base_name, folder_of};

/// Whether a file is to be read as a picture: by its extension, or else by its first bytes.
pub(super) fn is_candidate(files: &dyn Files, index: usize) -> bool {
    let extension = match base_name(&files.names()[index]).rsplit_once('.') {
        Some((_, extension)) => extension.to_ascii_lowercase(),
        None => String::new(),
    };
    if EXTENSIONS.contains(&extension.as_str()) || UNREAD.contains(&extension.as_str()) {
        return true;
    }
    if NOT_PICTURES.contains(&extension.as_str()) {
        return false;
    }
    use image::ImageFormat::{Bmp, Ico, Pnm};
    // The two bytes by which these are recognised, such as BM or P1, may as well begin a text.
    matches!(image::guess_format(&files.head(index)), Ok(format) if !matches!(format, Bmp | Ico | Pnm))
}

/// The pictures below a folder, and what there is besides them.
#[derive(Debug)]
pub(crate) struct PictureFiles {
    /// Their paths, sorted.
    pub paths: Vec<PathBuf>,
    /// What cannot be read.
    pub left_out: Vec<Skipped>,
    /// What is not read on purpose, a sentence each.
    pub notes: Vec<String>,
}

/// All pictures below `folder`.
///
/// # Errors
///
/// [`DataError::Io`] where the folder cannot be read.
pub(crate) fn picture_files(folder: &Path) -> Result<PictureFiles, DataError> {
    let files = without_outputs(Box::new(FolderFiles::open(folder)?));
    let paths = (0..files.names().len())
        .filter(|&index| is_candidate(&*files, index))
        .filter_map(|index| files.on_disk(index))
        .collect();
    let aside = files.aside();
    Ok(PictureFiles {
        paths,
        left_out: aside.left_out.clone(),
        notes: aside.notes.clone(),
    })
}

/// Two class folders of pictures or more, as a message names them; `None` where there are none.
pub(super) fn class_folders(files: &dyn Files) -> Option<String> {
    let pictures: Vec<&str> = (0..files.names().len())
        .filter(|&index| is_candidate(files, index))
        .map(|index| files.names()[index].as_str())
        .collect();
    let folders: BTreeSet<&str> = match Layout::of(pictures.iter().copied()) {
        Ok(layout) => pictures
            .iter()
            .filter_map(|name| Some(layout.place_of(name)?.class))
            .collect(),
        // Class folders whose arrangement is refused are class folders too.
        Err(_) => pictures.iter().map(|name| folder_of(name)).collect(),
    };
    let mut folders = folders.iter().map(|folder| folder.trim_end_matches('/'));
    let (first, second) = (folders.next()?, folders.next()?);
    Some(format!("{first}/ and {second}/"))
}

/// Class names sorted: by number when all are numbers, else by bytes.
pub(super) fn in_order(names: BTreeSet<String>) -> Vec<String> {
    let mut names: Vec<String> = names.into_iter().collect();
    let numeric =
        |name: &String| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    if names.iter().all(numeric) {
        // Compared as digits, since a number may be longer than any integer type holds.
        names.sort_by_cached_key(|name| {
            let digits = name.trim_start_matches('0');
            (digits.len(), digits.to_string(), name.clone())
        });
    }
    names
}

struct ClassFolders(Box<dyn Files>);

impl Container for ClassFolders {
    fn read(&self, entry: usize) -> Result<RawPicture<'_>, DataError> {
        self.0.picture(entry).map(RawPicture::Encoded)
    }

    fn file(&self, entry: usize) -> Option<PathBuf> {
        self.0.on_disk(entry)
    }
}

/// Lists class folders. `part` is the split that an archive is named for; it holds where no split folder says otherwise.
///
/// # Errors
///
/// [`DataError::NoPictures`] and [`DataError::Layout`].
pub(super) fn list_class_folders(
    files: Box<dyn Files>,
    kind: SourceKind,
    part: Option<SplitName>,
) -> Result<Listing, DataError> {
    let names = files.names();
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by(|&a, &b| names[a].cmp(&names[b]));
    let (pictures, others): (Vec<usize>, Vec<usize>) =
        order.into_iter().partition(|&i| is_candidate(&*files, i));
    let aside = files.aside();
    let refused = |reason: String| DataError::Layout {
        path: files.root().into(),
        reason,
    };
    if pictures.is_empty() {
        let left: Vec<String> = aside.left_out.iter().map(Skipped::to_string).collect();
        let why = [aside.notes.as_slice(), left.as_slice()].concat();
        return Err(match why.is_empty() {
            true => DataError::NoPictures {
                path: files.root().into(),
                files: names.len(),
            },
            false => refused(format!(
                "no pictures found in {}; {}",
                count(names.len(), "file"),
                why.join("; ")
            )),
        });
    }
    let layout =
        Layout::of(pictures.iter().map(|&index| names[index].as_str())).map_err(refused)?;
    let default = part.unwrap_or(SplitName::Train);
    let mut placed: Vec<(usize, SplitName, &str)> = Vec::new();
    let mut unplaced: Vec<usize> = Vec::new();
    for &index in &pictures {
        match layout.place_of(&names[index]) {
            Some(PlaceOf { split, class }) => placed.push((index, split.unwrap_or(default), class)),
            None => unplaced.push(index),
        }
    }
    if placed.is_empty() {
        return Err(refused(format!(
            "its {} in no class folder, the first {}; expected class folders such as cat/ and dog/, or split folders such as train/cat/ and test/cat/",
            count_are(pictures.len(), "picture"),
            names[pictures[0]],
        )));
    }
    let filled: BTreeSet<(SplitName, &str)> = placed
        .iter()
        .map(|&(_, split, class)| (split, class))
        .collect();
    let classes = in_order(filled.iter().map(|(_, class)| class.to_string()).collect());
    if let ([class], Some(left)) = (classes.as_slice(), aside.left_out.first()) {
        return Err(refused(format!(
            "one class only ({class}), and {left}; expected two or more classes, each in a folder of its own"
        )));
    }
    let labelled = placed
        .iter()
        .map(|&(index, _, class)| (class, names[index].as_str()));
    if let Some((pictures, masks)) = pictures_and_masks(labelled) {
        return Err(refused(format!(
            "{pictures} and {masks} hold files of the same names, as pictures and their masks do, and are no two classes; expected one folder for each class; if they are classes, rename {masks}"
        )));
    }
    let mut skipped = aside.left_out.clone();
    skipped.extend(unplaced_pictures(names, &unplaced));
    skipped.extend(empty_classes(&*files, &others, &layout, default, &filled));
    let mut notes = [aside.notes.as_slice(), layout.notes.as_slice()].concat();
    let masks = masks_beside(placed.iter().map(|&(index, ..)| names[index].as_str()));
    if let Some(first) = masks.first() {
        notes.push(format!(
            "{} named as masks of pictures beside them, such as {first}, and are read as pictures of their class; move them elsewhere if they are masks",
            count_are(masks.len(), "file"),
        ));
    }
    // Two archives may hold the same path: the split that each is named for makes the names differ.
    let prefix = part.filter(|_| !layout.has_splits());
    let entries = entries_of(names, &placed, &classes, prefix);
    Ok(Listing {
        kind,
        entries,
        classes,
        skipped,
        notes,
        container: Box::new(ClassFolders(files)),
    })
}

/// Pictures in no class folder, folder by folder.
fn unplaced_pictures(names: &[String], unplaced: &[usize]) -> Vec<Skipped> {
    let mut folders: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for &index in unplaced {
        folders
            .entry(folder_of(&names[index]))
            .or_default()
            .push(index);
    }
    folders
        .iter()
        .map(|(folder, pictures)| Skipped {
            name: if folder.is_empty() {
                "./".into()
            } else {
                folder.to_string()
            },
            reason: format!(
                "{} in no class folder, the first {}",
                count(pictures.len(), "picture"),
                names[pictures[0]]
            ),
        })
        .collect()
}

/// Class folders without a picture: empty ones, and those that hold other files (`others`).
fn empty_classes(
    files: &dyn Files,
    others: &[usize],
    layout: &Layout,
    default: SplitName,
    filled: &BTreeSet<(SplitName, &str)>,
) -> Vec<Skipped> {
    let mut empty: BTreeMap<PlaceOf<'_>, usize> = BTreeMap::new();
    let is_empty =
        |place: &PlaceOf<'_>| !filled.contains(&(place.split.unwrap_or(default), place.class));
    for &index in others {
        if let Some(place) = layout.place_of(&files.names()[index]).filter(is_empty) {
            *empty.entry(place).or_default() += 1;
        }
    }
    let mut empty_splits: Vec<Skipped> = Vec::new();
    for folder in &files.aside().empty_folders {
        match layout.place_of(folder) {
            Some(place) if is_empty(&place) => {
                empty.entry(place).or_default();
            }
            None if SplitName::from_folder(base_name(folder.trim_end_matches('/'))).is_some() => {
                empty_splits.push(Skipped {
                    name: folder.clone(),
                    reason: "an empty folder".into(),
                });
            }
            _ => {}
        }
    }
    let classes = empty
        .iter()
        .map(|(PlaceOf { split, class }, files)| Skipped {
            name: match split {
                Some(split) => format!("{split}/{class}/"),
                None => format!("{class}/"),
            },
            reason: match files {
                0 => "an empty folder".into(),
                files => format!("no picture among its {}", count(*files, "file")),
            },
        });
    empty_splits.into_iter().chain(classes).collect()
}

/// The pictures with their labels, as indices into `classes`.
fn entries_of(
    names: &[String],
    placed: &[(usize, SplitName, &str)],
    classes: &[String],
    prefix: Option<SplitName>,
) -> Vec<Entry> {
    let label_of: BTreeMap<&str, usize> = classes
        .iter()
        .enumerate()
        .map(|(label, class)| (&**class, label))
        .collect();
    placed
        .iter()
        .map(|&(entry, split, class)| Entry {
            name: match prefix {
                Some(part) => format!("{part}/{}", names[entry]),
                None => names[entry].clone(),
            },
            split,
            label: label_of[class],
            entry,
        })
        .collect()
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn count_are(number: usize, noun: &str) -> String {
    format!(
        "{} {}",
        count(number, noun),
        if number == 1 { "is" } else { "are" }
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::data::decode::{DecodeLimits, decode};
    use crate::data::source::Dataset;

    /// A folder of files, each with its own name as its bytes.
    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        folder
    }

    fn names(dataset: &Dataset, split: SplitName) -> Vec<&str> {
        dataset
            .given(split)
            .iter()
            .map(|sample| sample.name.as_str())
            .collect()
    }

    fn message(folder: &Path) -> String {
        let checked = Dataset::open(folder).and_then(|set| set.check_classes());
        let error = checked.unwrap_err().to_string();
        error.replace(&folder.display().to_string(), "DIR")
    }

    #[test]
    fn class_folders_alone_are_all_train() {
        let folder = folder(&[
            "dog/1.jpg",
            "cat/x/2.PNG",
            "cat/1.jpg",
            "README.txt",
            "dog/Thumbs.db",
            "cat/.hid.jpg",
        ]);
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!(dataset.kind, SourceKind::Folder);
        assert_eq!(dataset.classes, ["cat", "dog"]);
        assert_eq!(
            names(&dataset, SplitName::Train),
            ["cat/1.jpg", "cat/x/2.PNG", "dog/1.jpg"]
        );
        let labels: Vec<usize> = dataset
            .given(SplitName::Train)
            .iter()
            .map(|sample| sample.label)
            .collect();
        assert_eq!(labels, [0, 0, 1]);
        assert!(dataset.given(SplitName::Val).is_empty() && dataset.skipped.is_empty());
        let sample = &dataset.given(SplitName::Train)[1];
        assert_eq!(
            dataset.file(sample),
            Some(folder.path().join("cat/x/2.PNG"))
        );
        assert!(
            matches!(dataset.read(sample).unwrap(), RawPicture::Encoded(bytes) if &*bytes == b"cat/x/2.PNG")
        );
    }

    #[test]
    fn split_folders_in_a_wrapper() {
        let folder = folder(&[
            "set/train/a/1.jpg",
            "set/train/b/2.jpg",
            "set/Valid/a/3.jpg",
            "set/test/b/4.jpg",
            "set/extra/c/5.jpg",
            "set/test/6.jpg",
            "set/train/d/notes.txt",
        ]);
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!(dataset.classes, ["a", "b"]);
        assert_eq!(
            names(&dataset, SplitName::Train),
            ["set/train/a/1.jpg", "set/train/b/2.jpg"]
        );
        assert_eq!(names(&dataset, SplitName::Val), ["set/Valid/a/3.jpg"]);
        assert_eq!(names(&dataset, SplitName::Test), ["set/test/b/4.jpg"]);
        let skipped: Vec<String> = dataset
            .skipped
            .iter()
            .map(|s| format!("{}: {}", s.name, s.reason))
            .collect();
        assert_eq!(
            skipped,
            [
                "set/extra/c/: 1 picture in no class folder, the first set/extra/c/5.jpg",
                "set/test/: 1 picture in no class folder, the first set/test/6.jpg",
                "train/d/: no picture among its 1 file",
            ]
        );
    }

    #[test]
    fn a_test_folder_alone_is_a_test_split() {
        let dataset = Dataset::open(folder(&["test/a/1.jpg", "test/b/2.jpg"]).path()).unwrap();
        assert_eq!(names(&dataset, SplitName::Test).len(), 2);
        assert!(dataset.given(SplitName::Train).is_empty());
        assert!(dataset.split(0, 0.1, 0.1).unwrap_err().to_string().ends_with(
            ": has no training pictures, only test; name a data set with a train folder, or class folders alone"
        ));
    }

    #[test]
    fn classes_are_in_order() {
        let set = |names: &[&str]| in_order(names.iter().map(|name| name.to_string()).collect());
        assert_eq!(set(&["10", "9", "1"]), ["1", "9", "10"]);
        assert_eq!(set(&["10", "9", "a"]), ["10", "9", "a"]);
        assert_eq!(
            set(&["010", "9", "99999999999999999999999999999999999999999"])[..2],
            ["9", "010"]
        );
    }

    #[test]
    fn pictures_are_known_by_their_beginning_too() {
        let folder = folder(&["a/1.jpg", "b/text", "b/text.jpg"]);
        fs::write(folder.path().join("b/picture"), b"\x89PNG\r\n\x1a\n....").unwrap();
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!(
            names(&dataset, SplitName::Train),
            ["a/1.jpg", "b/picture", "b/text.jpg"]
        );
    }

    #[test]
    fn a_picture_of_a_format_that_is_not_read_is_named() {
        let folder = folder(&["a/1.jpg", "b/2.jpg"]);
        fs::write(folder.path().join("a/2.HEIC"), b"\0\0\0\x18ftypheic").unwrap();
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!(
            names(&dataset, SplitName::Train),
            ["a/1.jpg", "a/2.HEIC", "b/2.jpg"]
        );
        let picture = dataset.read(&dataset.given(SplitName::Train)[1]).unwrap();
        let error = decode(&picture, &DecodeLimits::default());
        assert_eq!(
            error.unwrap_err().to_string(),
            "HEIC is not read here; convert it to JPEG or PNG"
        );
    }

    #[test]
    fn an_empty_picture_is_named() {
        let folder = folder(&["a/1.jpg", "b/2.jpg"]);
        fs::write(folder.path().join("b/2.jpg"), b"").unwrap();
        let dataset = Dataset::open(folder.path()).unwrap();
        let error = dataset
            .read(&dataset.given(SplitName::Train)[1])
            .unwrap_err();
        assert_eq!(error.to_string(), "b/2.jpg: empty file (0 bytes)");
    }

    #[test]
    fn an_empty_folder_says_what_was_read() {
        let extensions = "bmp, dds, exr, ff, gif, hdr, ico, jfif, jpeg, jpg, pam, pbm, pgm, png, pnm, ppm, qoi, tga, tif, tiff, webp";
        assert_eq!(
            message(folder(&[]).path()),
            format!(
                "DIR: no pictures found in 0 files; expected class folders such as cat/ and dog/ with files that end in {extensions}"
            )
        );
        assert!(
            message(folder(&["a/notes.txt"]).path())
                .starts_with("DIR: no pictures found in 1 files; expected ")
        );
    }

    #[test]
    fn one_class_only_is_refused() {
        assert_eq!(
            message(folder(&["cat/1.jpg", "cat/2.jpg"]).path()),
            "DIR: one class only (cat); expected two or more, each in a folder of its own"
        );
        assert_eq!(
            message(folder(&["train/cat/2019/1.jpg", "test/cat/2020/2.jpg"]).path()),
            "DIR: one class only (cat); expected two or more, each in a folder of its own"
        );
    }

    #[test]
    fn a_class_that_train_lacks_is_refused_with_both_lists() {
        assert_eq!(
            message(
                folder(&[
                    "train/cat/1.jpg",
                    "train/dog/2.jpg",
                    "val/cat/3.jpg",
                    "val/emu/4.jpg"
                ])
                .path()
            ),
            "DIR: val has classes that train does not have: emu; train has cat, dog; rename their folders, or move them out (pictures without labels are for `vitrine classify`)"
        );
    }

    #[test]
    fn pictures_outside_class_folders_are_refused() {
        assert_eq!(
            message(folder(&["1.jpg", "2.jpg"]).path()),
            "DIR: its 2 pictures are in no class folder, the first 1.jpg; expected class folders such as cat/ and dog/, or split folders such as train/cat/ and test/cat/"
        );
    }

    #[test]
    fn split_folders_beside_class_folders_are_refused() {
        assert_eq!(
            message(folder(&["cat/1.jpg", "dog/1.jpg", "test/cat/2.jpg"]).path()),
            "DIR: found test beside cat and dog and no train; expected class folders alone, or all of them in train, val and test; if test is a class too, put all of them into a folder called train"
        );
    }
}
