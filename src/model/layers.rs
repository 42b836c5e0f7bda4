//! Layers that every family is made of, and their weights as the operations take them.

use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Initializer, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor};

use crate::ops::Affine;

/// A linear layer whose weights [`draw`](super::draw) draws.
pub(crate) fn undrawn_linear(inputs: usize, outputs: usize, device: &Device) -> Linear {
    LinearConfig::new(inputs, outputs)
        .with_initializer(Initializer::Zeros)
        .init(device)
}

/// A linear layer's weights, for an operation.
pub(crate) fn affine(layer: &Linear) -> Affine {
    let bias = layer.bias.as_ref().map(|bias| bias.val());
    let weight = layer.weight.val();
    Affine {
        bias: bias.unwrap_or_else(|| Tensor::zeros([weight.dims()[1]], &weight.device())),
        weight,
    }
}

/// A square convolution without bias, padded to keep size/stride; its weights `draw` draws.
pub(crate) fn undrawn_conv(
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
    device: &Device,
) -> Conv2d {
    let pad = kernel / 2;
    Conv2dConfig::new(channels, [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
        .with_bias(false)
        .with_initializer(Initializer::Zeros)
        .init(device)
}
