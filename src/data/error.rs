//! What can go wrong between a path and a batch.

use std::io;
use std::path::PathBuf;

use super::extensions::EXTENSIONS;
use super::sample::SplitName;
use crate::names::{self, shown, visible};

/// Why a data set, or one picture of it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The path does not exist.
    #[error("{}: no such file or folder", shown(path))]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// The operating system reported an error.
    #[error("{}: cannot {doing}: {source}", shown(path))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// A verb: `read`, `write`, …
        doing: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The path exists, and is not a known kind of data set.
    #[error(
        "{}: not a data set: found {found}; known are a folder of class folders, a .zip, .tar, .tar.gz, .tar.xz, .tar.bz2 or .tar.zst of one, CIFAR-10 and CIFAR-100 binary files, IDX files and Parquet files",
        shown(path)
    )]
    Unrecognised {
        /// What was opened.
        path: PathBuf,
        /// Its extension and first bytes.
        found: String,
    },
    /// What is not read here, but known by its name.
    #[error("{}: found {found}; {next}", shown(path), found = visible(found))]
    Foreign {
        /// What was opened.
        path: PathBuf,
        /// What it is.
        found: String,
        /// What to do.
        next: &'static str,
    },
    /// A folder or archive without a single picture.
    #[error("{}: no pictures found in {files} files; expected class folders such as cat/ and dog/ with files that end in {}", shown(path), EXTENSIONS.join(", "))]
    NoPictures {
        /// What was searched.
        path: PathBuf,
        /// How many files it holds.
        files: usize,
    },
    /// Folders or archives whose arrangement is ambiguous.
    #[error("{}: {reason}", shown(path), reason = visible(reason))]
    Layout {
        /// What was searched.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// Only one class: there is nothing to classify.
    #[error(
        "{}: one class only ({class}); expected two or more, each in a folder of its own",
        shown(path),
        class = visible(class)
    )]
    OneClass {
        /// What was opened.
        path: PathBuf,
        /// The only class.
        class: String,
    },
    /// A validation or test class that the training split does not have.
    #[error(
        "{}: {split} has classes that train does not have: {}; train has {}; rename their folders, or move them out (pictures without labels are for `vitrine classify`)",
        shown(path),
        names::listed(unknown),
        names::listed(train)
    )]
    UnknownClasses {
        /// What was opened.
        path: PathBuf,
        /// The split with the unknown classes.
        split: SplitName,
        /// The classes that train does not have.
        unknown: Vec<String>,
        /// The classes that train has.
        train: Vec<String>,
    },
    /// A file or archive that is truncated, damaged, or not what its header says.
    #[error("{}: {reason}", shown(path), reason = visible(reason))]
    Corrupt {
        /// The file, or its path within an archive.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// One picture that cannot be read.
    #[error("{name}: {reason}", name = visible(name), reason = visible(reason))]
    Unreadable {
        /// The sample's name.
        name: String,
        /// The reason.
        reason: String,
    },
    /// What would be skipped, where nothing may be.
    #[error("{name}: {reason}{}", and_more(*others), name = visible(name), reason = visible(reason))]
    Strict {
        /// The first sample's name.
        name: String,
        /// Why it would be skipped.
        reason: String,
        /// How many more would be.
        others: usize,
    },
    /// A compressed file that unpacks to more than may be held in memory.
    #[error(
        "{}: its {packed} bytes unpack to more than {} MiB, the most that is held in memory of so many; unpack it into a folder and name that",
        shown(path), most >> 20
    )]
    Inflated {
        /// The compressed file.
        path: PathBuf,
        /// Its size, in bytes.
        packed: u64,
        /// The limit, in bytes.
        most: u64,
    },
    /// A data set without a training split.
    #[error("{origin}: has no training pictures, only {}; name a data set with a train folder, or class folders alone", given.join(" and "), origin = visible(origin))]
    NoTrain {
        /// The data set.
        origin: String,
        /// The splits it has.
        given: Vec<String>,
    },
    /// Split fractions out of range, or that leave nothing for training.
    #[error(
        "split fractions val {val} and test {test}: expected each from 0 up to less than 1, and their sum less than 1"
    )]
    Fraction {
        /// Fraction of train for validation.
        val: f64,
        /// Fraction of train for test.
        test: f64,
    },
    /// Too few training pictures to cut a split from.
    #[error(
        "{origin}: {pictures} training pictures are too few to cut a {split} split of {fraction} from; add pictures, or add a {split} folder", origin = visible(origin))]
    TooFew {
        /// The data set.
        origin: String,
        /// How many training pictures there are.
        pictures: usize,
        /// The split that would be empty.
        split: SplitName,
        /// The fraction of train that was to be cut off.
        fraction: f64,
    },
    /// A split list names samples that the data set does not have.
    #[error("{}: {missing} of its {listed} samples are not in {origin}, the first {first}; name the data set the run was trained on", shown(path), origin = visible(origin), first = visible(first))]
    MissingSamples {
        /// The list.
        path: PathBuf,
        /// The data set.
        origin: String,
        /// How many are missing.
        missing: usize,
        /// How many are listed.
        listed: usize,
        /// The first that is missing.
        first: String,
    },
    /// A data set that `download` does not know.
    #[error("unknown data set {name:?}; known are {}", known.join(", "))]
    UnknownDataset {
        /// The name.
        name: String,
        /// The names that are known.
        known: Vec<String>,
    },
    /// Another process writes into the folder of a download.
    #[error(
        "{}: another process downloads into it: wait for it, or stop it",
        shown(path)
    )]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// A download that failed; what has arrived is kept.
    #[error("{url}: {reason}", reason = visible(reason))]
    Download {
        /// The URL.
        url: String,
        /// What happened, and the next step.
        reason: String,
    },
    /// A downloaded file that is not the published one.
    #[error(
        "{url}: checksum differs: found SHA-256 {found}, expected {expected}; the file was removed, try again"
    )]
    Checksum {
        /// The URL.
        url: String,
        /// SHA-256 of what arrived.
        found: String,
        /// SHA-256 as published.
        expected: String,
    },
    /// Someone asked to stop.
    #[error("stopped on request")]
    Stopped,
    /// The thread that makes batches could not be started, or panicked.
    #[error("the thread that makes batches failed: {reason}")]
    Worker {
        /// The error or panic message.
        reason: String,
    },
}

fn and_more(others: usize) -> String {
    match others {
        0 => String::new(),
        more => format!(" ({more} more cannot be read either)"),
    }
}

impl DataError {
    /// For wrapping an operating system error: `.map_err(DataError::io(path, "read"))`.
    pub(super) fn io(
        path: impl Into<PathBuf>,
        doing: &'static str,
    ) -> impl FnOnce(io::Error) -> DataError {
        let path = path.into();
        move |source| DataError::Io {
            path,
            doing,
            source,
        }
    }

    /// [`DataError::Corrupt`].
    pub(super) fn corrupt(path: impl Into<PathBuf>, reason: impl Into<String>) -> DataError {
        DataError::Corrupt {
            path: path.into(),
            reason: reason.into(),
        }
    }
}
