//! Randomness inside the model: drop path.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::init::{mix, unit};
use crate::ops::{Precision, Prepared};

/// The randomness of one training step.
///
/// Drawn on the host from seed and step, so that a resumed step draws what the interrupted one
/// drew, and every device sees the same masks.
#[derive(Debug, Clone)]
pub struct Noise {
    generator: Xoshiro256PlusPlus,
}

impl Noise {
    /// The randomness of step `step` of a run with this seed.
    pub fn new(seed: u64, step: u64) -> Self {
        Self {
            generator: Xoshiro256PlusPlus::seed_from_u64(mix(mix(seed) ^ step)),
        }
    }

    /// Drop path (stochastic depth, Huang et al. 2016): how much of its branch each of `batch`
    /// pictures keeps, which is nothing with probability `rate` and 1/(1 − rate) otherwise, so
    /// that the mean stays.
    fn keep(&mut self, batch: usize, rate: f64) -> Vec<f32> {
        let kept = (1.0 / (1.0 - rate)) as f32;
        let mut draw = || unit(self.generator.next_u64()) < rate;
        (0..batch)
            .map(|_| if draw() { 0.0 } else { kept })
            .collect()
    }
}

/// How one forward pass is run.
#[derive(Debug)]
pub struct Pass<'a> {
    /// What the operands of matrix products are rounded to.
    pub precision: Precision,
    /// The randomness of a training step; none in inference.
    pub noise: Option<&'a mut Noise>,
    /// Where packed weights are kept from one inference to the next.
    pub prepared: Option<&'a Prepared>,
}

impl<'a> Pass<'a> {
    /// A training step.
    pub fn training(precision: Precision, noise: &'a mut Noise) -> Self {
        Self {
            precision,
            noise: Some(noise),
            prepared: None,
        }
    }

    /// Inference.
    pub fn inference(precision: Precision) -> Self {
        Self {
            precision,
            noise: None,
            prepared: None,
        }
    }

    /// The same, with weights packed once for all passes that share `prepared`.
    pub fn with(self, prepared: &'a Prepared) -> Self {
        Self {
            prepared: Some(prepared),
            ..self
        }
    }

    /// How much of a branch each picture keeps; `None` is all of it.
    pub(super) fn keep(&mut self, batch: usize, rate: f64) -> Option<Vec<f32>> {
        let noise = self.noise.as_deref_mut()?;
        (rate > 0.0).then(|| noise.keep(batch, rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_some_pictures_and_keeps_the_mean() {
        let values = Noise::new(7, 1).keep(4_000, 0.3);
        assert!(values.iter().all(|&v| v == 0.0 || v == 1.0 / 0.7));
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        assert!((mean - 1.0).abs() < 0.05, "mean {mean}");
        assert!(values.contains(&0.0));
    }

    #[test]
    fn depends_on_seed_and_step_alone() {
        let draw = |seed, step| Noise::new(seed, step).keep(64, 0.5);
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert_ne!(draw(1, 2), draw(2, 1));
        let mut noise = Noise::new(1, 2);
        assert_ne!(noise.keep(64, 0.5), noise.keep(64, 0.5));
    }

    #[test]
    fn inference_and_a_rate_of_zero_keep_everything() {
        assert_eq!(Pass::inference(Precision::F32).keep(2, 0.5), None);
        let mut noise = Noise::new(1, 2);
        let mut pass = Pass::training(Precision::F32, &mut noise);
        assert_eq!(pass.keep(2, 0.0), None);
        assert!(pass.keep(2, 0.5).is_some());
    }
}
