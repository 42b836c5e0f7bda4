//! Layer norm.

use burn::tensor::Tensor;
use vitrine_kernels::EPSILON;

use super::Scale;
#[cfg(feature = "cpu")]
use super::profile;

/// γ·(x − mean) / √(variance + ε) + β, over the last axis (Ba et al. 2016).
///
/// # Shapes
///
/// `[.., D]` → `[.., D]`.
pub fn layer_norm<const R: usize>(x: Tensor<R>, scale: &Scale) -> Tensor<R> {
    #[cfg(feature = "cpu")]
    if super::cpu::on_cpu(&x) {
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
    use super::cpu::tape;
    use vitrine_kernels::norm;
    let _span = profile::span("layer norm");
    let shape = x.dims();
    let values = tape::values(&x);
    let [gamma, beta] = [&scale.gamma, &scale.beta].map(tape::values);
    let y = norm::forward(values.get(), gamma.get(), beta.get());
    if !x.is_autodiff() {
        return tape::tensor(y, shape);
    }
    let inputs = [(&x).into(), (&scale.gamma).into(), (&scale.beta).into()];
    tape::record(inputs, y, shape, move |dy| {
        let _span = profile::span("layer norm, backward");
        norm::backward(values.get(), gamma.get(), dy)
    })
}

/// The mean over each picture's tokens, but for its first `prefix`, of their layer norms.
///
/// # Shapes
///
/// `[B·N, D]` → `[B, D]`.
pub fn mean_of_normed(x: Tensor<2>, batch: usize, prefix: usize, scale: &Scale) -> Tensor<2> {
    #[cfg(feature = "cpu")]
    if super::cpu::on_cpu(&x) {
        return mean_on_cpu(x, batch, prefix, scale);
    }
    composed_mean(x, batch, prefix, scale)
}

/// [`mean_of_normed`] of Burn's own operations.
pub(super) fn composed_mean(x: Tensor<2>, batch: usize, prefix: usize, scale: &Scale) -> Tensor<2> {
    let [rows, width] = x.dims();
    let tokens = x.reshape([batch, rows / batch, width]);
    let patches = composed(tokens, scale).narrow(1, prefix, rows / batch - prefix);
    patches.mean_dim(1).reshape([batch, width])
}

#[cfg(feature = "cpu")]
fn mean_on_cpu(x: Tensor<2>, batch: usize, prefix: usize, scale: &Scale) -> Tensor<2> {
    use super::cpu::tape;
    use vitrine_kernels::norm;
    let _span = profile::span("mean of norms");
    let [_, width] = x.dims();
    let values = tape::values(&x);
    let [gamma, beta] = [&scale.gamma, &scale.beta].map(tape::values);
    let y = norm::mean_forward(values.get(), batch, prefix, gamma.get(), beta.get());
    if !x.is_autodiff() {
        return tape::tensor(y, [batch, width]);
    }
    let inputs = [(&x).into(), (&scale.gamma).into(), (&scale.beta).into()];
    tape::record(inputs, y, [batch, width], move |dy| {
        let _span = profile::span("mean of norms, backward");
        norm::mean_backward(values.get(), batch, prefix, gamma.get(), dy)
    })
}
