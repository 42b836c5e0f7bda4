//! Multi-head scaled dot-product self-attention (Vaswani et al. 2017, eq. 1).

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::activation::softmax;
use burn::tensor::module::linear;
use burn::tensor::{Bool, Device, Tensor};

use super::norm::LayerNorm;
use super::patch::undrawn_linear;

/// Score of a pair that the mask forbids: its exponential is 0, yet a row that forbids everything
/// stays finite, and the number exists on GPUs that know no infinity.
const FORBIDDEN: f64 = -1e30;

/// Self-attention: every token asks, every token answers.
#[derive(Module, Debug)]
pub struct Attention {
    /// Queries, keys and values in one map, `[D, 3·D]`, in that order, head by head.
    pub qkv: Linear,
    /// The map that mixes the heads, `[D, D]`.
    pub projection: Linear,
    num_heads: usize,
}

impl Attention {
    /// `num_heads` must divide `embed_dim`.
    pub fn new(embed_dim: usize, num_heads: usize, device: &Device) -> Self {
        Self {
            qkv: undrawn_linear(embed_dim, 3 * embed_dim, device),
            projection: undrawn_linear(embed_dim, embed_dim, device),
            num_heads,
        }
    }

    /// Attention over the tokens of each picture, after `norm`.
    ///
    /// `mask` is true where a query (row) may look at a key (column).
    ///
    /// # Shapes
    ///
    /// `x` `[B·N, D]`, `mask` any of `[B or 1, h or 1, N, N]` → `[B·N, D]`.
    pub fn forward(
        &self,
        norm: &LayerNorm,
        x: Tensor<2>,
        batch: usize,
        mask: Option<&Tensor<4, Bool>>,
    ) -> Tensor<2> {
        let dims = x.dims();
        let [query, key, value] = self.heads(norm, x, batch);
        let mixed = weights(query, key, mask).matmul(value);
        let mixed = mixed.swap_dims(1, 2).reshape(dims);
        let bias = self.projection.bias.as_ref().map(|b| b.val());
        linear(mixed, self.projection.weight.val(), bias)
    }

    /// How much each token looks at each: rows sum to one.
    ///
    /// # Shapes
    ///
    /// `x` `[B·N, D]` → `[B, h, N, N]`.
    pub fn weights(
        &self,
        norm: &LayerNorm,
        x: Tensor<2>,
        batch: usize,
        mask: Option<&Tensor<4, Bool>>,
    ) -> Tensor<4> {
        let [query, key, _] = self.heads(norm, x, batch);
        weights(query, key, mask)
    }

    /// Queries (already divided by √d), keys and values, each `[B, h, N, d]`.
    fn heads(&self, norm: &LayerNorm, x: Tensor<2>, batch: usize) -> [Tensor<4>; 3] {
        let [rows, width] = x.dims();
        let head_dim = width / self.num_heads;
        let shape = [batch, rows / batch, self.num_heads, head_dim];
        let qkv = norm.fold(&self.qkv, x);
        let part = |i: usize, scale: f64| {
            let part = qkv.columns(i * width..(i + 1) * width, scale);
            part.reshape(shape).swap_dims(1, 2)
        };
        let scale = (head_dim as f64).powf(-0.5);
        [part(0, scale), part(1, 1.0), part(2, 1.0)]
    }
}

/// softmax(QKᵀ), Q divided by √d before.
fn weights(query: Tensor<4>, key: Tensor<4>, mask: Option<&Tensor<4, Bool>>) -> Tensor<4> {
    let mut scores = query.matmul(key.swap_dims(2, 3));
    if let Some(mask) = mask {
        let forbidden = mask.clone().bool_not().expand(scores.dims());
        scores = scores.mask_fill(forbidden, FORBIDDEN);
    }
    softmax(scores, 3)
}
