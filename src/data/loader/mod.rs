//! Pictures → batches: normalised, in a seeded order, made ahead on a thread of their own.
//!
//! What a batch holds depends on the seed, the epoch and the step alone: not on the number of threads, on how far ahead
//! batches are made, on the cache, or on where within the epoch one begins.

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
