//! The operations that a step spends its time in: one file an operation.
//!
//! Each file holds the operation as mathematics, composed of Burn's own tensor functions, which
//! runs and differentiates on every backend. On the processor, Burn's flex backend, the same
//! function takes the kernels of [`vitrine_kernels`] instead, with a gradient written by hand: they
//! keep what they need in the nearest cache, store a fraction of what the composed form stores, and
//! give the same bits on any number of threads.
//!
//! On a GPU a pass over memory is a kernel to start, so there some of the composed forms bring a
//! gradient of their own, composed as well.
//!
//! Shared types stand here. Below the operations are `precision`, `product` (of the composed
//! forms), `by_hand` (their gradients), `prepared` (weights packed once) and `cpu` (tensors to
//! slices and back); below those, the kernels.

pub(crate) mod activation;
#[doc(hidden)]
pub mod adamw;
#[doc(hidden)]
pub mod attention;
pub(crate) mod batch_norm;
#[doc(hidden)]
pub mod branch;
#[cfg(gpu)]
mod by_hand;
pub(crate) mod conv;
#[cfg(feature = "cpu")]
pub(crate) mod cpu;
#[doc(hidden)]
pub mod embedding;
pub(crate) mod flat;
pub(crate) mod gather;
pub(crate) mod gelu;
mod int8;
pub(crate) mod layer_scale;
#[doc(hidden)]
pub mod linear;
#[doc(hidden)]
pub mod mlp;
pub(crate) mod muon;
#[doc(hidden)]
pub mod norm;
pub(crate) mod pool;
pub(crate) mod precision;
pub(crate) mod prepared;
mod product;
pub(crate) mod profile;
pub(crate) mod resample;

use burn::tensor::Tensor;

pub use activation::Activation;
pub use int8::{Int8Weight, Outputs};
pub use precision::{InferencePrecision, Precision, PrecisionChoice, Purpose};
pub use prepared::Prepared;

/// A linear map: y = x·`weight` + `bias`.
#[derive(Debug, Clone)]
pub struct Affine {
    /// `[inputs, outputs]`.
    pub weight: Tensor<2>,
    /// `[outputs]`.
    pub bias: Tensor<1>,
}

/// A layer norm.
#[derive(Debug, Clone)]
pub struct Scale {
    /// γ, `[D]`.
    pub gamma: Tensor<1>,
    /// β, `[D]`.
    pub beta: Tensor<1>,
    /// ε, which is added to the variance.
    pub epsilon: f64,
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
