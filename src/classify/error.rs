//! Why a picture has no answer.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::names::{shown, visible};

const NOT_FINITE: &str = "the weights answer it with logits that are not numbers: train them again with a smaller \
                          learning rate, or take others";

/// Why a picture cannot be classified.
#[derive(Debug, Error)]
pub enum ClassifyError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}", path = shown(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The bytes are not a picture.
    #[error("{path}: {reason}", path = shown(path), reason = visible(reason))]
    Decode {
        /// The file.
        path: PathBuf,
        /// The decoder's reason.
        reason: String,
    },
    /// The model's answer is no number.
    #[error("{path}: {reason}", path = shown(path), reason = NOT_FINITE)]
    NotFinite {
        /// The picture.
        path: PathBuf,
    },
    /// There is no picture to read under this name.
    #[error("{path}: {reason}", path = shown(path), reason = visible(reason))]
    NoPicture {
        /// The name.
        path: PathBuf,
        /// What is there instead.
        reason: String,
    },
}

impl ClassifyError {
    /// The reason, without the name.
    pub fn reason(&self) -> String {
        match self {
            Self::Read { source, .. } => format!("cannot read it: {source}"),
            Self::NotFinite { .. } => NOT_FINITE.to_owned(),
            Self::Decode { reason, .. } | Self::NoPicture { reason, .. } => reason.clone(),
        }
    }
}
