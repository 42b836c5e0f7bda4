//! A small CNN that learns fast, after airbench94 (Jordan 2024, "94 % on CIFAR-10 in 3.29 seconds
//! on a single GPU", arXiv 2404.00498): the strong baseline for small pictures.
//!
//! A first convolution that whitens patches and is never trained, three groups of convolutions
//! that each halve the map, a maximum over what is left, and a linear head.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Initializer, Linear, PaddingConfig2d};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::cnn::{ConvNorm, channels_last, conv_pool_norm, pixels};
use super::patch::{affine, undrawn_linear};
use super::{Outputs, Pass};
use crate::ops::batch_norm::Tail;
use crate::ops::conv::{Conv, Window, conv_gelu};
use crate::ops::linear::linear;
use crate::ops::pool::max_pool;
use crate::setting::{Invalid, within};

/// The architecture of an [`Airbench`]; the preset is airbench94.
///
/// Jordan's airbench96 is near `widths = [128, 384, 512]`, `depth = 3`, `residual = true`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AirbenchConfig {
    /// Side of the square input, in pixels.
    pub image_size: usize,
    /// Classes.
    pub num_classes: usize,
    /// Channels of the three groups.
    pub widths: [usize; 3],
    /// Convolutions of a group.
    pub depth: usize,
    /// Whether a group's first map is added before its last GELU.
    pub residual: bool,
    /// Side of the first convolution's patches, in pixels.
    pub stem_kernel: usize,
    /// Whether the first convolution whitens the training pictures' patches and stays as it is;
    /// without it, it is drawn and trained like the others.
    pub whiten: bool,
}

impl AirbenchConfig {
    pub(super) fn validate(&self) -> Result<(), Invalid> {
        within("stem_kernel", self.stem_kernel, 1..=4)?;
        // Three halvings must leave a pixel.
        within("image_size", self.image_size, self.stem_kernel + 7..=4096)?;
        within("num_classes", self.num_classes, 1..=1_000_000)?;
        for width in self.widths {
            within("widths", width, 1..=4096)?;
        }
        let least = if self.residual { 2 } else { 1 };
        within("depth", self.depth, least..=64)
    }

    /// Filters of the first convolution: each principal component of a patch, with both signs.
    pub(super) fn stem_width(&self) -> usize {
        2 * 3 * self.stem_kernel * self.stem_kernel
    }

    /// Side of the first convolution's map.
    pub(super) fn stem_side(&self) -> usize {
        self.image_size - self.stem_kernel + 1
    }
}

/// Convolutions on maps of one size: [conv, max pool, norm, GELU], then [conv, norm, GELU] again
/// and again.
#[derive(Module, Debug)]
pub struct Group {
    /// The convolution before the pooling.
    pub first: ConvNorm,
    /// Those after it.
    pub rest: Vec<ConvNorm>,
    /// Whether the first map is added before the last GELU.
    pub residual: bool,
}

impl Group {
    fn new(inputs: usize, width: usize, config: &AirbenchConfig, device: &Device) -> Self {
        Self {
            first: ConvNorm::new([inputs, width], 3, 1, device),
            rest: (1..config.depth)
                .map(|_| ConvNorm::new([width; 2], 3, 1, device))
                .collect(),
            residual: config.residual,
        }
    }

    fn forward(&self, x: Tensor<4>, pass: &Pass) -> Tensor<4> {
        let ConvNorm { conv, norm } = &self.first;
        let first = conv_pool_norm(conv, norm, x, Tail::Gelu, pass);
        let mut x = first.clone();
        for (i, layer) in self.rest.iter().enumerate() {
            let tail = if self.residual && i + 1 == self.rest.len() {
                Tail::AddGelu(first.clone())
            } else {
                Tail::Gelu
            };
            x = layer.forward(x, tail, pass);
        }
        x
    }
}

/// Factor on the logits (Jordan 2024, appendix).
const LOGIT_SCALE: f64 = 1.0 / 9.0;

