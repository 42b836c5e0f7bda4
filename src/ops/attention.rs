//! The attention branch of an encoder block: multi-head scaled dot-product self-attention (Vaswani
//! et al. 2017, eq. 1) between a layer norm and the sum with its input.

use burn::tensor::activation::softmax;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Tensor};

use super::branch::Branch;
use super::norm;
use super::precision::Precision;
use super::product::{affine, product};
#[cfg(feature = "cpu")]
use super::profile;
use super::{Affine, Scale};

/// Score of a pair that the mask forbids: its exponential is 0, yet a row that forbids everything
/// stays finite, and the number exists on GPUs that know no infinity.
const FORBIDDEN: f64 = -1e30;

/// How the rows are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Pictures B; each has N consecutive rows.
    pub batch: usize,
    /// Attention heads h.
    pub heads: usize,
    /// Q: the first Q tokens of each picture are queries, the others only keys and values, without a
    /// row in the result. `None`: all are queries.
    pub queries: Option<usize>,
}

impl Heads {
    /// N and Q, of that many rows.
    fn counts(&self, rows: usize) -> [usize; 2] {
        let tokens = rows.checked_div(self.batch).unwrap_or(0);
        [tokens, self.queries.unwrap_or(tokens)]
    }
}

/// A layer norm of each row of a head, shared by the heads.
#[derive(Debug, Clone)]
pub struct RowNorm {
    /// γ, `[d]`.
    pub gamma: Tensor<1>,
    /// β, `[d]`, where it has one.
    pub beta: Option<Tensor<1>>,
    /// ε, which is added to the variance.
    pub epsilon: f64,
}

/// What queries and keys go through before they meet, the norm first; nothing by default.
#[derive(Debug, Clone, Default)]
pub struct QueryKey {
    /// A layer norm of each query and one of each key (Dehghani et al. 2023, "Scaling Vision
    /// Transformers to 22 Billion Parameters", section 2.1, without β; after Henry et al. 2020, who
    /// divide by the length).
    pub norm: Option<[RowNorm; 2]>,
    /// Rotary positions (Su et al. 2021, eq. 34): of each token d/2 cosines, then d/2 sines, of the
    /// angles by which the pairs of channels i and i + d/2 are turned, `[N, d]`.
    pub rotation: Option<Tensor<2>>,
}

#[cfg(gpu)]
impl QueryKey {
    fn is_none(&self) -> bool {
        self.norm.is_none() && self.rotation.is_none()
    }
}

/// x + keep·(softmax(QKᵀ/√d)·V, heads joined, ·Wp + bp), Q, K and V being norm(x)·Wqkv + b
/// (Dosovitskiy et al. 2021, eq. 2), Q and K after `query_key`.
///
/// The branch's first layer is Wqkv, `[D, 3·D]`, its second Wp, `[D, D]`. `mask` is true where a
/// query (row) may look at a key (column).
///
/// # Shapes
///
/// `x` `[B·N, D]`, `mask` any of `[B or 1, h or 1, N, N]` → `[B·Q, D]`, Q being N unless `heads`
/// says otherwise.
pub fn add_attention(
    x: Tensor<2>,
    branch: &Branch,
    heads: Heads,
    query_key: &QueryKey,
    mask: Option<&Tensor<4, Bool>>,
) -> Tensor<2> {
    #[cfg(feature = "cpu")]
    if super::cpu::on_cpu(&x) {
        return match branch.precision {
            Precision::Int8 if branch.fits_int8(&x) => {
                int8_on_cpu(x, branch, heads, query_key, mask)
            }
            Precision::F32 | Precision::Int8 => on_cpu::<f32>(x, branch, heads, query_key, mask),
            Precision::Bf16 => on_cpu::<half::bf16>(x, branch, heads, query_key, mask),
        };
    }
    composed(x, branch, heads, query_key, mask)
}

