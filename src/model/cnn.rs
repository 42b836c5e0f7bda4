//! The convolutional baselines: ResNet-18 (He et al. 2016), and a ResNet-9 that trains in minutes.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, BatchNormConfig, Initializer, Linear};
use burn::tensor::{Device, FloatDType, Tensor};
use serde::{Deserialize, Serialize};

use super::patch::{affine, undrawn_conv, undrawn_linear};
use super::{Outputs, Pass};
use crate::ops;
use crate::ops::batch_norm::{Norm, Statistics, Tail, batch_norm, batch_norm_with};
use crate::ops::conv::{Conv, Window, conv};
use crate::ops::linear::linear;
use crate::ops::pool::max_pool;
use crate::setting::{Invalid, within};

/// Which baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResnetVariant {
    /// He et al. 2016, table 1.
    Resnet18,
    /// After D. Page's DAWNBench entry of 2018.
    Resnet9,
}

/// The architecture of a convolutional baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResnetConfig {
    /// Which baseline.
    pub variant: ResnetVariant,
    /// Side of the square input, in pixels.
    pub image_size: usize,
    /// Classes.
    pub num_classes: usize,
    /// Channels after the first convolution; later stages have 2, 4 and 8 times as many.
    pub width: usize,
}

const IMAGENET_POOL: Window = Window {
    kernel: 3,
    stride: 2,
    padding: 1,
};

/// Image side from which ResNet-18 takes its ImageNet stem.
const IMAGENET_FROM: usize = 96;

impl ResnetConfig {
    pub(super) fn validate(&self) -> Result<(), Invalid> {
        // Three halvings must leave a pixel.
        within("image_size", self.image_size, 8..=4096)?;
        within("num_classes", self.num_classes, 1..=1_000_000)?;
        within("width", self.width, 1..=2048)
    }

    /// Whether ResNet-18 takes the ImageNet stem, 7×7 with pooling, over CIFAR's 3×3.
    pub(super) fn imagenet_stem(&self) -> bool {
        self.image_size >= IMAGENET_FROM
    }
}

/// A convolution without bias and the batch norm that follows it.
#[derive(Module, Debug)]
pub struct ConvNorm {
    /// The convolution.
    pub conv: Conv2d,
    /// Its batch norm; running variances are the biased ones, where PyTorch keeps unbiased ones.
    pub norm: BatchNorm,
}

impl ConvNorm {
    pub(super) fn new(channels: [usize; 2], kernel: usize, stride: usize, device: &Device) -> Self {
        Self {
            conv: undrawn_conv(channels, kernel, stride, device),
            norm: BatchNormConfig::new(channels[1]).init(device),
        }
    }

    /// With γ = 0, so that a residual branch starts as nothing (Goyal et al. 2017).
    fn silent(channels: [usize; 2], device: &Device) -> Self {
        let mut layer = Self::new(channels, 3, 1, device);
        layer.norm.gamma = Initializer::Zeros.init([channels[1]], device);
        layer
    }

    pub(super) fn forward(&self, x: Tensor<4>, tail: Tail<Tensor<4>>, pass: &Pass) -> Tensor<4> {
        conv_norm(&self.conv, &self.norm, x, tail, pass)
    }
}

/// tail(norm(conv(x))).
///
/// With the batch's statistics in training; in inference the running ones are folded into the
/// convolution, which then has nothing between its sums and the next layer.
///
/// # Shapes
///
/// `[B, H, W, C]` → `[B, H', W', D]`.
pub(super) fn conv_norm(
    layer: &Conv2d,
    norm: &BatchNorm,
    x: Tensor<4>,
    tail: Tail<Tensor<4>>,
    pass: &Pass,
) -> Tensor<4> {
    let layer = filters(layer);
    if trains(norm, &x) {
        let x = conv(x, &layer, pass.precision, pass.prepared);
        return normalise(norm, x, tail);
    }
    let (precision, prepared) = (pass.precision, pass.prepared);
    let of = running(norm);
    ops::conv::conv_norm(x, &layer, &learned(norm), &of, tail, precision, prepared)
}

/// tail(norm(pool(conv(x)))), pooled by two.
///
/// # Shapes
///
/// `[B, H, W, C]` → `[B, H/2, W/2, D]`.
pub(super) fn conv_pool_norm(
    layer: &Conv2d,
    norm: &BatchNorm,
    x: Tensor<4>,
    tail: Tail<Tensor<4>>,
    pass: &Pass,
) -> Tensor<4> {
    let x = conv(x, &filters(layer), pass.precision, pass.prepared);
    normalise(norm, max_pool(x, HALVING), tail)
}

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
pub(super) fn channels_last(images: Tensor<4>) -> Tensor<4> {
    images.permute([0, 2, 3, 1])
}

