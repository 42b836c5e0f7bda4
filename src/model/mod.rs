//! The models, as mathematics: Vision Transformers and CNN baselines.
//!
//! Shape letters, used in every docstring of this folder: **B** batch, **C** channels, **H×W**
//! pixels, **P** side of a patch, **N** tokens, **D** width of a token (`embed_dim`), **h** heads,
//! **d** width of a head, **K** classes.
//!
//! Read [`vit`] first, then [`block`] and [`attention`], then [`resnet`]. This floor knows no
//! files and no labels.

pub mod attention;
pub mod block;
mod init;
pub mod parameters;
pub mod patch;
pub mod position;
mod preset;
pub mod resnet;
pub mod vit;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use init::Init;
pub use preset::{PRESETS, Preset};
pub use resnet::{Resnet, ResnetConfig, ResnetVariant};
pub use vit::{Pooling, Position, Stem, Vit, VitConfig};

/// Why a model cannot be built.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ModelError {
    /// No preset of that name.
    #[error("unknown model {name:?}{hint}; known are {known}")]
    Unknown {
        /// As given.
        name: String,
        /// `; did you mean …?`
        hint: String,
        /// Every preset.
        known: String,
    },
    /// The patch grid does not cover the picture.
    #[error(
        "patch size {patch_size} does not divide image size {image_size}: expected one of {fitting}, with --patch-size, or another --image-size"
    )]
    Patch {
        /// Side of a patch.
        patch_size: usize,
        /// Side of the picture.
        image_size: usize,
        /// Patch sizes that would do.
        fitting: String,
    },
    /// The heads do not share the width evenly.
    #[error("{num_heads} heads do not divide embed_dim {embed_dim}")]
    Heads {
        /// Heads.
        num_heads: usize,
        /// Width.
        embed_dim: usize,
    },
    /// A number outside its range.
    #[error("model.{key} is {found}: expected {expected}")]
    Range {
        /// The field.
        key: &'static str,
        /// Its value.
        found: String,
        /// Its range.
        expected: String,
    },
}

/// Checks one field against its range, ends included.
fn within(key: &'static str, value: usize, low: usize, high: usize) -> Result<(), ModelError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(ModelError::Range {
        key,
        found: value.to_string(),
        expected: format!("{low} to {high}"),
    })
}

/// A model's whole architecture, as it stands in recipes and in the weights' metadata.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "lowercase")]
pub enum ModelConfig {
    /// A Vision Transformer.
    Vit(VitConfig),
    /// A residual CNN.
    Resnet(ResnetConfig),
}

impl ModelConfig {
    /// The architecture called `name` for pictures of `image_size` and `num_classes` classes.
    ///
    /// # Errors
    ///
    /// An unknown name, or what [`validate`](Self::validate) refuses.
    pub fn preset(
        name: &str,
        image_size: usize,
        patch_size: Option<usize>,
        num_classes: usize,
    ) -> Result<Self, ModelError> {
        let config = preset::find(name)?.config(image_size, patch_size, num_classes);
        config.validate()?;
        Ok(config)
    }

    /// Checks every field.
    ///
    /// # Errors
    ///
    /// The first [`ModelError`].
    pub fn validate(&self) -> Result<(), ModelError> {
        match self {
            Self::Vit(c) => c.validate(),
            Self::Resnet(c) => c.validate(),
        }
    }

    /// Side of the square input in pixels.
    pub fn image_size(&self) -> usize {
        match self {
            Self::Vit(c) => c.image_size,
            Self::Resnet(c) => c.image_size,
        }
    }

    /// K.
    pub fn num_classes(&self) -> usize {
        match self {
            Self::Vit(c) => c.num_classes,
            Self::Resnet(c) => c.num_classes,
        }
    }

    /// Trainable numbers, by formula.
    pub fn parameters(&self) -> u64 {
        match self {
            Self::Vit(c) => c.parameters(),
            Self::Resnet(c) => c.parameters(),
        }
    }

