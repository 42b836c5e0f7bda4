//! Recognises a data set by what it holds, not by a flag, and opens it.
//!
//! Two kinds of place hold files, folders and archives (`files.rs`, `archive.rs`); in either lies one kind of data set:
//! class folders (`folder.rs`), CIFAR binary files (`cifar.rs`), IDX files (`idx.rs`) or Parquet files (`parquet.rs`).
//! A new kind is one new file and one line in `recognise`.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::archive::{self, TarFiles, ZipFiles};
use super::bytes::{self, Bytes};
use super::files::{FolderFiles, Files, base_name};
use super::sample::Location;
use super::{DataError, RawPicture, Sample, Skipped, SplitName, cifar, embedded, folder, idx, parquet};

/// What a data set is stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// Pictures in class folders, on disk.
    Folder,
    /// Pictures in class folders, in a tar or zip archive.
    Archive,
    /// CIFAR-10's binary version.
    Cifar10,
    /// CIFAR-100's binary version, with its fine labels.
    Cifar100,
    /// The files of the MNIST family.
    Idx,
    /// Parquet as the Hugging Face hub stores image data sets.
    Parquet,
    /// The Fashion-MNIST sample in this program.
    Embedded,
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SourceKind::Folder => "class folders",
            SourceKind::Archive => "class folders in an archive",
            SourceKind::Cifar10 => "CIFAR-10 binary",
            SourceKind::Cifar100 => "CIFAR-100 binary",
            SourceKind::Idx => "IDX",
            SourceKind::Parquet => "Parquet",
            SourceKind::Embedded => "embedded",
        })
    }
}

/// Holds the pictures of one source, for as many threads as ask.
pub(super) trait Container: Send + Sync {
    /// One picture as stored.
    fn read(&self, entry: usize) -> Result<RawPicture<'_>, DataError>;

    /// The picture as a file of its own, where it is one.
    fn file(&self, _entry: usize) -> Option<PathBuf> {
        None
    }
}

/// One picture of a [`Listing`].
pub(super) struct Entry {
    pub name: String,
    pub split: SplitName,
    /// Into the listing's classes.
    pub label: usize,
    /// What [`Container::read`] takes.
    pub entry: usize,
}

/// What one source found.
pub(super) struct Listing {
    pub kind: SourceKind,
    pub container: Box<dyn Container>,
    pub classes: Vec<String>,
    pub entries: Vec<Entry>,
    pub skipped: Vec<Skipped>,
}

/// A data set that has been opened: its classes, its labelled pictures, and the means to read them.
pub struct Dataset {
    /// Short, for run directories: `cifar10`, `flowers`.
    pub name: String,
    /// The path it was opened from, or `embedded`.
    pub origin: String,
    /// What it is stored as.
    pub kind: SourceKind,
    /// Class names; a sample's label is an index into them.
    pub classes: Vec<String>,
    /// What was found and cannot be used.
    pub skipped: Vec<Skipped>,
    parts: [Vec<Sample>; 3],
    containers: Vec<Box<dyn Container>>,
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataset")
            .field("name", &self.name)
            .field("origin", &self.origin)
            .field("kind", &self.kind)
            .field("classes", &self.classes)
            .field("pictures", &self.parts.each_ref().map(Vec::len))
            .finish_non_exhaustive()
    }
}

impl Dataset {
    /// Opens the data set at `path`, whatever of the known kinds it is. No picture is decoded.
    ///
    /// # Errors
    /// When there is nothing at `path`, nothing known, no picture, fewer than two classes, a damaged container, or a
    /// validation or test class that train does not have.
    pub fn open(path: &Path) -> Result<Dataset, DataError> {
        let listings = if !path.exists() {
            return Err(DataError::Missing { path: path.into() });
        } else if path.is_dir() {
            open_folder(path)?
        } else {
            vec![open_file(path, None)?]
        };
        let name = match listings[0].kind {
            SourceKind::Cifar10 => "cifar10".into(),
            SourceKind::Cifar100 => "cifar100".into(),
            _ => short_name(path),
        };
        Dataset::assemble(name, path.display().to_string(), listings)
    }

