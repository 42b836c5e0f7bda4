//! Max pooling.

use burn::tensor::Tensor;
use vitrine_kernels::Window;

#[cfg(feature = "cpu")]
use super::profile;

/// The largest value of each window and channel.
///
/// # Shapes
///
/// `[B, H, W, C]` → `[B, H', W', C]`.
pub(crate) fn max_pool(x: Tensor<4>, window: Window) -> Tensor<4> {
    #[cfg(feature = "cpu")]
    if super::cpu::on_cpu(&x) {
        return match super::precision::float(&x) {
            burn::tensor::FloatDType::BF16 => on_cpu::<half::bf16>(x, window),
            _ => on_cpu::<f32>(x, window),
        };
    }
    composed(x, window)
}

/// [`max_pool`] of Burn's own operations.
fn composed(x: Tensor<4>, window: Window) -> Tensor<4> {
    let options = burn::tensor::ops::MaxPoolOptions {
        kernel_size: [window.kernel; 2],
        stride: [window.stride; 2],
        padding: [(window.padding, window.padding); 2],
        dilation: [1, 1],
        ceil_mode: false,
    };
    burn::tensor::module::max_pool2d(x.permute([0, 3, 1, 2]), options).permute([0, 2, 3, 1])
}

#[cfg(feature = "cpu")]
fn on_cpu<E: super::cpu::tape::Stored>(x: Tensor<4>, window: Window) -> Tensor<4> {
    let _span = profile::span("max pooling");
    use super::cpu::tape;
    use vitrine_kernels::{Map, pool};
    let input = Map::new(x.dims());
    let output = input.windows(window, input.channels);
    let maps = tape::values(&x);
    let y = tape::tensor_of(
        pool::forward::<E>(window, (maps.get(), input)),
        output.dims(),
    );
    if !x.is_autodiff() {
        return y;
    }
    let result = tape::values(&y);
    tape::record_tensor([(&x).into()], y, move |dy| {
        let _span = profile::span("max pooling, backward");
        let dx = pool::backward::<E>(window, (maps.get(), input), result.get(), dy.get());
        [Some(tape::gradient(dx))]
    })
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    #[test]
    fn the_kernels_equal_the_composed_form() {
        let device = Device::flex().autodiff();
        let x = Tensor::<4>::random([2, 7, 6, 3], Distribution::Default, &device);
        for (kernel, stride, padding) in [(2, 2, 0), (3, 2, 1)] {
            let window = Window {
                kernel,
                stride,
                padding,
            };
            let run = |f: fn(Tensor<4>, Window) -> Tensor<4>| {
                let x = x.clone().detach().require_grad();
                let y = f(x.clone(), window);
                let gradients = y.clone().powi_scalar(2).sum().backward();
                [
                    y.inner().into_data(),
                    x.grad(&gradients).expect("a gradient").into_data(),
                ]
            };
            for (got, expected) in run(max_pool).iter().zip(run(composed)) {
                got.assert_eq(&expected, true);
            }
        }
    }
}
