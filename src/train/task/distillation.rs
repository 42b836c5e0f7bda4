//! Distillation: a trained model's answers as targets beside the labels (Hinton et al. 2015;
//! Touvron et al. 2021, "DeiT").
//!
//! The teacher sees the very pictures that the student sees, augmented and mixed, in its own
//! normalisation and at its own size. It answers as in inference and learns nothing.

use burn::tensor::{Device, Tensor, activation};
use serde::{Deserialize, Serialize};

use super::cross_entropy::{cross_entropy, soft_targets};
use crate::checkpoint::Checkpoint;
use crate::data::{Preprocess, Targets};
use crate::model::{Model, Outputs, Pass};
use crate::ops::{Precision, Prepared, resample};

/// What of the teacher's answer is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TeacherTargets {
    /// All its probabilities, softened by a temperature.
    Soft,
    /// The class that it finds most probable.
    Hard,
}

/// Which of the student's logits learn from the teacher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Through {
    /// Those of a distillation token, which a Vision Transformer gets for the purpose; the head
    /// learns from the labels alone.
    Token,
    /// Those of the head, which learn from both.
    Pooled,
}

/// Settings of distillation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DistillationConfig {
    /// What of the teacher's answer is learned.
    pub targets: TeacherTargets,
    /// τ, which divides both models' logits where the targets are soft; more than 0.
    pub temperature: f64,
    /// Share of the teacher in the loss, 0 to 1; the labels have the rest.
    pub weight: f64,
    /// Which logits learn from the teacher.
    pub through: Through,
    /// Weight of feature guidance, which is added to the loss; 0 turns it off.
    pub guidance: f64,
    /// Share of the budget after which guidance ends, 0 to 1.
    pub guidance_until: f64,
}

impl Default for DistillationConfig {
    fn default() -> Self {
        Self {
            targets: TeacherTargets::Soft,
            temperature: 3.0,
            weight: 0.5,
            through: Through::Pooled,
            guidance: 0.0,
            guidance_until: 0.5,
        }
    }
}

impl DistillationConfig {
    /// Whether features are guided when this share of the budget is spent.
    pub fn guides(&self, spent: f64) -> bool {
        self.guidance > 0.0 && spent < self.guidance_until
    }
}

/// A trained model that answers for training pictures.
#[derive(Debug)]
pub struct Teacher {
    model: Model,
    temperature: f32,
    image_size: usize,
    /// From the student's normalisation to the teacher's, each `[1, 3, 1, 1]`: factor and summand.
    channels: Option<[Tensor<4>; 2]>,
    device: Device,
    precision: Precision,
    prepared: Prepared,
}

/// What a teacher says of a batch, on the student's device and without autodiff.
#[derive(Debug)]
pub struct Answer {
    /// Logits over the teacher's own temperature, `[B, K]`.
    pub logits: Tensor<2>,
    /// Its last feature map, `[B, P, D]`, where it was asked for.
    pub map: Option<Tensor<3>>,
}

impl Teacher {
    /// A teacher for pictures that were preprocessed for a student; `device` is the checkpoint's.
    pub fn new(
        checkpoint: Checkpoint,
        student: &Preprocess,
        precision: Precision,
        device: &Device,
    ) -> Self {
        let own = &checkpoint.meta.preprocess;
        let alike = (own.mean, own.std) == (student.mean, student.std);
        let channels = (!alike).then(|| {
            // (x·stdₛ + meanₛ − meanₜ) / stdₜ, channel by channel.
            let factor = |c: usize| student.std[c] / own.std[c];
            let summand = |c: usize| (student.mean[c] - own.mean[c]) / own.std[c];
            let tensor = |of: &dyn Fn(usize) -> f32| {
                Tensor::<1>::from_floats([of(0), of(1), of(2)], device).reshape([1, 3, 1, 1])
            };
            [tensor(&factor), tensor(&summand)]
        });
        Self {
            temperature: checkpoint.meta.temperature,
            image_size: own.image_size,
            model: checkpoint.model,
            channels,
            device: device.clone(),
            precision,
            prepared: Prepared::default(),
        }
    }

    /// Its answer to a batch of the student's pictures; its feature map too where `with_map`.
    ///
    /// # Shapes
    ///
    /// `images` `[B, 3, H, W]`, without autodiff.
    pub fn answer(&self, images: Tensor<4>, with_map: bool) -> Answer {
        let home = images.device();
        let mut x = moved(images, &self.device);
        if let Some([factor, summand]) = &self.channels {
            x = x * factor.clone() + summand.clone();
        }
        let x = resample::pictures(x, self.image_size);
        // On a thread of the pool, as `Model::infer`.
        let outputs = rayon::scope(|_| {
            let mut pass = Pass::inference(self.precision).with(&self.prepared);
            self.model.outputs(x, with_map, &mut pass)
        });
        let map = outputs.map.clone();
        Answer {
            logits: moved(outputs.logits().div_scalar(self.temperature), &home),
            map: map.map(|map| moved(map, &home)),
        }
    }

