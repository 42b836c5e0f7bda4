//! Layer normalisation (Ba et al. 2016).

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::role::{Declarations, Declare, Role};
use crate::ops::Scale;
use crate::ops::norm::layer_norm;

/// Normalises each token to mean 0 and variance 1, then scales by γ and shifts by β.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// Scale γ, `[D]`.
    pub gamma: Param<Tensor<1>>,
    /// Shift β, `[D]`.
    pub beta: Param<Tensor<1>>,
    /// ε, added to the variance.
    epsilon: f64,
}

impl Declare for LayerNorm {
    fn declare(&self, to: &mut Declarations) {
        to.tensor("gamma", Role::Norm);
        to.tensor("beta", Role::Norm);
    }
}

impl LayerNorm {
    /// γ = 1, β = 0.
    pub fn new(width: usize, epsilon: f64, device: &Device) -> Self {
        Self {
            gamma: burn::nn::Initializer::Ones.init([width], device),
            beta: burn::nn::Initializer::Zeros.init([width], device),
            epsilon,
        }
    }

    /// See [`layer_norm`].
    ///
    /// # Shapes
    ///
    /// `[.., D]` → `[.., D]`.
    pub fn forward<const R: usize>(&self, x: Tensor<R>) -> Tensor<R> {
        layer_norm(x, &self.scale())
    }

    pub(crate) fn scale(&self) -> Scale {
        Scale {
            gamma: self.gamma.val(),
            beta: self.beta.val(),
            epsilon: self.epsilon,
        }
    }
}