/// [`add_attention`] of Burn's own operations.
pub(super) fn composed(
    x: Tensor<2>,
    branch: &Branch,
    heads: Heads,
    query_key: &QueryKey,
    mask: Option<&Tensor<4, Bool>>,
) -> Tensor<2> {
    let [rows, width] = x.dims();
    let [tokens, queries] = heads.counts(rows);
    let precision = branch.precision;
    let qkv = &branch.first;
    #[cfg(gpu)]
    if super::by_hand::on_gpu(&x) && query_key.is_none() && queries == tokens {
        let qkv = affine(norm::composed(x.clone(), &branch.norm), qkv, precision);
        let mixed = by_hand::<burn::backend::Cube>(qkv, heads, mask, precision);
        return branch.add_to(x, mixed);
    }
    let [query, key, value] =
        queries_keys_values(x.clone(), heads, &branch.norm, qkv, query_key, precision);
    let (query, x, mask) = if queries == tokens {
        (query, x, mask.cloned())
    } else {
        let x = x.reshape([heads.batch, tokens, width]);
        let x = x
            .narrow(1, 0, queries)
            .reshape([heads.batch * queries, width]);
        let mask = mask.map(|mask| mask.clone().narrow(2, 0, queries));
        (query.narrow(2, 0, queries), x, mask)
    };
    let mask = mask.as_ref();
    // Burn's own operation is one kernel where a GPU has it, and has no gradient.
    let mixed = if x.is_autodiff() || mask.is_some() || precision != Precision::F32 {
        attention(query, key, value, mask, precision)
    } else {
        let as_it_is = AttentionModuleOptions {
            scale: Some(1.0),
            ..AttentionModuleOptions::default()
        };
        let query = over_root_d(query);
        burn::tensor::module::attention(query, key, value, None, None, as_it_is)
    };
    let mixed = mixed.swap_dims(1, 2).reshape(x.dims());
    branch.add_to(x, mixed)
}

/// Scaled dot-product attention (Vaswani et al. 2017), softmax(QKᵀ/√d)·V: for each query the mean of
/// the values, weighted by how well the query matches their keys.
///
/// This is the formula that everything else here computes too, faster or as part of a whole branch.
///
/// # Shapes
///
/// `query` `[B, h, Q, d]`, `key` and `value` `[B, h, N, d]`, `mask` any of `[B or 1, h or 1, Q, N]` →
/// `[B, h, Q, d]`.
pub(super) fn attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    mask: Option<&Tensor<4, Bool>>,
    precision: Precision,
) -> Tensor<4> {
    product(weights(query, key, mask, precision), value, precision)
}

/// [`attention`] of Q, K and V side by side, heads joined, with its gradient: with P the weights and
/// G the gradient of the mixed values, V gets PᵀG, and with S = P∘(GVᵀ − rows' sums of P∘GVᵀ)/√d,
/// Q gets S·K and K gets Sᵀ·Q.
///
/// # Shapes
///
/// `qkv` `[B·N, 3·D]`, `mask` any of `[B or 1, h or 1, N, N]` → `[B·N, D]`.
#[cfg(gpu)]
pub(super) fn by_hand<B: super::by_hand::Place>(
    qkv: Tensor<2>,
    heads: Heads,
    mask: Option<&Tensor<4, Bool>>,
    precision: Precision,
) -> Tensor<2> {
    let inputs = [(&qkv).into()];
    let [rows, wide] = qkv.dims();
    let (batch, count, width) = (heads.batch, heads.heads, wide / 3);
    let (tokens, head_dim) = (rows / batch, width / count);
    let scale = (head_dim as f64).powf(-0.5);
    let all = qkv.inner().reshape([batch, tokens, 3 * count, head_dim]);
    let [query, key, value] =
        [0, 1, 2].map(|i| all.clone().narrow(2, i * count, count).swap_dims(1, 2));
    let mut scores = product(query.clone(), key.clone().swap_dims(2, 3), precision) * scale;
    if let Some(mask) = mask {
        let forbidden = mask.clone().inner().bool_not().expand(scores.dims());
        scores = scores.mask_fill(forbidden, FORBIDDEN);
    }
    let weights = softmax(scores, 3);
    let mixed = product(weights.clone(), value.clone(), precision);
    let mixed = mixed.swap_dims(1, 2).reshape([rows, width]);
    super::by_hand::record::<B, 1, 2>(inputs, mixed, move |dy| {
        let dy = dy.reshape([batch, tokens, count, head_dim]).swap_dims(1, 2);
        let dvalue = product(weights.clone().swap_dims(2, 3), dy.clone(), precision);
        let dweights = product(dy, value.swap_dims(2, 3), precision);
        let along = (dweights.clone() * weights.clone()).sum_dim(3);
        let dscores = (dweights - along) * weights * scale;
        let dkey = product(dscores.clone().swap_dims(2, 3), query, precision);
        let dquery = product(dscores, key, precision);
        let all = [dquery, dkey, dvalue].map(|x| x.swap_dims(1, 2));
        let all = Tensor::cat(all.to_vec(), 2);
        [all.reshape([rows, wide]).into()]
    })
}

/// softmax(QKᵀ/√d), without the keys that `mask` forbids; rows sum to one.
///
/// # Shapes
///
/// As for [`attention`] → `[B, h, Q, N]`.
fn weights(
    query: Tensor<4>,
    key: Tensor<4>,
    mask: Option<&Tensor<4, Bool>>,
    precision: Precision,
) -> Tensor<4> {
    let mut scores = product(over_root_d(query), key.swap_dims(2, 3), precision);
    if let Some(mask) = mask {
        let forbidden = mask.clone().bool_not().expand(scores.dims());
        scores = scores.mask_fill(forbidden, FORBIDDEN);
    }
    softmax(scores, 3)
}

