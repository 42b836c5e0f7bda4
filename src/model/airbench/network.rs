//! A small CNN that learns fast, after airbench94 (Jordan 2024, "94 % on CIFAR-10 in 3.29 seconds
//! on a single GPU", arXiv 2404.00498): the strong baseline for small pictures.
//!
//! A first convolution that whitens patches and is never trained, three groups of convolutions
//! that each halve the map, a maximum over what is left, and a linear head.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Initializer, Linear, PaddingConfig2d};
use burn::tensor::{Device, Tensor};

use super::config::AirbenchConfig;
use super::whiten;
use crate::model::convolution::{ConvNorm, channels_last, pixels};
use crate::model::layers::{affine, undrawn_linear};
use crate::model::network::{Network, Outputs};
use crate::model::parameters;
use crate::model::pass::Pass;
use crate::model::role::{Declarations, Declare, Role};
use crate::ops::batch_norm::Tail;
use crate::ops::conv::{Conv, Window, conv_gelu};
use crate::ops::linear::linear;
use crate::ops::pool::max_pool;

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
        let first = self.first.forward_pooled(x, Tail::Gelu, pass);
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

impl Declare for Group {
    /// Each convolution starts by passing its input through (Jordan 2024, § 3.3).
    fn declare(&self, to: &mut Declarations) {
        to.starting_as_identity(|to| {
            self.first.declare("first", Role::Convolution, to);
            to.within("rest", |to| {
                for (i, layer) in self.rest.iter().enumerate() {
                    layer.declare(&i.to_string(), Role::Convolution, to);
                }
            });
        });
    }
}

/// Factor on the logits (Jordan 2024, appendix).
pub(crate) const LOGIT_SCALE: f64 = 1.0 / 9.0;

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

impl AirbenchConfig {
    pub(crate) fn build<M: From<Airbench>>(&self, device: &Device) -> M {
        Airbench::new(self, device).into()
    }
}

impl Airbench {
    fn new(config: &AirbenchConfig, device: &Device) -> Self {
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

impl Declare for Airbench {
    fn declare(&self, to: &mut Declarations) {
        let first = Role::FirstConvolution;
        to.layer(0).convolution("whitening", &self.whitening, first);
        to.within("groups", |to| {
            for (i, group) in self.groups.iter().enumerate() {
                to.layer(1 + i).module(&i.to_string(), group);
            }
        });
        let head = 1 + self.groups.len();
        to.layer(head).linear("head", &self.head, Role::Head);
    }
}

impl Network for Airbench {
    fn outputs(&self, images: Tensor<4>, with_map: bool, pass: &mut Pass) -> Outputs {
        let map = self.map(images, pass);
        let features = maxima(map.clone());
        let head = affine(&self.head);
        let head = linear(features.clone(), &head, pass.precision, pass.prepared);
        Outputs::of_cnn(head * LOGIT_SCALE, features, pixels(map), with_map)
    }

    /// Maxima over the last feature map.
    fn features(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        maxima(self.map(images, pass))
    }

    fn width(&self) -> usize {
        self.head.weight.dims()[0]
    }

    fn logit_scale(&self) -> f64 {
        LOGIT_SCALE
    }

    fn whiten(&mut self, covariance: &[f64], device: &Device) {
        let device = device.clone().without_autodiff();
        let filters = whiten::filters(covariance);
        let weight = self.whitening.weight.clone();
        self.whitening.weight = parameters::replace(weight, |_, _| {
            Some(Tensor::from_floats(filters.as_slice(), &device))
        });
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
