//! What a Vision Transformer is made of, its presets, and what it costs.

use serde::{Deserialize, Serialize};

use crate::model::count::{Count, product};
use crate::model::error::ModelError;
use crate::model::family::{Family, PresetOf, Sizes};
use crate::model::pass::kept_tokens;
use crate::ops::Activation;
use crate::setting::{Invalid, within};

/// What of the last tokens the head sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// A learned token before all others, as in the paper.
    ClassToken,
    /// The mean of the patches' tokens; register tokens do not count.
    Mean,
    /// The class token, and beside it the mean of the patches' tokens: features of width 2·D (Oquab
    /// et al. 2024, "DINOv2", appendix B.3).
    ClassTokenAndMean,
}

impl Pooling {
    /// Whether there is a class token.
    pub fn has_class_token(self) -> bool {
        self != Self::Mean
    }
}

/// How tokens know where they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Position {
    /// One learned vector a position; a class token has one too.
    Learned,
    /// Fixed sines of the position counted row by row.
    #[serde(rename = "sinusoidal-1d")]
    Sinusoidal1d,
    /// Fixed sines of row and column.
    #[serde(rename = "sinusoidal-2d")]
    Sinusoidal2d,
    /// Rotary positions by row and column (Heo et al. 2024, section 3.2, axial frequency): queries
    /// and keys are turned in every block, so that scores depend on how far apart two patches are.
    /// Class and register tokens are not turned.
    #[serde(rename = "rope-2d")]
    Rope2d,
    /// Not at all: a bag of patches.
    None,
}

/// How the weights of attention start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// Uniform, of a variance that keeps signals and gradients level (Glorot & Bengio 2010).
    #[default]
    Xavier,
    /// Queries that start by looking for keys like themselves, values that start by being taken
    /// away (Trockman & Kolter 2023); see `mimetic`.
    Mimetic,
}

/// How pixels become tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// One linear map a patch, as in the paper.
    Linear,
    /// 3×3 convolutions of stride 2 with batch norm and ReLU, as many as halve a patch to a pixel
    /// and each twice as wide as the one before, then a linear map (Xiao et al. 2021, "Early
    /// Convolutions Help Transformers See Better").
    Convolutional,
}

/// The architecture of a Vision Transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
    /// Side of the square input, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels; divides `image_size`.
    pub patch_size: usize,
    /// Width of a token.
    pub embed_dim: usize,
    /// Encoder blocks.
    pub depth: usize,
    /// Attention heads; divides `embed_dim`.
    pub num_heads: usize,
    /// Width of the MLP's hidden layer.
    pub mlp_dim: usize,
    /// Classes.
    pub num_classes: usize,
    /// What the head sees.
    pub pooling: Pooling,
    /// Position embedding.
    pub position: Position,
    /// From pixels to tokens.
    pub stem: Stem,
    /// Layers of a convolutional stem before it halves the picture for the first time.
    #[serde(default)]
    pub stem_depth: usize,
    /// Register tokens (Darcet et al. 2024): extra learned tokens, without position.
    pub registers: usize,
    /// Drop path rate of the last block; earlier blocks have less, the first none (DeiT).
    pub drop_path: f32,
    /// A distillation token with a head of its own (Touvron et al. 2021, section 4).
    #[serde(default)]
    pub distillation_token: bool,
    /// How the weights of attention start.
    #[serde(default)]
    pub init: Init,
    /// What the learned factors of each residual branch's channels start as, from 0 to 1; 0 has
    /// none (Touvron et al. 2021, "Going deeper with Image Transformers", eq. 4).
    #[serde(default)]
    pub layer_scale: f64,
    /// Layer norm, without shift, of each head's queries and keys (Dehghani et al. 2023, section
    /// 2.1): scores then stay bounded.
    #[serde(default)]
    pub qk_norm: bool,
    /// Whether the norms of queries and keys have a shift too.
    #[serde(default, skip_serializing_if = "is_default")]
    pub qk_norm_bias: bool,
    /// ε of every layer norm, which is added to the variance.
    #[serde(
        default = "default_norm_epsilon",
        skip_serializing_if = "is_default_norm_epsilon"
    )]
    pub norm_epsilon: f64,
    /// With mean pooling: whether the mean of the patches' tokens is taken first and then
    /// normalised, in place of the mean of normalised tokens.
    #[serde(default, skip_serializing_if = "is_default")]
    pub norm_after_pooling: bool,
    /// Between the two layers of an MLP.
    #[serde(default, skip_serializing_if = "is_default")]
    pub activation: Activation,
}

