//! One layer of the encoder.

use burn::module::{Module, Param};
use burn::nn::{Initializer, Linear};
use burn::tensor::{Bool, Device, Tensor};

use super::Pass;
use super::attention::Attention;
use super::norm::LayerNorm;
use super::patch::{affine, undrawn_linear};
use super::vit::VitConfig;
use crate::ops;
use crate::ops::layer_scale::scaled;

/// A pre-norm encoder block (Dosovitskiy et al. 2021, eq. 2 and 3):
/// x ← x + attention(norm₁(x)), x ← x + MLP(norm₂(x)), each branch times its layer scale.
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
    /// γ of the attention branch, `[D]`, where there is layer scale.
    pub layer_scale1: Option<Param<Tensor<1>>>,
    /// γ of the MLP branch, `[D]`, where there is layer scale.
    pub layer_scale2: Option<Param<Tensor<1>>>,
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
    /// As `config` has it, with drop path at the block's own rate.
    pub fn new(config: &VitConfig, drop_path: f64, device: &Device) -> Self {
        let (embed_dim, mlp_dim) = (config.embed_dim, config.mlp_dim);
        let value = config.layer_scale;
        let layer_scale =
            || (value > 0.0).then(|| Initializer::Constant { value }.init([embed_dim], device));
        Self {
            norm1: LayerNorm::new(embed_dim, device),
            attention: Attention::new(embed_dim, config.num_heads, config.qk_norm, device),
            norm2: LayerNorm::new(embed_dim, device),
            mlp: Mlp {
                fc1: undrawn_linear(embed_dim, mlp_dim, device),
                fc2: undrawn_linear(mlp_dim, embed_dim, device),
            },
            layer_scale1: layer_scale(),
            layer_scale2: layer_scale(),
            drop_path,
        }
    }

    /// Tokens one layer on; `rotation` as in [`ops::attention::QueryKey`], `mask` as in
    /// [`ops::attention::attention`], `queries` as in [`ops::attention::Heads`].
    ///
    /// # Shapes
    ///
    /// `[B·N, D]` → `[B·N, D]`, or `[B·queries, D]`.
    pub fn forward(
        &self,
        x: Tensor<2>,
        batch: usize,
        rotation: Option<&Tensor<2>>,
        mask: Option<&Tensor<4, Bool>>,
        queries: Option<usize>,
        pass: &mut Pass,
    ) -> Tensor<2> {
        let layer_scale = |layer: &Linear, scale: &Option<Param<Tensor<1>>>, pass: &Pass| {
            let scale = scale.as_ref().map(|scale| scale.val());
            scaled(affine(layer), scale, pass.prepared)
        };
        let keep = pass.keep(batch, self.drop_path);
        let x = ops::attention::attention(
            x,
            self.attention.heads(batch, queries),
            &self.norm1.scale(),
            &affine(&self.attention.qkv),
            &self.attention.query_key(rotation),
            &layer_scale(&self.attention.projection, &self.layer_scale1, pass),
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
            &layer_scale(&self.mlp.fc2, &self.layer_scale2, pass),
            keep.as_deref(),
            pass.precision,
            pass.prepared,
        )
    }
}
