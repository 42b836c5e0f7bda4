//! Random numbers by what they are for, not by when they are drawn.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::random::split_mix;

/// What a generator's numbers decide. Two purposes never share a generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::data) enum Purpose {
    /// The order of an epoch.
    Order = 1,
    /// The changes of one picture in one epoch.
    Picture = 2,
    /// Whether one picture is flipped, apart because alternating flips use the first epoch's draw in every epoch.
    Flip = 3,
    /// How one batch is mixed.
    Mix = 4,
}

/// The generator for one purpose, in one epoch, of one picture or batch: Xoshiro256++, seeded by the four numbers as
/// SplitMix64 mixes them (Steele et al. 2014), one after the other, so that neighbours share nothing.
pub(in crate::data) fn generator(
    seed: u64,
    purpose: Purpose,
    epoch: usize,
    index: usize,
) -> Xoshiro256PlusPlus {
    let key = [purpose as u64, epoch as u64, index as u64]
        .into_iter()
        .fold(seed, |key, next| split_mix(key).wrapping_add(next));
    Xoshiro256PlusPlus::seed_from_u64(key)
}

/// True half the time.
pub(super) fn coin(rng: &mut Xoshiro256PlusPlus) -> bool {
    rng.random()
}

/// From `low` to `high`, evenly.
pub(super) fn uniform(rng: &mut Xoshiro256PlusPlus, low: f64, high: f64) -> f64 {
    low + (high - low) * rng.random::<f64>()
}

/// A draw of Beta(alpha, alpha), from 0 to 1.
///
/// Two Gamma(alpha) variables and their share (Devroye 1986, § IX.3), in logarithms: at an alpha of 0.01 both would
/// underflow to zero.
pub(super) fn beta(rng: &mut Xoshiro256PlusPlus, alpha: f64) -> f64 {
    let (a, b) = (ln_gamma_variate(rng, alpha), ln_gamma_variate(rng, alpha));
    1.0 / (1.0 + (b - a).exp())
}

/// The logarithm of a Gamma(alpha) variate: Marsaglia & Tsang 2000, for alpha + 1, brought down to alpha by U^(1/alpha).
fn ln_gamma_variate(rng: &mut Xoshiro256PlusPlus, alpha: f64) -> f64 {
    let d = alpha + 1.0 - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(rng);
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && positive(rng).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return (d * v).ln() + positive(rng).ln() / alpha;
        }
    }
}

/// A standard normal variate (Box & Muller 1958).
fn normal(rng: &mut Xoshiro256PlusPlus) -> f64 {
    let radius = (-2.0 * positive(rng).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

/// Above 0, up to 1: a logarithm can be taken of it.
fn positive(rng: &mut Xoshiro256PlusPlus) -> f64 {
    1.0 - rng.random::<f64>()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_keys_share_a_generator() {
        let mut firsts = HashSet::new();
        for seed in 0..4 {
            for purpose in [
                Purpose::Order,
                Purpose::Picture,
                Purpose::Flip,
                Purpose::Mix,
            ] {
                for epoch in 0..8 {
                    for index in 0..8 {
                        assert!(
                            firsts.insert(generator(seed, purpose, epoch, index).random::<u64>())
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_generator_stays_what_it_was() {
        // Fixed: a resumed run, or a run repeated in a later version, must see the same pictures.
        let mut rng = generator(1, Purpose::Picture, 2, 3);
        assert_eq!(rng.random::<u64>(), 2_028_678_005_599_355_330);
    }

    #[test]
    fn beta_has_its_moments() {
        // Var Beta(a, a) = 1 / (4 (2a + 1)).
        for alpha in [0.01, 0.2, 0.8, 1.0, 5.0] {
            let mut rng = generator(0, Purpose::Mix, 0, 0);
            let draws: Vec<f64> = (0..20_000).map(|_| beta(&mut rng, alpha)).collect();
            assert!(draws.iter().all(|x| (0.0..=1.0).contains(x)));
            let mean = draws.iter().sum::<f64>() / draws.len() as f64;
            let variance =
                draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            assert!((mean - 0.5).abs() < 0.015, "alpha {alpha}: mean {mean}");
            assert!(
                (variance / expected - 1.0).abs() < 0.04,
                "alpha {alpha}: {variance} for {expected}"
            );
        }
    }
}
