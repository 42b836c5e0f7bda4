//! Classification: cross-entropy against the labels, and with distillation if there is a teacher.

use std::time::Duration;

use burn::tensor::{Device, Tensor};

use super::cross_entropy::{cross_entropy, soft_targets};
use super::distillation::Distillation;
use super::guidance::Guide;
use super::judge::{Direction, FORWARD, Figure, TEACHER, Task, Validation};
use crate::checkpoint::WeightsMeta;
use crate::data::{Batch, DataError, EvalLoader};
use crate::eval;
use crate::model::{Model, Outputs, Pass};
use crate::ops::{Precision, profile};
use crate::train::average::Average;
use crate::train::part::{Part, Rule};

/// Column of top-1 on validation, a fraction.
pub const TOP1: &str = "metrics/accuracy_top1";
/// Column of top-5 on validation, a fraction; empty below six classes.
pub const TOP5: &str = "metrics/accuracy_top5";
/// Column of the mean cross-entropy on validation, in nats.
pub const VAL_LOSS: &str = "val/loss";

/// The figures of a validation: top-1 and top-5 as fractions, the loss in nats.
pub fn figures(top1: f64, top5: Option<f64>, loss: f64) -> Vec<Figure> {
    let values = [(TOP1, Some(top1)), (TOP5, top5), (VAL_LOSS, Some(loss))];
    let figure = |(column, value): (&str, Option<f64>)| {
        let column = column.to_owned();
        value.map(|value| Figure { column, value })
    };
    values.into_iter().filter_map(figure).collect()
}

/// Classification of pictures.
#[derive(Debug)]
pub struct Classification {
    label_smoothing: f32,
    distillation: Option<Distillation>,
    guide: Option<Guide>,
    val: Option<Validating>,
    /// The model's, with autodiff.
    device: Device,
}

/// What it takes to validate.
#[derive(Debug)]
struct Validating {
    pictures: EvalLoader,
    classes: Vec<String>,
    precision: Precision,
}

impl Classification {
    /// Learns from labels, each of which gives `label_smoothing` of its weight to all classes
    /// alike; the model is on `device`.
    pub fn new(label_smoothing: f32, device: &Device) -> Self {
        Self {
            label_smoothing,
            distillation: None,
            guide: None,
            val: None,
            device: device.clone().autodiff(),
        }
    }

    /// Learns from a teacher too; D is the student's [`map_width`](Model::map_width).
    #[must_use]
    pub fn with_teacher(self, distillation: Distillation, width: usize) -> Self {
        let guided = distillation.config.guidance > 0.0;
        let guide = guided.then(|| Guide::new(width, distillation.teacher.width(), &self.device));
        Self {
            guide,
            distillation: Some(distillation),
            ..self
        }
    }

    /// Is judged by these pictures. It validates as it trains, in bf16 where it trains in that,
    /// which takes a third of the time.
    #[must_use]
    pub fn with_validation(
        self,
        pictures: EvalLoader,
        classes: &[String],
        precision: Precision,
    ) -> Self {
        let val = Validating {
            pictures,
            classes: classes.to_vec(),
            precision,
        };
        Self {
            val: Some(val),
            ..self
        }
    }
}

impl Task for Classification {
    fn parts(&mut self) -> Vec<Part<'_>> {
        let guide = self.guide.iter_mut().map(|guide| Part {
            name: "guide",
            rule: Rule::Own(Guide::optimizer()),
            module: guide,
            // It is thrown away.
            averaged: false,
        });
        guide.collect()
    }

    fn loss(&self, model: &Model, batch: Batch, spent: f64, pass: &mut Pass) -> Tensor<1> {
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

    fn validate(
        &self,
        model: &Model,
        _average: Option<&Average>,
    ) -> Result<Option<Validation>, DataError> {
        let Some(val) = &self.val else {
            return Ok(None);
        };
        let device = self.device.clone().without_autodiff();
        let report = eval::evaluate(model, &val.pictures, &device, val.precision, &val.classes)?;
        Ok(Some(Validation {
            score: report.top1,
            loss: report.loss,
            figures: figures(report.top1, report.top5, report.loss),
        }))
    }

    fn seconds_to_validate(
        &self,
        model: &Model,
        limit: Duration,
    ) -> Result<Option<f64>, DataError> {
        let Some(val) = &self.val else {
            return Ok(None);
        };
        let device = self.device.clone().without_autodiff();
        eval::seconds_of_pass(model, &val.pictures, &device, val.precision, limit).map(Some)
    }

    fn direction(&self) -> Direction {
        Direction::Higher
    }

    fn columns(&self) -> &'static [&'static str] {
        &[TOP1, TOP5, VAL_LOSS]
    }

    fn describe(&self, figures: &[Figure], meta: &mut WeightsMeta) {
        let top1 = figures.iter().find(|figure| figure.column == TOP1);
        meta.val_top1 = top1.map(|figure| figure.value);
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
            features: head.clone(),
            head,
            distillation: Some(distillation),
            map: None,
        };
        let got = of_labels(outputs, targets());
        assert_eq!(got.into_scalar::<f32>(), want.into_scalar::<f32>());
    }
}
