//! The models, as mathematics: pictures in, logits out.
//!
//! Read [`vit`] first, then [`block`], [`attention`], [`patch`] and [`position`]; [`cnn`] and
//! [`airbench`] hold the convolutional baselines. Nothing here reads a file, knows a label or names a backend.
//!
//! # Shape letters
//!
//! | letter | is |
//! |---|---|
//! | B | pictures in the batch |
//! | C | channels; of pictures, 3 |
//! | H × W | pixels of a picture, always square here |
//! | P | side of a patch, in pixels |
//! | N | tokens: patches, and class and register tokens where the model has them |
//! | D | width of a token (`embed_dim`) |
//! | h, d | attention heads, and the width of one: D = h·d |
//! | K | classes |

pub mod airbench;
pub mod attention;
pub mod bicubic;
pub mod block;
pub mod cnn;
mod count;
pub mod drop_path;
mod init;
mod layers;
pub mod mimetic;
pub mod norm;
pub mod parameters;
pub mod patch;
pub mod position;
mod preset;
pub mod vit;
mod whiten;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ops::{Precision, Prepared};
use crate::setting::Invalid;

pub use airbench::{Airbench, AirbenchConfig};
pub use cnn::{Resnet9, Resnet18, ResnetConfig, ResnetVariant};
pub use drop_path::{Noise, Pass};
pub use layers::{Layers, freeze, is_head};
pub use preset::{Preset, presets};
pub use vit::{Init, Pooling, Position, Stem, Vit, VitConfig};

/// Why a model cannot be built.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ModelError {
    /// No preset has this name.
    #[error("{name:?} is not a model{hint}; known models are {known}")]
    UnknownPreset {
        /// As asked for.
        name: String,
        /// `, did you mean …?`, or nothing.
        hint: String,
        /// All names.
        known: String,
    },
    /// The patches do not tile the picture.
    #[error(
        "patch_size {patch_size} does not divide image_size {image_size}: expected one of {divisors}"
    )]
    PatchSize {
        /// Side of a patch.
        patch_size: usize,
        /// Side of the picture.
        image_size: usize,
        /// Sizes that would do.
        divisors: String,
    },
    /// A patch size was asked of a model without patches.
    #[error("patch_size does not apply to {name}, which has no patches")]
    NoPatches {
        /// The model.
        name: String,
    },
    /// The heads do not share the width evenly.
    #[error("num_heads {num_heads} does not divide embed_dim {embed_dim}: expected a divisor")]
    Heads {
        /// Attention heads.
        num_heads: usize,
        /// Token width.
        embed_dim: usize,
    },
    /// A head is too narrow, or of the wrong width, for what it is asked to do.
    #[error(
        "{lever} cannot work with heads of {head_dim} channels (embed_dim / num_heads): expected \
         {expected}"
    )]
    HeadDim {
        /// d.
        head_dim: usize,
        /// The key that asks.
        lever: &'static str,
        /// Widths that would do.
        expected: &'static str,
    },
    /// The convolutional stem halves the picture a whole number of times.
    #[error(
        "stem = \"convolutional\" cannot make patches of {patch_size} with embed_dim {embed_dim}: \
         expected a patch size that is a power of two, 2 or more, and at most twice a divisor of \
         the width; or take stem = \"linear\""
    )]
    Stem {
        /// Side of a patch.
        patch_size: usize,
        /// Token width.
        embed_dim: usize,
    },
    /// A field is outside its range.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// A model's whole architecture, as it stands in recipes and in a weights file's metadata.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "lowercase")]
pub enum ModelConfig {
    /// A Vision Transformer.
    Vit(VitConfig),
    /// A convolutional baseline.
    Resnet(ResnetConfig),
    /// The strong one for small pictures.
    Airbench(AirbenchConfig),
}

/// Most parameters a configuration may ask for: 2·10⁹, which is 8 GB of weights.
pub const MAX_PARAMETERS: u64 = 2_000_000_000;

