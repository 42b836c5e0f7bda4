//! Why a model cannot be built.

use thiserror::Error;

use crate::setting::Invalid;

/// Why a model cannot be built.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ModelError {
    /// No preset has this name.
    #[error("{name:?} is not a model{hint}; known models are {known}")]
    UnknownPreset {
        /// The name that was given.
        name: String,
        /// `, did you mean …?`, or nothing.
        hint: String,
        /// All names.
        known: String,
    },
    /// The patches do not tile the picture.
    #[error("patch_size {patch_size} does not divide image_size {image_size}: expected {expected}")]
    PatchSize {
        /// Side of a patch.
        patch_size: usize,
        /// Side of the picture.
        image_size: usize,
        /// Sizes that would do.
        expected: String,
    },
    /// A patch size was asked of a model without patches.
    #[error("patch_size does not apply to {name}, which has no patches")]
    NoPatches {
        /// The model.
        name: String,
    },
    /// The heads do not share the width evenly.
    #[error("num_heads {num_heads} does not divide embed_dim {embed_dim}: expected a divisor")]
    Heads {
        /// Attention heads.
        num_heads: usize,
        /// Token width.
        embed_dim: usize,
    },
    /// A head is too narrow, or of the wrong width, for what it is asked to do.
    #[error(
        "{lever} cannot work with heads of {head_dim} channels (embed_dim / num_heads): expected \
         {expected}"
    )]
    HeadDim {
        /// d.
        head_dim: usize,
        /// The key that asks.
        lever: &'static str,
        /// Widths that would do.
        expected: &'static str,
    },
    /// The convolutional stem halves the picture a whole number of times.
    #[error(
        "stem = \"convolutional\" cannot make patches of {patch_size} with embed_dim {embed_dim}: \
         expected a patch size that is a power of two, 2 or more, and at most twice a divisor of \
         the width; or take stem = \"linear\""
    )]
    Stem {
        /// Side of a patch.
        patch_size: usize,
        /// Token width.
        embed_dim: usize,
    },
    /// A field is outside its range.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}
