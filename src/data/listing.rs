//! What each kind of source hands over: the pictures it found, and the means to read them.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::DataError;
use super::sample::{RawPicture, Skipped, SplitName};

/// What a data set is stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// Class folders on disk.
    Folder,
    /// Class folders in a tar or zip archive.
    Archive,
    /// The binary version of CIFAR-10.
    Cifar10,
    /// The binary version of CIFAR-100, with its fine labels.
    Cifar100,
    /// IDX files: MNIST and its relatives.
    Idx,
    /// Parquet files as on the Hugging Face hub.
    Parquet,
    /// The Fashion-MNIST sample that is part of this program.
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

/// The stored pictures of one source, readable from any number of threads at once.
pub(super) trait Container: Send + Sync {
    /// One picture as it is stored.
    fn read(&self, entry: usize) -> Result<RawPicture<'_>, DataError>;

    /// The path of the picture, where it is a file of its own.
    fn file(&self, _entry: usize) -> Option<PathBuf> {
        None
    }
}

/// One picture of a [`Listing`].
pub(super) struct Entry {
    pub name: String,
    pub split: SplitName,
    /// Index into [`Listing::classes`].
    pub label: usize,
    /// The argument for [`Container::read`].
    pub entry: usize,
}

/// What one source found.
pub(super) struct Listing {
    pub kind: SourceKind,
    pub container: Box<dyn Container>,
    pub classes: Vec<String>,
    pub entries: Vec<Entry>,
    pub skipped: Vec<Skipped>,
    /// What was understood where it is not plain, and what is not read on purpose, a sentence each.
    pub notes: Vec<String>,
}
