//! The operations that a step spends its time in: one file an operation.
//!
//! Each file holds the operation as mathematics, composed of Burn's own tensor functions, which
//! runs and differentiates on every backend. On the processor, Burn's flex backend, the same
//! function takes the kernels of [`vitrine_kernels`] instead, with a gradient written by hand: they
//! keep what they need in the nearest cache, store a fraction of what the composed form stores, and
//! give the same bits on any number of threads.
//!
//! Shared types stand here. Below the operations are [`precision`], `product` (of the composed
//! forms), [`prepared`] (weights packed once) and `cpu` (tensors to slices and back); below
//! those, the kernels.

pub mod adamw;
pub mod attention;
pub mod batch_norm;
pub mod branch;
pub mod conv;
#[cfg(feature = "cpu")]
pub mod cpu;
pub mod embedding;
pub mod flat;
pub mod gather;
pub mod gelu;
pub mod layer_scale;
pub mod linear;
pub mod mlp;
pub mod muon;
pub mod norm;
pub mod pool;
pub mod precision;
pub mod prepared;
mod product;
pub mod profile;
pub mod resample;

use burn::tensor::Tensor;

pub use precision::{Precision, PrecisionChoice};
pub use prepared::Prepared;

/// A linear map: y = x·`weight` + `bias`.
#[derive(Debug, Clone)]
pub struct Affine {
    /// `[inputs, outputs]`.
    pub weight: Tensor<2>,
    /// `[outputs]`.
    pub bias: Tensor<1>,
}

/// The learned part of a layer norm.
#[derive(Debug, Clone)]
pub struct Scale {
    /// γ, `[D]`.
    pub gamma: Tensor<1>,
    /// β, `[D]`.
    pub beta: Tensor<1>,
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