impl ModelConfig {
    /// Whether the model can be built at all.
    ///
    /// # Errors
    ///
    /// The first number that is outside its range, and its range.
    pub fn validate(&self) -> Result<(), ModelError> {
        match self {
            Self::Vit(config) => config.validate()?,
            Self::Resnet(config) => config.validate()?,
            Self::Airbench(config) => config.validate()?,
        }
        let parameters = self.parameters();
        if parameters > MAX_PARAMETERS {
            let expected = format!("at most {MAX_PARAMETERS}");
            return Err(Invalid::new("the number of parameters", parameters, expected).into());
        }
        Ok(())
    }

    /// Side of the square input, in pixels.
    pub fn image_size(&self) -> usize {
        match self {
            Self::Vit(config) => config.image_size,
            Self::Resnet(config) => config.image_size,
            Self::Airbench(config) => config.image_size,
        }
    }

    /// Pixels by which the side of an input may differ from [`image_size`](Self::image_size), and
    /// its smallest side.
    pub fn size_step(&self) -> usize {
        match self {
            Self::Vit(config) => config.patch_size,
            // Three halvings, then a pooling over whatever is left.
            Self::Resnet(_) => 8,
            // Of 8 pixels the first convolution would leave too few to halve.
            Self::Airbench(config) => config.image_size.min(16),
        }
    }

    /// Classes, which is the number of logits.
    pub fn num_classes(&self) -> usize {
        match self {
            Self::Vit(config) => config.num_classes,
            Self::Resnet(config) => config.num_classes,
            Self::Airbench(config) => config.num_classes,
        }
    }

    /// The same architecture for another number of classes.
    pub fn with_num_classes(mut self, num_classes: usize) -> Self {
        match &mut self {
            Self::Vit(config) => config.num_classes = num_classes,
            Self::Resnet(config) => config.num_classes = num_classes,
            Self::Airbench(config) => config.num_classes = num_classes,
        }
        self
    }

    /// The model with its weights drawn from `seed`, the same bits on every device.
    ///
    /// Weights are drawn on the host, each tensor from the seed and its own path, so neither
    /// threads nor the order of fields matter. On an autodiff device the model is ready to train.
    ///
    /// # Panics
    ///
    /// On a configuration that [`ModelConfig::validate`] refuses.
    pub fn init(&self, seed: u64, device: &Device) -> Model {
        let model = init::draw(self.init_constant(device), seed, device);
        match self {
            Self::Vit(config) if config.init == Init::Mimetic => {
                mimetic::draw(model, config.num_heads, seed, device)
            }
            _ => model,
        }
    }

    /// The model before any weight is drawn, to be filled from a file.
    ///
    /// # Panics
    ///
    /// On a configuration that [`ModelConfig::validate`] refuses.
    pub fn init_constant(&self, device: &Device) -> Model {
        match self {
            Self::Vit(config) => Model::Vit(Vit::new(config, device)),
            Self::Resnet(config) => match config.variant {
                ResnetVariant::Resnet18 => Model::Resnet18(Resnet18::new(config, device)),
                ResnetVariant::Resnet9 => Model::Resnet9(Resnet9::new(config, device)),
            },
            Self::Airbench(config) => Model::Airbench(Airbench::new(config, device)),
        }
    }

    /// Side of the patches, in pixels, whose covariance [`Model::whitened`] wants; `None` for a
    /// model that whitens nothing.
    pub fn whitens(&self) -> Option<usize> {
        match self {
            Self::Airbench(config) if config.whiten => Some(config.stem_kernel),
            _ => None,
        }
    }
}

/// What one forward pass gives.
#[derive(Debug, Clone)]
pub struct Outputs {
    /// Logits of the head, `[B, K]`.
    pub head: Tensor<2>,
    /// Logits of the distillation head, `[B, K]`, where the model has one.
    pub distillation: Option<Tensor<2>>,
    /// What the head's features are pooled from, row by row over each picture, `[B, P, D]`, where
    /// it was asked for and no patch is left out: the normalised tokens of a ViT's P patches, the P
    /// pixels of a CNN's last feature map.
    pub map: Option<Tensor<3>>,
}

