//! What stands between the two layers of an MLP.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::gelu::{gelu, gelu_tanh};

/// A function of each value of an MLP's hidden layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// x·Φ(x), Φ being the normal distribution function (Hendrycks & Gimpel 2016).
    #[default]
    Gelu,
    /// ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))), their approximation of it.
    GeluTanh,
}

impl Activation {
    /// Of Burn's own operations.
    pub(super) fn composed<const R: usize>(self, x: Tensor<R>) -> Tensor<R> {
        match self {
            Self::Gelu => gelu(x),
            Self::GeluTanh => gelu_tanh(x),
        }
    }

    #[cfg(feature = "cpu")]
    pub(super) fn kernel(self) -> vitrine_kernels::Activation {
        match self {
            Self::Gelu => vitrine_kernels::Activation::Gelu,
            Self::GeluTanh => vitrine_kernels::Activation::GeluTanh,
        }
    }
}
