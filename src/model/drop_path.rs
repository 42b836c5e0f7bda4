//! Randomness inside the model: drop path.

use burn::tensor::{Tensor, TensorData};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::init::{mix, unit};

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

    /// Drop path (stochastic depth, Huang et al. 2016): each picture's `branch` vanishes with
    /// probability `rate`, and the others grow by 1/(1 − rate) so that the mean stays.
    ///
    /// # Shapes
    ///
    /// `branch` `[B·N, D]` → `[B·N, D]`; one draw for each of the B pictures.
    pub(super) fn drop_path(&mut self, branch: Tensor<2>, batch: usize, rate: f64) -> Tensor<2> {
        if rate <= 0.0 {
            return branch;
        }
        let kept = (1.0 / (1.0 - rate)) as f32;
        let mask: Vec<f32> = (0..batch)
            .map(|_| {
                let dropped = unit(self.generator.next_u64()) < rate;
                if dropped { 0.0 } else { kept }
            })
            .collect();
        let device = branch.device();
        let mask = Tensor::<3>::from_data(TensorData::new(mask, [batch, 1, 1]), &device);
        let [rows, width] = branch.dims();
        (branch.reshape([batch, rows / batch, width]) * mask).reshape([rows, width])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn dropped(noise: &mut Noise, batch: usize, rate: f64) -> Vec<f32> {
        let ones = Tensor::<2>::ones([batch * 3, 2], &Device::flex());
        noise
            .drop_path(ones, batch, rate)
            .try_into_vec_as::<f32>()
            .unwrap()
    }

    #[test]
    fn drops_whole_pictures_and_keeps_the_mean() {
        let values = dropped(&mut Noise::new(7, 1), 4_000, 0.3);
        for picture in values.chunks(6) {
            assert!(picture.iter().all(|&v| v == picture[0]));
        }
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        assert!((mean - 1.0).abs() < 0.05, "mean {mean}");
        assert!(values.contains(&0.0));
    }

    #[test]
    fn depends_on_seed_and_step_alone() {
        let draw = |seed, step| dropped(&mut Noise::new(seed, step), 64, 0.5);
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert_ne!(draw(1, 2), draw(2, 1));
        let mut noise = Noise::new(1, 2);
        assert_ne!(dropped(&mut noise, 64, 0.5), dropped(&mut noise, 64, 0.5));
    }
}
