//! The convolutional baselines: ResNet-18 (He et al. 2016), and a ResNet-9 that trains in minutes.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Initializer, Linear, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::module::linear;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::patch::{undrawn_conv, undrawn_linear};
use super::{ModelError, check};

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

/// Image side from which ResNet-18 takes its ImageNet stem.
const IMAGENET_FROM: usize = 96;

impl ResnetConfig {
    pub(super) fn validate(&self) -> Result<(), ModelError> {
        // Three halvings must leave a pixel.
        check("image_size", self.image_size, 8..=4096)?;
        check("num_classes", self.num_classes, 1..=1_000_000)?;
        check("width", self.width, 1..=2048)
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
    fn new(channels: [usize; 2], kernel: usize, stride: usize, device: &Device) -> Self {
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

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.conv.forward(x))
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
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let branch = self.second.forward(relu(self.first.forward(x.clone())));
        let shortcut = match &self.shortcut {
            Some(shortcut) => shortcut.forward(x),
            None => x,
        };
        relu(branch + shortcut)
    }
}

/// ResNet-18, in CIFAR's form below 96 pixels and in ImageNet's from there on.
///
/// Departure from the paper: the last γ of each residual branch starts at 0.
#[derive(Module, Debug)]
pub struct Resnet18 {
    /// First convolution.
    pub stem: ConvNorm,
    /// ImageNet's 3×3 pooling of stride 2.
    pub pool: Option<MaxPool2d>,
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
            pool: config.imagenet_stem().then(|| {
                MaxPool2dConfig::new([3, 3])
                    .with_strides([2, 2])
                    .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                    .init()
            }),
            blocks,
            head: undrawn_linear(channels, config.num_classes, device),
        }
    }

    /// Logits.
    ///
    /// # Shapes
    ///
    /// `[B, 3, H, W]` → `[B, K]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let bias = self.head.bias.as_ref().map(|b| b.val());
        linear(self.features(images), self.head.weight.val(), bias)
    }

    /// Means over the last feature map.
    ///
    /// # Shapes
    ///
    /// `[B, 3, H, W]` → `[B, 8·width]`.
    pub fn features(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = relu(self.stem.forward(images));
        if let Some(pool) = &self.pool {
            x = pool.forward(x);
        }
        for block in &self.blocks {
            x = block.forward(x);
        }
        let [batch, channels, height, width] = x.dims();
        let pixels = x.reshape([batch, channels, height * width]);
        pixels.mean_dim(2).reshape([batch, channels])
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
    pool: MaxPool2d,
}

impl Pooled {
    fn new(channels: [usize; 2], device: &Device) -> Self {
        Self {
            layer: ConvNorm::new(channels, 3, 1, device),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let pooled = self.pool.forward(self.layer.conv.forward(x));
        relu(self.layer.norm.forward(pooled))
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

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let branch = relu(self.first.forward(x.clone()));
        x + relu(self.second.forward(branch))
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

    /// Logits.
    ///
    /// # Shapes
    ///
    /// `[B, 3, H, W]` → `[B, K]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let bias = self.head.bias.as_ref().map(|b| b.val());
        linear(self.features(images), self.head.weight.val(), bias) * LOGIT_SCALE
    }

    /// Maxima over the last feature map.
    ///
    /// # Shapes
    ///
    /// `[B, 3, H, W]` → `[B, 8·width]`.
    pub fn features(&self, images: Tensor<4>) -> Tensor<2> {
        let x = relu(self.stem.forward(images));
        let x = self.branch1.forward(self.stage1.forward(x));
        let x = self.stage3.forward(self.stage2.forward(x));
        let x = self.branch3.forward(x);
        let [batch, channels, height, width] = x.dims();
        let pixels = x.reshape([batch, channels, height * width]);
        pixels.max_dim(2).reshape([batch, channels])
    }
}