impl Outputs {
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

/// A built model.
#[derive(Module, Debug)]
// One model lives at a time: boxing a variant would only add a hop.
#[allow(clippy::large_enum_variant)]
pub enum Model {
    /// A Vision Transformer.
    Vit(Vit),
    /// ResNet-18.
    Resnet18(Resnet18),
    /// ResNet-9.
    Resnet9(Resnet9),
    /// The CNN of airbench.
    Airbench(Airbench),
}

impl Model {
    /// Logits of a batch of normalised pictures.
    ///
    /// Batch norm goes by the device, not by `pass`: on an autodiff device it uses the batch's
    /// statistics, so evaluate [`Module::valid`].
    ///
    /// # Shapes
    ///
    /// `images` `[B, 3, H, W]` → `[B, K]`.
    pub fn forward(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        self.outputs(images, false, pass).logits()
    }

    /// All that one forward pass gives, the map where `with_map`; as [`forward`](Self::forward).
    ///
    /// # Shapes
    ///
    /// `images` `[B, 3, H, W]` → [`Outputs`].
    pub fn outputs(&self, images: Tensor<4>, with_map: bool, pass: &mut Pass) -> Outputs {
        match self {
            Self::Vit(model) => model.outputs(images, with_map, pass),
            Self::Resnet18(model) => model.outputs(images, with_map, pass),
            Self::Resnet9(model) => model.outputs(images, with_map, pass),
            Self::Airbench(model) => model.outputs(images, with_map, pass),
        }
    }

    /// D, the width of features and map.
    pub fn width(&self) -> usize {
        let head = match self {
            Self::Vit(model) => &model.head,
            Self::Resnet18(model) => &model.head,
            Self::Resnet9(model) => &model.head,
            Self::Airbench(model) => &model.head,
        };
        head.weight.dims()[0]
    }

    /// Logits where no gradient is wanted, on a model without autodiff.
    ///
    /// It runs on a thread of the process's pool, which then shares its work out without having to
    /// be woken for each operation: that is most of the time of a single small picture.
    ///
    /// # Shapes
    ///
    /// `images` `[B, 3, H, W]` → `[B, K]`.
    pub fn infer(&self, images: Tensor<4>, precision: Precision, prepared: &Prepared) -> Tensor<2> {
        rayon::scope(|_| self.forward(images, &mut Pass::inference(precision).with(prepared)))
    }

    /// What the head sees: one vector a picture.
    ///
    /// # Shapes
    ///
    /// `images` `[B, 3, H, W]` → `[B, D]`.
    pub fn features(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        match self {
            Self::Vit(model) => model.features(images, pass),
            Self::Resnet18(model) => model.features(images, pass),
            Self::Resnet9(model) => model.features(images, pass),
            Self::Airbench(model) => model.features(images, pass),
        }
    }

    /// The model with a first layer that whitens patches of this covariance, where it has one that
    /// does ([`ModelConfig::whitens`]).
    ///
    /// # Shapes
    ///
    /// `covariance` `[n, n]` row by row, n = 3·side², in the order channel, line, column.
    ///
    /// # Panics
    ///
    /// On a covariance of patches of another size.
    pub fn whitened(self, covariance: &[f64], device: &Device) -> Self {
        let device = device.clone().without_autodiff();
        parameters::replace(self, |path, _| {
            (path == airbench::WHITENING).then(|| {
                let filters = whiten::filters(covariance);
                Tensor::from_floats(filters.as_slice(), &device)
            })
        })
    }
}

/// Whether weight decay applies to the parameter at `path`: to weights of matrices and
/// convolutions, but not to norms, layer scales, biases, position embeddings and learned tokens.
pub fn decays(path: &str, rank: usize) -> bool {
    let field = path.rsplit('.').next().unwrap_or(path);
    rank >= 2
        && !matches!(
            field,
            "position_embedding" | "class_token" | "distillation_token" | "register_tokens"
        )
}

/// Whether the parameter at `path` is a matrix between two layers, for optimizers that treat such
/// matrices as a whole: the weights of the encoder's linear layers, and convolutions save the first,
/// which sees pixels. Embeddings, norms, biases and the head are none.
pub fn hidden(path: &str, shape: &[usize]) -> bool {
    if !path.ends_with(".weight") {
        return false;
    }
    match shape {
        [_, _] => path.split('.').any(|field| field == "blocks"),
        [_, channels, _, _] => *channels != 3,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
