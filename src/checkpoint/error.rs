//! What can go wrong with a file of tensors.

use std::path::PathBuf;

use thiserror::Error;

use crate::names::{shown, visible};

/// What can go wrong with a file of tensors.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}", path = shown(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file could not be written.
    #[error("cannot write {path}: {source}", path = shown(path))]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The bytes are not a whole safetensors file.
    #[error("{path} is not a whole safetensors file ({reason}); copy or train it again", path = shown(path), reason = visible(reason))]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the reader stumbled over.
        reason: String,
    },
    /// The file is sound but was not written by vitrine.
    #[error(
        "{path} has no vitrine metadata: expected a file that `vitrine train` wrote, such as RUN/weights/best.safetensors", path = shown(path))]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file was made of another project's, which is not ours to change.
    #[error(
        "{path} is another project's, and vitrine does not write into it", path = shown(path))]
    NotOurs {
        /// The file or folder.
        path: PathBuf,
    },
    /// The weights make features and have no classifier.
    #[error(
        "{path} holds weights without a classifier, which answer nothing by themselves", path = shown(path))]
    NoClassifier {
        /// The file or folder.
        path: PathBuf,
    },
    /// The file holds adapters, and not the weights that they change.
    #[error(
        "{path} holds low-rank adapters of the weights {base} alone, which answer nothing without those", path = shown(path), base = visible(base))]
    NeedsBase {
        /// The file.
        path: PathBuf,
        /// The weights, as the file names them.
        base: String,
    },
    /// The bytes are not the ones that were written.
    #[error(
        "{path} was changed after it was written: its bytes do not match their SHA-256; copy or train it again", path = shown(path))]
    Tampered {
        /// The file.
        path: PathBuf,
    },
    /// The values are as they were written, but some are infinite or not numbers.
    #[error(
        "{path} holds values that are not numbers (tensor {tensor}): no answer can come of them; train it again, with a smaller learning rate", path = shown(path), tensor = visible(tensor))]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The first tensor that has one, by name.
        tensor: String,
    },
    /// The weights are of another architecture than the model that is to start from them.
    #[error("{path} cannot be the start of this model: {reason}", path = shown(path), reason = visible(reason))]
    Start {
        /// The file.
        path: PathBuf,
        /// The first difference.
        reason: String,
    },
    /// Other weights have taken the place of those that were read.
    #[error(
        "{path} has been written again since it was read: wait until the training that writes it is over, then try again", path = shown(path))]
    Replaced {
        /// The file.
        path: PathBuf,
    },
    /// A copy does not read back as it was written.
    #[error("the copy {path} does not read back as it was written and was not kept: {reason}", path = shown(path), reason = visible(reason))]
    NotAsWritten {
        /// The copy.
        path: PathBuf,
        /// The first difference.
        reason: String,
    },
    /// The tensors do not fit the model that the metadata describes.
    #[error("{path} does not fit its own model configuration: {reason}", path = shown(path), reason = visible(reason))]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// The first difference.
        reason: String,
    },
}
