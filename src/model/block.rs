//! One layer of the encoder.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Bool, Device, Tensor};

use super::Pass;
use super::attention::Attention;
use super::norm::LayerNorm;
use super::patch::{affine, undrawn_linear};
use crate::ops;

/// A pre-norm encoder block (Dosovitskiy et al. 2021, eq. 2 and 3):
/// x ← x + attention(norm₁(x)), x ← x + MLP(norm₂(x)).
#[derive(Module, Debug)]
pub struct EncoderBlock {
    /// Before attention.
    pub norm1: LayerNorm,
    /// Self-attention.
    pub attention: Attention,
    /// Before the MLP.
    pub norm2: LayerNorm,
    /// The MLP.
    pub mlp: Mlp,
    /// Probability that a picture skips a branch in training.
    drop_path: f64,
}

/// Two linear layers around a GELU.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `[D, mlp_dim]`.
    pub fc1: Linear,
    /// `[mlp_dim, D]`.
    pub fc2: Linear,
}

impl EncoderBlock {
    /// With MLPs of `mlp_dim` and drop path at the given rate.
    pub fn new(
        embed_dim: usize,
        num_heads: usize,
        mlp_dim: usize,
        drop_path: f64,
        device: &Device,
    ) -> Self {
        Self {
            norm1: LayerNorm::new(embed_dim, device),
            attention: Attention::new(embed_dim, num_heads, device),
            norm2: LayerNorm::new(embed_dim, device),
            mlp: Mlp {
                fc1: undrawn_linear(embed_dim, mlp_dim, device),
                fc2: undrawn_linear(mlp_dim, embed_dim, device),
            },
            drop_path,
        }
    }

    /// Tokens one layer on; `mask` as in [`ops::attention::attention`].
    ///
    /// # Shapes
    ///
    /// `[B·N, D]` → `[B·N, D]`.
    pub fn forward(
        &self,
        x: Tensor<2>,
        batch: usize,
        mask: Option<&Tensor<4, Bool>>,
        pass: &mut Pass,
    ) -> Tensor<2> {
        let keep = pass.keep(batch, self.drop_path);
        let x = ops::attention::attention(
            x,
            self.attention.heads(batch),
            &self.norm1.scale(),
            &affine(&self.attention.qkv),
            &affine(&self.attention.projection),
            mask,
            keep.as_deref(),
            pass.precision,
            pass.prepared,
        );
        let keep = pass.keep(batch, self.drop_path);
        ops::mlp::mlp(
            x,
            &self.norm2.scale(),
            &affine(&self.mlp.fc1),
            &affine(&self.mlp.fc2),
            keep.as_deref(),
            pass.precision,
            pass.prepared,
        )
    }
}
