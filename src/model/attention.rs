//! Multi-head self-attention.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Bool, Tensor, activation};

use super::init::Init;

/// Scaled dot-product attention (Vaswani et al. 2017, eq. 1): softmax(QKᵀ/√d)·V.
///
/// Where `mask` is true a query does not see a key; a query that sees none attends evenly.
///
/// # Shapes
///
/// `query`, `key`, `value`: `[B, h, N, d]`; `mask`: `[B or 1, h or 1, N, N]`; the result:
/// `[B, h, N, d]`.
pub fn attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    mask: Option<Tensor<4, Bool>>,
) -> Tensor<4> {
    attention_weights(query, key, mask).matmul(value)
}

/// The weights softmax(QKᵀ/√d); each row sums to one.
///
/// # Shapes
///
/// As for [`attention`]; the result: `[B, h, N, N]`.
pub fn attention_weights(
    query: Tensor<4>,
    key: Tensor<4>,
    mask: Option<Tensor<4, Bool>>,
) -> Tensor<4> {
    let [_, _, _, d] = query.dims();
    // The scale goes onto the queries, which are smaller than the scores.
    let scores = query
        .mul_scalar(1.0 / (d as f32).sqrt())
        .matmul(key.swap_dims(2, 3));
    let scores = match mask {
        // Finite, so that a row without any visible key gives even weights and not NaN.
        Some(mask) => {
            let shape = scores.shape();
            scores.mask_fill(mask.expand(shape), -1e9)
        }
        None => scores,
    };
    activation::softmax(scores, 3)
}

/// Multi-head self-attention (Vaswani et al. 2017, section 3.2.2) with queries, keys and values
/// from one matrix product, as timm lays them out.
#[derive(Module, Debug)]
pub struct SelfAttention {
    qkv: Linear,
    projection: Linear,
    num_heads: usize,
}

impl SelfAttention {
    /// `num_heads` must divide `embed_dim`.
    pub fn new(embed_dim: usize, num_heads: usize, init: &Init) -> Self {
        Self {
            qkv: init.part("qkv").linear(embed_dim, 3 * embed_dim),
            projection: init.part("projection").linear(embed_dim, embed_dim),
            num_heads,
        }
    }

    /// # Shapes
    ///
    /// `tokens`: `[B, N, D]`; `mask` as for [`attention`]; the result: `[B, N, D]`.
    pub fn forward(&self, tokens: Tensor<3>, mask: Option<Tensor<4, Bool>>) -> Tensor<3> {
        let [b, n, width] = tokens.dims();
        let (h, d) = (self.num_heads, width / self.num_heads);
        // Flat rows: a batched product would compute one weight gradient a sample.
        let qkv = self
            .qkv
            .forward(tokens.reshape([b * n, width]))
            .reshape([b, n, 3, h, d])
            .permute([2, 0, 3, 1, 4]);
        let part = |i: usize| {
            qkv.clone()
                .slice([i..i + 1])
                .reshape([b, h, n, d])
        };
        let heads = attention(part(0), part(1), part(2), mask);
        let joined = heads.swap_dims(1, 2).reshape([b * n, width]);
        self.projection.forward(joined).reshape([b, n, width])
    }
}
