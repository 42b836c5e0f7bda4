//! Randomness inside the model: drop path and dropped tokens.

use crate::ops::{Precision, Prepared};
use crate::random::{Numbers, numbers, split_mix};

/// The randomness of one training step.
///
/// Drawn on the host from seed and step, so that a resumed step draws what the interrupted one
/// drew, and every device sees the same masks.
#[derive(Debug, Clone)]
pub struct Noise {
    numbers: Numbers,
    token_drop: f64,
}

impl Noise {
    /// The randomness of step `step` of a run with this seed.
    pub fn new(seed: u64, step: u64) -> Self {
        Self {
            numbers: numbers(split_mix(split_mix(seed) ^ step)),
            token_drop: 0.0,
        }
    }

    /// The same, with a share of each picture's patches left out of the encoder, 0 to below 1.
    #[must_use]
    pub fn dropping_tokens(self, share: f64) -> Self {
        Self {
            token_drop: share,
            ..self
        }
    }

    /// PatchDropout (Liu et al. 2022): which of `patches` each of `batch` pictures keeps, each a
    /// draw of its own, ascending, as many for one as for the other.
    fn kept(&mut self, batch: usize, patches: usize) -> Vec<Vec<usize>> {
        let count = kept_tokens(patches, self.token_drop);
        (0..batch)
            .map(|_| {
                // The first steps of a shuffle (Fisher & Yates).
                let mut all: Vec<usize> = (0..patches).collect();
                for i in 0..count {
                    let left = (patches - i) as f64;
                    all.swap(i, i + (self.numbers.next_unit() * left) as usize);
                }
                all.truncate(count);
                all.sort_unstable();
                all
            })
            .collect()
    }

    /// Drop path (stochastic depth, Huang et al. 2016): how much of its branch each of `batch`
    /// pictures keeps, which is nothing with probability `rate` and 1/(1 − rate) otherwise, so
    /// that the mean stays.
    fn keep(&mut self, batch: usize, rate: f64) -> Vec<f32> {
        let kept = (1.0 / (1.0 - rate)) as f32;
        let mut draw = || self.numbers.next_unit() < rate;
        (0..batch)
            .map(|_| if draw() { 0.0 } else { kept })
            .collect()
    }
}

/// How many of `patches` tokens are left when a share of them is dropped: at least one.
pub(super) fn kept_tokens(patches: usize, share: f64) -> usize {
    (((1.0 - share) * patches as f64).round() as usize).clamp(1, patches)
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

    /// Which patches each picture keeps; `None` is all of them.
    pub(super) fn kept(&mut self, batch: usize, patches: usize) -> Option<Vec<Vec<usize>>> {
        let noise = self.noise.as_deref_mut()?;
        (noise.token_drop > 0.0).then(|| noise.kept(batch, patches))
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
    fn each_picture_keeps_patches_of_its_own() {
        let draw = |step| Noise::new(3, step).dropping_tokens(0.4).kept(40, 7);
        let mut seen = [0; 7];
        for kept in draw(1) {
            // 4.2 is left of 7.
            assert_eq!(kept.len(), 4);
            assert!(kept.windows(2).all(|pair| pair[0] < pair[1]), "{kept:?}");
            kept.iter().for_each(|&patch| seen[patch] += 1);
        }
        // 160 draws over 7 patches: about 23 each.
        assert!(
            seen.iter().all(|count| (12..36).contains(count)),
            "{seen:?}"
        );
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_eq!(kept_tokens(5, 0.99), 1);
        assert_eq!(kept_tokens(5, 0.0), 5);
    }

    #[test]
    fn inference_and_a_rate_of_zero_keep_everything() {
        assert_eq!(Pass::inference(Precision::F32).keep(2, 0.5), None);
        let mut noise = Noise::new(1, 2);
        let mut pass = Pass::training(Precision::F32, &mut noise);
        assert_eq!(pass.keep(2, 0.0), None);
        assert_eq!(pass.kept(2, 4), None);
        assert!(pass.keep(2, 0.5).is_some());
    }
}