/// Q/√d.
fn over_root_d(query: Tensor<4>) -> Tensor<4> {
    let [.., head_dim] = query.dims();
    query * (head_dim as f64).powf(-0.5)
}

/// How much each token looks at each: rows sum to one. Composed on every backend.
///
/// # Shapes
///
/// As [`add_attention`] → `[B, h, N, N]`; all tokens are queries.
pub fn attention_weights(
    x: Tensor<2>,
    heads: Heads,
    scale: &Scale,
    qkv: &Affine,
    query_key: &QueryKey,
    mask: Option<&Tensor<4, Bool>>,
) -> Tensor<4> {
    let [query, key, _] = queries_keys_values(x, heads, scale, qkv, query_key, Precision::F32);
    weights(query, key, mask, Precision::F32)
}

/// Queries, keys and values, each `[B, h, N, d]`.
fn queries_keys_values(
    x: Tensor<2>,
    heads: Heads,
    scale: &Scale,
    qkv: &Affine,
    query_key: &QueryKey,
    precision: Precision,
) -> [Tensor<4>; 3] {
    let [rows, width] = x.dims();
    let head_dim = width / heads.heads;
    let qkv = affine(norm::composed(x, scale), qkv, precision);
    let part = |i: usize| {
        let part = qkv.clone().narrow(1, i * width, width);
        let shape = [heads.batch, rows / heads.batch, heads.heads, head_dim];
        part.reshape(shape).swap_dims(1, 2)
    };
    let [query, key] = [0, 1].map(|i| {
        let mut x = part(i);
        if let Some(norms) = &query_key.norm {
            let RowNorm {
                gamma,
                beta,
                epsilon,
            } = norms[i].clone();
            x = burn::tensor::module::layer_norm(x, gamma, beta, epsilon);
        }
        match &query_key.rotation {
            Some(rotation) => rotate(x, rotation),
            None => x,
        }
    });
    [query, key, part(2)]
}

/// Turns the pairs of channels i and i + d/2 as [`QueryKey::rotation`] has it.
///
/// # Shapes
///
/// `[B, h, N, d]` → `[B, h, N, d]`.
fn rotate(x: Tensor<4>, rotation: &Tensor<2>) -> Tensor<4> {
    let [.., tokens, head_dim] = x.dims();
    let half = head_dim / 2;
    let table = rotation.clone().reshape([1, 1, tokens, head_dim]);
    let [cosine, sine] = [0, half].map(|i| table.clone().narrow(3, i, half));
    let [first, second] = [0, half].map(|i| x.clone().narrow(3, i, half));
    let turned = [
        first.clone() * cosine.clone() - second.clone() * sine.clone(),
        second * cosine + first * sine,
    ];
    Tensor::cat(turned.to_vec(), 3)
}

#[cfg(feature = "cpu")]
fn int8_on_cpu(
    x: Tensor<2>,
    branch: &Branch,
    heads: Heads,
    query_key: &QueryKey,
    mask: Option<&Tensor<4, Bool>>,
) -> Tensor<2> {
    let _span = profile::span("attention");
    use super::cpu::tape;
    use vitrine_kernels::attention::{Shape, Weights};
    use vitrine_kernels::int8::attention;
    let [rows, width] = x.dims();
    let [tokens, queries] = heads.counts(rows);
    let before = Before::new(query_key);
    let shape = Shape {
        batch: heads.batch,
        tokens,
        queries,
        heads: heads.heads,
        width,
        epsilon: branch.norm.epsilon as f32,
        query_key: before.get(),
    };
    let mask = mask.map(Allowed::new);
    let packed = branch.packed(&branch.values(), |all| attention::pack(&Weights::new(all)));
    let allowed = mask.as_ref().map(Allowed::get);
    let y = attention::infer(tape::values(&x).get(), &packed, shape, allowed);
    tape::tensor(y, [heads.batch * queries, width])
}