    /// The width of its feature map.
    pub fn width(&self) -> usize {
        self.model.map_width()
    }
}

/// The tensor on `device`: over the host, which every pair of backends has in common.
fn moved<const R: usize>(x: Tensor<R>, device: &Device) -> Tensor<R> {
    if x.device() == *device {
        x
    } else {
        Tensor::from_data(x.into_data(), device)
    }
}

/// A teacher, and how to learn from it.
#[derive(Debug)]
pub struct Distillation {
    /// How.
    pub config: DistillationConfig,
    /// From whom.
    pub teacher: Teacher,
}

impl Distillation {
    /// What there is to learn from the teacher of these pictures when this share of the budget is
    /// spent: nothing, where neither its answer nor its features count.
    pub fn answer(&self, images: Tensor<4>, spent: f64) -> Option<Answer> {
        let guides = self.config.guides(spent);
        (guides || self.config.weight > 0.0).then(|| self.teacher.answer(images, guides))
    }

    /// (1 − w)·cross-entropy against the labels + w·the teacher's loss, in nats, where w is
    /// [`DistillationConfig::weight`].
    ///
    /// # Shapes
    ///
    /// `targets` `[B, K]`; the result `[1]`.
    ///
    /// # Panics
    ///
    /// Where the teacher speaks through a token that the student does not have.
    pub fn loss(&self, student: &Outputs, targets: Tensor<2>, teacher: &Tensor<2>) -> Tensor<1> {
        let config = &self.config;
        let labels = cross_entropy(student.head.clone(), targets);
        if config.weight == 0.0 {
            return labels;
        }
        let logits = match config.through {
            Through::Pooled => &student.head,
            Through::Token => student
                .distillation
                .as_ref()
                .expect("a recipe that distils through a token gives the student one"),
        };
        let taught = match config.targets {
            TeacherTargets::Soft => soft_loss(logits.clone(), teacher.clone(), config.temperature),
            TeacherTargets::Hard => hard_loss(logits.clone(), teacher),
        };
        labels * (1.0 - config.weight) + taught * config.weight
    }
}

/// τ²·KL(softmax(zₜ/τ) ‖ softmax(zₛ/τ)) in nats, averaged over the batch (Hinton et al. 2015,
/// section 2: τ² keeps the gradient's size; Touvron et al. 2021, eq. 2).
///
/// # Shapes
///
/// `student` and `teacher`: `[B, K]`; the result: `[1]`.
pub fn soft_loss(student: Tensor<2>, teacher: Tensor<2>, temperature: f64) -> Tensor<1> {
    let [batch, _] = student.dims();
    let soften = |logits: Tensor<2>| activation::log_softmax(logits.div_scalar(temperature), 1);
    let teacher = soften(teacher);
    let gap = -(soften(student) - teacher.clone());
    (gap * teacher.exp())
        .sum()
        .mul_scalar(temperature * temperature / batch as f64)
}

