//! What a training minimises: classification, and a teacher's word where there is one.

use burn::tensor::{Device, Gradients, Tensor};

use super::classification::{cross_entropy, soft_targets};
use super::distillation::Distillation;
use super::guidance::Guide;
use crate::data::Batch;
use crate::eval;
use crate::model::{Model, Outputs, Pass};
use crate::ops::profile;

/// Name of the span in which the teacher answers, for [`profile`].
pub(super) const TEACHER: &str = "teacher";
/// Name of the span of a batch's forward pass, for [`profile`].
pub const FORWARD: &str = "forward";

/// The loss of a training, and what is trained along for its sake.
#[derive(Debug)]
pub struct Objective {
    label_smoothing: f32,
    distillation: Option<Distillation>,
    guide: Option<Guide>,
    /// The student's, with autodiff.
    device: Device,
}

impl Objective {
    /// The loss of `model`, which is on `device`.
    pub fn new(
        label_smoothing: f32,
        distillation: Option<Distillation>,
        model: &Model,
        device: &Device,
    ) -> Self {
        let guide = distillation
            .as_ref()
            .filter(|d| d.config.guidance > 0.0)
            .map(|d| Guide::new(model.width(), d.teacher.width(), device));
        Self {
            label_smoothing,
            distillation,
            guide,
            device: device.clone().autodiff(),
        }
    }

    /// Mean loss of a batch in nats, where `spent` is the share of the budget that is spent.
    ///
    /// # Shapes
    ///
    /// `[1]`.
    pub fn loss(&self, model: &Model, batch: Batch, spent: f64, pass: &mut Pass) -> Tensor<1> {
        let targets = batch.targets.clone();
        let images = eval::input(batch, &self.device);
        let answer = self.distillation.as_ref().and_then(|distillation| {
            let _span = profile::span(TEACHER);
            distillation.answer(images.clone().inner(), spent)
        });
        let _span = profile::span(FORWARD);
        let with_map = answer.as_ref().is_some_and(|answer| answer.map.is_some());
        let outputs = model.outputs(images, with_map, pass);
        let [_, num_classes] = outputs.head.dims();
        let targets = soft_targets(&targets, num_classes, self.label_smoothing, &self.device);
        let (Some(distillation), Some(answer)) = (&self.distillation, answer) else {
            return of_labels(outputs, targets);
        };
        let loss = distillation.loss(&outputs, targets, &answer.logits);
        match (&self.guide, outputs.map, answer.map) {
            (Some(guide), Some(student), Some(teacher)) => {
                loss + guide.loss(student, teacher, pass.precision) * distillation.config.guidance
            }
            _ => loss,
        }
    }

    /// Takes from a backward pass what is not the model's.
    pub fn collect(&mut self, gradients: &mut Gradients) {
        if let Some(guide) = &mut self.guide {
            guide.collect(gradients);
        }
    }

    /// Updates what is trained along; `update` counts from 1.
    pub fn step(&mut self, update: u64) {
        if let Some(guide) = &mut self.guide {
            guide.step(update);
        }
    }

    /// What is trained along, as named flat tensors.
    pub fn state(&self) -> Vec<(String, Tensor<1>)> {
        self.guide.as_ref().map_or_else(Vec::new, Guide::state)
    }

    /// Takes back what [`state`](Self::state) gave; `find` looks a name up.
    pub fn restore(&mut self, device: &Device, find: impl Fn(&str) -> Option<Vec<f32>>) {
        if let Some(guide) = &mut self.guide {
            guide.restore(device, find);
        }
    }
}

/// Cross-entropy against the labels alone; a distillation head without a teacher learns from them
/// too, else the mean of both heads would be half an answer.
fn of_labels(outputs: Outputs, targets: Tensor<2>) -> Tensor<1> {
    let head = cross_entropy(outputs.head, targets.clone());
    match outputs.distillation {
        Some(distillation) => (head + cross_entropy(distillation, targets)) * 0.5,
        None => head,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_teacher_both_heads_learn_from_the_labels() {
        let device = Device::flex();
        let logits = |values: [f32; 2]| Tensor::<2>::from_floats([values], &device);
        let targets = || logits([0.0, 1.0]);
        let (head, distillation) = (logits([1.0, 0.5]), logits([-2.0, 0.25]));
        let loss = |logits: &Tensor<2>| cross_entropy(logits.clone(), targets());
        let want = (loss(&head) + loss(&distillation)) * 0.5;
        let outputs = Outputs {
            head,
            distillation: Some(distillation),
            map: None,
        };
        let got = of_labels(outputs, targets());
        assert_eq!(got.into_scalar::<f32>(), want.into_scalar::<f32>());
    }
}
