//! The MLP branch of an encoder block.

use burn::tensor::Tensor;

use super::gelu::gelu;
use super::{Affine, Precision, Scale, norm, scale_pictures};

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
) -> Tensor<2> {
    #[cfg(feature = "cpu")]
    if super::on_cpu(&x) {
        return match precision {
            Precision::F32 => on_cpu::<f32>(x, scale, fc1, fc2, keep),
            Precision::Bf16 => on_cpu::<half::bf16>(x, scale, fc1, fc2, keep),
        };
    }
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
) -> Tensor<2> {
    use super::cpu::{Keep, mlp, tape};
    let shape = x.dims();
    let rows_per_picture = shape[0] / keep.map_or(1, <[f32]>::len);
    let values = tape::values(&x);
    let vectors = [&scale.gamma, &scale.beta, &fc1.bias, &fc2.bias].map(tape::values);
    let matrices = [&fc1.weight, &fc2.weight].map(tape::values);
    /// Borrowed anew in the gradient, long after the forward pass.
    fn weights<'a>(
        vectors: &'a [tape::Values; 4],
        matrices: &'a [tape::Values; 2],
    ) -> mlp::Weights<'a> {
        let [gamma, beta, bias1, bias2] = vectors.each_ref().map(tape::Values::get);
        let [weight1, weight2] = matrices.each_ref().map(tape::Values::get);
        mlp::Weights {
            gamma,
            beta,
            weight1,
            bias1,
            weight2,
            bias2,
        }
    }
    let tracked = x.is_autodiff();
    let (y, z) = mlp::forward::<E>(
        values.get(),
        &weights(&vectors, &matrices),
        Keep::new(keep, rows_per_picture),
        tracked,
    );
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
        let keep = Keep::new(keep.as_deref(), rows_per_picture);
        mlp::backward::<E>(values.get(), &z, &weights(&vectors, &matrices), keep, dy)
    })
}
