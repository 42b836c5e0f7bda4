//! What an optimizer keeps of each trainable tensor, and the gradients of one update.

use burn::tensor::Tensor;

use super::matrices::Hidden;
use super::rules::Moments;
use crate::model::parameters::Parameter;

/// One trainable tensor.
#[derive(Debug)]
pub(super) struct Slot {
    /// Its name among those of all parts.
    pub name: String,
    /// What it is.
    pub parameter: Parameter,
    /// Which of the parts it belongs to.
    pub part: usize,
    /// Which of the rules moves it.
    pub rule: usize,
    /// On the learning rate.
    pub factor: f64,
    /// Its moments, once it has had a gradient.
    pub moments: Option<Moments>,
    /// What Muon makes of it; `None` for what another rule moves.
    pub hidden: Option<Hidden>,
}

/// Gradients of one update, in the order of the trainable tensors of all parts.
#[derive(Debug, Default)]
pub struct GradientSum(pub(super) Vec<Option<Tensor<1>>>);

impl GradientSum {
    /// Adds the gradients of one backward pass.
    pub fn add(&mut self, gradients: Vec<Option<Tensor<1>>>) {
        if self.0.is_empty() {
            self.0 = gradients;
            return;
        }
        for (sum, gradient) in self.0.iter_mut().zip(gradients) {
            *sum = match (sum.take(), gradient) {
                (Some(a), Some(b)) => Some(a.add(b)),
                (a, b) => a.or(b),
            };
        }
    }
}
