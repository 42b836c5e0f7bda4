//! What a layout makes of a source before any tensor is read.

use super::names::Names;
use crate::data::Preprocess;
use crate::model::ModelConfig;

/// How a source becomes a model of ours.
#[derive(Debug)]
pub(super) struct Plan {
    /// The project whose layout it is, as people call it.
    pub layout: &'static str,
    /// The architecture, as the project calls it.
    pub name: String,
    pub model: ModelConfig,
    pub preprocess: Preprocess,
    /// Class names; empty where there is no classifier.
    pub classes: Vec<String>,
    /// Names of the tensors that are copied, without `prefix`.
    pub names: Names,
    /// What stands before each of their names.
    pub prefix: String,
    /// Whether queries, keys and values have a bias; without, it is zero.
    pub has_qkv_bias: bool,
    /// The tokens before the patches, and the positions.
    pub tokens: Option<Tokens>,
    /// Tensors that are not taken, by what their names begin with, and why.
    pub left_out: Vec<(String, &'static str)>,
    /// What was assumed, for the reader.
    pub notes: Vec<String>,
}

/// The learned tokens of a Vision Transformer, by their names in the source, prefix included.
///
/// Their order before the patches is class, distillation, registers. A layout may give positions to
/// the patches alone, to the class token and the patches, or to all; ours gives one to the class
/// token that is pooled. What has a position elsewhere and none here has it added to its token.
#[derive(Debug, Clone, Default)]
pub(super) struct Tokens {
    pub class: Option<String>,
    pub distillation: Option<String>,
    pub registers: Option<String>,
    pub positions: String,
    /// Patches along a side in the source.
    pub grid: usize,
    /// How positions are read where the model's pictures are of another size.
    pub resampling: Resampling,
}

/// Bicubic interpolation as a library does it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Resampling {
    /// a = −¾, the border repeated, no smoothing before shrinking: PyTorch's `bicubic`.
    #[default]
    Sharp,
    /// a = −½, smoothed before shrinking, the border left out: PyTorch's with `antialias`.
    Smoothed,
}
