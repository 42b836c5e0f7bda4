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
    #[cfg(feature = "cpu")]
    if super::on_cpu(&average) {
        use super::cpu::{flat, tape};
        let mut average = tape::Owned::new(average);
        flat::blend(average.get(), tape::values(value).get(), decay);
        return average.tensor();
    }
    average * decay + value.clone() * (1.0 - decay)
}
