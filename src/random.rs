//! Generators by seed and purpose, so that neither threads nor order show; those of pictures are in
//! `data/augment/seeded.rs`.
//!
//! SplitMix64, FNV-1a and Xoshiro256++ give the same bits on every processor and in
//! every release of Rust, which the standard library's hasher and `rand`'s defaults do not promise.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// SplitMix64's output function (Steele et al. 2014): a bijection that scatters neighbours.
pub(crate) fn split_mix(state: u64) -> u64 {
    scatter(state.wrapping_add(0x9E37_79B9_7F4A_7C15))
}

/// [`split_mix`] without its first step.
pub(crate) fn scatter(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// FNV-1a.
pub(crate) fn hash(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

/// A generator of its own for one key.
pub(crate) fn numbers(key: u64) -> Numbers {
    Numbers(Xoshiro256PlusPlus::seed_from_u64(key))
}

/// Uniform numbers, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Numbers(Xoshiro256PlusPlus);

impl Numbers {
    /// From 0 to 1, exclusive, by the upper 53 bits.
    pub(crate) fn next_unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
