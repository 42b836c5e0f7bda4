//! Inference with products of eight bits.
//!
//! A weight has one scale for each of its outputs, a row of activations one scale and one zero: so
//! what a row gives does not depend on what else is in the batch. Products and their sums are whole
//! numbers, the same on every processor. Norms, softmax, GELU and all sums of branches stay in f32,
//! and so does attention itself, or in bf16 where the processor multiplies it.
//!
//! Read `quantise` (numbers to codes), `kernel` (the innermost loops), `matrix` (the way there),
//! then the operations.

pub mod attention;
mod branch;
pub mod conv;
mod kernel;
mod layer;
mod matrix;
pub mod mlp;
mod quantise;
#[cfg(test)]
mod tests;

pub use branch::Branch;
pub use kernel::is_accelerated;
pub use layer::Layer;
pub use quantise::{Codes, WEIGHT_MAX};
