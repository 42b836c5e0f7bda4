//! One layer of the encoder.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::module::linear;
use burn::tensor::{Bool, Device, Tensor};

use super::attention::Attention;
use super::drop_path::Noise;
use super::gelu::gelu;
use super::norm::LayerNorm;
use super::patch::undrawn_linear;

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

    /// Tokens one layer on; `mask` as in [`Attention::forward`].
    ///
    /// # Shapes
    ///
    /// `[B·N, D]` → `[B·N, D]`.
    pub fn forward(
        &self,
        x: Tensor<2>,
        batch: usize,
        mask: Option<&Tensor<4, Bool>>,
        mut noise: Option<&mut Noise>,
    ) -> Tensor<2> {
        let mut drop = |branch: Tensor<2>| match noise.as_deref_mut() {
            Some(noise) => noise.drop_path(branch, batch, self.drop_path),
            None => branch,
        };
        let attended = self.attention.forward(&self.norm1, x.clone(), batch, mask);
        let x = x + drop(attended);
        let thought = self.mlp.forward(&self.norm2, x.clone());
        x + drop(thought)
    }
}

/// Two linear layers around a GELU.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `[D, mlp_dim]`.
    pub fc1: Linear,
    /// `[mlp_dim, D]`.
    pub fc2: Linear,
}

impl Mlp {
    /// The MLP after `norm`.
    ///
    /// # Shapes
    ///
    /// `[B·N, D]` → `[B·N, D]`.
    pub fn forward(&self, norm: &LayerNorm, x: Tensor<2>) -> Tensor<2> {
        let hidden = gelu(norm.fold(&self.fc1, x).output());
        let bias = self.fc2.bias.as_ref().map(|b| b.val());
        linear(hidden, self.fc2.weight.val(), bias)
    }
}
