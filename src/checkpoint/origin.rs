//! Where weights come from that another project wrote.

use std::path::PathBuf;

/// What became of each tensor of another project's weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// The project whose layout it is, such as `timm`.
    pub layout: &'static str,
    /// The architecture, as the project calls it.
    pub name: String,
    /// The files of tensors.
    pub files: Vec<PathBuf>,
    /// Bytes of all of them.
    pub bytes: u64,
    /// SHA-256 of the file of tensors, as `sha256sum` prints it; of several, the SHA-256 of a list of
    /// theirs.
    pub sha256: String,
    /// Tensors that were taken.
    pub taken: Vec<Taken>,
    /// Tensors of ours that the source does not have, and what they are instead.
    pub made: Vec<(String, &'static str)>,
    /// Tensors that were not taken, and why.
    pub left_out: Vec<(String, &'static str)>,
    /// What was assumed, one sentence each.
    pub notes: Vec<String>,
}

/// A tensor of ours, and what it was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its name here.
    pub ours: String,
    /// The tensors that it is made of.
    pub theirs: Vec<String>,
    /// Its shape here.
    pub shape: Vec<usize>,
}
