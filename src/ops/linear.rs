//! A linear layer.

use burn::tensor::Tensor;

use super::Affine;
use super::precision::Precision;
use super::prepared::Prepared;
#[cfg(feature = "cpu")]
use super::profile;

/// x·W + b.
///
/// # Shapes
///
/// `[rows, inputs]` → `[rows, outputs]`.
pub fn linear(
    x: Tensor<2>,
    map: &Affine,
    precision: Precision,
    prepared: Option<&Prepared>,
) -> Tensor<2> {
    #[cfg(feature = "cpu")]
    if super::cpu::on_cpu(&x) {
        return match precision {
            // A head is small, and what it loses nothing makes up for.
            Precision::F32 | Precision::Int8 => on_cpu::<f32>(x, map, prepared),
            Precision::Bf16 => on_cpu::<half::bf16>(x, map, prepared),
        };
    }
    let _ = prepared;
    super::product::affine(x, map, precision)
}

#[cfg(feature = "cpu")]
fn on_cpu<E: vitrine_kernels::Operand>(
    x: Tensor<2>,
    map: &Affine,
    prepared: Option<&Prepared>,
) -> Tensor<2> {
    let _span = profile::span("linear");
    use super::cpu::tape;
    use vitrine_kernels::linear;
    let shape = [x.dims()[0], map.weight.dims()[1]];
    let values = tape::values(&x);
    let (weight, bias) = (tape::values(&map.weight), tape::values(&map.bias));
    let packed = Prepared::packed(prepared, [&weight, &bias], |[weight, bias]| {
        linear::Packed::<E>::new(weight, bias)
    });
    let y = linear::forward(values.get(), &packed);
    if !x.is_autodiff() {
        return tape::tensor(y, shape);
    }
    let x = tape::Input::from(&x);
    let with_dx = x.is_tracked();
    let inputs = [x, (&map.weight).into(), (&map.bias).into()];
    tape::record(inputs, y, shape, move |dy| {
        let _span = profile::span("linear, backward");
        linear::backward::<E>(values.get(), weight.get(), dy, shape[1], with_dx)
    })
}
