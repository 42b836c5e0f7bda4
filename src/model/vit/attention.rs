//! The weights of multi-head self-attention. What is done with them, softmax(QKᵀ/√d)·V, is in
//! [`crate::ops::attention`].

use burn::module::{Module, Param};
use burn::nn::{Initializer, Linear};
use burn::tensor::{Bool, Device, Tensor};

use super::config::VitConfig;
use crate::model::layers::{affine, undrawn_linear};
use crate::model::norm::LayerNorm;
use crate::model::role::{Declarations, Declare, Role};
use crate::ops::attention::{Heads, QueryKey, RowNorm, attention_weights};

/// Multi-head self-attention.
#[derive(Module, Debug)]
pub struct Attention {
    /// Queries, keys and values in one map, `[D, 3·D]`, in that order, head by head.
    pub qkv: Linear,
    /// The map that mixes the heads, `[D, D]`.
    pub projection: Linear,
    /// γ of the queries' norm, `[d]`, where there is one.
    pub query_norm: Option<Param<Tensor<1>>>,
    /// β of the queries' norm, `[d]`, where it has one.
    pub query_norm_bias: Option<Param<Tensor<1>>>,
    /// γ of the keys' norm, `[d]`, where there is one.
    pub key_norm: Option<Param<Tensor<1>>>,
    /// β of the keys' norm, `[d]`, where it has one.
    pub key_norm_bias: Option<Param<Tensor<1>>>,
    pub(super) num_heads: usize,
    /// ε of both norms, added to the variance.
    epsilon: f64,
}

impl Declare for Attention {
    fn declare(&self, to: &mut Declarations) {
        // Queries, keys and values are three layers in one weight.
        to.split_linear("qkv", &self.qkv, Role::Matrix, 3);
        to.linear("projection", &self.projection, Role::Matrix);
        to.optional("query_norm", &self.query_norm, Role::Norm);
        to.optional("query_norm_bias", &self.query_norm_bias, Role::Norm);
        to.optional("key_norm", &self.key_norm, Role::Norm);
        to.optional("key_norm_bias", &self.key_norm_bias, Role::Norm);
    }
}

impl Attention {
    /// As `config` has it.
    pub fn new(config: &VitConfig, device: &Device) -> Self {
        let VitConfig {
            embed_dim,
            num_heads,
            qk_norm,
            qk_norm_bias,
            ..
        } = *config;
        let row = |start: Initializer| start.init([embed_dim / num_heads], device);
        Self {
            qkv: undrawn_linear(embed_dim, 3 * embed_dim, device),
            projection: undrawn_linear(embed_dim, embed_dim, device),
            query_norm: qk_norm.then(|| row(Initializer::Ones)),
            query_norm_bias: qk_norm_bias.then(|| row(Initializer::Zeros)),
            key_norm: qk_norm.then(|| row(Initializer::Ones)),
            key_norm_bias: qk_norm_bias.then(|| row(Initializer::Zeros)),
            num_heads,
            epsilon: config.norm_epsilon,
        }
    }

    /// How much each token looks at each, after `norm`: rows sum to one.
    ///
    /// `rotation` as in [`QueryKey`]; `mask` is true where a query (row) may look at a key (column).
    ///
    /// # Shapes
    ///
    /// `x` `[B·N, D]`, `rotation` `[N, d]`, `mask` any of `[B or 1, h or 1, N, N]` → `[B, h, N, N]`.
    pub fn weights(
        &self,
        norm: &LayerNorm,
        x: Tensor<2>,
        batch: usize,
        rotation: Option<&Tensor<2>>,
        mask: Option<&Tensor<4, Bool>>,
    ) -> Tensor<4> {
        attention_weights(
            x,
            self.heads(batch, None),
            &norm.scale(),
            &affine(&self.qkv),
            &self.query_key(rotation),
            mask,
        )
    }

    /// What queries and keys go through before they meet.
    pub(crate) fn query_key(&self, rotation: Option<&Tensor<2>>) -> QueryKey {
        let norm = |gamma: &Option<Param<Tensor<1>>>, beta: &Option<Param<Tensor<1>>>| {
            gamma.as_ref().map(|gamma| RowNorm {
                gamma: gamma.val(),
                beta: beta.as_ref().map(|beta| beta.val()),
                epsilon: self.epsilon,
            })
        };
        let query = norm(&self.query_norm, &self.query_norm_bias);
        let key = norm(&self.key_norm, &self.key_norm_bias);
        QueryKey {
            norm: query.zip(key).map(|(query, key)| [query, key]),
            rotation: rotation.cloned(),
        }
    }

    /// `queries` as in [`Heads`].
    pub(crate) fn heads(&self, batch: usize, queries: Option<usize>) -> Heads {
        Heads {
            batch,
            heads: self.num_heads,
            queries,
        }
    }
}
