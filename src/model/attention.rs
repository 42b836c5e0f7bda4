//! The weights of multi-head self-attention; [`crate::ops::attention`] is what is done with them.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Bool, Device, Tensor};

use super::norm::LayerNorm;
use super::patch::{affine, undrawn_linear};
use crate::ops::attention::{Heads, attention_weights};

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

    /// How much each token looks at each, after `norm`: rows sum to one.
    ///
    /// `mask` is true where a query (row) may look at a key (column).
    ///
    /// # Shapes
    ///
    /// `x` `[B·N, D]`, `mask` any of `[B or 1, h or 1, N, N]` → `[B, h, N, N]`.
    pub fn weights(
        &self,
        norm: &LayerNorm,
        x: Tensor<2>,
        batch: usize,
        mask: Option<&Tensor<4, Bool>>,
    ) -> Tensor<4> {
        attention_weights(
            x,
            self.heads(batch),
            &norm.scale(),
            &affine(&self.qkv),
            mask,
        )
    }

    pub(super) fn heads(&self, batch: usize) -> Heads {
        Heads {
            batch,
            heads: self.num_heads,
        }
    }
}
