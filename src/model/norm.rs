//! Layer normalisation (Ba et al. 2016), and the linear layer that follows it in a pre-norm block.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::module::{layer_norm, linear};
use burn::tensor::{Device, Tensor};

/// Added to the variance, as in timm and in the original Vision Transformer.
pub const EPSILON: f64 = 1e-6;

/// Normalises each token to mean 0 and variance 1, then scales by γ and shifts by β.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// Scale γ, `[D]`.
    pub gamma: Param<Tensor<1>>,
    /// Shift β, `[D]`.
    pub beta: Param<Tensor<1>>,
}

impl LayerNorm {
    /// γ = 1, β = 0.
    pub fn new(width: usize, device: &Device) -> Self {
        Self {
            gamma: burn::nn::Initializer::Ones.init([width], device),
            beta: burn::nn::Initializer::Zeros.init([width], device),
        }
    }

    /// γ·(x − mean) / √(variance + ε) + β, over the last axis.
    ///
    /// # Shapes
    ///
    /// `[.., D]` → `[.., D]`.
    pub fn forward<const R: usize>(&self, x: Tensor<R>) -> Tensor<R> {
        layer_norm(x, self.gamma.val(), Some(self.beta.val()), EPSILON)
    }

    /// `linear(norm(x))`.
    pub fn then(&self, layer: &Linear, x: Tensor<2>) -> Tensor<2> {
        let x = self.forward(x);
        linear(x, layer.weight.val(), layer.bias.as_ref().map(|b| b.val()))
    }
}
