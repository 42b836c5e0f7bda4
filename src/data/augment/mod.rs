//! Random changes to training pictures, on eight-bit pixels, before they are normalised.
//!
//! In this order, each only where [`AugmentConfig`] turns it on:
//!
//! 1. a random resized crop, or a padded random crop (`geometry`);
//! 2. a horizontal flip (`geometry`);
//! 3. TrivialAugment or RandAugment (`policy`);
//! 4. random erasing (`geometry`);
//! 5. mixup or cutmix of a whole batch (`mix`).
//!
//! Each picture and each batch has a random generator of its own (`seeded`), seeded by the purpose, the seed, the epoch
//! and the index of the picture or batch. So a picture is changed in the same way in the same epoch on any number of
//! threads, in any batch, and after a resume.

mod apply;
mod config;
mod geometry;
mod mix;
mod policy;
mod seeded;

pub use config::{AugmentConfig, Flip, Policy};
pub(super) use mix::draw_mix;
pub(super) use seeded::{Purpose, generator};
