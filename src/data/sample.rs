//! One labelled picture, before any decoding.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::visible;

/// Which part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitName {
    /// For training.
    Train,
    /// For validation: it chooses the best checkpoint.
    Val,
    /// For the final measurement.
    Test,
}

impl SplitName {
    /// All three, in the order train, val, test.
    pub const ALL: [SplitName; 3] = [SplitName::Train, SplitName::Val, SplitName::Test];

    /// The split that a folder or file of this name holds, in any case: `train`, `val`, `valid`, `validation`, `test`
    /// and their usual variants.
    pub(super) fn from_folder(name: &str) -> Option<SplitName> {
        match name.to_ascii_lowercase().as_str() {
            "train" | "training" => Some(SplitName::Train),
            "val" | "valid" | "validation" => Some(SplitName::Val),
            "test" | "testing" => Some(SplitName::Test),
            _ => None,
        }
    }

    pub(super) fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for SplitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SplitName::Train => "train",
            SplitName::Val => "val",
            SplitName::Test => "test",
        })
    }
}

impl FromStr for SplitName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "train" => Ok(SplitName::Train),
            "val" => Ok(SplitName::Val),
            "test" => Ok(SplitName::Test),
            other => Err(format!(
                "found split {other:?}, expected train, val or test"
            )),
        }
    }
}

/// One labelled picture: where it is stored, and its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Unique and stable within its data set, and relative to it: `train/cat/001.jpg`, `data_batch_1.bin#17`.
    pub name: String,
    /// The index of its class in [`Dataset::classes`](super::Dataset::classes).
    pub label: usize,
    pub(super) location: Location,
}

/// Where a sample's bytes are: an entry of one of the data set's containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub container: usize,
    pub entry: usize,
}

/// What a source holds for one sample, before any decoding.
#[derive(Clone, Debug)]
pub enum RawPicture<'a> {
    /// An encoded file's bytes, such as JPEG or PNG.
    Encoded(Cow<'a, [u8]>),
    /// Uncompressed pixels.
    Pixels {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
        /// 1 (grey) or 3 (RGB).
        channels: u8,
        /// `[height, width, channels]`, row-major, 0 to 255.
        data: Cow<'a, [u8]>,
    },
}

/// Something found in a data set that could not be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The name of the sample or folder.
    pub name: String,
    /// The reason, in a few words.
    pub reason: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", visible(&self.name), visible(&self.reason))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn split_names_read_back() {
        for split in SplitName::ALL {
            assert_eq!(split.to_string().parse::<SplitName>(), Ok(split));
        }
        assert_eq!(
            "dev".parse::<SplitName>().unwrap_err(),
            "found split \"dev\", expected train, val or test"
        );
        assert_eq!(SplitName::from_folder("Validation"), Some(SplitName::Val));
        assert_eq!(SplitName::from_folder("cat"), None);
    }
}
