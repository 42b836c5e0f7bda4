//! Layer norm.

use burn::tensor::Tensor;

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
    #[cfg(gpu)]
    if super::by_hand::on_gpu(&x) {
        let shape = x.dims();
        let [width] = scale.gamma.dims();
        let rows = x.reshape([-1, width as i64]);
        return by_hand::<burn::backend::Cube>(rows, scale).reshape(shape);
    }
    let beta = Some(scale.beta.clone());
    burn::tensor::module::layer_norm(x, scale.gamma.clone(), beta, scale.epsilon)
}

/// [`layer_norm`] of rows, with its gradient (Ba et al. 2016, differentiated): with x̂ the row before
/// γ and β, and ĝ = γ·g, x gets (ĝ − mean(ĝ) − x̂·mean(ĝ·x̂)) / √(variance + ε).
#[cfg(gpu)]
pub(super) fn by_hand<B: super::by_hand::Place>(x: Tensor<2>, scale: &Scale) -> Tensor<2> {
    let inputs = [(&x).into(), (&scale.gamma).into(), (&scale.beta).into()];
    let [gamma, beta] = [&scale.gamma, &scale.beta].map(|x| x.clone().inner().unsqueeze::<2>());
    let x = x.inner();
    let centred = x.clone() - x.mean_dim(1);
    let variance = centred.clone().square().mean_dim(1);
    let inverse = (variance + scale.epsilon).sqrt().recip();
    let normed = centred * inverse.clone();
    let y = normed.clone() * gamma.clone() + beta;
    super::by_hand::record::<B, 3, 2>(inputs, y, move |dy| {
        let scaled = dy.clone() * gamma;
        let along = (scaled.clone() * normed.clone()).mean_dim(1);
        let mean = scaled.clone().mean_dim(1);
        let dx = (scaled - mean - normed.clone() * along) * inverse;
        let dgamma = (dy.clone() * normed).sum_dim(0);
        [dx.into(), dgamma.into(), dy.sum_dim(0).into()]
    })
}

#[cfg(feature = "cpu")]
fn on_cpu<const R: usize>(x: Tensor<R>, scale: &Scale) -> Tensor<R> {
    use super::cpu::tape;
    use vitrine_kernels::norm;
    let _span = profile::span("layer norm");
    let shape = x.dims();
    let values = tape::values(&x);
    let [gamma, beta] = [&scale.gamma, &scale.beta].map(tape::values);
    let epsilon = scale.epsilon as f32;
    let y = norm::forward(values.get(), gamma.get(), beta.get(), epsilon);
    if !x.is_autodiff() {
        return tape::tensor(y, shape);
    }
    let inputs = [(&x).into(), (&scale.gamma).into(), (&scale.beta).into()];
    tape::record(inputs, y, shape, move |dy| {
        let _span = profile::span("layer norm, backward");
        norm::backward(values.get(), gamma.get(), epsilon, dy)
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
    composed_token_mean(composed(x, scale), batch, prefix)
}

#[cfg(feature = "cpu")]
fn mean_on_cpu(x: Tensor<2>, batch: usize, prefix: usize, scale: &Scale) -> Tensor<2> {
    use super::cpu::tape;
    use vitrine_kernels::norm;
    let _span = profile::span("mean of norms");
    let [_, width] = x.dims();
    let values = tape::values(&x);
    let [gamma, beta] = [&scale.gamma, &scale.beta].map(tape::values);
    let epsilon = scale.epsilon as f32;
    let (gamma_values, beta) = (gamma.get(), beta.get());
    let y = norm::mean_forward(values.get(), batch, prefix, gamma_values, beta, epsilon);
    if !x.is_autodiff() {
        return tape::tensor(y, [batch, width]);
    }
    let inputs = [(&x).into(), (&scale.gamma).into(), (&scale.beta).into()];
    tape::record(inputs, y, [batch, width], move |dy| {
        let _span = profile::span("mean of norms, backward");
        norm::mean_backward(values.get(), batch, prefix, gamma.get(), epsilon, dy)
    })
}

/// The layer norm of the mean over each picture's tokens, but for its first `prefix`.
///
/// # Shapes
///
/// `[B·N, D]` → `[B, D]`.
pub fn norm_of_mean(x: Tensor<2>, batch: usize, prefix: usize, scale: &Scale) -> Tensor<2> {
    layer_norm(token_mean(x, batch, prefix), scale)
}

/// The mean over each picture's tokens, but for its first `prefix`.
///
/// # Shapes
///
/// `[B·N, D]` → `[B, D]`.
pub(super) fn token_mean(x: Tensor<2>, batch: usize, prefix: usize) -> Tensor<2> {
    #[cfg(feature = "cpu")]
    if super::cpu::on_cpu(&x) {
        return token_mean_on_cpu(x, batch, prefix);
    }
    composed_token_mean(x, batch, prefix)
}

/// [`token_mean`] of Burn's own operations.
pub(super) fn composed_token_mean(x: Tensor<2>, batch: usize, prefix: usize) -> Tensor<2> {
    let [rows, width] = x.dims();
    let mut tokens = x.reshape([batch, rows / batch, width]);
    if prefix > 0 {
        tokens = tokens.narrow(1, prefix, rows / batch - prefix);
    }
    tokens.mean_dim(1).reshape([batch, width])
}

#[cfg(feature = "cpu")]
fn token_mean_on_cpu(x: Tensor<2>, batch: usize, prefix: usize) -> Tensor<2> {
    use super::cpu::tape;
    use vitrine_kernels::norm;
    let _span = profile::span("mean of tokens");
    let [rows, width] = x.dims();
    let values = tape::values(&x);
    let y = norm::token_mean(values.get(), batch, prefix, width);
    if !x.is_autodiff() {
        return tape::tensor(y, [batch, width]);
    }
    tape::record([(&x).into()], y, [batch, width], move |dy| {
        let _span = profile::span("mean of tokens, backward");
        [norm::token_mean_gradient(
            rows * width,
            batch,
            prefix,
            width,
            dy,
        )]
    })
}
