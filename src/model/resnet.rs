//! The CNN baselines: residual networks (He et al. 2016).

use burn::module::{Module, Param};
use burn::nn::{BatchNorm, Linear};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::module::{adaptive_avg_pool2d, conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use serde::{Deserialize, Serialize};

use super::init::Init;
use super::{ModelError, within};

/// From this side on ResNet-18 takes its ImageNet form; below, its CIFAR form.
pub const IMAGENET_FORM_FROM: usize = 96;

/// Which residual network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResnetVariant {
    /// ResNet-18, He et al. 2016, table 1; below 96 pixels with a 3×3 stem and no first pooling.
    Resnet18,
    /// A small fast one after Page 2018 ("How to train your ResNet"): half his width, so that
    /// its size is that of workload W1's ViT.
    Resnet9,
}

/// A residual network's architecture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResnetConfig {
    /// Which one.
    pub variant: ResnetVariant,
    /// Side of the square input in pixels.
    pub image_size: usize,
    /// K.
    pub num_classes: usize,
    /// Channels of the first stage; each later one has twice as many.
    pub width: usize,
}

impl ResnetConfig {
    /// Checks every field.
    ///
    /// # Errors
    ///
    /// The first [`ModelError`].
    pub fn validate(&self) -> Result<(), ModelError> {
        within("image_size", self.image_size, 8, 2048)?;
        within("num_classes", self.num_classes, 2, 100_000)?;
        within("width", self.width, 4, 1024)
    }

    fn imagenet_form(&self) -> bool {
        self.variant == ResnetVariant::Resnet18 && self.image_size >= IMAGENET_FORM_FROM
    }

    /// Every convolution as (inputs, outputs, kernel, side of its output).
    fn convolutions(&self) -> Vec<(usize, usize, usize, usize)> {
        let w = self.width;
        let mut list = Vec::new();
        match self.variant {
            ResnetVariant::Resnet18 => {
                let mut side = self.image_size;
                if self.imagenet_form() {
                    side = side.div_ceil(2);
                    list.push((3, w, 7, side));
                    side = side.div_ceil(2);
                } else {
                    list.push((3, w, 3, side));
                }
                let mut inputs = w;
                for (width, stride) in RESNET18_STAGES {
                    let outputs = w * width;
                    for stride in [stride, 1] {
                        side = side.div_ceil(stride);
                        list.push((inputs, outputs, 3, side));
                        list.push((outputs, outputs, 3, side));
                        if stride != 1 || inputs != outputs {
                            list.push((inputs, outputs, 1, side));
                        }
                        inputs = outputs;
                    }
                }
            }
            ResnetVariant::Resnet9 => {
                let s = self.image_size;
                list.push((3, w, 3, s));
                list.push((w, 2 * w, 3, s));
                list.extend([(2 * w, 2 * w, 3, s / 2); 2]);
                list.push((2 * w, 4 * w, 3, s / 2));
                list.push((4 * w, 8 * w, 3, s / 4));
                list.extend([(8 * w, 8 * w, 3, s / 8); 2]);
            }
        }
        list
    }

    /// Trainable numbers, by formula.
    pub fn parameters(&self) -> u64 {
        let convolutions: usize = self
            .convolutions()
            .iter()
            .map(|(i, o, k, _)| i * o * k * k + 2 * o)
            .sum();
        (convolutions + 8 * self.width * self.num_classes + self.num_classes) as u64
    }

    /// Forward FLOPs of one picture, by formula; what counts is said at
    /// [`ModelConfig::flops`](super::ModelConfig::flops).
    pub fn flops(&self) -> u64 {
        let convolutions: usize = self
            .convolutions()
            .iter()
            .map(|(i, o, k, side)| i * o * k * k * side * side)
            .sum();
        2 * (convolutions + 8 * self.width * self.num_classes) as u64
    }
}

/// Width factor and first stride of ResNet-18's stages.
const RESNET18_STAGES: [(usize, usize); 4] = [(1, 1), (2, 2), (4, 2), (8, 2)];

/// A convolution without bias, padded so that stride 1 keeps the side.
#[derive(Module, Debug)]
pub struct Conv {
    weight: Param<Tensor<4>>,
    stride: usize,
}

impl Conv {
    /// Weights after He et al. 2015, fan-in.
    pub fn new(inputs: usize, outputs: usize, kernel: usize, stride: usize, init: &Init) -> Self {
        Self {
            weight: init
                .part("weight")
                .kaiming_normal([outputs, inputs, kernel, kernel], inputs * kernel * kernel),
            stride,
        }
    }

    /// # Shapes
    ///
    /// `[B, C, H, W]` to `[B, outputs, ⌈H/stride⌉, ⌈W/stride⌉]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let weight = self.weight.val();
        let padding = weight.dims()[2] / 2;
        let options = ConvOptions::new([self.stride; 2], [padding; 2], [1, 1], 1);
        conv2d(x, weight, None, options)
    }
}

/// A convolution and a batch norm (Ioffe & Szegedy 2015).
#[derive(Module, Debug)]
pub struct ConvNorm {
    conv: Conv,
    norm: BatchNorm,
}