/// All pixels of each picture's last map, in f32.
///
/// # Shapes
///
/// `[B, H, W, C]` → `[B, H·W, C]`.
pub(super) fn pixels(x: Tensor<4>) -> Tensor<3> {
    let [batch, height, width, channels] = x.dims();
    x.cast(FloatDType::F32)
        .reshape([batch, height * width, channels])
}

impl Outputs {
    /// Those of a model with one head.
    pub(super) fn of_cnn(head: Tensor<2>, map: Tensor<3>, with_map: bool) -> Self {
        Self {
            head,
            distillation: None,
            map: with_map.then_some(map),
        }
    }
}

/// Two 3×3 convolutions around which the input is added.
#[derive(Module, Debug)]
pub struct Residual {
    /// First convolution, with the stride.
    pub first: ConvNorm,
    /// Second convolution.
    pub second: ConvNorm,
    /// 1×1 convolution where shape changes (option B of the paper).
    pub shortcut: Option<ConvNorm>,
}

impl Residual {
    fn new(channels: [usize; 2], stride: usize, device: &Device) -> Self {
        let changes = stride != 1 || channels[0] != channels[1];
        Self {
            first: ConvNorm::new(channels, 3, stride, device),
            second: ConvNorm::silent([channels[1]; 2], device),
            shortcut: changes.then(|| ConvNorm::new(channels, 1, stride, device)),
        }
    }

    /// ReLU(second(ReLU(first(x))) + shortcut(x)).
    fn forward(&self, x: Tensor<4>, pass: &Pass) -> Tensor<4> {
        let branch = self.first.forward(x.clone(), Tail::Relu, pass);
        let shortcut = match &self.shortcut {
            Some(shortcut) => shortcut.forward(x, Tail::Plain, pass),
            None => x,
        };
        self.second.forward(branch, Tail::AddRelu(shortcut), pass)
    }
}

/// ResNet-18, in CIFAR's form below 96 pixels and in ImageNet's from there on.
///
/// Departure from the paper: the last γ of each residual branch starts at 0.
#[derive(Module, Debug)]
pub struct Resnet18 {
    /// First convolution.
    pub stem: ConvNorm,
    /// Whether ImageNet's 3×3 pooling of stride 2 follows it.
    pub pool: bool,
    /// Four stages of two.
    pub blocks: Vec<Residual>,
    /// From pooled features to logits.
    pub head: Linear,
}

impl Resnet18 {
    pub(super) fn new(config: &ResnetConfig, device: &Device) -> Self {
        let (kernel, stride) = if config.imagenet_stem() {
            (7, 2)
        } else {
            (3, 1)
        };
        let mut channels = config.width;
        let mut blocks = Vec::new();
        for stage in 0..4 {
            let width = config.width << stage;
            let stride = if stage == 0 { 1 } else { 2 };
            blocks.push(Residual::new([channels, width], stride, device));
            blocks.push(Residual::new([width, width], 1, device));
            channels = width;
        }
        Self {
            stem: ConvNorm::new([3, config.width], kernel, stride, device),
            pool: config.imagenet_stem(),
            blocks,
            head: undrawn_linear(channels, config.num_classes, device),
        }
    }

    /// Logits; with the last feature map where `with_map`.
    ///
    /// # Shapes
    ///
    /// `[B, 3, H, W]` → [`Outputs`].
    pub fn outputs(&self, images: Tensor<4>, with_map: bool, pass: &Pass) -> Outputs {
        let map = self.map(images, pass);
        let features = map.clone().mean_dim(1).squeeze_dim(1);
        let head = linear(features, &affine(&self.head), pass.precision, pass.prepared);
        Outputs::of_cnn(head, map, with_map)
    }

    /// Means over the last feature map.
    ///
    /// # Shapes
    ///
    /// `[B, 3, H, W]` → `[B, 8·width]`.
    pub fn features(&self, images: Tensor<4>, pass: &Pass) -> Tensor<2> {
        self.map(images, pass).mean_dim(1).squeeze_dim(1)
    }

    /// The last feature map.
    ///
    /// # Shapes
    ///
    /// `[B, 3, H, W]` → `[B, P, 8·width]`.
    fn map(&self, images: Tensor<4>, pass: &Pass) -> Tensor<3> {
        let mut x = self.stem.forward(channels_last(images), Tail::Relu, pass);
        if self.pool {
            x = max_pool(x, IMAGENET_POOL);
        }
        for block in &self.blocks {
            x = block.forward(x, pass);
        }
        pixels(x)
    }
}