    /// The Fashion-MNIST sample that this program carries: 10,000 training and 2,000 test pictures of 10 classes.
    pub fn embedded() -> Dataset {
        let assembled = Dataset::assemble("fashion-mnist-sample".into(), "embedded".into(), vec![embedded::list()]);
        assembled.expect("the bundled data set is complete")
    }

    fn assemble(name: String, origin: String, listings: Vec<Listing>) -> Result<Dataset, DataError> {
        let kind = listings[0].kind;
        let classes = if listings.iter().all(|listing| listing.classes == listings[0].classes) {
            listings[0].classes.clone()
        } else {
            folder::in_order(listings.iter().flat_map(|listing| listing.classes.iter().cloned()).collect())
        };
        let mut dataset = Dataset {
            name,
            origin,
            kind,
            classes,
            skipped: Vec::new(),
            parts: Default::default(),
            containers: Vec::new(),
        };
        for (container, listing) in listings.into_iter().enumerate() {
            let labels: Vec<usize> = listing
                .classes
                .iter()
                .map(|class| dataset.classes.iter().position(|known| known == class))
                .map(|position| position.expect("the union holds every listing's classes"))
                .collect();
            for Entry { name, split, label, entry } in listing.entries {
                let location = Location { container, entry };
                let label = labels[label];
                dataset.parts[split.index()].push(Sample { name, label, location });
            }
            dataset.skipped.extend(listing.skipped);
            dataset.containers.push(listing.container);
        }
        dataset.check_classes()?;
        Ok(dataset)
    }

    /// Two classes at least, and none that training never shows.
    fn check_classes(&self) -> Result<(), DataError> {
        let labels_of = |samples: &[Sample]| samples.iter().map(|sample| sample.label).collect::<BTreeSet<_>>();
        let named = |labels: &BTreeSet<usize>| labels.iter().map(|&label| self.classes[label].clone()).collect::<Vec<_>>();
        let path = PathBuf::from(&self.origin);
        let train = labels_of(self.given(SplitName::Train));
        if !train.is_empty() {
            for split in [SplitName::Val, SplitName::Test] {
                let unknown = &labels_of(self.given(split)) - &train;
                if !unknown.is_empty() {
                    let (unknown, train) = (named(&unknown), named(&train));
                    return Err(DataError::UnknownClasses { path, split, unknown, train });
                }
            }
        }
        let shown: BTreeSet<usize> = self.parts.iter().flat_map(|part| labels_of(part)).collect();
        match named(&shown).as_slice() {
            [] => Err(DataError::NoPictures { path, files: 0 }),
            [class] => Err(DataError::OneClass { path, class: class.clone() }),
            _ => Ok(()),
        }
    }

    /// One picture as it is stored. Any number of threads may read at once.
    ///
    /// # Errors
    /// When the file is gone, empty, or damaged within its archive. What the bytes show is `decode`'s to judge.
    pub fn read(&self, sample: &Sample) -> Result<RawPicture<'_>, DataError> {
        let raw = self.containers[sample.location.container].read(sample.location.entry)?;
        match &raw {
            RawPicture::Encoded(bytes) if bytes.is_empty() => Err(DataError::Unreadable {
                name: sample.name.clone(),
                reason: "empty file (0 bytes)".into(),
            }),
            _ => Ok(raw),
        }
    }

    /// The path of a sample that is a file of its own; nothing for one inside a container.
    pub fn file(&self, sample: &Sample) -> Option<PathBuf> {
        self.containers[sample.location.container].file(sample.location.entry)
    }

    /// The samples of a split as the source gives it, in a stable order; empty where it has no such split.
    pub fn given(&self, split: SplitName) -> &[Sample] {
        &self.parts[split.index()]
    }

    /// Every sample, whatever its split.
    pub fn samples(&self) -> impl Iterator<Item = (SplitName, &Sample)> {
        SplitName::ALL.into_iter().flat_map(|split| self.given(split).iter().map(move |sample| (split, sample)))
    }
}