impl ConvNorm {
    /// See [`Conv::new`].
    pub fn new(inputs: usize, outputs: usize, kernel: usize, stride: usize, init: &Init) -> Self {
        Self {
            conv: Conv::new(inputs, outputs, kernel, stride, &init.part("conv")),
            norm: init.part("norm").batch_norm(outputs),
        }
    }

    /// See [`Conv::forward`].
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.conv.forward(x))
    }
}

/// A residual block (He et al. 2016, fig. 2): two convolutions around a shortcut, which is
/// projected where the shape changes (option B).
#[derive(Module, Debug)]
pub struct ResidualBlock {
    first: ConvNorm,
    second: ConvNorm,
    shortcut: Option<ConvNorm>,
}

impl ResidualBlock {
    /// From `inputs` to `outputs` channels.
    pub fn new(inputs: usize, outputs: usize, stride: usize, init: &Init) -> Self {
        Self {
            first: ConvNorm::new(inputs, outputs, 3, stride, &init.part("first")),
            second: ConvNorm::new(outputs, outputs, 3, 1, &init.part("second")),
            shortcut: (stride != 1 || inputs != outputs)
                .then(|| ConvNorm::new(inputs, outputs, 1, stride, &init.part("shortcut"))),
        }
    }

    /// # Shapes
    ///
    /// As for [`Conv::forward`].
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let branch = self.second.forward(relu(self.first.forward(x.clone())));
        let shortcut = match &self.shortcut {
            Some(projection) => projection.forward(x),
            None => x,
        };
        relu(branch + shortcut)
    }
}

/// A residual network of either variant.
#[derive(Module, Debug)]
pub struct Resnet {
    stem: ConvNorm,
    /// ResNet-9 only: the convolution that opens each of its three stages.
    widen: Vec<ConvNorm>,
    blocks: Vec<ResidualBlock>,
    head: Linear,
    #[module(skip)]
    config: ResnetConfig,
}

impl Resnet {
    /// A model of this architecture; the configuration must be valid.
    pub fn new(config: &ResnetConfig, init: &Init) -> Self {
        let w = config.width;
        let block = |i: usize, inputs, outputs, stride| {
            ResidualBlock::new(inputs, outputs, stride, &init.part(&format!("blocks.{i}")))
        };
        let (stem, widen, blocks) = match config.variant {
            ResnetVariant::Resnet18 => {
                let (kernel, stride) = if config.imagenet_form() {
                    (7, 2)
                } else {
                    (3, 1)
                };
                let mut blocks = Vec::new();
                let mut inputs = w;
                for (width, stride) in RESNET18_STAGES {
                    for stride in [stride, 1] {
                        blocks.push(block(blocks.len(), inputs, w * width, stride));
                        inputs = w * width;
                    }
                }
                let stem = ConvNorm::new(3, w, kernel, stride, &init.part("stem"));
                (stem, Vec::new(), blocks)
            }
            ResnetVariant::Resnet9 => {
                let widen = [1, 2, 4].iter().enumerate().map(|(i, m)| {
                    ConvNorm::new(w * m, w * m * 2, 3, 1, &init.part(&format!("widen.{i}")))
                });
                (
                    ConvNorm::new(3, w, 3, 1, &init.part("stem")),
                    widen.collect(),
                    vec![block(0, 2 * w, 2 * w, 1), block(1, 8 * w, 8 * w, 1)],
                )
            }
        };
        Self {
            stem,
            widen,
            blocks,
            head: init.part("head").head(8 * w, config.num_classes),
            config: config.clone(),
        }
    }

    /// Logits.
    ///
    /// # Shapes
    ///
    /// `images`: `[B, 3, H, W]`; the result: `[B, K]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.head.forward(self.features(images))
    }

    /// Pooled features: the mean over places (ResNet-18) or the maximum (ResNet-9).
    ///
    /// # Shapes
    ///
    /// `images`: `[B, 3, H, W]`; the result: `[B, 8·width]`.
    pub fn features(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = relu(self.stem.forward(images));
        match self.config.variant {
            ResnetVariant::Resnet18 => {
                if self.config.imagenet_form() {
                    x = max_pool2d(
                        x,
                        MaxPoolOptions::new([3, 3])
                            .with_stride([2, 2])
                            .with_padding([1, 1]),
                    );
                }
                for block in &self.blocks {
                    x = block.forward(x);
                }
                let [b, c, _, _] = x.dims();
                adaptive_avg_pool2d(x, [1, 1]).reshape([b, c])
            }
            ResnetVariant::Resnet9 => {
                for (i, widen) in self.widen.iter().enumerate() {
                    x = halve(relu(widen.forward(x)));
                    // Stages one and three end in a residual block.
                    if i != 1 {
                        x = self.blocks[i / 2].forward(x);
                    }
                }
                let [b, c, h, w] = x.dims();
                x.reshape([b, c, h * w]).max_dim(2).reshape([b, c])
            }
        }
    }
}

/// Maximum over 2×2 places.
fn halve(x: Tensor<4>) -> Tensor<4> {
    max_pool2d(x, MaxPoolOptions::new([2, 2]))
}