/// ε of layer norms in timm and in the original Vision Transformer.
const NORM_EPSILON: f64 = 1e-6;

fn default_norm_epsilon() -> f64 {
    NORM_EPSILON
}

fn is_default_norm_epsilon(epsilon: &f64) -> bool {
    *epsilon == NORM_EPSILON
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl VitConfig {
    /// What a plain Vision Transformer with a class token is, but for its sizes, which are zero.
    pub const PLAIN: Self = preset([0; 4], Pooling::ClassToken);

    /// Patches along one side.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Tokens before the patches: class token, distillation token, then registers.
    pub fn prefix(&self) -> usize {
        self.registers
            + usize::from(self.pooling.has_class_token())
            + usize::from(self.distillation_token)
    }

    /// N: all tokens.
    pub fn tokens(&self) -> usize {
        self.grid() * self.grid() + self.prefix()
    }

    /// Widths and strides of the convolutional stem: `stem_depth` layers at full size, then
    /// halvings, each twice as wide as what comes before, up to the token width (Xiao et al. 2021);
    /// empty with a linear stem.
    pub(crate) fn stem_layers(&self) -> Vec<(usize, usize)> {
        match self.stem {
            Stem::Linear => Vec::new(),
            Stem::Convolutional => {
                let halvings = self.patch_size.trailing_zeros();
                let full = (self.embed_dim >> halvings, 1);
                let halving = |i| (self.embed_dim >> (halvings - 1 - i), 2);
                std::iter::repeat_n(full, self.stem_depth)
                    .chain((0..halvings).map(halving))
                    .collect()
            }
        }
    }
}

impl Family for VitConfig {
    fn name(&self) -> &'static str {
        "vit"
    }

    fn presets() -> &'static [PresetOf<Self>] {
        PRESETS
    }

    /// Without a patch size it is 16 from 96 pixels up, 8 from 48 up, else 4; where that does not
    /// divide the picture, the next smaller that does. A convolutional stem halves the picture, so
    /// a patch size that is no power of two gets a linear one.
    fn sized(&self, _preset: &str, sizes: Sizes) -> Result<Self, ModelError> {
        let default = || default_patch_size(sizes.image_size);
        let patch_size = sizes.patch_size.unwrap_or_else(default);
        let halves = patch_size >= 2 && patch_size.is_power_of_two();
        Ok(Self {
            image_size: sizes.image_size,
            patch_size,
            num_classes: sizes.num_classes,
            stem: if halves { self.stem } else { Stem::Linear },
            ..self.clone()
        })
    }

    fn validate(&self) -> Result<(), ModelError> {
        within("image_size", self.image_size, 2..=4096)?;
        within("patch_size", self.patch_size, 1..=self.image_size)?;
        within("embed_dim", self.embed_dim, 2..=16_384)?;
        within("depth", self.depth, 1..=256)?;
        within("num_heads", self.num_heads, 1..=self.embed_dim)?;
        within("mlp_dim", self.mlp_dim, 1..=65_536)?;
        within("num_classes", self.num_classes, 1..=1_000_000)?;
        within("registers", self.registers, 0..=256)?;
        if !(0.0..1.0).contains(&self.drop_path) {
            return Err(Invalid::new("drop_path", self.drop_path, "from 0 to below 1").into());
        }
        if !(0.0..=1.0).contains(&self.layer_scale) {
            return Err(Invalid::new("layer_scale", self.layer_scale, "from 0 to 1").into());
        }
        if !(1e-15..=0.1).contains(&self.norm_epsilon) {
            let found = self.norm_epsilon;
            return Err(Invalid::new("norm_epsilon", found, "from 1e-15 to 0.1").into());
        }
        if self.norm_after_pooling && self.pooling != Pooling::Mean {
            let expected = "false, or pooling = \"mean\": there is nothing else to pool first";
            return Err(Invalid::new("norm_after_pooling", true, expected).into());
        }
        if self.qk_norm_bias && !self.qk_norm {
            let expected = "false, or qk_norm = true: it is a part of that norm";
            return Err(Invalid::new("qk_norm_bias", true, expected).into());
        }
        if !self.image_size.is_multiple_of(self.patch_size) {
            return Err(ModelError::PatchSize {
                patch_size: self.patch_size,
                image_size: self.image_size,
                expected: sizes_that_fit(self.image_size, self.patch_size),
            });
        }
        within("the number of tokens", self.tokens(), 1..=16_384)?;
        if !self.embed_dim.is_multiple_of(self.num_heads) {
            return Err(ModelError::Heads {
                num_heads: self.num_heads,
                embed_dim: self.embed_dim,
            });
        }
        let head_dim = self.embed_dim / self.num_heads;
        if self.position == Position::Rope2d && !head_dim.is_multiple_of(4) {
            return Err(ModelError::HeadDim {
                head_dim,
                lever: "position = \"rope-2d\"",
                expected: "a multiple of 4",
            });
        }
        if self.qk_norm && head_dim < 2 {
            return Err(ModelError::HeadDim {
                head_dim,
                lever: "qk_norm",
                expected: "2 or more",
            });
        }
        let halves = self.patch_size >= 2
            && self.patch_size.is_power_of_two()
            && self.embed_dim.is_multiple_of(self.patch_size / 2);
        within("stem_depth", self.stem_depth, 0..=8)?;
        let deep =
            self.stem == Stem::Convolutional && self.embed_dim.is_multiple_of(self.patch_size);
        if self.stem_depth > 0 && !deep {
            return Err(Invalid::new(
                "stem_depth",
                self.stem_depth,
                "0, or stem = \"convolutional\" with an embed_dim that patch_size divides",
            )
            .into());
        }
        if self.stem == Stem::Convolutional && !halves {
            return Err(ModelError::Stem {
                patch_size: self.patch_size,
                embed_dim: self.embed_dim,
            });
        }
        Ok(())
    }

    fn image_size(&self) -> usize {
        self.image_size
    }

    fn size_step(&self) -> usize {
        self.patch_size
    }

    fn patch_size(&self) -> Option<usize> {
        Some(self.patch_size)
    }

    fn needs_whole_pictures(&self) -> Option<&'static str> {
        let turned = self.position == Position::Rope2d;
        turned.then_some("model.position = \"rope-2d\", which turns whole pictures of full size")
    }

    fn width(&self) -> usize {
        match self.pooling {
            Pooling::ClassToken | Pooling::Mean => self.embed_dim,
            Pooling::ClassTokenAndMean => 2 * self.embed_dim,
        }
    }

    fn map_width(&self) -> usize {
        self.embed_dim
    }

    fn unwritten(&self) -> Vec<(&'static str, serde_json::Value)> {
        vec![
            ("qk_norm_bias", self.qk_norm_bias.into()),
            ("norm_epsilon", self.norm_epsilon.into()),
            ("norm_after_pooling", self.norm_after_pooling.into()),
            ("activation", serde_json::json!(self.activation)),
        ]
    }

    fn num_classes(&self) -> usize {
        self.num_classes
    }

    fn count(&self, image_size: usize, token_drop: f64) -> Count {
        let config = &Self {
            image_size,
            ..self.clone()
        };
        let kept = kept_tokens(config.grid() * config.grid(), token_drop);
        let mut count = Count::default();
        let (width, tokens) = (config.embed_dim, kept + config.prefix());
        let patches = config.grid() * config.grid();
        let mut channels = 3;
        let mut side = config.image_size;
        for (outputs, stride) in config.stem_layers() {
            side /= stride;
            count.conv(3, channels, outputs, side);
            channels = outputs;
        }
        let patch_size = side / config.grid();
        count.linear(patches, channels * patch_size * patch_size, width);
        let class_tokens = usize::from(config.pooling.has_class_token());
        count.parameters += product([config.prefix(), width]);
        if config.position == Position::Learned {
            count.parameters += product([patches + class_tokens, width]);
        }
        let norm = 2 * width as u64;
        let mut block = Count::default();
        block.linear(tokens, width, 3 * width);
        block.multiply_adds += 2 * product([tokens, tokens, width]);
        block.linear(tokens, width, width);
        block.linear(tokens, width, config.mlp_dim);
        block.linear(tokens, config.mlp_dim, width);
        if config.layer_scale > 0.0 {
            block.parameters += 2 * width as u64;
        }
        if config.qk_norm {
            let of_each = 1 + u64::from(config.qk_norm_bias);
            block.parameters += 2 * of_each * (width / config.num_heads) as u64;
        }
        let depth = config.depth as u64;
        count.parameters += depth * (block.parameters + 2 * norm) + norm;
        count.multiply_adds += depth * block.multiply_adds;
        count.linear(1, config.width(), config.num_classes);
        if config.distillation_token {
            count.linear(1, width, config.num_classes);
        }
        count
    }
}

