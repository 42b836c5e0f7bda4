//! Batch norm, with what follows it.

use burn::tensor::activation::relu;
use burn::tensor::{FloatDType, Tensor};
pub(crate) use vitrine_kernels::Tail;

use super::gelu::gelu;
#[cfg(feature = "cpu")]
use super::profile;

/// The tail, composed.
pub(super) fn finish(x: Tensor<4>, tail: Tail<Tensor<4>>) -> Tensor<4> {
    match tail {
        Tail::Plain => x,
        Tail::Relu => relu(x),
        Tail::Gelu => gelu(x),
        Tail::AddRelu(other) => relu(x + other),
        Tail::AddGelu(other) => gelu(x + other),
        Tail::ReluAdd(other) => relu(x) + other,
    }
}

/// The learned part of a batch norm.
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    /// γ, `[C]`.
    pub gamma: Tensor<1>,
    /// β, `[C]`.
    pub beta: Tensor<1>,
    /// Added to the variance.
    pub epsilon: f64,
}

/// Means and biased variances of channels, both `[C]`, without history.
#[derive(Debug, Clone)]
pub(crate) struct Statistics {
    /// Means.
    pub mean: Tensor<1>,
    /// Variances.
    pub variance: Tensor<1>,
}

/// tail(γ·(x − mean)/√(variance + ε) + β) with the statistics of the batch itself, which it also
/// returns (Ioffe & Szegedy 2015, algorithm 1).
///
/// # Shapes
///
/// `[B, H, W, C]` → `[B, H, W, C]`.
pub(crate) fn batch_norm(
    x: Tensor<4>,
    norm: &Norm,
    tail: Tail<Tensor<4>>,
) -> (Tensor<4>, Statistics) {
    #[cfg(feature = "cpu")]
    if super::cpu::on_cpu(&x) && x.is_autodiff() {
        return match super::precision::float(&x) {
            FloatDType::BF16 => on_cpu::<half::bf16>(x, norm, tail),
            _ => on_cpu::<f32>(x, norm, tail),
        };
    }
    composed(x, norm, tail)
}

/// [`batch_norm`] of Burn's own operations.
fn composed(x: Tensor<4>, norm: &Norm, tail: Tail<Tensor<4>>) -> (Tensor<4>, Statistics) {
    let result = burn::tensor::module::batch_norm_train(
        x.permute([0, 3, 1, 2]),
        norm.gamma.clone(),
        norm.beta.clone(),
        norm.epsilon,
    );
    let statistics = Statistics {
        mean: result.mean.detach(),
        variance: result.variance.detach(),
    };
    (
        finish(result.output.permute([0, 2, 3, 1]), tail),
        statistics,
    )
}

/// The same with statistics from elsewhere.
///
/// # Shapes
///
/// `[B, H, W, C]` → `[B, H, W, C]`.
pub(crate) fn batch_norm_with(
    x: Tensor<4>,
    norm: &Norm,
    statistics: &Statistics,
    tail: Tail<Tensor<4>>,
) -> Tensor<4> {
    #[cfg(feature = "cpu")]
    if super::cpu::on_cpu(&x) && !x.is_autodiff() {
        return match super::precision::float(&x) {
            FloatDType::BF16 => inference_on_cpu::<half::bf16>(x, norm, statistics, tail),
            _ => inference_on_cpu::<f32>(x, norm, statistics, tail),
        };
    }
    let wide = |x: Tensor<4>| x.cast(FloatDType::F32);
    let y = burn::tensor::module::batch_norm(
        wide(x).permute([0, 3, 1, 2]),
        norm.gamma.clone(),
        norm.beta.clone(),
        statistics.mean.clone(),
        statistics.variance.clone(),
        norm.epsilon,
    );
    finish(y.permute([0, 2, 3, 1]), tail.map(wide))
}