    /// Floating-point operations of one picture's forward pass, by formula: matrix products and
    /// convolutions, a multiply-add as two; norms, activations and softmax are left out, as is
    /// usual.
    pub fn flops(&self) -> u64 {
        match self {
            Self::Vit(c) => c.flops(),
            Self::Resnet(c) => c.flops(),
        }
    }

    /// A model with weights drawn from `seed`.
    ///
    /// The numbers are drawn on the host, each tensor from the seed and its own path: the same
    /// bits on every device, whatever the order or the number of threads.
    pub fn init(&self, seed: u64, device: &Device) -> Model {
        self.build(&Init::random(seed, device))
    }

    /// A model of zeros, to be filled from a file.
    pub fn init_zeros(&self, device: &Device) -> Model {
        self.build(&Init::zeros(device))
    }

    fn build(&self, init: &Init) -> Model {
        match self {
            Self::Vit(c) => Model::Vit(Vit::new(c, init)),
            Self::Resnet(c) => Model::Resnet(Resnet::new(c, init)),
        }
    }
}

/// A model of either family.
// The families differ in size, but a program holds one or two models, never a list of them.
#[allow(clippy::large_enum_variant)]
#[derive(Module, Debug)]
pub enum Model {
    /// A Vision Transformer.
    Vit(Vit),
    /// A residual CNN.
    Resnet(Resnet),
}

impl Model {
    /// Logits of a batch; `noise` drives drop path in training and is `None` at inference.
    ///
    /// # Shapes
    ///
    /// `images`: `[B, 3, H, W]`, normalised; the result: `[B, K]`.
    pub fn forward(&self, images: Tensor<4>, noise: Option<&mut Noise>) -> Tensor<2> {
        match self {
            Self::Vit(m) => m.forward(images, noise),
            Self::Resnet(m) => m.forward(images),
        }
    }

    /// What the head sees: pooled features.
    ///
    /// # Shapes
    ///
    /// `images`: `[B, 3, H, W]`; the result: `[B, D]`.
    pub fn features(&self, images: Tensor<4>, noise: Option<&mut Noise>) -> Tensor<2> {
        match self {
            Self::Vit(m) => m.features(images, noise),
            Self::Resnet(m) => m.features(images),
        }
    }
}

/// Whether weight decay applies to a parameter: not to norms, biases, positions or extra tokens.
pub fn decays(path: &str, rank: usize) -> bool {
    rank > 1 && !["position", "class_token", "registers"].iter().any(|part| path.contains(part))
}

/// The randomness of one training step, drawn on the host from seed and step: a resumed step
/// draws what the interrupted one drew.
#[derive(Debug, Clone)]
pub struct Noise {
    rng: Xoshiro256PlusPlus,
}

impl Noise {
    /// The noise of one step.
    pub fn new(seed: u64, step: u64) -> Self {
        let mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ step.wrapping_mul(0xD1B5_4A32_D192_ED03);
        Self {
            rng: Xoshiro256PlusPlus::seed_from_u64(mixed),
        }
    }

    /// Drop path (Huang et al. 2016, stochastic depth, per sample): each sample's branch is
    /// dropped with probability `rate`, and kept ones grow so that the expectation stays.
    ///
    /// # Shapes
    ///
    /// `branch`: `[B, N, D]`.
    pub fn drop_path(&mut self, branch: Tensor<3>, rate: f32) -> Tensor<3> {
        if rate <= 0.0 {
            return branch;
        }
        let [batch, _, _] = branch.dims();
        let keep = 1.0 - rate;
        let mask: Vec<f32> = (0..batch)
            .map(|_| {
                if self.rng.random::<f32>() < keep {
                    1.0 / keep
                } else {
                    0.0
                }
            })
            .collect();
        let device = branch.device();
        branch.mul(Tensor::from_data(TensorData::new(mask, [batch, 1, 1]), &device))
    }
}
