//! Feature guidance: early in training, the student's feature map is pulled towards the teacher's
//! (Li et al. 2022, "Locality Guidance for Improving Vision Transformers on Tiny Datasets"; ended
//! early as in Rostand et al. 2025, "Adaptive Locality Guidance", after whom guidance to the end
//! holds the student back).
//!
//! A linear map from the student's width to the teacher's is trained along and never shipped.
//! Departures from the paper: one map, the last of both models, in place of several; compared on
//! the coarser of both grids, so that no detail is invented; and the teacher's channels count
//! alike, whatever their scale.

use burn::tensor::{Device, Gradients, Tensor};

use crate::ops::adamw::{Step, adamw};
use crate::ops::linear::linear;
use crate::ops::{Affine, Precision, resample};

/// Learning rate of the map. It is steady: the map is thrown away, so nothing needs it to settle.
const LEARNING_RATE: f64 = 1e-3;
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.99;

/// Added to a channel's variance, so that a channel that is dead in a batch asks for nothing.
const EPSILON: f64 = 1e-5;

/// The linear map from the student's features to the teacher's, and its optimizer.
#[derive(Debug)]
pub struct Guide {
    /// Widths of student and teacher.
    widths: [usize; 2],
    /// `[D·Dₜ]` and `[Dₜ]`.
    parameters: [Learned; 2],
}

/// A flat parameter with AdamW's moments.
#[derive(Debug)]
struct Learned {
    name: &'static str,
    /// A leaf of the graph.
    value: Tensor<1>,
    moments: [Tensor<1>; 2],
    gradient: Option<Tensor<1>>,
}

impl Learned {
    fn new(name: &'static str, len: usize, device: &Device) -> Self {
        let zeros = || Tensor::zeros([len], &device.clone().without_autodiff());
        Self {
            name,
            value: leaf(zeros()),
            moments: [zeros(), zeros()],
            gradient: None,
        }
    }

    fn collect(&mut self, gradients: &mut Gradients) {
        self.gradient = match (self.gradient.take(), self.value.grad_remove(gradients)) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
    }

    fn step(&mut self, step: &Step) {
        let Some(gradient) = self.gradient.take() else {
            return;
        };
        let [first, second] = self.moments.clone();
        let [value, first, second] =
            adamw(self.value.clone().inner(), gradient, first, second, step);
        self.value = leaf(value);
        self.moments = [first, second];
    }
}

fn leaf(value: Tensor<1>) -> Tensor<1> {
    value.autodiff().require_grad()
}

impl Guide {
    /// A map of zeros between two widths: the first loss is exactly 1, and the student is left
    /// alone until the map knows what it pulls towards.
    pub fn new(student: usize, teacher: usize, device: &Device) -> Self {
        Self {
            widths: [student, teacher],
            parameters: [
                Learned::new("weight", student * teacher, device),
                Learned::new("bias", teacher, device),
            ],
        }
    }

    /// Mean squared error between the mapped features of the student and the teacher's, each of
    /// whose channels is brought to mean 0 and variance 1 over the batch: the share of the
    /// teacher's variance that the student does not explain.
    ///
    /// # Shapes
    ///
    /// `student` `[B, P, D]`, `teacher` `[B, Pₜ, Dₜ]` without autodiff; the result `[1]`.
    pub fn loss(&self, student: Tensor<3>, teacher: Tensor<3>, precision: Precision) -> Tensor<1> {
        let side = |map: &Tensor<3>| map.dims()[1].isqrt();
        let side = side(&student).min(side(&teacher));
        let rows = |map: Tensor<3>| {
            let [batch, pixels, width] = map.dims();
            map.reshape([batch * pixels, width])
        };
        let targets = standardised(rows(resample::maps(teacher, side)));
        let features = rows(resample::maps(student, side));
        let [weight, bias] = &self.parameters;
        let map = Affine {
            weight: weight.value.clone().reshape(self.widths),
            bias: bias.value.clone(),
        };
        let mapped = linear(features, &map, precision, None);
        // By channels first: Burn adds up millions of numbers at once in an order of its threads.
        (mapped - targets).square().mean_dim(0).mean()
    }

    /// Adds what a backward pass found for the map.
    pub fn collect(&mut self, gradients: &mut Gradients) {
        for parameter in &mut self.parameters {
            parameter.collect(gradients);
        }
    }

    /// One update of the map, the `update`-th from 1, where there was anything to learn.
    pub fn step(&mut self, update: u64) {
        let t = update as f64;
        let step = Step {
            lr: LEARNING_RATE,
            beta1: BETA1,
            beta2: BETA2,
            correction1: 1.0 - BETA1.powf(t),
            correction2: 1.0 - BETA2.powf(t),
            epsilon: 1e-8,
            decay: 0.0,
        };
        for parameter in &mut self.parameters {
            parameter.step(&step);
        }
    }