/// The CNN of airbench.
///
/// Departures: γ of the batch norms is learned and the bias of the first convolution is trained to
/// the end; the head has a bias and starts at zero; all learning rates are one.
#[derive(Module, Debug)]
pub struct Airbench {
    /// The first convolution, without padding.
    pub whitening: Conv2d,
    /// Three groups.
    pub groups: Vec<Group>,
    /// From pooled features to logits.
    pub head: Linear,
}

impl Airbench {
    pub(super) fn new(config: &AirbenchConfig, device: &Device) -> Self {
        let side = config.stem_kernel;
        let mut whitening = Conv2dConfig::new([3, config.stem_width()], [side, side])
            .with_padding(PaddingConfig2d::Valid)
            .with_initializer(Initializer::Zeros)
            .init(device);
        if config.whiten {
            whitening.weight = whitening.weight.set_require_grad(false);
        }
        let mut inputs = config.stem_width();
        let mut groups = Vec::new();
        for width in config.widths {
            groups.push(Group::new(inputs, width, config, device));
            inputs = width;
        }
        Self {
            whitening,
            groups,
            head: undrawn_linear(inputs, config.num_classes, device),
        }
    }

    /// Logits; with the last feature map where `with_map`.
    ///
    /// # Shapes
    ///
    /// `[B, 3, H, W]` → [`Outputs`].
    pub fn outputs(&self, images: Tensor<4>, with_map: bool, pass: &Pass) -> Outputs {
        let map = self.map(images, pass);
        let head = affine(&self.head);
        let head = linear(maxima(map.clone()), &head, pass.precision, pass.prepared);
        Outputs::of_cnn(head * LOGIT_SCALE, pixels(map), with_map)
    }

    /// Maxima over the last feature map.
    ///
    /// # Shapes
    ///
    /// `[B, 3, H, W]` → `[B, D]` with D the last of the widths.
    pub fn features(&self, images: Tensor<4>, pass: &Pass) -> Tensor<2> {
        maxima(self.map(images, pass))
    }

    /// The last feature map.
    ///
    /// # Shapes
    ///
    /// `[B, 3, H, W]` → `[B, H', W', D]`.
    fn map(&self, images: Tensor<4>, pass: &Pass) -> Tensor<4> {
        let stem = self.stem(images, pass);
        let groups = self.groups.iter();
        groups.fold(stem, |x, group| group.forward(x, pass))
    }

    /// GELU of the first convolution.
    fn stem(&self, images: Tensor<4>, pass: &Pass) -> Tensor<4> {
        let weight = self.whitening.weight.val();
        let bias = self.whitening.bias.as_ref().map(Param::val);
        let bias = bias.unwrap_or_else(|| Tensor::zeros([weight.dims()[0]], &weight.device()));
        let layer = Conv {
            window: Window {
                kernel: weight.dims()[2],
                stride: 1,
                padding: 0,
            },
            weight,
        };
        let (precision, prepared) = (pass.precision, pass.prepared);
        conv_gelu(channels_last(images), &layer, bias, precision, prepared)
    }
}

/// The largest value of each channel of a square map, in f32.
///
/// # Shapes
///
/// `[B, H, W, C]` → `[B, C]`.
fn maxima(map: Tensor<4>) -> Tensor<2> {
    let window = Window {
        kernel: map.dims()[1],
        stride: map.dims()[1],
        padding: 0,
    };
    pixels(max_pool(map, window)).squeeze_dim(1)
}

/// Path of the first convolution's weight within a [`Model`](super::Model).
pub(super) const WHITENING: &str = "Airbench.whitening.weight";

/// Whether the convolution at `path` starts by passing its input through: as many of its filters
/// as there are channels begin as the identity (Jordan 2024, § 3.3).
pub(super) fn starts_as_identity(path: &str) -> bool {
    path.starts_with("Airbench.groups.") && path.ends_with(".conv.weight")
}
