//! The objective of classification: cross-entropy against soft targets.

use burn::tensor::{Device, Tensor, TensorData, activation};

use crate::data::Targets;

/// Soft targets `[B, K]` of a batch, mixed as its pictures were mixed and then smoothed.
///
/// Label smoothing ε gives every class ε/K and the target 1 − ε + ε/K (Szegedy et al. 2016,
/// section 7).
pub fn soft_targets(
    targets: &Targets,
    num_classes: usize,
    smoothing: f32,
    device: &Device,
) -> Tensor<2> {
    let rows = match targets {
        Targets::Hard(labels) => labels.len(),
        Targets::Mixed { a, .. } => a.len(),
    };
    let mut values = vec![smoothing / num_classes as f32; rows * num_classes];
    let mut put = |row: usize, label: usize, weight: f32| {
        values[row * num_classes + label] += (1.0 - smoothing) * weight;
    };
    match targets {
        Targets::Hard(labels) => {
            for (row, &label) in labels.iter().enumerate() {
                put(row, label, 1.0);
            }
        }
        Targets::Mixed { a, b, lambda } => {
            for (row, ((&a, &b), &lambda)) in a.iter().zip(b).zip(lambda).enumerate() {
                put(row, a, lambda);
                put(row, b, 1.0 - lambda);
            }
        }
    }
    Tensor::from_data(TensorData::new(values, [rows, num_classes]), device)
}

/// Mean cross-entropy in nats: −Σₖ tₖ log softmax(z)ₖ, averaged over the batch.
///
/// # Shapes
///
/// `logits` and `targets`: `[B, K]`; the result: `[1]`.
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    let [batch, _] = logits.dims();
    activation::log_softmax(logits, 1)
        .mul(targets)
        .sum()
        .mul_scalar(-1.0 / batch as f32)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn rows(tensor: Tensor<2>) -> Vec<f32> {
        tensor.try_into_vec_as::<f32>().unwrap()
    }

    #[test]
    fn smoothing_keeps_rows_at_one() {
        let device = Device::flex();
        let t = rows(soft_targets(&Targets::Hard(vec![2, 0]), 3, 0.3, &device));
        for (got, want) in t.iter().zip([0.1, 0.1, 0.8, 0.8, 0.1, 0.1]) {
            assert!((got - want).abs() < 1e-6, "{t:?}");
        }
    }

    #[test]
    fn mixed_targets_share_by_lambda() {
        let targets = Targets::Mixed {
            a: vec![0, 1],
            b: vec![1, 1],
            lambda: vec![0.25, 0.5],
        };
        let t = rows(soft_targets(&targets, 2, 0.0, &Device::flex()));
        assert_eq!(t, [0.25, 0.75, 0.0, 1.0]);
    }

    #[test]
    fn equal_logits_cost_ln_k() {
        let device = Device::flex();
        let logits = Tensor::<2>::zeros([3, 7], &device);
        let targets = soft_targets(&Targets::Hard(vec![0, 3, 6]), 7, 0.1, &device);
        let loss: f32 = cross_entropy(logits, targets).into_scalar();
        assert!((loss - 7f32.ln()).abs() < 1e-6);
    }
}
