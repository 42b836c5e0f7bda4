//! Why a picture has no answer.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::names::{shown, visible};

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
            Self::Decode { reason, .. } | Self::NoPicture { reason, .. } => reason.clone(),
        }
    }
}
