//! What both residual branches of an encoder block are made of.

use burn::tensor::Tensor;

#[cfg(feature = "cpu")]
use super::cpu::tape;
use super::precision::Precision;
use super::prepared::Prepared;
use super::product::affine;
use super::{Affine, Scale};
#[cfg(feature = "cpu")]
use std::{any::Any, sync::Arc};

/// A residual branch, y = x + keep·(f(norm(x)·W₁ + b₁)·W₂ + b₂), but for its f:
/// [attention](super::attention::add_attention) or an [activation](super::mlp::add_mlp).
#[derive(Debug, Clone)]
pub struct Branch<'a> {
    /// The layer norm before the branch.
    pub norm: Scale,
    /// W₁ and b₁.
    pub first: Affine,
    /// W₂ and b₂, a layer scale multiplied in.
    pub second: Affine,
    /// Drop path: how much of the branch each picture keeps, one number a picture; `None` is all.
    pub keep: Option<Vec<f32>>,
    /// Of both layers and of what lies between them.
    pub precision: Precision,
    /// Where packed weights are kept.
    pub prepared: Option<&'a Prepared>,
}

impl Branch<'_> {
    /// x + keep·(`inner`·W₂ + b₂), composed.
    pub(super) fn add_to(&self, x: Tensor<2>, inner: Tensor<2>) -> Tensor<2> {
        let branch = affine(inner, &self.second, self.precision);
        x + scale_pictures(branch, self.keep.as_deref())
    }
}

/// Scales each picture's rows by its number: drop path.
///
/// # Shapes
///
/// `x` `[B·N, D]`, `keep` B numbers → `[B·N, D]`.
fn scale_pictures(x: Tensor<2>, keep: Option<&[f32]>) -> Tensor<2> {
    let Some(keep) = keep else { return x };
    let [rows, width] = x.dims();
    let keep = Tensor::<1>::from_floats(keep, &x.device()).reshape([keep.len(), 1, 1]);
    let [batch, ..] = keep.dims();
    (x.reshape([batch, rows / batch, width]) * keep).reshape([rows, width])
}

#[cfg(feature = "cpu")]
impl Branch<'_> {
    /// Whether there is a kernel of eight bits for it: in inference, which keeps all of a branch.
    pub(super) fn fits_int8(&self, x: &Tensor<2>) -> bool {
        use vitrine_kernels::int8::Layer;
        let inputs = [&self.first, &self.second].map(|layer| layer.weight.dims()[0]);
        !x.is_autodiff() && self.keep.is_none() && inputs.iter().all(|&n| n <= Layer::MOST_INPUTS)
    }

    /// The values of γ, β, W₁, b₁, W₂ and b₂.
    pub(super) fn values(&self) -> [tape::Values; 6] {
        [
            tape::values(&self.norm.gamma),
            tape::values(&self.norm.beta),
            tape::values(&self.first.weight),
            tape::values(&self.first.bias),
            tape::values(&self.second.weight),
            tape::values(&self.second.bias),
        ]
    }

    /// What `pack` makes of those values, in their order.
    pub(super) fn packed<P: Any + Send + Sync>(
        &self,
        values: &[tape::Values; 6],
        pack: impl FnOnce([&[f32]; 6]) -> P,
    ) -> Arc<P> {
        let [gamma, beta, weight1, bias1, weight2, bias2] = values;
        // The first weight leads, as what is kept is looked up by it.
        let by_weight = [weight1, gamma, beta, bias1, weight2, bias2];
        Prepared::packed(self.prepared, by_weight, |all| {
            let [weight1, gamma, beta, bias1, weight2, bias2] = all;
            pack([gamma, beta, weight1, bias1, weight2, bias2])
        })
    }

    /// `x` and the weights in the order of [`values`](Self::values), in Burn's graph.
    pub(super) fn inputs(&self, x: &Tensor<2>) -> [tape::Input; 7] {
        [
            x.into(),
            (&self.norm.gamma).into(),
            (&self.norm.beta).into(),
            (&self.first.weight).into(),
            (&self.first.bias).into(),
            (&self.second.weight).into(),
            (&self.second.bias).into(),
        ]
    }
}