/// A data set in a folder: what the folder's files are, or the archives that lie there.
fn open_folder(path: &Path) -> Result<Vec<Listing>, DataError> {
    let files = FolderFiles::open(path)?;
    let archives = archives_in(&files);
    if archives.is_empty() {
        return Ok(vec![recognise(Box::new(files), SourceKind::Folder, None)?]);
    }
    archives.iter().map(|(path, part)| open_file(path, *part)).collect()
}

/// `train.tar` and its like directly in a folder, each with the split it is named for; or the only archive there, when
/// it is the only file, as a download leaves it.
fn archives_in(files: &FolderFiles) -> Vec<(PathBuf, Option<SplitName>)> {
    let archives: Vec<(usize, &str)> = files
        .names()
        .iter()
        .enumerate()
        .filter(|(_, name)| !name.contains('/'))
        .filter_map(|(index, name)| archive::stem(name).map(|stem| (index, stem)))
        .collect();
    let path = |index: usize| files.on_disk(index).expect("a folder's files are on disk");
    let split_archives: Vec<_> = archives
        .iter()
        .filter_map(|&(index, stem)| SplitName::from_folder(stem).map(|split| (path(index), Some(split))))
        .collect();
    match archives.as_slice() {
        [(index, _)] if files.names().len() == 1 => vec![(path(*index), None)],
        _ => split_archives,
    }
}

/// A data set in one file: an archive, or Parquet.
fn open_file(path: &Path, part: Option<SplitName>) -> Result<Listing, DataError> {
    let bytes = Bytes::map(path)?;
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        return recognise(Box::new(ZipFiles::open(path, bytes)?), SourceKind::Archive, part);
    }
    if archive::is_tar(&bytes) {
        return recognise(Box::new(TarFiles::open(path, bytes)?), SourceKind::Archive, part);
    }
    if bytes::is_gzip(&bytes) && archive::is_tar(&bytes::gunzip_head(&bytes, 512)) {
        let unpacked = Bytes::from(bytes::gunzip(path, &bytes)?);
        return recognise(Box::new(TarFiles::open(path, unpacked)?), SourceKind::Archive, part);
    }
    if bytes.starts_with(b"PAR1") {
        return parquet::list(&[(path.into(), base_name(&path.to_string_lossy()).into())]);
    }
    Err(unrecognised(path, &bytes))
}

/// The one place where a kind of data set is chosen.
fn recognise(files: Box<dyn Files>, kind: SourceKind, part: Option<SplitName>) -> Result<Listing, DataError> {
    if let Some(layout) = cifar::find(files.names()) {
        cifar::list(&*files, &layout)
    } else if let Some(pairs) = idx::find(files.names()) {
        idx::list(&*files, &pairs)
    } else if let Some(shards) = parquet::find(&*files)? {
        parquet::list(&shards)
    } else {
        folder::list(files, kind, part)
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
    } else if archive::stem(&path.to_string_lossy()).is_some() {
        format!("a damaged or truncated archive (its first bytes are {})", hex(bytes))
    } else {
        format!("a file whose first bytes are {}", hex(bytes))
    };
    DataError::Unrecognised { path: path.into(), found }
}

fn hex(bytes: &[u8]) -> String {
    let head: Vec<String> = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    head.join(" ")
}

/// A name for run directories: the file's or folder's, or its folder's where the file is only called `train`.
fn short_name(path: &Path) -> String {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let part = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let own = part(&real);
    let stem = match archive::stem(&own) {
        Some(stem) => stem,
        None => own.strip_suffix(".parquet").unwrap_or(&own),
    };
    let is_part = stem.split(['-', '.']).next().and_then(SplitName::from_folder).is_some();
    let name = match real.parent() {
        Some(parent) if is_part => part(parent),
        _ => stem.to_string(),
    };
    let name: String = name
        .chars()
        .map(|c| if c.is_alphanumeric() || c == '-' || c == '_' { c } else { '-' })
        .collect();
    if name.is_empty() { "data".into() } else { name.to_lowercase() }
}
