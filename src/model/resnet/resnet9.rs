//! A ResNet-9 that trains in minutes, after D. Page's DAWNBench entry of 2018.

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
use crate::ops::linear::linear;

/// A convolution whose output is pooled before it is normalised.
///
/// Page pools last. Where γ is positive the order makes no difference to the result, and this one
/// normalises a quarter of the pixels.
#[derive(Module, Debug)]
pub struct Pooled {
    /// The convolution and its norm.
    pub layer: ConvNorm,
}

impl Pooled {
    fn new(channels: [usize; 2], device: &Device) -> Self {
        Self {
            layer: ConvNorm::new(channels, 3, 1, device),
        }
    }

    fn forward(&self, x: Tensor<4>, pass: &Pass) -> Tensor<4> {
        self.layer.forward_pooled(x, Tail::Relu, pass)
    }
}

impl Declare for Pooled {
    fn declare(&self, to: &mut Declarations) {
        self.layer.declare("layer", Role::Convolution, to);
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

impl Declare for Branch {
    fn declare(&self, to: &mut Declarations) {
        self.first.declare("first", Role::Convolution, to);
        self.second.declare("second", Role::Convolution, to);
    }
}

/// Factor on ResNet-9's logits, as in Page's network: a head of unit scale would start too steep.
pub(crate) const LOGIT_SCALE: f64 = 0.125;

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
    pub(crate) fn new(config: &ResnetConfig, device: &Device) -> Self {
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

impl Declare for Resnet9 {
    fn declare(&self, to: &mut Declarations) {
        self.stem
            .declare("stem", Role::FirstConvolution, to.layer(0));
        to.layer(1).module("stage1", &self.stage1);
        to.layer(2).module("branch1", &self.branch1);
        to.layer(3).module("stage2", &self.stage2);
        to.layer(4).module("stage3", &self.stage3);
        to.layer(5).module("branch3", &self.branch3);
        to.layer(6).linear("head", &self.head, Role::Head);
    }
}

impl Network for Resnet9 {
    fn outputs(&self, images: Tensor<4>, with_map: bool, pass: &mut Pass) -> Outputs {
        let map = self.map(images, pass);
        let features: Tensor<2> = map.clone().max_dim(1).squeeze_dim(1);
        let layer = affine(&self.head);
        let head = linear(features.clone(), &layer, pass.precision, pass.prepared);
        Outputs::of_cnn(head * LOGIT_SCALE, features, map, with_map)
    }

    /// Maxima over the last feature map.
    fn features(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        self.map(images, pass).max_dim(1).squeeze_dim(1)
    }

    fn width(&self) -> usize {
        self.head.weight.dims()[0]
    }

    fn logit_scale(&self) -> f64 {
        LOGIT_SCALE
    }
}