#[cfg(feature = "cpu")]
fn on_cpu<E: vitrine_kernels::Operand>(
    x: Tensor<2>,
    branch: &Branch,
    heads: Heads,
    query_key: &QueryKey,
    mask: Option<&Tensor<4, Bool>>,
) -> Tensor<2> {
    let _span = profile::span("attention");
    use super::cpu::tape;
    use vitrine_kernels::Keep;
    use vitrine_kernels::attention::{self, Weights};
    let [rows, width] = x.dims();
    let before = Before::new(query_key);
    let [tokens, queries] = heads.counts(rows);
    let result = [heads.batch * queries, width];
    let plain = attention::Shape {
        batch: heads.batch,
        tokens,
        queries,
        heads: heads.heads,
        width,
        epsilon: branch.norm.epsilon as f32,
        query_key: vitrine_kernels::QueryKey::default(),
    };
    let shape = attention::Shape {
        query_key: before.get(),
        ..plain
    };
    let values = tape::values(&x);
    let weights = branch.values();
    let packed = branch.packed(&weights, |all| Weights::new(all).packed::<E>());
    let mask = mask.map(Allowed::new);
    let allowed = mask.as_ref().map(Allowed::get);
    let pictures = Keep::new(branch.keep.as_deref(), queries);
    if !x.is_autodiff() {
        let y = attention::infer(values.get(), &packed, shape, allowed, pictures);
        return tape::tensor(y, result);
    }
    let (y, saved) = attention::forward(values.get(), &packed, shape, allowed, pictures);
    let none = Tensor::zeros([1], &x.device());
    let norms = query_key.norm.as_ref();
    let gamma = |i: usize| norms.map_or(&none, |norms| &norms[i].gamma).into();
    let beta = |i: usize| {
        let beta = norms.and_then(|norms| norms[i].beta.as_ref());
        beta.unwrap_or(&none).into()
    };
    let of_norms = [gamma(0), beta(0), gamma(1), beta(1)];
    let [x, gamma, beta, qkv, qkv_bias, projection, projection_bias] = branch.inputs(&x);
    let [query_gamma, query_beta, key_gamma, key_beta] = of_norms;
    let inputs = [
        x,
        gamma,
        beta,
        qkv,
        qkv_bias,
        projection,
        projection_bias,
        query_gamma,
        query_beta,
        key_gamma,
        key_beta,
    ];
    let keep = branch.keep.clone();
    tape::record(inputs, y, result, move |dy| {
        let _span = profile::span("attention, backward");
        let shape = attention::Shape {
            query_key: before.get(),
            ..plain
        };
        attention::backward(
            values.get(),
            &saved,
            &Weights::new(weights.each_ref().map(tape::Values::get)),
            shape,
            mask.as_ref().map(Allowed::get),
            Keep::new(keep.as_deref(), queries),
            dy,
        )
    })
}

/// A [`QueryKey`] on the host.
#[cfg(feature = "cpu")]
struct Before {
    norm: Option<[BeforeNorm; 2]>,
    rotation: Option<super::cpu::tape::Values>,
}

/// A [`RowNorm`] on the host.
#[cfg(feature = "cpu")]
struct BeforeNorm {
    gamma: super::cpu::tape::Values,
    beta: Option<super::cpu::tape::Values>,
    epsilon: f32,
}

#[cfg(feature = "cpu")]
impl Before {
    fn new(query_key: &QueryKey) -> Self {
        use super::cpu::tape::values;
        let norm = query_key.norm.as_ref();
        Self {
            norm: norm.map(|norms| {
                norms.each_ref().map(|norm| BeforeNorm {
                    gamma: values(&norm.gamma),
                    beta: norm.beta.as_ref().map(values),
                    epsilon: norm.epsilon as f32,
                })
            }),
            rotation: query_key.rotation.as_ref().map(values),
        }
    }

    fn get(&self) -> vitrine_kernels::QueryKey<'_> {
        use super::cpu::tape::Values;
        let norm = self.norm.as_ref();
        vitrine_kernels::QueryKey {
            norm: norm.map(|norms| {
                norms.each_ref().map(|norm| vitrine_kernels::RowNorm {
                    gamma: norm.gamma.get(),
                    beta: norm.beta.as_ref().map(Values::get),
                    epsilon: norm.epsilon,
                })
            }),
            rotation: self.rotation.as_ref().map(Values::get),
        }
    }
}

/// A mask on the host.
#[cfg(feature = "cpu")]
struct Allowed {
    values: Vec<bool>,
    by_picture: bool,
    by_head: bool,
}

#[cfg(feature = "cpu")]
impl Allowed {
    fn new(mask: &Tensor<4, Bool>) -> Self {
        let [batch, heads, ..] = mask.dims();
        let values = mask.to_data().iter::<bool>().collect();
        Self {
            values,
            by_picture: batch > 1,
            by_head: heads > 1,
        }
    }

    fn get(&self) -> vitrine_kernels::attention::Mask<'_> {
        vitrine_kernels::attention::Mask {
            allowed: &self.values,
            by_picture: self.by_picture,
            by_head: self.by_head,
        }
    }
}
