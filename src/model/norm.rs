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

    /// `layer(norm(x))`, one or more parts of `layer` at a time: see [`Folded`].
    pub fn fold(&self, layer: &Linear, x: Tensor<2>) -> Folded {
        let weight = layer.weight.val();
        let bias = layer.bias.as_ref().map(|b| b.val());
        if !x.is_autodiff() {
            // Inference has layer norm in one pass.
            let x = self.forward(x);
            return Folded { x, weight, bias };
        }
        let beta = self.beta.val().unsqueeze::<2>().matmul(weight.clone());
        let beta = beta.reshape([weight.dims()[1]]);
        Folded {
            x: standardise(x),
            weight: weight * self.gamma.val().unsqueeze_dim(1),
            bias: Some(bias.map_or(beta.clone(), |bias| bias + beta)),
        }
    }
}

/// Layer norm and the linear layer after it: (γ·x̂ + β)·W + b = x̂·(γ·W) + (β·W + b).
///
/// Scaling the weight in place of the tokens spares two passes over all tokens on the way forward
/// and three on the way back.
#[derive(Debug, Clone)]
pub struct Folded {
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
}

impl Folded {
    /// The layer's whole output.
    ///
    /// # Shapes
    ///
    /// → `[B·N, outputs]`.
    pub fn output(self) -> Tensor<2> {
        linear(self.x, self.weight, self.bias)
    }

    /// `scale` times the given columns of the layer's output.
    ///
    /// The weight is cut and scaled, not the output: cutting costs a zero-filled tensor of the
    /// whole size in the backward pass, and the weight is the smaller one by far.
    ///
    /// # Shapes
    ///
    /// → `[B·N, columns]`.
    pub fn columns(&self, columns: std::ops::Range<usize>, scale: f64) -> Tensor<2> {
        let [inputs, _] = self.weight.dims();
        let mut weight = self.weight.clone().slice([0..inputs, columns.clone()]);
        let mut bias = self.bias.clone().map(|bias| bias.slice([columns]));
        if scale != 1.0 {
            weight = weight * scale;
            bias = bias.map(|bias| bias * scale);
        }
        linear(self.x.clone(), weight, bias)
    }
}

/// (x − mean) / √(variance + ε), over the last axis.
fn standardise(x: Tensor<2>) -> Tensor<2> {
    let centred = x.clone() - x.mean_dim(1);
    let variance = centred.clone().square().mean_dim(1);
    centred * (variance + EPSILON).sqrt().recip()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;
    use burn::tensor::{Distribution, Tolerance};

    #[test]
    fn folding_changes_neither_output_nor_gradient() {
        let device = Device::flex().autodiff();
        let random = |n| Tensor::<1>::random([n], Distribution::Normal(1.0, 0.5), &device);
        let mut norm = LayerNorm::new(7, &device);
        norm.gamma = Param::from_tensor(random(7)).set_require_grad(true);
        norm.beta = Param::from_tensor(random(7)).set_require_grad(true);
        let layer = LinearConfig::new(7, 6).init(&device);
        let x = Tensor::<2>::random([5, 7], Distribution::Normal(3.0, 2.0), &device);
        let x = x.require_grad();
        let target = Tensor::<2>::random([5, 6], Distribution::Default, &device);
        let gradients = |y: Tensor<2>| {
            let gradients = (y * target.clone()).sum().backward();
            let weight = layer.weight.val().grad(&gradients).unwrap();
            Tensor::cat(
                vec![
                    x.grad(&gradients).unwrap().reshape([35]),
                    norm.gamma.val().grad(&gradients).unwrap(),
                    norm.beta.val().grad(&gradients).unwrap(),
                    weight.reshape([42]),
                ],
                0,
            )
        };
        // A tape is consumed by its backward pass, so each way is walked anew.
        let plain = || layer.forward(norm.forward(x.clone()));
        let folded = || norm.fold(&layer, x.clone()).output();
        let parts = || {
            let folded = norm.fold(&layer, x.clone());
            let parts = vec![folded.columns(0..4, 1.0), folded.columns(4..6, 2.0) / 2.0];
            Tensor::cat(parts, 1)
        };
        let tolerance = Tolerance::<f32>::absolute(1e-4);
        let output = plain().into_data();
        let expected = gradients(plain()).into_data();
        for way in [folded(), parts()] {
            way.into_data().assert_approx_eq(&output, tolerance);
        }
        gradients(folded())
            .into_data()
            .assert_approx_eq(&expected, tolerance);
        gradients(parts())
            .into_data()
            .assert_approx_eq(&expected, tolerance);
    }
}
