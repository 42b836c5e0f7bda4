//! Random changes to training pictures, on eight-bit pixels, before they are normalised.
//!
//! In this order, each only where [`AugmentConfig`] asks for it:
//!
//! 1. a random resized crop, or a padded random crop (`geometry`);
//! 2. a horizontal flip (`geometry`);
//! 3. a policy, TrivialAugment or RandAugment (`policy`);
//! 4. random erasing (`geometry`);
//! 5. of a whole batch, mixup or cutmix (`mix`).
//!
//! Every draw comes from a generator of its own, seeded by what it is for (`seeded`): the seed, the epoch, and the
//! picture or the batch. So the same picture of the same epoch is changed in the same way on any number of threads, in
//! any batch, and after any interruption.

mod apply;
mod config;
mod geometry;
mod mix;
mod policy;
mod seeded;

pub use config::{AugmentConfig, Flip, Policy};
pub(super) use mix::draw_mix;
pub(super) use seeded::{Purpose, generator};
