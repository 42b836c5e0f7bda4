//! Convolutions with batch norm, as the stem of a Vision Transformer and the baselines use them.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, BatchNormConfig, Initializer};
use burn::tensor::{Device, FloatDType, Tensor};

use super::layers::undrawn_conv;
use super::pass::Pass;
use super::role::{Declarations, Role};
use crate::ops;
use crate::ops::batch_norm::{Norm, Statistics, Tail, batch_norm, batch_norm_with};
use crate::ops::conv::{Conv, Window, conv};
use crate::ops::pool::max_pool;

/// A convolution without bias and the batch norm that follows it.
#[derive(Module, Debug)]
pub struct ConvNorm {
    /// The convolution.
    pub conv: Conv2d,
    /// Its batch norm; running variances are the biased ones, where PyTorch keeps unbiased ones.
    pub norm: BatchNorm,
}

/// Added to the variances.
pub(crate) const BATCH_NORM_EPSILON: f64 = 1e-5;

impl ConvNorm {
    pub(crate) fn new(channels: [usize; 2], kernel: usize, stride: usize, device: &Device) -> Self {
        Self {
            conv: undrawn_conv(channels, kernel, stride, device),
            norm: BatchNormConfig::new(channels[1])
                .with_epsilon(BATCH_NORM_EPSILON)
                .init(device),
        }
    }

    /// 3×3 with γ = 0, so that a residual branch starts as nothing (Goyal et al. 2017).
    pub(crate) fn zero_gamma(channels: [usize; 2], device: &Device) -> Self {
        let mut layer = Self::new(channels, 3, 1, device);
        layer.norm.gamma = Initializer::Zeros.init([channels[1]], device);
        layer
    }

    /// tail(norm(conv(x))).
    ///
    /// With the batch's statistics in training; in inference the running ones are folded into the
    /// convolution, which then has nothing between its sums and the next layer.
    ///
    /// # Shapes
    ///
    /// `[B, H, W, C]` → `[B, H', W', D]`.
    pub(crate) fn forward(&self, x: Tensor<4>, tail: Tail<Tensor<4>>, pass: &Pass) -> Tensor<4> {
        let (layer, norm) = (filters(&self.conv), &self.norm);
        let (precision, prepared) = (pass.precision, pass.prepared);
        if trains(norm, &x) {
            return normalise(norm, conv(x, &layer, precision, prepared), tail);
        }
        let of = running(norm);
        ops::conv::conv_norm(x, &layer, &learned(norm), &of, tail, precision, prepared)
    }

    /// tail(norm(pool(conv(x)))), pooled by two.
    ///
    /// # Shapes
    ///
    /// `[B, H, W, C]` → `[B, H/2, W/2, D]`.
    pub(crate) fn forward_pooled(
        &self,
        x: Tensor<4>,
        tail: Tail<Tensor<4>>,
        pass: &Pass,
    ) -> Tensor<4> {
        let x = conv(x, &filters(&self.conv), pass.precision, pass.prepared);
        normalise(&self.norm, max_pool(x, HALVING), tail)
    }

    /// Declares the layer in the field `name`, its convolution in the given role.
    pub(crate) fn declare(&self, name: &str, role: Role, to: &mut Declarations) {
        to.within(name, |to| {
            to.convolution("conv", &self.conv, role);
            to.batch_norm("norm", &self.norm);
        });
    }
}

const HALVING: Window = Window {
    kernel: 2,
    stride: 2,
    padding: 0,
};

/// tail(norm(x)).
///
/// # Shapes
///
/// `[B, H, W, C]` → `[B, H, W, C]`.
fn normalise(norm: &BatchNorm, x: Tensor<4>, tail: Tail<Tensor<4>>) -> Tensor<4> {
    let learned = learned(norm);
    if !trains(norm, &x) {
        return batch_norm_with(x, &learned, &running(norm), tail);
    }
    let (y, of_batch) = batch_norm(x, &learned, tail);
    for (running, of_batch) in [
        (&norm.running_mean, of_batch.mean),
        (&norm.running_var, of_batch.variance),
    ] {
        let old = running.value_sync() * (1.0 - norm.momentum);
        running.update((old + of_batch * norm.momentum).detach());
    }
    y
}

/// Burn's own rule: an autodiff device, and nobody has frozen the layer.
fn trains(norm: &BatchNorm, x: &Tensor<4>) -> bool {
    x.is_autodiff() && norm.training.is_enabled()
}

fn running(norm: &BatchNorm) -> Statistics {
    Statistics {
        mean: norm.running_mean.value(),
        variance: norm.running_var.value(),
    }
}

fn learned(norm: &BatchNorm) -> Norm {
    Norm {
        gamma: norm.gamma.val(),
        beta: norm.beta.val(),
        epsilon: norm.epsilon,
    }
}

/// A convolution's weights, for an operation.
fn filters(conv: &Conv2d) -> Conv {
    Conv {
        weight: conv.weight.val(),
        window: Window {
            kernel: conv.kernel_size[0],
            stride: conv.stride[0],
            // As `undrawn_conv` pads.
            padding: conv.kernel_size[0] / 2,
        },
    }
}

/// Pictures as feature maps.
///
/// # Shapes
///
/// `[B, C, H, W]` → `[B, H, W, C]`.
pub(crate) fn channels_last(images: Tensor<4>) -> Tensor<4> {
    images.permute([0, 2, 3, 1])
}

/// All pixels of each picture's last map, in f32.
///
/// # Shapes
///
/// `[B, H, W, C]` → `[B, H·W, C]`.
pub(crate) fn pixels(x: Tensor<4>) -> Tensor<3> {
    let [batch, height, width, channels] = x.dims();
    x.cast(FloatDType::F32)
        .reshape([batch, height * width, channels])
}
