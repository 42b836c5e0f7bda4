//! Passes over flat parameters and gradients, without autodiff.

use burn::tensor::Tensor;

/// Σ g².
pub fn square_sum(gradient: &Tensor<1>) -> f64 {
    #[cfg(feature = "cpu")]
    if super::on_cpu(gradient) {
        return super::cpu::flat::square_sum(super::cpu::tape::values(gradient).get());
    }
    f64::from(gradient.clone().square().sum().into_scalar::<f32>())
}

/// average·decay + value·(1 − decay): one step of an exponential moving average.
pub fn blend(average: Tensor<1>, value: &Tensor<1>, decay: f64) -> Tensor<1> {
    combine(average, decay, value, 1.0 - decay)
}

/// x·a + y·b.
pub fn combine(x: Tensor<1>, a: f64, y: &Tensor<1>, b: f64) -> Tensor<1> {
    #[cfg(feature = "cpu")]
    if super::on_cpu(&x) {
        use super::cpu::{flat, tape};
        let mut x = tape::Owned::new(x);
        flat::combine(x.get(), a, tape::values(y).get(), b);
        return x.tensor();
    }
    x * a + y.clone() * b
}
