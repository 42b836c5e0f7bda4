//! What can go wrong with weights of another project.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::model::ModelError;
use crate::names::{shown, visible};
use crate::setting::Invalid;

/// What can go wrong with weights of another project.
#[derive(Debug, Error)]
pub enum LayoutError {
    /// A file could not be read.
    #[error("cannot read {path}: {source}", path = shown(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A folder holds no tensors that can be read.
    #[error("{path} holds no weights: expected model.safetensors, or model.safetensors.index.json and the files that it names", path = shown(path))]
    NoTensors {
        /// The folder.
        path: PathBuf,
    },
    /// Tensors are there as a pickle only.
    #[error(
        "{path} is a pickle, which can run any code while it is read, so it is not opened; where it is trusted, write it again with Python: \
         `from safetensors.torch import save_file; save_file(model.state_dict(), \"model.safetensors\")`, beside its config.json", path = shown(path))]
    Pickle {
        /// The file.
        path: PathBuf,
    },
    /// Nothing says what the tensors are.
    #[error(
        "{path} has no vitrine metadata, and there is no config.json beside it: expected a file that vitrine wrote, such as RUN/weights/best.safetensors, or a folder as timm or transformers saves one, with config.json and model.safetensors", path = shown(path))]
    NoConfig {
        /// The file or folder.
        path: PathBuf,
    },
    /// A file of settings is no JSON, or not of the expected form.
    #[error("{path} cannot be read as {expected}: {reason}", path = shown(path), reason = visible(reason))]
    Json {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// What the reader stumbled over.
        reason: String,
    },
    /// A setting is missing, of another type, or contradicts the tensors.
    #[error("{path}: {invalid}", path = shown(path), invalid = visible(&invalid.to_string()))]
    Setting {
        /// The file.
        path: PathBuf,
        /// Key, value and what was expected.
        invalid: Invalid,
    },
    /// A file is cut short, or is not what its name says.
    #[error("{path} is not a whole safetensors file ({reason}); fetch or copy it again", path = shown(path), reason = visible(reason))]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the reader stumbled over.
        reason: String,
    },
    /// The tensors are not those of a model that there is here.
    #[error("{path} is no model that vitrine has: {reason}", path = shown(path), reason = visible(reason))]
    Tensors {
        /// The folder or file.
        path: PathBuf,
        /// The first difference.
        reason: String,
    },
    /// Another project has no model like this one.
    #[error("{layout} has no model like this one: {reason}")]
    Unwritable {
        /// The project.
        layout: &'static str,
        /// What stands in the way.
        reason: String,
    },
    /// A file could not be written.
    #[error("cannot write {path}: {source}", path = shown(path))]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The model that the settings describe cannot be built.
    #[error("{path} describes a model that cannot be built: {source}", path = shown(path))]
    Model {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: ModelError,
    },
}

impl LayoutError {
    pub(super) fn setting(path: &Path, invalid: Invalid) -> Self {
        Self::Setting {
            path: path.to_owned(),
            invalid,
        }
    }

    pub(super) fn tensors(path: &Path, reason: impl Into<String>) -> Self {
        Self::Tensors {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }
}