/// Image sizes near `image_size` that `patch_size` divides, and patch sizes that divide it.
fn sizes_that_fit(image_size: usize, patch_size: usize) -> String {
    let below = image_size / patch_size * patch_size;
    let above = below + patch_size;
    let near = match below {
        0 => format!("{above}"),
        _ => format!("{below} or {above}"),
    };
    let divisors: Vec<String> = (2..image_size)
        .filter(|size| image_size.is_multiple_of(*size))
        .map(|size| size.to_string())
        .collect();
    let images = format!("an image size that is a multiple of {patch_size}, such as {near}");
    match divisors.as_slice() {
        [] => images,
        _ => format!("{images}; or a patch size of {}", lists(&divisors)),
    }
}

/// "2, 4 or 8".
fn lists(words: &[String]) -> String {
    match words.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => words.concat(),
    }
}

fn default_patch_size(image_size: usize) -> usize {
    let wanted = match image_size {
        96.. => 16,
        48.. => 8,
        _ => 4,
    };
    // A prime number of pixels leaves only patches of one: better the error about `wanted`.
    (2..=wanted)
        .rev()
        .find(|&size| image_size.is_multiple_of(size))
        .unwrap_or(wanted)
}

const PRESETS: &[PresetOf<VitConfig>] = &[
    PresetOf {
        name: "vit-micro",
        about: "ViT of 0.16 M parameters with a convolutional stem, for pictures of about 28 pixels: minutes on a CPU",
        config: VitConfig {
            stem: Stem::Convolutional,
            ..preset([64, 4, 2, 128], Pooling::Mean)
        },
    },
    PresetOf {
        name: "vit-w1",
        about: "ViT of 1.8 M parameters for small pictures: width 192, depth 6, mean pooling",
        config: preset([192, 6, 3, 384], Pooling::Mean),
    },
    PresetOf {
        name: "vit-tiny",
        about: "ViT-Ti of DeiT, 5.7 M parameters: width 192, depth 12, class token",
        config: preset([192, 12, 3, 768], Pooling::ClassToken),
    },
    PresetOf {
        name: "vit-small",
        about: "ViT-S of DeiT, 22 M parameters: width 384, depth 12, class token",
        config: preset([384, 12, 6, 1536], Pooling::ClassToken),
    },
    PresetOf {
        name: "vit-base",
        about: "ViT-B of the paper, 87 M parameters: width 768, depth 12, class token",
        config: preset([768, 12, 12, 3072], Pooling::ClassToken),
    },
];

/// A plain Vision Transformer without sizes of picture and patch and without classes.
const fn preset([embed_dim, depth, num_heads, mlp_dim]: [usize; 4], pooling: Pooling) -> VitConfig {
    VitConfig {
        image_size: 0,
        patch_size: 0,
        embed_dim,
        depth,
        num_heads,
        mlp_dim,
        num_classes: 0,
        pooling,
        position: Position::Learned,
        stem: Stem::Linear,
        stem_depth: 0,
        registers: 0,
        drop_path: 0.0,
        distillation_token: false,
        init: Init::Xavier,
        layer_scale: 0.0,
        qk_norm: false,
        qk_norm_bias: false,
        norm_epsilon: NORM_EPSILON,
        norm_after_pooling: false,
        activation: Activation::Gelu,
    }
}
