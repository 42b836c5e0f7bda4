//! One layer of the encoder.

use burn::module::{Module, Param};
use burn::nn::{Initializer, Linear};
use burn::tensor::{Bool, Device, Tensor};

use super::attention::Attention;
use super::config::VitConfig;
use crate::model::layers::{affine, undrawn_linear};
use crate::model::norm::LayerNorm;
use crate::model::pass::Pass;
use crate::model::role::{Declarations, Declare, Role};
use crate::ops::Activation;
use crate::ops::attention::{Heads, QueryKey, add_attention};
use crate::ops::branch::Branch;
use crate::ops::layer_scale::scaled;
use crate::ops::mlp::add_mlp;

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

/// Two linear layers around an activation.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `[D, mlp_dim]`.
    pub fc1: Linear,
    /// `[mlp_dim, D]`.
    pub fc2: Linear,
    #[module(skip)]
    activation: Activation,
}

impl Declare for Mlp {
    fn declare(&self, to: &mut Declarations) {
        to.linear("fc1", &self.fc1, Role::Matrix);
        to.linear("fc2", &self.fc2, Role::Matrix);
    }
}

impl Declare for EncoderBlock {
    fn declare(&self, to: &mut Declarations) {
        to.module("norm1", &self.norm1);
        to.module("attention", &self.attention);
        to.module("norm2", &self.norm2);
        to.module("mlp", &self.mlp);
        to.optional("layer_scale1", &self.layer_scale1, Role::LayerScale);
        to.optional("layer_scale2", &self.layer_scale2, Role::LayerScale);
    }
}

impl EncoderBlock {
    /// As `config` has it, with drop path at the block's own rate.
    pub fn new(config: &VitConfig, drop_path: f64, device: &Device) -> Self {
        let (embed_dim, mlp_dim) = (config.embed_dim, config.mlp_dim);
        let (value, epsilon) = (config.layer_scale, config.norm_epsilon);
        let layer_scale =
            || (value > 0.0).then(|| Initializer::Constant { value }.init([embed_dim], device));
        Self {
            norm1: LayerNorm::new(embed_dim, epsilon, device),
            attention: Attention::new(config, device),
            norm2: LayerNorm::new(embed_dim, epsilon, device),
            mlp: Mlp {
                fc1: undrawn_linear(embed_dim, mlp_dim, device),
                fc2: undrawn_linear(mlp_dim, embed_dim, device),
                activation: config.activation,
            },
            layer_scale1: layer_scale(),
            layer_scale2: layer_scale(),
            drop_path,
        }
    }

    /// Tokens one layer on; `rotation` as in [`QueryKey`], `mask` as in [`add_attention`],
    /// `queries` as in [`Heads`].
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
        let mut branch = |norm: &LayerNorm, first, second, scale: &Option<Param<Tensor<1>>>| {
            let scale = scale.as_ref().map(|scale| scale.val());
            Branch {
                norm: norm.scale(),
                first: affine(first),
                second: scaled(affine(second), scale, pass.prepared),
                keep: pass.keep(batch, self.drop_path),
                precision: pass.precision,
                prepared: pass.prepared,
            }
        };
        let Attention {
            qkv, projection, ..
        } = &self.attention;
        let Mlp {
            fc1,
            fc2,
            activation,
        } = &self.mlp;
        let attention = branch(&self.norm1, qkv, projection, &self.layer_scale1);
        let mlp = branch(&self.norm2, fc1, fc2, &self.layer_scale2);

        let heads: Heads = self.attention.heads(batch, queries);
        let query_key: QueryKey = self.attention.query_key(rotation);
        let x = add_attention(x, &attention, heads, &query_key, mask);
        add_mlp(x, &mlp, *activation)
    }
}
