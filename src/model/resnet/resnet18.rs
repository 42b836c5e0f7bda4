//! ResNet-18 (He et al. 2016).

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};

use super::config::ResnetConfig;
use crate::model::convolution::{ConvNorm, channels_last, pixels};
use crate::model::layers::{affine, undrawn_linear};
use crate::model::network::{Network, Outputs};
use crate::model::pass::Pass;
use crate::model::role::{Declarations, Declare, Role};
use crate::ops::batch_norm::Tail;
use crate::ops::conv::Window;
use crate::ops::linear::linear;
use crate::ops::pool::max_pool;

const IMAGENET_POOL: Window = Window {
    kernel: 3,
    stride: 2,
    padding: 1,
};

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
            second: ConvNorm::zero_gamma([channels[1]; 2], device),
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

impl Declare for Residual {
    fn declare(&self, to: &mut Declarations) {
        self.first.declare("first", Role::Convolution, to);
        self.second.declare("second", Role::Convolution, to);
        if let Some(shortcut) = &self.shortcut {
            shortcut.declare("shortcut", Role::Convolution, to);
        }
    }
}

/// ResNet-18, in CIFAR's form below 96 pixels and in ImageNet's from there on, unless its
/// configuration states which.
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
    pub(crate) fn new(config: &ResnetConfig, device: &Device) -> Self {
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

impl Declare for Resnet18 {
    fn declare(&self, to: &mut Declarations) {
        self.stem
            .declare("stem", Role::FirstConvolution, to.layer(0));
        to.within("blocks", |to| {
            for (i, block) in self.blocks.iter().enumerate() {
                to.layer(1 + i).module(&i.to_string(), block);
            }
        });
        let head = 1 + self.blocks.len();
        to.layer(head).linear("head", &self.head, Role::Head);
    }
}

impl Network for Resnet18 {
    fn outputs(&self, images: Tensor<4>, with_map: bool, pass: &mut Pass) -> Outputs {
        let map = self.map(images, pass);
        let features: Tensor<2> = map.clone().mean_dim(1).squeeze_dim(1);
        let layer = affine(&self.head);
        let head = linear(features.clone(), &layer, pass.precision, pass.prepared);
        Outputs::of_cnn(head, features, map, with_map)
    }

    /// Means over the last feature map.
    fn features(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        self.map(images, pass).mean_dim(1).squeeze_dim(1)
    }

    fn width(&self) -> usize {
        self.head.weight.dims()[0]
    }
}
