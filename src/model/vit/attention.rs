//! The weights of multi-head self-attention. What is done with them, softmax(QKᵀ/√d)·V, is in
//! [`crate::ops::attention`].

use burn::module::{Module, Param};
use burn::nn::{Initializer, Linear};
use burn::tensor::{Bool, Device, Tensor};

use crate::model::layers::{affine, undrawn_linear};
use crate::model::norm::LayerNorm;
use crate::model::role::{Declarations, Declare, Role};
use crate::ops::attention::{Heads, QueryKey, attention_weights};

/// Multi-head self-attention.
#[derive(Module, Debug)]
pub struct Attention {
    /// Queries, keys and values in one map, `[D, 3·D]`, in that order, head by head.
    pub qkv: Linear,
    /// The map that mixes the heads, `[D, D]`.
    pub projection: Linear,
    /// γ of the queries' norm, `[d]`, where there is one.
    pub query_norm: Option<Param<Tensor<1>>>,
    /// γ of the keys' norm, `[d]`, where there is one.
    pub key_norm: Option<Param<Tensor<1>>>,
    pub(super) num_heads: usize,
}

impl Declare for Attention {
    fn declare(&self, to: &mut Declarations) {
        // Queries, keys and values are three layers in one weight.
        to.split_linear("qkv", &self.qkv, Role::Matrix, 3);
        to.linear("projection", &self.projection, Role::Matrix);
        to.optional("query_norm", &self.query_norm, Role::Norm);
        to.optional("key_norm", &self.key_norm, Role::Norm);
    }
}

impl Attention {
    /// `num_heads` must divide `embed_dim`; with a norm of queries and keys where `qk_norm`.
    pub fn new(embed_dim: usize, num_heads: usize, qk_norm: bool, device: &Device) -> Self {
        let ones = || Initializer::Ones.init([embed_dim / num_heads], device);
        Self {
            qkv: undrawn_linear(embed_dim, 3 * embed_dim, device),
            projection: undrawn_linear(embed_dim, embed_dim, device),
            query_norm: qk_norm.then(ones),
            key_norm: qk_norm.then(ones),
            num_heads,
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
        let norms = self.query_norm.as_ref().zip(self.key_norm.as_ref());
        QueryKey {
            norm: norms.map(|(query, key)| [query.val(), key.val()]),
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
