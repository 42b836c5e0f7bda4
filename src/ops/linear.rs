//! A linear layer.

use burn::tensor::Tensor;

use super::{Affine, Precision};

/// x·W + b.
///
/// # Shapes
///
/// `[rows, inputs]` → `[rows, outputs]`.
pub fn linear(x: Tensor<2>, map: &Affine, precision: Precision) -> Tensor<2> {
    #[cfg(feature = "cpu")]
    if super::on_cpu(&x) {
        return match precision {
            Precision::F32 => on_cpu::<f32>(x, map),
            Precision::Bf16 => on_cpu::<half::bf16>(x, map),
        };
    }
    super::affine(x, map, precision)
}

#[cfg(feature = "cpu")]
fn on_cpu<E: super::cpu::matrix::Operand>(x: Tensor<2>, map: &Affine) -> Tensor<2> {
    use super::cpu::{linear, tape};
    let shape = [x.dims()[0], map.weight.dims()[1]];
    let values = tape::values(&x);
    let (weight, bias) = (tape::values(&map.weight), tape::values(&map.bias));
    let y = linear::forward::<E>(values.get(), weight.get(), bias.get());
    if !x.is_autodiff() {
        return tape::tensor(y, shape);
    }
    let x = tape::Input::from(&x);
    let with_dx = x.is_tracked();
    let inputs = [x, (&map.weight).into(), (&map.bias).into()];
    tape::record(inputs, y, shape, move |dy| {
        linear::backward::<E>(values.get(), weight.get(), dy, shape[1], with_dx)
    })
}
