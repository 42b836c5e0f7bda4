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
