//! One step of AdamW on one parameter.

use burn::tensor::Tensor;

pub use vitrine_kernels::adamw::Step;

/// The parameter and its moments after a step (Loshchilov & Hutter 2019, algorithm 2, where decay
/// is scaled by the learning rate, as in PyTorch): with m ← β₁m + (1 − β₁)g and
/// v ← β₂v + (1 − β₂)g², θ ← (1 − ηλ)θ − η·m̂ / (√v̂ + ε).
///
/// # Shapes
///
/// All `[elements]`, without autodiff.
pub fn adamw(
    value: Tensor<1>,
    gradient: Tensor<1>,
    first: Tensor<1>,
    second: Tensor<1>,
    step: &Step,
) -> [Tensor<1>; 3] {
    #[cfg(feature = "cpu")]
    if super::cpu::on_cpu(&value) {
        use super::cpu::tape;
        let [mut value, mut first, mut second] = [value, first, second].map(tape::Owned::new);
        let gradient = tape::values(&gradient);
        let moments = (first.get(), second.get());
        vitrine_kernels::adamw::step(value.get(), gradient.get(), moments.0, moments.1, step);
        return [value, first, second].map(tape::Owned::tensor);
    }
    composed(value, gradient, first, second, step)
}

/// [`adamw`] of Burn's own operations.
pub(super) fn composed(
    value: Tensor<1>,
    gradient: Tensor<1>,
    first: Tensor<1>,
    second: Tensor<1>,
    step: &Step,
) -> [Tensor<1>; 3] {
    let first = first * step.beta1 + gradient.clone() * (1.0 - step.beta1);
    let second = second * step.beta2 + gradient.square() * (1.0 - step.beta2);
    // Both corrections folded into two scalars.
    let denominator = second.clone().sqrt() * (1.0 / step.correction2.sqrt()) + step.epsilon;
    let moved = first.clone() / denominator * (step.lr / step.correction1);
    let value = value * (1.0 - step.lr * step.decay) - moved;
    [value, first, second]
}