/// A convolution whose output is pooled before it is normalised.
///
/// Page pools last. Where γ is positive the order makes no difference to the result, and this one
/// normalises a quarter of the pixels.
#[derive(Module, Debug)]
pub struct Pooled {
    /// The convolution and its norm.
    pub layer: ConvNorm,
}

const HALVING: Window = Window {
    kernel: 2,
    stride: 2,
    padding: 0,
};

impl Pooled {
    fn new(channels: [usize; 2], device: &Device) -> Self {
        Self {
            layer: ConvNorm::new(channels, 3, 1, device),
        }
    }

    fn forward(&self, x: Tensor<4>, pass: &Pass) -> Tensor<4> {
        conv_pool_norm(&self.layer.conv, &self.layer.norm, x, Tail::Relu, pass)
    }
}

/// x + ReLU(second(ReLU(first(x)))): the sum itself is not rectified.
#[derive(Module, Debug)]
pub struct Branch {
    /// First convolution.
    pub first: ConvNorm,
    /// Second convolution.
    pub second: ConvNorm,
}

impl Branch {
    fn new(channels: usize, device: &Device) -> Self {
        Self {
            first: ConvNorm::new([channels; 2], 3, 1, device),
            second: ConvNorm::new([channels; 2], 3, 1, device),
        }
    }

    fn forward(&self, x: Tensor<4>, pass: &Pass) -> Tensor<4> {
        let branch = self.first.forward(x.clone(), Tail::Relu, pass);
        self.second.forward(branch, Tail::ReluAdd(x), pass)
    }
}

/// Factor on ResNet-9's logits, as in Page's network: a head of unit scale would start too steep.
const LOGIT_SCALE: f64 = 0.125;

/// ResNet-9: eight convolutions and a linear layer, in the spirit of Page's DAWNBench network, at
/// half its width by default.
#[derive(Module, Debug)]
pub struct Resnet9 {
    /// First convolution, at full resolution.
    pub stem: ConvNorm,
    /// First halving.
    pub stage1: Pooled,
    /// Its residual branch.
    pub branch1: Branch,
    /// Second halving.
    pub stage2: Pooled,
    /// Third halving.
    pub stage3: Pooled,
    /// Its residual branch.
    pub branch3: Branch,
    /// From pooled features to logits.
    pub head: Linear,
}

impl Resnet9 {
    pub(super) fn new(config: &ResnetConfig, device: &Device) -> Self {
        let width = config.width;
        Self {
            stem: ConvNorm::new([3, width], 3, 1, device),
            stage1: Pooled::new([width, 2 * width], device),
            branch1: Branch::new(2 * width, device),
            stage2: Pooled::new([2 * width, 4 * width], device),
            stage3: Pooled::new([4 * width, 8 * width], device),
            branch3: Branch::new(8 * width, device),
            head: undrawn_linear(8 * width, config.num_classes, device),
        }
    }

    /// Logits; with the last feature map where `with_map`.
    ///
    /// # Shapes
    ///
    /// `[B, 3, H, W]` → [`Outputs`].
    pub fn outputs(&self, images: Tensor<4>, with_map: bool, pass: &Pass) -> Outputs {
        let map = self.map(images, pass);
        let features = map.clone().max_dim(1).squeeze_dim(1);
        let head = linear(features, &affine(&self.head), pass.precision, pass.prepared);
        Outputs::of_cnn(head * LOGIT_SCALE, map, with_map)
    }

    /// Maxima over the last feature map.
    ///
    /// # Shapes
    ///
    /// `[B, 3, H, W]` → `[B, 8·width]`.
    pub fn features(&self, images: Tensor<4>, pass: &Pass) -> Tensor<2> {
        self.map(images, pass).max_dim(1).squeeze_dim(1)
    }

    /// The last feature map.
    ///
    /// # Shapes
    ///
    /// `[B, 3, H, W]` → `[B, P, 8·width]`.
    fn map(&self, images: Tensor<4>, pass: &Pass) -> Tensor<3> {
        let x = self.stem.forward(channels_last(images), Tail::Relu, pass);
        let x = self.stage1.forward(x, pass);
        let x = self.branch1.forward(x, pass);
        let x = self.stage2.forward(x, pass);
        let x = self.stage3.forward(x, pass);
        let x = self.branch3.forward(x, pass);
        pixels(x)
    }
}
