//! Passes over flat parameters and gradients, without autodiff.

use burn::tensor::Tensor;

/// Σ g² over all of them together.
pub(crate) fn square_sum<'a>(gradients: impl Iterator<Item = &'a Tensor<1>>) -> f64 {
    let mut sum = 0.0;
    let mut elsewhere = Vec::new();
    for gradient in gradients {
        #[cfg(feature = "cpu")]
        if super::cpu::on_cpu(gradient) {
            sum += vitrine_kernels::flat::square_sum(super::cpu::tape::values(gradient).get());
            continue;
        }
        elsewhere.push(gradient.clone().square().sum());
    }
    // Read at once: each reading waits until a GPU has done all that it was given.
    if !elsewhere.is_empty() {
        sum += f64::from(Tensor::cat(elsewhere, 0).sum().into_scalar::<f32>());
    }
    sum
}

/// average·decay + value·(1 − decay): one step of an exponential moving average.
pub(crate) fn blend(average: Tensor<1>, value: &Tensor<1>, decay: f64) -> Tensor<1> {
    combine(average, decay, value, 1.0 - decay)
}

/// x·a + y·b.
pub(crate) fn combine(x: Tensor<1>, a: f64, y: &Tensor<1>, b: f64) -> Tensor<1> {
    #[cfg(feature = "cpu")]
    if super::cpu::on_cpu(&x) {
        use super::cpu::tape;
        use vitrine_kernels::flat;
        let mut x = tape::Owned::new(x);
        flat::combine(x.get(), a, tape::values(y).get(), b);
        return x.tensor();
    }
    x * a + y.clone() * b
}
