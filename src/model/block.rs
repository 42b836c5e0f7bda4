//! The encoder block.

use burn::module::Module;
use burn::nn::{LayerNorm, Linear};
use burn::tensor::{Bool, Tensor, activation};

use super::Noise;
use super::attention::SelfAttention;
use super::init::Init;

/// A pre-norm encoder block (Dosovitskiy et al. 2021, eqs. 2 and 3): attention and MLP, each
/// behind a layer norm, each added to what came in.
#[derive(Module, Debug)]
pub struct EncoderBlock {
    norm1: LayerNorm,
    attention: SelfAttention,
    norm2: LayerNorm,
    mlp: Mlp,
    drop_path: f64,
}

impl EncoderBlock {
    /// A block whose branches are dropped with probability `drop_path` in training.
    pub fn new(
        embed_dim: usize,
        num_heads: usize,
        mlp_dim: usize,
        drop_path: f64,
        init: &Init,
    ) -> Self {
        Self {
            norm1: init.part("norm1").layer_norm(embed_dim, super::vit::NORM_EPSILON),
            attention: SelfAttention::new(embed_dim, num_heads, &init.part("attention")),
            norm2: init.part("norm2").layer_norm(embed_dim, super::vit::NORM_EPSILON),
            mlp: Mlp::new(embed_dim, mlp_dim, &init.part("mlp")),
            drop_path,
        }
    }

    /// # Shapes
    ///
    /// `[B, N, D]` to `[B, N, D]`; `mask` as for [`attention`](super::attention::attention).
    pub fn forward(
        &self,
        x: Tensor<3>,
        mask: Option<Tensor<4, Bool>>,
        noise: Option<&mut Noise>,
    ) -> Tensor<3> {
        let attended = self.attention.forward(self.norm1.forward(x.clone()), mask);
        match noise {
            None => {
                let x = x + attended;
                x.clone() + self.mlp.forward(self.norm2.forward(x))
            }
            Some(noise) => {
                let rate = self.drop_path as f32;
                let x = x + noise.drop_path(attended, rate);
                let expanded = self.mlp.forward(self.norm2.forward(x.clone()));
                x + noise.drop_path(expanded, rate)
            }
        }
    }
}

/// Two linear layers with an exact GELU between them (Hendrycks & Gimpel 2016, eq. 1).
#[derive(Module, Debug)]
pub struct Mlp {
    expand: Linear,
    contract: Linear,
}

impl Mlp {
    /// From `embed_dim` to `mlp_dim` and back.
    pub fn new(embed_dim: usize, mlp_dim: usize, init: &Init) -> Self {
        Self {
            expand: init.part("expand").linear(embed_dim, mlp_dim),
            contract: init.part("contract").linear(mlp_dim, embed_dim),
        }
    }

    /// # Shapes
    ///
    /// `[B, N, D]` to `[B, N, D]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [b, n, d] = x.dims();
        let hidden = activation::gelu(self.expand.forward(x.reshape([b * n, d])));
        self.contract.forward(hidden).reshape([b, n, d])
    }
}
