//! Feature guidance: early in training, the student's feature map is pulled towards the teacher's
//! (Li et al. 2022, "Locality Guidance for Improving Vision Transformers on Tiny Datasets"; ended
//! early as in Rostand et al. 2025, "Adaptive Locality Guidance", after whom guidance to the end
//! holds the student back).
//!
//! A linear map from the student's width to the teacher's is trained along and never shipped.
//! Departures from the paper: one map, the last of both models, in place of several; compared on
//! the coarser of both grids, so that no detail is invented; and the teacher's channels count
//! alike, whatever their scale.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};

use crate::model::{Declarations, Declare, Role, affine, undrawn_linear};
use crate::ops::linear::linear;
use crate::ops::{Precision, resample};
use crate::train::optimizer::config::{OptimizerConfig, OptimizerKind};

/// Added to a channel's variance, so that a channel that is dead in a batch counts for nothing.
const EPSILON: f64 = 1e-5;

/// The linear map from the student's features to the teacher's.
#[derive(Module, Debug)]
pub(super) struct Guide {
    /// `[D, Dₜ]`.
    map: Linear,
}

impl Declare for Guide {
    fn declare(&self, to: &mut Declarations) {
        to.linear("map", &self.map, Role::Matrix);
    }
}

impl Guide {
    /// A map of zeros between two widths: the first loss is exactly 1, and the student is left
    /// alone until the map knows what it pulls towards.
    pub(super) fn new(student: usize, teacher: usize, device: &Device) -> Self {
        Self {
            map: undrawn_linear(student, teacher, &device.clone().autodiff()),
        }
    }

    /// How the map learns. Its learning rate is steady: the map is thrown away, so nothing needs it
    /// to settle.
    pub(super) fn optimizer() -> OptimizerConfig {
        OptimizerConfig {
            kind: OptimizerKind::AdamW,
            lr: 1e-3,
            weight_decay: 0.0,
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            clip_grad: 0.0,
            ..OptimizerConfig::default()
        }
    }

    /// Mean squared error between the mapped features of the student and the teacher's, each of
    /// whose channels is brought to mean 0 and variance 1 over the batch: the share of the
    /// teacher's variance that the student does not explain.
    ///
    /// # Shapes
    ///
    /// `student` `[B, P, D]`, `teacher` `[B, Pₜ, Dₜ]` without autodiff; the result `[1]`.
    pub(super) fn loss(
        &self,
        student: Tensor<3>,
        teacher: Tensor<3>,
        precision: Precision,
    ) -> Tensor<1> {
        let side = |map: &Tensor<3>| map.dims()[1].isqrt();
        let side = side(&student).min(side(&teacher));
        let rows = |map: Tensor<3>| {
            let [batch, pixels, width] = map.dims();
            map.reshape([batch * pixels, width])
        };
        let targets = standardised(rows(resample::maps(teacher, side)));
        let features = rows(resample::maps(student, side));
        let mapped = linear(features, &affine(&self.map), precision, None);
        // By channels first: Burn adds up millions of numbers at once in an order of its threads.
        (mapped - targets).square().mean_dim(0).mean()
    }
}

