//! Convolution, alone and with what follows it.
//!
//! Feature maps are `[B, H, W, C]` here: a pixel's channels lie side by side, which is what a matrix
//! product wants. In bf16 they are stored in it too on the processor.

use burn::tensor::ops::ConvOptions;
use burn::tensor::{FloatDType, Tensor};
pub(crate) use vitrine_kernels::Window;
#[cfg(feature = "cpu")]
use vitrine_kernels::{Map, conv as kernels};

use super::batch_norm::{Norm, Statistics, Tail};
#[cfg(feature = "cpu")]
use super::cpu::tape::{self, Stored};
use super::gelu::gelu;
use super::precision::{Precision, float};
use super::prepared::Prepared;
#[cfg(feature = "cpu")]
use super::profile;

/// A convolution without bias.
#[derive(Debug, Clone)]
pub(crate) struct Conv {
    /// W, `[D, C, k, k]`.
    pub weight: Tensor<4>,
    /// Where it looks.
    pub window: Window,
}

/// x ∗ W.
///
/// # Shapes
///
/// `x` `[B, H, W, C]` → `[B, H', W', D]`.
pub(crate) fn conv(
    x: Tensor<4>,
    layer: &Conv,
    precision: Precision,
    prepared: Option<&Prepared>,
) -> Tensor<4> {
    #[cfg(feature = "cpu")]
    if super::cpu::on_cpu(&x) {
        return match precision {
            Precision::Int8 if layer.fits_int8(&x) => int8_on_cpu(x, layer, prepared),
            Precision::F32 | Precision::Int8 => on_cpu::<f32>(x, layer, prepared),
            Precision::Bf16 => on_cpu::<half::bf16>(x, layer, prepared),
        };
    }
    let _ = prepared;
    composed(x, layer.weight.clone(), layer.window, precision)
}

/// GELU(x ∗ W + b).
///
/// # Shapes
///
/// `x` `[B, H, W, C]`, `bias` `[D]` → `[B, H', W', D]`.
pub(crate) fn conv_gelu(
    x: Tensor<4>,
    layer: &Conv,
    bias: Tensor<1>,
    precision: Precision,
    prepared: Option<&Prepared>,
) -> Tensor<4> {
    #[cfg(feature = "cpu")]
    if super::cpu::on_cpu(&x) {
        let tracked = x.is_autodiff();
        return match (precision, tracked) {
            (Precision::Bf16, false) => gelu_on_cpu::<half::bf16>(x, layer, bias, prepared),
            (Precision::Bf16, true) => shifted::<half::bf16>(conv(x, layer, precision, None), bias),
            // Of eight bits: it is a first layer, which sees pixels as they are.
            (_, false) => gelu_on_cpu::<f32>(x, layer, bias, prepared),
            (_, true) => shifted::<f32>(conv(x, layer, Precision::F32, None), bias),
        };
    }
    let sums = conv(x, layer, precision, prepared);
    gelu(sums + bias.reshape([1, 1, 1, -1]))
}

/// tail(norm(x ∗ W)) with a batch norm's running statistics, which are folded into the weight: so
/// nothing stands between the sums and the next layer.
///
/// # Shapes
///
/// `x` `[B, H, W, C]` → `[B, H', W', D]`.
pub(crate) fn conv_norm(
    x: Tensor<4>,
    layer: &Conv,
    norm: &Norm,
    statistics: &Statistics,
    tail: Tail<Tensor<4>>,
    precision: Precision,
    prepared: Option<&Prepared>,
) -> Tensor<4> {
    #[cfg(feature = "cpu")]
    if super::cpu::on_cpu(&x) && !x.is_autodiff() {
        let norm = (norm, statistics);
        return match precision {
            Precision::Int8 if layer.fits_int8(&x) => {
                int8_folded_on_cpu(x, layer, norm, tail, prepared)
            }
            Precision::F32 | Precision::Int8 => {
                folded_on_cpu::<f32>(x, layer, norm, tail, prepared)
            }
            Precision::Bf16 => folded_on_cpu::<half::bf16>(x, layer, norm, tail, prepared),
        };
    }
    let deviation = (statistics.variance.clone() + norm.epsilon).sqrt();
    let scale = norm.gamma.clone() / deviation;
    let bias = norm.beta.clone() - statistics.mean.clone() * scale.clone();
    let layer = Conv {
        weight: layer.weight.clone() * scale.reshape([-1, 1, 1, 1]),
        window: layer.window,
    };
    let sums = conv(x, &layer, precision, prepared);
    let float = float(&sums);
    let bias = bias.reshape([1, 1, 1, -1]).cast(float);
    super::batch_norm::finish(sums + bias, tail.map(|x| x.cast(float)))
}