    /// The map and its moments as named flat tensors.
    pub fn state(&self) -> Vec<(String, Tensor<1>)> {
        let of = |parameter: &Learned| {
            let Learned {
                name,
                value,
                moments: [first, second],
                ..
            } = parameter;
            [
                ((*name).to_owned(), value.clone().inner()),
                (format!("{name}.first"), first.clone()),
                (format!("{name}.second"), second.clone()),
            ]
        };
        self.parameters.iter().flat_map(of).collect()
    }

    /// Takes back what [`state`](Self::state) gave; `find` looks a name up.
    pub fn restore(&mut self, device: &Device, find: impl Fn(&str) -> Option<Vec<f32>>) {
        let find = |name: String| {
            find(&name).map(|values| Tensor::<1>::from_floats(values.as_slice(), device))
        };
        for parameter in &mut self.parameters {
            let name = parameter.name;
            if let (Some(value), Some(first), Some(second)) = (
                find(name.to_owned()),
                find(format!("{name}.first")),
                find(format!("{name}.second")),
            ) {
                parameter.value = leaf(value);
                parameter.moments = [first, second];
            }
        }
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
    use super::*;
    use crate::checkpoint::host;

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

    /// `steps` updates of a guide on one batch; the losses before each.
    fn learn(guide: &mut Guide, from: u64, steps: u64) -> Vec<f32> {
        (from..from + steps)
            .map(|update| {
                let loss = guide.loss(
                    wave([5, 16, 3], 1).autodiff(),
                    // A linear function of the student's features, seen through resampling.
                    wave([5, 16, 3], 1).narrow(2, 0, 2) * 9.0 + 4.0,
                    Precision::F32,
                );
                guide.collect(&mut loss.backward());
                guide.step(update);
                number(loss)
            })
            .collect()
    }

    #[test]
    fn the_first_loss_is_one_and_a_linear_relation_is_learned() {
        let mut guide = Guide::new(3, 2, &Device::flex());
        let losses = learn(&mut guide, 1, 3000);
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
        let state = [("weight", vec![0.5, -1.0]), ("bias", vec![0.25])];
        guide.restore(&Device::flex(), |name| {
            let (base, _) = name.split_once('.').unwrap_or((name, ""));
            state
                .iter()
                .find(|(n, _)| *n == base)
                .map(|(_, v)| v.clone())
        });
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
            guide.restore(&Device::flex(), |name| {
                let len = if name.starts_with("weight") { 6 } else { 2 };
                Some(host(wave([len], 11)))
            });
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
        let mut guide = Guide::new(3, 2, &Device::flex());
        learn(&mut guide, 1, 3);
        let state: Vec<(String, Vec<f32>)> = guide
            .state()
            .into_iter()
            .map(|(name, value)| (name, host(value)))
            .collect();
        let mut restored = Guide::new(3, 2, &Device::flex());
        restored.restore(&Device::flex(), |name| {
            let found = state.iter().find(|(known, _)| known == name);
            found.map(|(_, values)| values.clone())
        });
        assert_eq!(learn(&mut guide, 4, 4), learn(&mut restored, 4, 4));
        for ((name, a), (_, b)) in guide.state().into_iter().zip(restored.state()) {
            assert_eq!(host(a), host(b), "{name}");
        }
    }

    #[test]
    fn gradients_of_several_batches_add_up() {
        let mut twice = Guide::new(3, 2, &Device::flex());
        for seed in [1, 2] {
            let loss = twice.loss(
                wave([2, 4, 3], seed).autodiff(),
                wave([2, 4, 2], seed + 7),
                Precision::F32,
            );
            twice.collect(&mut loss.backward());
        }
        let sum = host(twice.parameters[0].gradient.clone().unwrap());
        let mut parts = [vec![], vec![]];
        for (part, seed) in parts.iter_mut().zip([1, 2]) {
            let mut once = Guide::new(3, 2, &Device::flex());
            let loss = once.loss(
                wave([2, 4, 3], seed).autodiff(),
                wave([2, 4, 2], seed + 7),
                Precision::F32,
            );
            once.collect(&mut loss.backward());
            *part = host(once.parameters[0].gradient.clone().unwrap());
        }
        for ((sum, a), b) in sum.iter().zip(&parts[0]).zip(&parts[1]) {
            assert!((sum - a - b).abs() < 1e-6);
        }
    }
}
