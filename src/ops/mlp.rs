//! The MLP branch of an encoder block.

use burn::tensor::Tensor;

use super::activation::Activation;
use super::branch::Branch;
use super::norm;
use super::product::affine;
#[cfg(feature = "cpu")]
use super::{precision::Precision, profile};

/// x + keep·(f(norm(x)·W₁ + b₁)·W₂ + b₂), f being the activation (Dosovitskiy et al. 2021, eq. 3).
///
/// The branch's first layer is W₁, `[D, mlp_dim]`, its second W₂, `[mlp_dim, D]`.
///
/// # Shapes
///
/// `[B·N, D]` → `[B·N, D]`.
pub fn add_mlp(x: Tensor<2>, branch: &Branch, activation: Activation) -> Tensor<2> {
    #[cfg(feature = "cpu")]
    if super::cpu::on_cpu(&x) {
        return match branch.precision {
            Precision::Int8 if branch.fits_int8(&x) => int8_on_cpu(x, branch, activation),
            Precision::F32 | Precision::Int8 => on_cpu::<f32>(x, branch, activation),
            Precision::Bf16 => on_cpu::<half::bf16>(x, branch, activation),
        };
    }
    composed(x, branch, activation)
}

/// [`add_mlp`] of Burn's own operations.
pub(super) fn composed(x: Tensor<2>, branch: &Branch, activation: Activation) -> Tensor<2> {
    let normed = norm::composed(x.clone(), &branch.norm);
    let hidden = affine(normed, &branch.first, branch.precision);
    branch.add_to(x, activation.composed(hidden))
}

#[cfg(feature = "cpu")]
fn form(branch: &Branch, activation: Activation) -> vitrine_kernels::mlp::Form {
    vitrine_kernels::mlp::Form {
        epsilon: branch.norm.epsilon as f32,
        activation: activation.kernel(),
    }
}

#[cfg(feature = "cpu")]
fn int8_on_cpu(x: Tensor<2>, branch: &Branch, activation: Activation) -> Tensor<2> {
    let _span = profile::span("MLP");
    use super::cpu::tape;
    use vitrine_kernels::int8::mlp;
    use vitrine_kernels::mlp::Weights;
    let packed = branch.packed(&branch.values(), |all| mlp::pack(&Weights::new(all)));
    let form = form(branch, activation);
    tape::tensor(mlp::infer(tape::values(&x).get(), &packed, form), x.dims())
}

#[cfg(feature = "cpu")]
fn on_cpu<E: vitrine_kernels::Operand>(
    x: Tensor<2>,
    branch: &Branch,
    activation: Activation,
) -> Tensor<2> {
    let _span = profile::span("MLP");
    use super::cpu::tape;
    use vitrine_kernels::Keep;
    use vitrine_kernels::mlp::{self, Weights};
    let shape = x.dims();
    let pictures = branch.keep.as_ref().map_or(1, Vec::len);
    let rows_per_picture = shape[0].checked_div(pictures).unwrap_or(0);
    let values = tape::values(&x);
    let weights = branch.values();
    let packed = branch.packed(&weights, |all| Weights::new(all).packed::<E>());
    let tracked = x.is_autodiff();
    let pictures = Keep::new(branch.keep.as_deref(), rows_per_picture);
    let form = form(branch, activation);
    let (y, z) = mlp::forward(values.get(), &packed, form, pictures, tracked);
    if !tracked {
        return tape::tensor(y, shape);
    }
    let keep = branch.keep.clone();
    tape::record(branch.inputs(&x), y, shape, move |dy| {
        let _span = profile::span("MLP, backward");
        let keep = Keep::new(keep.as_deref(), rows_per_picture);
        let weights = Weights::new(weights.each_ref().map(tape::Values::get));
        mlp::backward(values.get(), &z, &weights, form, keep, dy)
    })
}