/// [`conv`] of Burn's own operations.
fn composed(x: Tensor<4>, weight: Tensor<4>, window: Window, precision: Precision) -> Tensor<4> {
    let options = ConvOptions::new([window.stride; 2], [window.padding; 2], [1, 1], 1);
    let x = x.permute([0, 3, 1, 2]);
    let y = match precision {
        // Eight bits have no composed form.
        Precision::F32 | Precision::Int8 => burn::tensor::module::conv2d(x, weight, None, options),
        Precision::Bf16 => {
            let narrow = |x: Tensor<4>| x.cast(FloatDType::BF16);
            let y = burn::tensor::module::conv2d(narrow(x), narrow(weight), None, options);
            y.cast(FloatDType::F32)
        }
    };
    y.permute([0, 2, 3, 1])
}

#[cfg(feature = "cpu")]
fn on_cpu<E: Stored>(x: Tensor<4>, layer: &Conv, prepared: Option<&Prepared>) -> Tensor<4> {
    let _span = profile::span("convolution");
    let window = layer.window;
    let x = tape::stored::<E, 4>(x);
    let input = Map::new(x.dims());
    let output = input.windows(window, layer.weight.dims()[0]);
    let (maps, filters) = (tape::values(&x), tape::values(&layer.weight));
    let packed = Prepared::packed(prepared, [&filters], |[weight]| {
        kernels::Packed::<E>::new(window, input.channels, weight, None)
    });
    let y = kernels::forward(&packed, (maps.get(), input), Tail::Plain);
    let y = tape::tensor_of(y, output.dims());
    if !x.is_autodiff() {
        return y;
    }
    let inputs = [tape::Input::from(&x), (&layer.weight).into()];
    let [with_dx, with_dw] = inputs.each_ref().map(tape::Input::is_tracked);
    tape::record_tensor(inputs, y, move |dy| {
        let _span = profile::span("convolution, backward");
        let dy = (dy.get(), output);
        let dx = with_dx.then(|| kernels::input_gradient::<E>(window, dy, filters.get(), input));
        let dw = with_dw.then(|| kernels::weight_gradient::<E>(window, (maps.get(), input), dy));
        [dx.map(tape::gradient), dw.map(tape::gradient)]
    })
}

#[cfg(feature = "cpu")]
impl Conv {
    /// Whether there is a kernel of eight bits for it: in inference, unless it sees pixels.
    fn fits_int8(&self, x: &Tensor<4>) -> bool {
        /// From so many channels on.
        const CHANNELS: usize = 8;
        let [_, channels, height, width] = self.weight.dims();
        let fits = channels * height * width <= vitrine_kernels::int8::Layer::MOST_INPUTS;
        !x.is_autodiff() && channels >= CHANNELS && fits
    }
}

#[cfg(feature = "cpu")]
fn int8_on_cpu(x: Tensor<4>, layer: &Conv, prepared: Option<&Prepared>) -> Tensor<4> {
    use vitrine_kernels::int8::conv::Packed;
    let channels = x.dims()[3];
    let packed = Prepared::packed(prepared, [&tape::values(&layer.weight)], |[weight]| {
        Packed::new(layer.window, channels, weight, None)
    });
    int8_packed_on_cpu(x, layer, &packed, Tail::Plain)
}

