//! AdamW and SGD for one flat tensor.

use burn::tensor::Tensor;

use super::config::OptimizerConfig;
use crate::ops::adamw::{Step, adamw};

/// Moments of one parameter; SGD and Muon use the first only.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    /// Of the gradient.
    pub first: Tensor<1>,
    /// Of its square.
    pub second: Option<Tensor<1>>,
}

impl OptimizerConfig {
    pub(super) fn adamw(
        &self,
        value: Tensor<1>,
        gradient: Tensor<1>,
        moments: Option<Moments>,
        updates: u64,
        lr: f64,
        decay: f64,
    ) -> (Tensor<1>, Moments) {
        let Self {
            beta1,
            beta2,
            epsilon,
            ..
        } = *self;
        let (first, second) = match moments {
            Some(Moments {
                first,
                second: Some(second),
            }) => (first, second),
            _ => (gradient.zeros_like(), gradient.zeros_like()),
        };
        let t = updates as f64;
        let step = Step {
            lr,
            beta1,
            beta2,
            correction1: 1.0 - beta1.powf(t),
            correction2: 1.0 - beta2.powf(t),
            epsilon,
            decay,
        };
        let [value, first, second] = adamw(value, gradient, first, second, &step);
        let second = Some(second);
        (value, Moments { first, second })
    }

    pub(super) fn sgd(
        &self,
        value: Tensor<1>,
        gradient: Tensor<1>,
        moments: Option<Moments>,
        lr: f64,
        decay: f64,
    ) -> (Tensor<1>, Moments) {
        let momentum = self.momentum;
        let gradient = if decay > 0.0 {
            gradient.add(value.clone().mul_scalar(decay))
        } else {
            gradient
        };
        let first = match moments {
            Some(m) => m.first.mul_scalar(momentum).add(gradient.clone()),
            None => gradient.clone(),
        };
        let step = gradient.add(first.clone().mul_scalar(momentum));
        (
            value.sub(step.mul_scalar(lr)),
            Moments {
                first,
                second: None,
            },
        )
    }
}