#[cfg(feature = "cpu")]
fn on_cpu<E: super::cpu::tape::Stored>(
    x: Tensor<4>,
    norm: &Norm,
    tail: Tail<Tensor<4>>,
) -> (Tensor<4>, Statistics) {
    let _span = profile::span("batch norm");
    use super::cpu::tape;
    use vitrine_kernels::batch_norm;
    let shape = x.dims();
    let epsilon = norm.epsilon;
    let tail = tail.map(tape::stored::<E, 4>);
    let other = tail.as_ref().map(tape::values);
    let maps = tape::values(&x);
    let [gamma, beta] = [&norm.gamma, &norm.beta].map(tape::values);
    let of = batch_norm::Statistics::of::<E>(maps.get(), shape[3]);
    let statistics = [&of.mean, &of.variance]
        .map(|values| Tensor::from_inner(tape::tensor(values.clone(), [shape[3]])));
    let learned = [gamma.get(), beta.get()];
    let y = batch_norm::forward::<E>(
        maps.get(),
        &of,
        learned,
        epsilon,
        other.as_ref().map(|values| values.get()),
    );
    let y = tape::tensor_of(y, shape);
    let saved = match other {
        // The next operation keeps the result anyway.
        Tail::AddRelu(_) => Tail::AddRelu(tape::values(&y)),
        other => other,
    };
    let backward = move |dy: &tape::Values| {
        let learned = [gamma.get(), beta.get()];
        let saved = saved.as_ref().map(|values| values.get());
        batch_norm::backward::<E>(maps.get(), &of, learned, epsilon, saved, dy.get())
    };
    let inputs = [(&x).into(), (&norm.gamma).into(), (&norm.beta).into()];
    let y = match tail {
        Tail::Plain | Tail::Relu | Tail::Gelu => tape::record_tensor(inputs, y, move |dy| {
            let _span = profile::span("batch norm, backward");
            let got = backward(dy);
            [
                tape::gradient(got.z),
                tape::gradient(got.gamma),
                tape::gradient(got.beta),
            ]
            .map(Some)
        }),
        Tail::AddRelu(other) | Tail::AddGelu(other) | Tail::ReluAdd(other) => {
            let [x, gamma, beta] = inputs;
            tape::record_tensor([x, gamma, beta, (&other).into()], y, move |dy| {
                let _span = profile::span("batch norm, backward");
                let got = backward(dy);
                let added = got.added.map_or_else(|| dy.primitive(), tape::gradient);
                let [gamma, beta] = [got.gamma, got.beta].map(tape::gradient);
                [tape::gradient(got.z), gamma, beta, added].map(Some)
            })
        }
    };
    let [mean, variance] = statistics;
    (y, Statistics { mean, variance })
}

#[cfg(feature = "cpu")]
fn inference_on_cpu<E: super::cpu::tape::Stored>(
    x: Tensor<4>,
    norm: &Norm,
    statistics: &Statistics,
    tail: Tail<Tensor<4>>,
) -> Tensor<4> {
    use super::cpu::tape;
    use vitrine_kernels::batch_norm;
    let vector = |x: &Tensor<1>| tape::values(x).get::<f32>().to_vec();
    let of = batch_norm::Statistics {
        mean: vector(&statistics.mean),
        variance: vector(&statistics.variance),
    };
    let tail = tail.map(|x| tape::values(&tape::stored::<E, 4>(x)));
    let y = batch_norm::forward::<E>(
        tape::values(&x).get(),
        &of,
        [&vector(&norm.gamma), &vector(&norm.beta)],
        norm.epsilon,
        tail.as_ref().map(|values| values.get()),
    );
    tape::tensor_of(y, x.dims())
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use burn::tensor::{Device, Distribution, Tolerance};

    use super::*;

    #[test]
    fn the_kernels_equal_the_composed_form() {
        let device = Device::flex().autodiff();
        let random = |dims| Tensor::<4>::random(dims, Distribution::Normal(0.5, 2.0), &device);
        let vector = || Tensor::<1>::random([5], Distribution::Normal(0.0, 1.0), &device);
        let (x, other, slope) = (
            random([2, 3, 4, 5]),
            random([2, 3, 4, 5]),
            random([2, 3, 4, 5]),
        );
        let (gamma, beta) = (vector(), vector());
        for tail in [
            Tail::Plain,
            Tail::Relu,
            Tail::Gelu,
            Tail::AddRelu(()),
            Tail::AddGelu(()),
            Tail::ReluAdd(()),
        ] {
            let run = |f: fn(Tensor<4>, &Norm, Tail<Tensor<4>>) -> (Tensor<4>, Statistics)| {
                let leaf = |x: &Tensor<4>| x.clone().detach().require_grad();
                let (x, other) = (leaf(&x), leaf(&other));
                let [gamma, beta] = [&gamma, &beta].map(|x| x.clone().detach().require_grad());
                let norm = Norm {
                    gamma: gamma.clone(),
                    beta: beta.clone(),
                    epsilon: 1e-5,
                };
                let (y, of) = f(x.clone(), &norm, tail.map(|()| other.clone()));
                let gradients = (y.clone() * slope.clone()).sum().backward();
                let mut all = vec![
                    y.inner().into_data(),
                    of.mean.into_data(),
                    of.variance.into_data(),
                ];
                all.extend(
                    [&gamma, &beta].map(|x| x.grad(&gradients).expect("learned").into_data()),
                );
                all.push(x.grad(&gradients).expect("the input's").into_data());
                all.extend(other.grad(&gradients).map(Tensor::into_data));
                all
            };
            let (got, expected) = (run(batch_norm), run(composed));
            assert_eq!(got.len(), expected.len());
            for (got, expected) in got.iter().zip(&expected) {
                got.assert_approx_eq(expected, Tolerance::<f32>::rel_abs(1e-4, 1e-5));
            }
        }
    }
}
