//! The MLP branch of an encoder block.

use burn::tensor::Tensor;

use super::gelu::gelu;
#[cfg(feature = "cpu")]
use super::profile;
use super::{Affine, Precision, Prepared, Scale, norm, scale_pictures};

/// x + keep·(GELU(norm(x)·W₁ + b₁)·W₂ + b₂) (Dosovitskiy et al. 2021, eq. 3).
///
/// `keep` holds one number a picture: drop path.
///
/// # Shapes
///
/// `[B·N, D]` → `[B·N, D]`.
pub fn mlp(
    x: Tensor<2>,
    scale: &Scale,
    fc1: &Affine,
    fc2: &Affine,
    keep: Option<&[f32]>,
    precision: Precision,
    prepared: Option<&Prepared>,
) -> Tensor<2> {
    #[cfg(feature = "cpu")]
    if super::on_cpu(&x) {
        return match precision {
            Precision::F32 => on_cpu::<f32>(x, scale, fc1, fc2, keep, prepared),
            Precision::Bf16 => on_cpu::<half::bf16>(x, scale, fc1, fc2, keep, prepared),
        };
    }
    let _ = prepared;
    composed(x, scale, fc1, fc2, keep, precision)
}

/// [`mlp`] of Burn's own operations.
pub(super) fn composed(
    x: Tensor<2>,
    scale: &Scale,
    fc1: &Affine,
    fc2: &Affine,
    keep: Option<&[f32]>,
    precision: Precision,
) -> Tensor<2> {
    let hidden = super::affine(norm::composed(x.clone(), scale), fc1, precision);
    let branch = super::affine(gelu(hidden), fc2, precision);
    x + scale_pictures(branch, keep)
}

#[cfg(feature = "cpu")]
fn on_cpu<E: super::cpu::matrix::Operand>(
    x: Tensor<2>,
    scale: &Scale,
    fc1: &Affine,
    fc2: &Affine,
    keep: Option<&[f32]>,
    prepared: Option<&Prepared>,
) -> Tensor<2> {
    let _span = profile::span("MLP");
    use super::cpu::mlp::{self, Weights};
    use super::cpu::{Keep, tape};
    let shape = x.dims();
    let rows_per_picture = shape[0] / keep.map_or(1, <[f32]>::len);
    let values = tape::values(&x);
    let weights = [
        tape::values(&scale.gamma),
        tape::values(&scale.beta),
        tape::values(&fc1.weight),
        tape::values(&fc1.bias),
        tape::values(&fc2.weight),
        tape::values(&fc2.bias),
    ];
    let [gamma, beta, weight1, bias1, weight2, bias2] = &weights;
    let packed = Prepared::packed(
        prepared,
        [weight1, gamma, beta, bias1, weight2, bias2],
        |[weight1, gamma, beta, bias1, weight2, bias2]| {
            Weights::new([gamma, beta, weight1, bias1, weight2, bias2]).packed::<E>()
        },
    );
    let tracked = x.is_autodiff();
    let pictures = Keep::new(keep, rows_per_picture);
    let (y, z) = mlp::forward(values.get(), &packed, pictures, tracked);
    if !tracked {
        return tape::tensor(y, shape);
    }
    let inputs = [
        (&x).into(),
        (&scale.gamma).into(),
        (&scale.beta).into(),
        (&fc1.weight).into(),
        (&fc1.bias).into(),
        (&fc2.weight).into(),
        (&fc2.bias).into(),
    ];
    let keep = keep.map(<[f32]>::to_vec);
    tape::record(inputs, y, shape, move |dy| {
        let _span = profile::span("MLP, backward");
        let keep = Keep::new(keep.as_deref(), rows_per_picture);
        let weights = Weights::new(weights.each_ref().map(tape::Values::get));
        mlp::backward(values.get(), &z, &weights, keep, dy)
    })
}
