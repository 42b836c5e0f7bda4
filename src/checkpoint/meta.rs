//! What a weights file says of itself.

use serde::{Deserialize, Serialize};

use crate::data::Preprocess;
use crate::metrics::Calibration;
use crate::model::ModelConfig;

/// Name of the tensor of class means times W, `[M, F]`: a cold start has no time to multiply those of many classes.
pub(super) const MEANS: &str = "familiarity.means";
/// Name of the tensor W, `[F, F]`: the distance between features f and g is ‖f·W − g·W‖.
pub(super) const WHITENING: &str = "familiarity.whitening";

/// Tensors that a weights file may hold beside those of its model.
pub(super) const FAMILIARITY: [&str; 2] = [MEANS, WHITENING];

/// Everything about a trained model that is not a tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeightsMeta {
    /// The name under which the architecture was chosen, such as `vit-w1`.
    pub name: String,
    /// The architecture.
    pub model: ModelConfig,
    /// Class names, in the order of the logits; none for weights without a classifier.
    pub classes: Vec<String>,
    /// How a picture becomes the model's input.
    pub preprocess: Preprocess,
    /// Divides the logits before softmax (Guo et al. 2017); 1 changes nothing.
    pub temperature: f32,
    /// Epochs behind these weights.
    pub epoch: usize,
    /// Top-1 on the validation split, a fraction; `None` where there was none.
    pub val_top1: Option<f64>,
    /// Where the temperature comes from; `None` before `vitrine calibrate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
}

/// What low-rank adapters are, and what they change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lora {
    /// r, the inner side of each product.
    pub rank: usize,
    /// α: a product is multiplied by α/r.
    pub alpha: f64,
    /// The weights that the products are added to.
    pub base: Base,
}

/// Weights that a file depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Base {
    /// Their file or run, or a name: of weights that ship, or of a repository on a hub.
    pub weights: String,
    /// SHA-256 of their file, as `sha256sum` prints it; of another project's, that of
    /// [`Origin::sha256`](super::Origin::sha256).
    pub sha256: String,
}

/// What a file of adapters says of itself.
#[derive(Serialize, Deserialize)]
pub(super) struct AdaptersMeta {
    pub(super) lora: Lora,
    #[serde(flatten)]
    pub(super) weights: WeightsMeta,
}
