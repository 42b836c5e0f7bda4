//! What every network does: pictures in, logits and features out.

use burn::tensor::{Device, Tensor};

use super::pass::Pass;
use super::role::Declare;

/// What one forward pass gives.
#[derive(Debug, Clone)]
pub struct Outputs {
    /// Logits of the head, `[B, K]`.
    pub head: Tensor<2>,
    /// Logits of the distillation head, `[B, K]`, where the model has one.
    pub distillation: Option<Tensor<2>>,
    /// What the head sees, `[B, F]`.
    pub features: Tensor<2>,
    /// What the head's features are pooled from, row by row over each picture, `[B, P, D]`, where
    /// it was asked for and no patch is left out: the tokens of a ViT's P patches, normalised unless it
    /// normalises after pooling; the P pixels of a CNN's last feature map.
    pub map: Option<Tensor<3>>,
}

impl Outputs {
    /// Those of a model with one head.
    pub(crate) fn of_cnn(
        head: Tensor<2>,
        features: Tensor<2>,
        map: Tensor<3>,
        with_map: bool,
    ) -> Self {
        Self {
            head,
            distillation: None,
            features,
            map: with_map.then_some(map),
        }
    }

    /// The model's answer, `[B, K]`: the mean of both heads' logits where there are two.
    ///
    /// Touvron et al. 2021 (section 4) add the heads' softmaxes; their released code takes this
    /// mean, which stays logits that a temperature can divide.
    pub fn logits(self) -> Tensor<2> {
        match self.distillation {
            Some(distillation) => (self.head + distillation) * 0.5,
            None => self.head,
        }
    }
}

/// A network of one family.
pub(crate) trait Network: Declare {
    /// Logits of the heads; with the last feature map where `with_map`.
    ///
    /// # Shapes
    ///
    /// `images` `[B, 3, H, W]` → [`Outputs`].
    fn outputs(&self, images: Tensor<4>, with_map: bool, pass: &mut Pass) -> Outputs;

    /// What the head sees: one vector a picture.
    ///
    /// # Shapes
    ///
    /// `images` `[B, 3, H, W]` → `[B, F]`.
    fn features(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<2>;

    /// F, the width of the features.
    fn width(&self) -> usize;

    /// What the head's weights and bias times the features are multiplied by to give logits.
    fn logit_scale(&self) -> f64 {
        1.0
    }

    /// D, the width of the map.
    fn map_width(&self) -> usize {
        self.width()
    }

    /// Draws what the family draws in a way of its own, after the tensors' roles have decided: of that, the tensors
    /// that are wanted, by their paths.
    fn draw(&mut self, _seed: u64, _device: &Device, _wanted: &dyn Fn(&str) -> bool) {}

    /// Makes the first layer whiten patches of this covariance, `[n, n]` row by row, in a family
    /// that has a layer for it.
    fn whiten(&mut self, _covariance: &[f64], _device: &Device) {}
}