/// Cross-entropy against the teacher's most probable class (Touvron et al. 2021, eq. 3).
///
/// # Shapes
///
/// `student` and `teacher`: `[B, K]`; the result: `[1]`.
pub fn hard_loss(student: Tensor<2>, teacher: &Tensor<2>) -> Tensor<1> {
    let [_, num_classes] = student.dims();
    let logits = teacher
        .clone()
        .try_into_vec_as::<f32>()
        .expect("logits read back as f32");
    let most_probable = |row: &[f32]| {
        let first_largest = |best, i| if row[i] > row[best] { i } else { best };
        (1..row.len()).fold(0, first_largest)
    };
    let labels = logits.chunks_exact(num_classes).map(most_probable);
    let targets = Targets::Hard(labels.collect());
    let device = student.device();
    cross_entropy(student, soft_targets(&targets, num_classes, 0.0, &device))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::checkpoint::WeightsMeta;
    use crate::checkpoint::tests::tiny;
    use crate::data::Resize;
    use crate::model::{ModelConfig, Noise, parameters};

    const STUDENT: [[f32; 3]; 2] = [[1.0, -0.5, 0.25], [0.0, 2.0, -1.0]];
    const TEACHER: [[f32; 3]; 2] = [[0.5, 1.5, -1.0], [3.0, 2.5, 0.0]];

    fn logits(values: [[f32; 3]; 2]) -> Tensor<2> {
        Tensor::from_floats(values, &Device::flex())
    }

    fn number(loss: Tensor<1>) -> f64 {
        f64::from(loss.into_scalar::<f32>())
    }

    /// softmax(z/τ) in 64 bits.
    fn softmax(row: [f32; 3], temperature: f64) -> [f64; 3] {
        let powers = row.map(|z| (f64::from(z) / temperature).exp());
        let sum: f64 = powers.iter().sum();
        powers.map(|p| p / sum)
    }

    /// The definition, term by term.
    fn divergence(student: [[f32; 3]; 2], temperature: f64) -> f64 {
        let rows = TEACHER.into_iter().zip(student);
        let sum: f64 = rows
            .flat_map(|(t, s)| {
                let (t, s) = (softmax(t, temperature), softmax(s, temperature));
                [0, 1, 2].map(|k| t[k] * (t[k] / s[k]).ln())
            })
            .sum();
        temperature * temperature * sum / 2.0
    }

    #[test]
    fn the_soft_loss_is_the_divergence_times_the_square_of_the_temperature() {
        for temperature in [1.0, 3.0, 0.5] {
            let got = number(soft_loss(logits(STUDENT), logits(TEACHER), temperature));
            let want = divergence(STUDENT, temperature);
            assert!(
                (got - want).abs() < 1e-5,
                "{temperature}: {got}, not {want}"
            );
        }
        let same = number(soft_loss(logits(TEACHER), logits(TEACHER), 3.0));
        assert!(same.abs() < 1e-6, "{same}");
        // A shift of all logits says nothing.
        let shifted = logits(TEACHER) + 4.0;
        assert!(number(soft_loss(shifted, logits(TEACHER), 2.0)).abs() < 1e-5);
    }

    #[test]
    fn the_soft_loss_has_the_gradient_of_finite_differences() {
        let temperature = 3.0;
        let student = logits(STUDENT).autodiff().require_grad();
        let loss = soft_loss(student.clone(), logits(TEACHER), temperature);
        let gradient = student.grad(&loss.backward()).unwrap();
        let gradient = gradient.try_into_vec_as::<f32>().unwrap();
        for (i, got) in gradient.into_iter().enumerate() {
            let step = 1.0 / 64.0;
            let at = |step: f32| {
                let mut moved = STUDENT;
                moved[i / 3][i % 3] += step;
                divergence(moved, temperature)
            };
            let want = (at(step) - at(-step)) / f64::from(2.0 * step);
            assert!(
                (f64::from(got) - want).abs() < 1e-5,
                "{i}: {got}, not {want}"
            );
        }
    }

    #[test]
    fn the_hard_loss_is_cross_entropy_against_the_largest_logit() {
        let got = number(hard_loss(logits(STUDENT), &logits(TEACHER)));
        let want = -(softmax(STUDENT[0], 1.0)[1].ln() + softmax(STUDENT[1], 1.0)[0].ln()) / 2.0;
        assert!((got - want).abs() < 1e-6, "{got}, not {want}");
        // Of equals, the first.
        let even = hard_loss(logits(STUDENT), &logits([[1.0, 1.0, 0.0]; 2]));
        let want = -(softmax(STUDENT[0], 1.0)[0].ln() + softmax(STUDENT[1], 1.0)[0].ln()) / 2.0;
        assert!((number(even) - want).abs() < 1e-6);
    }

    fn preprocess(image_size: usize, mean: f32, std: f32) -> Preprocess {
        Preprocess {
            image_size,
            resize: Resize::Squash,
            mean: [mean, mean + 0.1, mean + 0.2],
            std: [std, std * 2.0, std * 1.5],
            ..Preprocess::default()
        }
    }

    /// A checkpoint whose every tensor has been stirred, so that the heads say something.
    fn checkpoint(config: ModelConfig, preprocess: Preprocess) -> Checkpoint {
        let device = Device::flex();
        let model = parameters::replace(config.init(3, &device), |path, shape| {
            let count: usize = shape.iter().product();
            let wave = (0..count).map(|i| ((i * 7 + path.len()) as f32).sin() * 0.3);
            let positive = path.ends_with("gamma") || path.ends_with("running_var");
            let values: Vec<f32> = wave.map(|w| if positive { 1.0 + w } else { w }).collect();
            Some(Tensor::from_floats(values.as_slice(), &device))
        });
        Checkpoint {
            meta: WeightsMeta {
                name: "teacher".to_owned(),
                model: config,
                classes: ["a", "b", "c"].map(str::to_owned).to_vec(),
                preprocess,
                temperature: 1.0,
                epoch: 1,
                val_top1: None,
                calibration: None,
            },
            model,
            is_int8: false,
            familiarity: None,
        }
    }

    fn pictures(side: usize) -> Tensor<4> {
        let values: Vec<f32> = (0..2 * 3 * side * side)
            .map(|i| ((i * 29 % 41) as f32 / 20.0) - 1.0)
            .collect();
        Tensor::<1>::from_floats(values.as_slice(), &Device::flex()).reshape([2, 3, side, side])
    }

    /// Whether two logits are the same but for rounding.
    fn close(a: Tensor<2>, b: Tensor<2>) -> bool {
        let largest = b.clone().abs().max().into_scalar::<f32>();
        (a - b).abs().max().into_scalar::<f32>() < 1e-4 * largest
    }

    #[test]
    fn a_teacher_with_the_students_weights_has_nothing_to_teach() {
        let preprocess = preprocess(8, 0.3, 0.2);
        let checkpoint = checkpoint(tiny(), preprocess.clone());
        let student = checkpoint.model.clone();
        let teacher = Teacher::new(checkpoint, &preprocess, Precision::F32, &Device::flex());
        let answer = teacher.answer(pictures(8), true);
        let mut noise = Noise::new(1, 1);
        let own = student.outputs(
            pictures(8),
            true,
            &mut Pass::training(Precision::F32, &mut noise),
        );
        let maps = answer.map.unwrap() - own.map.clone().unwrap();
        assert!(maps.abs().max().into_scalar::<f32>() < 1e-6);
        let loss = soft_loss(own.logits(), answer.logits.clone(), 2.0);
        assert!(number(loss).abs() < 1e-7);
        assert!(answer.logits.abs().max().into_scalar::<f32>() > 0.01);
    }

    #[test]
    fn a_teacher_sees_pictures_in_its_own_normalisation_size_and_temperature() {
        let (student, own) = (preprocess(8, 0.4, 0.3), preprocess(12, 0.2, 0.25));
        let config = ModelConfig::preset("resnet9", 12, None, 3).unwrap();
        let mut checkpoint = checkpoint(config, own.clone());
        checkpoint.meta.temperature = 2.0;
        let model = checkpoint.model.clone();
        let teacher = Teacher::new(checkpoint, &student, Precision::F32, &Device::flex());
        let answer = teacher.answer(pictures(8), false);
        assert!(answer.map.is_none());
        // The same by way of pixel values: x·std + mean, then the teacher's normalisation.
        let channel = |c: usize| {
            let x = pictures(8).narrow(1, c, 1) * student.std[c] + student.mean[c];
            (x - own.mean[c]) / own.std[c]
        };
        let x = resample::pictures(Tensor::cat(vec![channel(0), channel(1), channel(2)], 1), 12);
        let want = model.infer(x, Precision::F32, &Prepared::default()) / 2.0;
        assert!(close(answer.logits.clone(), want));
        let unconverted = resample::pictures(pictures(8), 12);
        let wrong = model.infer(unconverted, Precision::F32, &Prepared::default()) / 2.0;
        assert!(!close(answer.logits, wrong));
    }

    fn distillation(weight: f64, through: Through, guidance: f64) -> Distillation {
        let preprocess = preprocess(8, 0.3, 0.2);
        let checkpoint = checkpoint(tiny(), preprocess.clone());
        let config = DistillationConfig {
            weight,
            through,
            guidance,
            guidance_until: 0.25,
            ..DistillationConfig::default()
        };
        Distillation {
            config,
            teacher: Teacher::new(checkpoint, &preprocess, Precision::F32, &Device::flex()),
        }
    }

    #[test]
    fn labels_and_teacher_share_the_loss_by_weight() {
        let outputs = Outputs {
            features: Tensor::zeros([1, 1], &Device::flex()),
            head: logits(STUDENT),
            distillation: Some(logits([[0.3, 0.1, -0.2], [1.0, 0.5, 0.0]])),
            map: None,
        };
        let targets = || logits([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]);
        let labels = number(cross_entropy(outputs.head.clone(), targets()));
        for (through, taught) in [
            (Through::Pooled, outputs.head.clone()),
            (Through::Token, outputs.distillation.clone().unwrap()),
        ] {
            let taught = number(soft_loss(taught, logits(TEACHER), 3.0));
            for weight in [0.0, 0.25, 1.0] {
                let loss = distillation(weight, through, 0.0);
                let got = number(loss.loss(&outputs, targets(), &logits(TEACHER)));
                let want = (1.0 - weight) * labels + weight * taught;
                assert!(
                    (got - want).abs() < 1e-5,
                    "{through:?} {weight}: {got}, not {want}"
                );
            }
        }
    }

    #[test]
    fn a_teacher_is_asked_only_for_what_counts() {
        let asked = |weight, guidance, spent| {
            let answer = distillation(weight, Through::Pooled, guidance).answer(pictures(8), spent);
            answer.map(|answer| answer.map.is_some())
        };
        assert_eq!(asked(0.5, 1.0, 0.0), Some(true));
        assert_eq!(asked(0.5, 1.0, 0.25), Some(false));
        assert_eq!(asked(0.5, 0.0, 0.0), Some(false));
        assert_eq!(asked(0.0, 1.0, 0.2), Some(true));
        assert_eq!(asked(0.0, 1.0, 0.3), None);
    }
}
