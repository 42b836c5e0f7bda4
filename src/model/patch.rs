//! From pixels to tokens.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Initializer, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor};

use super::Pass;
use super::cnn::{channels_last, conv_norm, pixels};
use super::vit::{Stem, VitConfig};
use crate::ops::Affine;
use crate::ops::batch_norm::Tail;
use crate::ops::embedding::embed;

/// A linear layer whose weights [`init`](super::init) draws.
pub(super) fn undrawn_linear(inputs: usize, outputs: usize, device: &Device) -> Linear {
    LinearConfig::new(inputs, outputs)
        .with_initializer(Initializer::Zeros)
        .init(device)
}

/// A linear layer's weights, for an operation.
pub(super) fn affine(layer: &Linear) -> Affine {
    let bias = layer.bias.as_ref().map(|bias| bias.val());
    let weight = layer.weight.val();
    Affine {
        bias: bias.unwrap_or_else(|| Tensor::zeros([weight.dims()[1]], &weight.device())),
        weight,
    }
}

/// A square convolution without bias, padded to keep size/stride; its weights `init` draws.
pub(super) fn undrawn_conv(
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

/// The weights that turn pictures into tokens.
#[derive(Module, Debug)]
pub struct PatchEmbedding {
    /// Convolutions before the projection; none with a linear stem.
    pub stem: Vec<StemLayer>,
    /// The linear map to the token width.
    pub projection: Linear,
    patch_size: usize,
}

/// One layer of the convolutional stem.
#[derive(Module, Debug)]
pub struct StemLayer {
    /// 3×3, of stride 1 or 2.
    pub conv: Conv2d,
    /// Its batch norm.
    pub norm: BatchNorm,
}

impl PatchEmbedding {
    /// As `config` has it.
    pub fn new(config: &VitConfig, device: &Device) -> Self {
        let mut stem = Vec::new();
        let mut channels = 3;
        for (width, stride) in stem_layers(config) {
            stem.push(StemLayer {
                conv: undrawn_conv([channels, width], 3, stride, device),
                norm: BatchNormConfig::new(width).init(device),
            });
            channels = width;
        }
        let patch_size = config.patch_size;
        let inputs = match stem.is_empty() {
            true => channels * patch_size * patch_size,
            // The stem has made a pixel of each patch.
            false => channels,
        };
        Self {
            stem,
            projection: undrawn_linear(inputs, config.embed_dim, device),
            patch_size,
        }
    }

    /// Tokens of the patches, row by row over each picture, after the `prefix`; see [`embed`].
    ///
    /// # Shapes
    ///
    /// `[B, 3, H, W]` → `[B·N, D]`.
    pub fn forward(
        &self,
        images: Tensor<4>,
        positions: Option<&Tensor<2>>,
        prefix: Option<&Tensor<2>>,
        pass: &Pass,
    ) -> Tensor<2> {
        let (x, patch) = if self.stem.is_empty() {
            (images, [self.patch_size; 2])
        } else {
            let mut map = channels_last(images);
            for layer in &self.stem {
                map = conv_norm(&layer.conv, &layer.norm, map, Tail::Relu, pass);
            }
            // A patch's channels lie side by side: one line of a picture of one channel.
            let map = pixels(map);
            let channels = map.dims()[2];
            (map.unsqueeze_dim(1), [1, channels])
        };
        embed(
            x,
            patch,
            &affine(&self.projection),
            positions,
            prefix,
            pass.precision,
            pass.prepared,
        )
    }
}

/// Widths and strides of the convolutional stem: `stem_depth` layers at full size, then halvings,
/// each twice as wide as what comes before, up to the token width (Xiao et al. 2021); empty with a
/// linear stem.
pub(super) fn stem_layers(config: &VitConfig) -> Vec<(usize, usize)> {
    match config.stem {
        Stem::Linear => Vec::new(),
        Stem::Convolutional => {
            let halvings = config.patch_size.trailing_zeros();
            let full = (config.embed_dim >> halvings, 1);
            let halving = |i| (config.embed_dim >> (halvings - 1 - i), 2);
            std::iter::repeat_n(full, config.stem_depth)
                .chain((0..halvings).map(halving))
                .collect()
        }
    }
}
