//! Layer norm.

use burn::tensor::Tensor;

use super::{EPSILON, Scale};

/// γ·(x − mean) / √(variance + ε) + β, over the last axis (Ba et al. 2016).
///
/// # Shapes
///
/// `[.., D]` → `[.., D]`.
pub fn layer_norm<const R: usize>(x: Tensor<R>, scale: &Scale) -> Tensor<R> {
    #[cfg(feature = "cpu")]
    if super::on_cpu(&x) {
        return on_cpu(x, scale);
    }
    composed(x, scale)
}

/// [`layer_norm`] of Burn's own operations.
pub(super) fn composed<const R: usize>(x: Tensor<R>, scale: &Scale) -> Tensor<R> {
    let beta = Some(scale.beta.clone());
    burn::tensor::module::layer_norm(x, scale.gamma.clone(), beta, EPSILON)
}

#[cfg(feature = "cpu")]
fn on_cpu<const R: usize>(x: Tensor<R>, scale: &Scale) -> Tensor<R> {
    use super::cpu::{norm, tape};
    let shape = x.dims();
    let values = tape::values(&x);
    let [gamma, beta] = [&scale.gamma, &scale.beta].map(tape::values);
    let y = norm::forward(values.get(), gamma.get(), beta.get());
    if !x.is_autodiff() {
        return tape::tensor(y, shape);
    }
    let inputs = [(&x).into(), (&scale.gamma).into(), (&scale.beta).into()];
    tape::record(inputs, y, shape, move |dy| {
        norm::backward(values.get(), gamma.get(), dy)
    })
}