#[cfg(feature = "cpu")]
fn int8_packed_on_cpu(
    x: Tensor<4>,
    layer: &Conv,
    packed: &vitrine_kernels::int8::conv::Packed,
    tail: Tail<Tensor<4>>,
) -> Tensor<4> {
    let _span = profile::span("convolution");
    let x = tape::stored::<f32, 4>(x);
    let input = Map::new(x.dims());
    let output = input.windows(layer.window, layer.weight.dims()[0]);
    let tail = tail.map(|x| tape::values(&tape::stored::<f32, 4>(x)));
    let y = vitrine_kernels::int8::conv::infer(
        packed,
        (tape::values(&x).get(), input),
        tail.as_ref().map(|values| values.get()),
    );
    tape::tensor_of(y, output.dims())
}

#[cfg(feature = "cpu")]
fn int8_folded_on_cpu(
    x: Tensor<4>,
    layer: &Conv,
    (norm, statistics): (&Norm, &Statistics),
    tail: Tail<Tensor<4>>,
    prepared: Option<&Prepared>,
) -> Tensor<4> {
    let values = folded_values(layer, norm, statistics);
    let channels = x.dims()[3];
    let packed = Prepared::packed(prepared, values.each_ref(), |[weight, of @ ..]| {
        let norm = folded_norm(of, norm.epsilon);
        vitrine_kernels::int8::conv::Packed::new(layer.window, channels, weight, Some(&norm))
    });
    int8_packed_on_cpu(x, layer, &packed, tail)
}

/// A convolution's weight, then γ, β, means and variances of the norm after it.
#[cfg(feature = "cpu")]
fn folded_values(layer: &Conv, norm: &Norm, statistics: &Statistics) -> [tape::Values; 5] {
    [
        tape::values(&layer.weight),
        tape::values(&norm.gamma),
        tape::values(&norm.beta),
        tape::values(&statistics.mean),
        tape::values(&statistics.variance),
    ]
}

#[cfg(feature = "cpu")]
fn folded_norm([gamma, beta, mean, variance]: [&[f32]; 4], epsilon: f64) -> kernels::Norm<'_> {
    kernels::Norm {
        gamma,
        beta,
        mean,
        variance,
        epsilon,
    }
}

#[cfg(feature = "cpu")]
fn gelu_on_cpu<E: Stored>(
    x: Tensor<4>,
    layer: &Conv,
    bias: Tensor<1>,
    prepared: Option<&Prepared>,
) -> Tensor<4> {
    let weights = [&tape::values(&layer.weight), &tape::values(&bias)];
    let channels = x.dims()[3];
    let packed = Prepared::packed(prepared, weights, |[weight, bias]| {
        kernels::Packed::<E>::new(layer.window, channels, weight, Some(bias))
    });
    packed_on_cpu(x, layer, &packed, Tail::Gelu)
}

#[cfg(feature = "cpu")]
fn folded_on_cpu<E: Stored>(
    x: Tensor<4>,
    layer: &Conv,
    (norm, statistics): (&Norm, &Statistics),
    tail: Tail<Tensor<4>>,
    prepared: Option<&Prepared>,
) -> Tensor<4> {
    let values = folded_values(layer, norm, statistics);
    let channels = x.dims()[3];
    let packed = Prepared::packed(prepared, values.each_ref(), |[weight, of @ ..]| {
        let norm = folded_norm(of, norm.epsilon);
        kernels::Packed::<E>::folded(layer.window, channels, weight, &norm)
    });
    packed_on_cpu(x, layer, &packed, tail)
}

