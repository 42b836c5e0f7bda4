//! Convolution, alone and with what follows it in inference.
//!
//! Feature maps are `[B, H, W, C]` here: a pixel's channels lie side by side, which is what a matrix
//! product wants. In bf16 they are stored in it too on the processor.

use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, FloatDType, Tensor};

use super::Precision;
use super::batch_norm::Tail;
#[cfg(feature = "cpu")]
use super::profile;

/// A square window that moves over a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its side.
    pub kernel: usize,
    /// Pixels between two of its places.
    pub stride: usize,
    /// Pixels of nothing around the map.
    pub padding: usize,
}

impl Window {
    /// Places along `length` pixels.
    pub fn places(self, length: usize) -> usize {
        (length + 2 * self.padding - self.kernel) / self.stride + 1
    }
}

/// x ∗ W.
///
/// # Shapes
///
/// `x` `[B, H, W, C]`, `weight` `[D, C, k, k]` → `[B, H', W', D]`.
pub fn conv(x: Tensor<4>, weight: Tensor<4>, window: Window, precision: Precision) -> Tensor<4> {
    #[cfg(feature = "cpu")]
    if super::on_cpu(&x) {
        return match precision {
            Precision::F32 => on_cpu::<f32>(x, weight, window),
            Precision::Bf16 => on_cpu::<half::bf16>(x, weight, window),
        };
    }
    composed(x, weight, window, precision)
}

/// tail(x ∗ W + b), in one pass where no gradient is wanted.
///
/// # Shapes
///
/// `x` `[B, H, W, C]`, `weight` `[D, C, k, k]`, `bias` `[D]` → `[B, H', W', D]`.
pub fn conv_tail(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    window: Window,
    tail: Tail<Tensor<4>>,
    precision: Precision,
) -> Tensor<4> {
    #[cfg(feature = "cpu")]
    if super::on_cpu(&x) && !x.is_autodiff() {
        return match precision {
            Precision::F32 => fused_on_cpu::<f32>(x, weight, bias, window, tail),
            Precision::Bf16 => fused_on_cpu::<half::bf16>(x, weight, bias, window, tail),
        };
    }
    let sums = conv(x, weight, window, precision);
    let float = float(&sums);
    let bias = bias.reshape([1, 1, 1, -1]).cast(float);
    super::batch_norm::finish(sums + bias, tail.map(|x| x.cast(float)))
}

/// [`conv`] of Burn's own operations.
fn composed(x: Tensor<4>, weight: Tensor<4>, window: Window, precision: Precision) -> Tensor<4> {
    let options = ConvOptions::new([window.stride; 2], [window.padding; 2], [1, 1], 1);
    let x = x.permute([0, 3, 1, 2]);
    let y = match precision {
        Precision::F32 => burn::tensor::module::conv2d(x, weight, None, options),
        Precision::Bf16 => {
            let narrow = |x: Tensor<4>| x.cast(FloatDType::BF16);
            let y = burn::tensor::module::conv2d(narrow(x), narrow(weight), None, options);
            y.cast(FloatDType::F32)
        }
    };
    y.permute([0, 2, 3, 1])
}

/// The type of a tensor's values.
pub(super) fn float<const R: usize>(x: &Tensor<R>) -> FloatDType {
    match x.dtype() {
        DType::BF16 => FloatDType::BF16,
        _ => FloatDType::F32,
    }
}

#[cfg(feature = "cpu")]
fn on_cpu<E: super::cpu::tape::Stored>(
    x: Tensor<4>,
    weight: Tensor<4>,
    window: Window,
) -> Tensor<4> {
    let _span = profile::span("convolution");
    use super::cpu::{conv, map::Map, tape};
    let x = tape::stored::<E, 4>(x);
    let input = Map::new(x.dims());
    let output = input.windows(window, weight.dims()[0]);
    let (maps, filters) = (tape::values(&x), tape::values(&weight));
    let y = conv::forward::<E>(
        window,
        (maps.get(), input),
        filters.get(),
        None,
        Tail::Plain,
    );
    let y = tape::tensor_of(y, output.dims());
    if !x.is_autodiff() {
        return y;
    }
    let x = tape::Input::from(&x);
    let with_dx = x.is_tracked();
    tape::record_tensor([x, (&weight).into()], y, move |dy| {
        let _span = profile::span("convolution, backward");
        let dy = (dy.get(), output);
        let dx = with_dx.then(|| conv::input_gradient::<E>(window, dy, filters.get(), input));
        let dw = conv::weight_gradient::<E>(window, (maps.get(), input), dy);
        [dx.map(tape::gradient), Some(tape::gradient(dw))]
    })
}

#[cfg(feature = "cpu")]
fn fused_on_cpu<E: super::cpu::tape::Stored>(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    window: Window,
    tail: Tail<Tensor<4>>,
) -> Tensor<4> {
    let _span = profile::span("convolution");
    use super::cpu::{conv, map::Map, tape};
    let x = tape::stored::<E, 4>(x);
    let input = Map::new(x.dims());
    let output = input.windows(window, weight.dims()[0]);
    let tail = tail.map(|x| tape::values(&tape::stored::<E, 4>(x)));
    let y = conv::forward::<E>(
        window,
        (tape::values(&x).get(), input),
        tape::values(&weight).get(),
        Some(tape::values(&bias).get()),
        tail.as_ref().map(|values| values.get()),
    );
    tape::tensor_of(y, output.dims())
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use burn::tensor::{Device, Distribution, Tolerance};

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
                for (got, expected) in run(conv).iter().zip(run(composed)) {
                    got.assert_approx_eq(
                        &expected,
                        Tolerance::<f32>::rel_abs(tolerance, tolerance),
                    );
                }
            }
        }
    }

    #[test]
    fn a_tail_is_the_same_fused_or_not() {
        let device = Device::flex();
        let window = Window {
            kernel: 3,
            stride: 1,
            padding: 1,
        };
        let random = |dims| Tensor::<4>::random(dims, Distribution::Default, &device);
        let (x, w, r) = (
            random([2, 4, 5, 3]),
            random([6, 3, 3, 3]) - 0.5,
            random([2, 4, 5, 6]),
        );
        let b = Tensor::<1>::random([6], Distribution::Default, &device) - 0.5;
        let lift = |x: &Tensor<4>| Tensor::from_inner(x.clone());
        for tail in [
            Tail::Plain,
            Tail::Relu,
            Tail::AddRelu(r.clone()),
            Tail::ReluAdd(r),
        ] {
            for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 2e-2)] {
                let fused = conv_tail(
                    x.clone(),
                    w.clone(),
                    b.clone(),
                    window,
                    tail.clone(),
                    precision,
                );
                let apart = conv_tail(
                    lift(&x),
                    lift(&w),
                    Tensor::from_inner(b.clone()),
                    window,
                    tail.clone().map(Tensor::from_inner),
                    precision,
                );
                let data = |x: Tensor<4>| x.cast(FloatDType::F32).into_data();
                let tolerance = Tolerance::<f32>::rel_abs(tolerance, tolerance);
                data(fused).assert_approx_eq(&data(apart.inner()), tolerance);
            }
        }
    }
}