/// Each column at mean 0 and variance 1.
fn standardised(x: Tensor<2>) -> Tensor<2> {
    let centred = x.clone() - x.mean_dim(0);
    let variance = centred.clone().square().mean_dim(0);
    centred / (variance + EPSILON).sqrt()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    use crate::checkpoint::host;
    use crate::model::parameters;
    use crate::train::optimizer::{GradientSum, Optimizer};
    use crate::train::part::{Part, Rule};

    fn wave<const R: usize>(shape: [usize; R], seed: usize) -> Tensor<R> {
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count)
            .map(|i: usize| ((i * i + 3 * i + seed) as f32 * 0.7).sin())
            .collect();
        Tensor::<1>::from_floats(values.as_slice(), &Device::flex()).reshape(shape)
    }

    fn number(loss: Tensor<1>) -> f32 {
        loss.into_scalar()
    }

    fn part(guide: &mut Guide) -> [Part<'_>; 1] {
        [Part {
            name: "guide",
            module: guide,
            rule: Rule::Own(Guide::optimizer()),
            averaged: false,
        }]
    }

    fn gradients(guide: &mut Guide, loss: &Tensor<1>) -> Vec<Option<Tensor<1>>> {
        let [part] = part(guide);
        part.module.take_gradients(&mut loss.backward())
    }

    /// `steps` updates of a guide on one batch; the losses before each.
    fn learn(guide: &mut Guide, optimizer: &mut Optimizer, steps: u64) -> Vec<f32> {
        (0..steps)
            .map(|_| {
                let loss = guide.loss(
                    wave([5, 16, 3], 1).autodiff(),
                    // A linear function of the student's features, seen through resampling.
                    wave([5, 16, 3], 1).narrow(2, 0, 2) * 9.0 + 4.0,
                    Precision::F32,
                );
                let mut sum = GradientSum::default();
                sum.add(gradients(guide, &loss));
                // The recipe's learning rate is none of the guide's.
                optimizer.step(&mut part(guide), sum, 0.5);
                number(loss)
            })
            .collect()
    }

    fn fresh() -> (Guide, Optimizer) {
        let mut guide = Guide::new(3, 2, &Device::flex());
        let optimizer = Optimizer::new(OptimizerConfig::default(), &part(&mut guide));
        (guide, optimizer)
    }

    /// Puts values into weight and bias.
    fn set(guide: &mut Guide, weight: &[f32], bias: &[f32]) {
        let [part] = part(guide);
        part.module.replace(&mut |path| {
            let values = if path == "map.weight" { weight } else { bias };
            Some(Tensor::from_floats(values, &Device::flex()))
        });
    }

    #[test]
    fn the_first_loss_is_one_and_a_linear_relation_is_learned() {
        let (mut guide, mut optimizer) = fresh();
        let losses = learn(&mut guide, &mut optimizer, 3000);
        assert!((losses[0] - 1.0).abs() < 1e-3, "{}", losses[0]);
        assert!(losses[2999] < 0.01, "{}", losses[2999]);
    }

    #[test]
    fn the_loss_is_the_mean_squared_error_of_standardised_channels() {
        // One channel, one pixel, four pictures: 1, 3, 5, 7 become ∓1.342, ∓0.447.
        let teacher = Tensor::<1>::from_floats([1.0, 3.0, 5.0, 7.0], &Device::flex());
        let targets = [-3.0, -1.0, 1.0, 3.0].map(|v: f32| v / 5f32.sqrt());
        let standard = standardised(teacher.clone().reshape([4, 1]));
        for (got, want) in host(standard.reshape([4])).into_iter().zip(targets) {
            assert!((got - want).abs() < 1e-5, "{got}, not {want}");
        }
        let mut guide = Guide::new(2, 1, &Device::flex());
        set(&mut guide, &[0.5, -1.0], &[0.25]);
        let student = wave([4, 1, 2], 5);
        let rows = host(student.clone().reshape([8]));
        let want: f32 = targets
            .iter()
            .enumerate()
            .map(|(i, t)| (0.5 * rows[2 * i] - rows[2 * i + 1] + 0.25 - t).powi(2) / 4.0)
            .sum();
        let got = number(guide.loss(
            student.autodiff(),
            teacher.reshape([4, 1, 1]),
            Precision::F32,
        ));
        assert!((got - want).abs() < 1e-5, "{got}, not {want}");
        // A dead channel is nothing to explain.
        let dead = Tensor::ones([4, 1, 1], &Device::flex());
        let fresh = Guide::new(2, 1, &Device::flex());
        assert_eq!(
            number(fresh.loss(wave([4, 1, 2], 5).autodiff(), dead, Precision::F32)),
            0.0
        );
    }

    #[test]
    fn the_student_is_pulled_on_the_coarser_grid_whichever_it_is() {
        for (own, teacher) in [(25, 4), (4, 9), (9, 9)] {
            let mut guide = Guide::new(3, 2, &Device::flex());
            set(&mut guide, &host(wave([6], 11)), &host(wave([2], 11)));
            let loss = |student: &Tensor<3>| {
                guide.loss(student.clone(), wave([2, teacher, 2], 2), Precision::F32)
            };
            let student = wave([2, own, 3], 3).autodiff().require_grad();
            let gradient = student.grad(&loss(&student).backward()).unwrap();
            let gradient = host(gradient.reshape([2 * own * 3]));
            let base = host(student.inner().reshape([2 * own * 3]));
            // Along the gradient the loss falls as it says.
            let step = 0.5;
            let at = |step: f32| {
                let moved: Vec<f32> = base
                    .iter()
                    .zip(&gradient)
                    .map(|(x, g)| x + step * g)
                    .collect();
                let moved = Tensor::<1>::from_floats(moved.as_slice(), &Device::flex());
                number(loss(&moved.reshape([2, own, 3]).autodiff()))
            };
            let slope = (at(step) - at(-step)) / (2.0 * step);
            let want: f32 = gradient.iter().map(|g| g * g).sum();
            assert!(want > 0.0);
            assert!(
                (slope / want - 1.0).abs() < 1e-2,
                "{own} {teacher}: {slope}, not {want}"
            );
        }
    }

    #[test]
    fn a_restored_guide_continues_bit_for_bit() {
        let (mut guide, mut optimizer) = fresh();
        learn(&mut guide, &mut optimizer, 3);
        let state: HashMap<String, Vec<f32>> = optimizer
            .state()
            .into_iter()
            .map(|(name, value)| (name, host(value)))
            .collect();
        let (mut other, mut restored) = fresh();
        let values = parameters::values(&guide).into_iter();
        let [weight, bias]: [Vec<f32>; 2] = values
            .map(|(_, value)| host(value))
            .collect::<Vec<_>>()
            .try_into()
            .unwrap();
        set(&mut other, &weight, &bias);
        restored.restore(3, &Device::flex(), |name| state.get(name).cloned());
        assert_eq!(
            learn(&mut guide, &mut optimizer, 4),
            learn(&mut other, &mut restored, 4)
        );
        for ((_, a), (name, b)) in parameters::values(&guide)
            .into_iter()
            .zip(parameters::values(&other))
        {
            assert_eq!(host(a), host(b), "{name}");
        }
    }

    /// [`part`] with another optimizer: AdamW's first step hides the size of a gradient.
    fn with_sgd(guide: &mut Guide) -> [Part<'_>; 1] {
        let [part] = part(guide);
        let kind = OptimizerKind::Sgd;
        let rule = Rule::Own(OptimizerConfig {
            kind,
            ..Guide::optimizer()
        });
        [Part { rule, ..part }]
    }

    #[test]
    fn gradients_of_several_batches_add_up() {
        let after = |batches: &[&[usize]]| {
            let (mut guide, _) = fresh();
            let mut optimizer = Optimizer::new(OptimizerConfig::default(), &with_sgd(&mut guide));
            let mut sum = GradientSum::default();
            for seeds in batches {
                let losses = seeds.iter().map(|&seed| {
                    guide.loss(
                        wave([2, 4, 3], seed).autodiff(),
                        wave([2, 4, 2], seed + 7),
                        Precision::F32,
                    )
                });
                let loss = losses.reduce(|a, b| a + b).unwrap();
                sum.add(gradients(&mut guide, &loss));
            }
            optimizer.step(&mut with_sgd(&mut guide), sum, 1.0);
            host(parameters::values(&guide).remove(0).1)
        };
        let (apart, together) = (after(&[&[1], &[2]]), after(&[&[1, 2]]));
        assert!(apart.iter().any(|x| x.abs() > 1e-5), "{apart:?}");
        for (a, b) in apart.iter().zip(&together) {
            assert!((a - b).abs() < 1e-7, "{a} {b}");
        }
        assert_ne!(apart, after(&[&[2]]));
    }
}