#[cfg(feature = "cpu")]
fn packed_on_cpu<E: Stored>(
    x: Tensor<4>,
    layer: &Conv,
    packed: &kernels::Packed<E>,
    tail: Tail<Tensor<4>>,
) -> Tensor<4> {
    let _span = profile::span("convolution");
    let x = tape::stored::<E, 4>(x);
    let input = Map::new(x.dims());
    let output = input.windows(layer.window, layer.weight.dims()[0]);
    let tail = tail.map(|x| tape::values(&tape::stored::<E, 4>(x)));
    let y = kernels::forward(
        packed,
        (tape::values(&x).get(), input),
        tail.as_ref().map(|values| values.get()),
    );
    tape::tensor_of(y, output.dims())
}

/// GELU(x + b), with its gradient.
#[cfg(feature = "cpu")]
fn shifted<E: Stored>(x: Tensor<4>, bias: Tensor<1>) -> Tensor<4> {
    let _span = profile::span("bias and GELU");
    use vitrine_kernels::batch_norm::{shifted_gelu, shifted_gelu_gradient};
    let (maps, shift) = (tape::values(&x), tape::values(&bias));
    let y = tape::tensor_of(shifted_gelu::<E>(maps.get(), shift.get()), x.dims());
    let x = tape::Input::from(&x);
    let with_dx = x.is_tracked();
    tape::record_tensor([x, (&bias).into()], y, move |dy| {
        let _span = profile::span("bias and GELU, backward");
        let (dx, db) = shifted_gelu_gradient::<E>(maps.get(), shift.get(), dy.get(), with_dx);
        [dx.map(tape::gradient), Some(tape::gradient(db))]
    })
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use burn::tensor::{Device, Distribution, Tolerance};

    use super::super::batch_norm::batch_norm_with;
    use super::*;

    #[test]
    fn the_kernels_equal_the_composed_form() {
        let device = Device::flex().autodiff();
        for (kernel, stride, dims) in [
            (3, 1, [2, 5, 7, 3]),
            (3, 2, [2, 6, 5, 4]),
            (1, 2, [3, 4, 4, 2]),
        ] {
            let window = Window {
                kernel,
                stride,
                padding: kernel / 2,
            };
            let x = Tensor::<4>::random(dims, Distribution::Default, &device);
            let w =
                Tensor::<4>::random([6, dims[3], kernel, kernel], Distribution::Default, &device);
            for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 2e-2)] {
                let run = |f: fn(Tensor<4>, Tensor<4>, Window, Precision) -> Tensor<4>| {
                    let (x, w) = (
                        x.clone().detach().require_grad(),
                        w.clone().detach().require_grad(),
                    );
                    let y = f(x.clone(), w.clone(), window, precision).cast(FloatDType::F32);
                    let gradients = y.clone().powi_scalar(2).mean().backward();
                    let of = |x: &Tensor<4>| x.grad(&gradients).expect("a gradient").into_data();
                    [y.inner().into_data(), of(&x), of(&w)]
                };
                let ours = |x, weight, window, precision| {
                    conv(x, &Conv { weight, window }, precision, None)
                };
                for (got, expected) in run(ours).iter().zip(run(composed)) {
                    got.assert_approx_eq(
                        &expected,
                        Tolerance::<f32>::rel_abs(tolerance, tolerance),
                    );
                }
            }
        }
    }

    #[test]
    fn a_tail_is_the_same_folded_or_not() {
        let device = Device::flex();
        let window = Window {
            kernel: 3,
            stride: 1,
            padding: 1,
        };
        let random = |dims| Tensor::<4>::random(dims, Distribution::Default, &device);
        let vector = || Tensor::<1>::random([6], Distribution::Default, &device);
        let (x, w, r) = (
            random([2, 4, 5, 3]),
            random([6, 3, 3, 3]) - 0.5,
            random([2, 4, 5, 6]),
        );
        let (gamma, beta) = (vector(), vector() - 0.5);
        let (mean, variance) = (vector() - 0.5, vector() + 0.1);
        let prepared = Prepared::default();
        for tail in [
            Tail::Plain,
            Tail::Relu,
            Tail::Gelu,
            Tail::AddRelu(r.clone()),
            Tail::AddGelu(r.clone()),
            Tail::ReluAdd(r),
        ] {
            for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 3e-2)] {
                let run = |lift: fn(Tensor<4>) -> Tensor<4>, apart: bool, prepared| {
                    // With autodiff all is composed.
                    let lift1 = |x: &Tensor<1>| lift(x.clone().reshape([1, 1, 1, 6])).reshape([6]);
                    let layer = Conv {
                        weight: lift(w.clone()),
                        window,
                    };
                    let norm = Norm {
                        gamma: lift1(&gamma),
                        beta: lift1(&beta),
                        epsilon: 1e-5,
                    };
                    let of = Statistics {
                        mean: lift1(&mean),
                        variance: lift1(&variance),
                    };
                    let tail = tail.clone().map(lift);
                    let x = lift(x.clone());
                    let y = if apart {
                        batch_norm_with(conv(x, &layer, precision, None), &norm, &of, tail)
                    } else {
                        conv_norm(x, &layer, &norm, &of, tail, precision, prepared)
                    };
                    let y = if y.is_autodiff() { y.inner() } else { y };
                    y.cast(FloatDType::F32).into_data()
                };
                let folded = run(|x| x, false, None);
                let tolerance = Tolerance::<f32>::rel_abs(tolerance, tolerance);
                folded.assert_approx_eq(&run(Tensor::from_inner, false, None), tolerance);
                folded.assert_approx_eq(&run(Tensor::from_inner, true, None), tolerance);
                folded.assert_approx_eq(&run(|x| x, true, None), tolerance);
                run(|x| x, false, Some(&prepared)).assert_eq(&folded, true);
            }
        }
    }

    #[test]
    fn a_gelu_after_a_bias_and_its_gradient_equal_the_composed_form() {
        let device = Device::flex().autodiff();
        let window = Window {
            kernel: 2,
            stride: 1,
            padding: 0,
        };
        let x = Tensor::<4>::random([2, 5, 4, 3], Distribution::Default, &device);
        let w = Tensor::<4>::random([7, 3, 2, 2], Distribution::Default, &device) - 0.5;
        let b = Tensor::<1>::random([7], Distribution::Default, &device) - 0.5;
        for frozen in [false, true] {
            let run = |ours: bool| {
                let layer = Conv {
                    weight: w.clone().detach().set_require_grad(!frozen),
                    window,
                };
                let b = b.clone().detach().require_grad();
                let y = if ours {
                    conv_gelu(x.clone(), &layer, b.clone(), Precision::F32, None)
                } else {
                    let sums = composed(x.clone(), layer.weight.clone(), window, Precision::F32);
                    gelu(sums + b.clone().reshape([1, 1, 1, -1]))
                };
                let gradients = y.clone().powi_scalar(2).sum().backward();
                let mut all = vec![
                    y.inner().into_data(),
                    b.grad(&gradients).expect("a gradient").into_data(),
                ];
                let dw = layer.weight.grad(&gradients);
                assert_eq!(dw.is_none(), frozen);
                all.extend(dw.map(Tensor::into_data));
                all
            };
            for (got, expected) in run(true).iter().zip(run(false)) {
                got.assert_approx_eq(&expected, Tolerance::<f32>::rel_abs(1e-4, 1e-4));
            }
        }
        let layer = Conv {
            weight: w.inner(),
            window,
        };
        let (x, b) = (x.inner(), b.inner());
        let fused = conv_gelu(x.clone(), &layer, b.clone(), Precision::F32, None);
        let apart =
            gelu(composed(x, layer.weight, window, Precision::F32) + b.reshape([1, 1, 1, -1]));
        fused
            .into_data()
            .assert_approx_eq(&apart.into_data(), Tolerance::<f32>::rel_abs(1e-5, 1e-5));
    }
}
