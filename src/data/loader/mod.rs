//! Pictures → batches: normalised, in a seeded order, made in advance on a thread of their own.
//!
//! The contents of a batch depend on the seed, the epoch and the step alone: not on the number of threads, on how far in
//! advance batches are made, on the cache, or on the step at which an epoch is begun.

mod ahead;
mod batch;
mod eval;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod train;
mod workers;

pub use ahead::Batches;
pub use batch::{Batch, Targets};
pub use eval::EvalLoader;
pub use train::{Shard, TrainLoader, View};
