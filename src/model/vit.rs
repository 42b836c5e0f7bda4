//! The Vision Transformer (Dosovitskiy et al. 2021).

use burn::module::{Module, Param};
use burn::nn::{LayerNorm, Linear};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::block::EncoderBlock;
use super::init::Init;
use super::patch::{ConvStem, PatchEmbedding};
use super::position::{sinusoidal_1d, sinusoidal_2d};
use super::{ModelError, Noise, within};

/// ε of the layer norms, as in the paper's code and timm.
pub const NORM_EPSILON: f64 = 1e-6;

/// What the head sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// A learned token that gathers from all others (eq. 1 and 4).
    ClassToken,
    /// The mean over patch tokens (Zhai et al. 2022; Beyer et al. 2022, "Better plain ViT").
    Mean,
}

/// How a token knows its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Position {
    /// One learned vector a place (eq. 1).
    Learned,
    /// Sinusoids over the sequence (Vaswani et al. 2017).
    #[serde(rename = "sinusoidal-1d")]
    Sinusoidal1d,
    /// Sinusoids over row and column (MAE, He et al. 2022).
    #[serde(rename = "sinusoidal-2d")]
    Sinusoidal2d,
    /// Not at all: the encoder then sees a set of patches.
    None,
}

/// How pictures become tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// Flattened patches, projected.
    Linear,
    /// A few strided convolutions.
    Convolutional,
}

/// A ViT's architecture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
    /// Side of the square input in pixels.
    pub image_size: usize,
    /// P.
    pub patch_size: usize,
    /// D.
    pub embed_dim: usize,
    /// Encoder blocks.
    pub depth: usize,
    /// h; divides D.
    pub num_heads: usize,
    /// Width of the MLP's hidden layer.
    pub mlp_dim: usize,
    /// K.
    pub num_classes: usize,
    /// What the head sees.
    pub pooling: Pooling,
    /// How a token knows its place.
    pub position: Position,
    /// How pictures become tokens.
    pub stem: Stem,
    /// Register tokens (Darcet et al. 2024): scratch space that no pooling sees.
    pub registers: usize,
    /// Drop path rate of the last block; earlier ones grow to it linearly (Huang et al. 2016).
    pub drop_path: f32,
}

impl VitConfig {
    /// Checks every field.
    ///
    /// # Errors
    ///
    /// The first [`ModelError`].
    pub fn validate(&self) -> Result<(), ModelError> {
        within("image_size", self.image_size, 8, 2048)?;
        within("patch_size", self.patch_size, 1, self.image_size)?;
        if self.image_size % self.patch_size != 0 {
            let fitting: Vec<String> = (2..=self.image_size / 2)
                .filter(|p| self.image_size.is_multiple_of(*p))
                .map(|p| p.to_string())
                .collect();
            return Err(ModelError::Patch {
                patch_size: self.patch_size,
                image_size: self.image_size,
                fitting: fitting.join(", "),
            });
        }
        within("embed_dim", self.embed_dim, 8, 8192)?;
        within("depth", self.depth, 1, 128)?;
        within("num_heads", self.num_heads, 1, self.embed_dim)?;
        if self.embed_dim % self.num_heads != 0 {
            return Err(ModelError::Heads {
                num_heads: self.num_heads,
                embed_dim: self.embed_dim,
            });
        }
        within("mlp_dim", self.mlp_dim, 1, 65_536)?;
        within("num_classes", self.num_classes, 2, 100_000)?;
        within("registers", self.registers, 0, 64)?;
        let refuse = |key, found: String, expected: &str| {
            Err(ModelError::Range {
                key,
                found,
                expected: expected.to_owned(),
            })
        };
        if !(0.0..1.0).contains(&self.drop_path) {
            return refuse("drop_path", self.drop_path.to_string(), "0 to below 1");
        }
        if self.stem == Stem::Convolutional
            && !(self.patch_size.is_power_of_two() && self.patch_size > 1)
        {
            let found = self.patch_size.to_string();
            return refuse("patch_size", found, "2, 4, 8, 16 or 32 with a convolutional stem");
        }
        if self.position == Position::Sinusoidal2d && self.embed_dim % 4 != 0 {
            let found = self.embed_dim.to_string();
            return refuse("embed_dim", found, "a multiple of 4 with sinusoidal-2d positions");
        }
        Ok(())
    }

    /// Patches a side.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Tokens the blocks see: patches, class token, registers.
    pub fn tokens(&self) -> usize {
        self.patches() + self.class_tokens() + self.registers
    }

    fn patches(&self) -> usize {
        self.grid() * self.grid()
    }

    fn class_tokens(&self) -> usize {
        usize::from(self.pooling == Pooling::ClassToken)
    }

    /// Trainable numbers, by formula.
    pub fn parameters(&self) -> u64 {
        let (d, m) = (self.embed_dim, self.mlp_dim);
        let stem = match self.stem {
            Stem::Linear => (3 * self.patch_size * self.patch_size + 1) * d,
            Stem::Convolutional => {
                let mut inputs = 3;
                let mut sum = 0;
                for width in ConvStem::widths(self.patch_size, d) {
                    sum += inputs * width * 9 + 2 * width;
                    inputs = width;
                }
                sum + inputs * d
            }
        };
        let extra = (self.class_tokens() + self.registers) * d;
        let position = match self.position {
            Position::Learned => (self.patches() + self.class_tokens()) * d,
            _ => 0,
        };
        let attention = (3 * d * d + 3 * d) + (d * d + d);
        let mlp = (d * m + m) + (m * d + d);
        let block = 4 * d + attention + mlp;
        let head = 2 * d + d * self.num_classes + self.num_classes;
        (stem + extra + position + self.depth * block + head) as u64
    }

    /// Forward FLOPs of one picture, by formula; what counts is said at
    /// [`ModelConfig::flops`](super::ModelConfig::flops).
    pub fn flops(&self) -> u64 {
        let (d, m, n) = (self.embed_dim, self.mlp_dim, self.tokens());
        let stem = match self.stem {
            Stem::Linear => self.patches() * 3 * self.patch_size * self.patch_size * d,
            Stem::Convolutional => {
                let (mut inputs, mut side, mut sum) = (3, self.image_size, 0);
                for width in ConvStem::widths(self.patch_size, d) {
                    side = side.div_ceil(2);
                    sum += side * side * inputs * width * 9;
                    inputs = width;
                }
                sum + side * side * inputs * d
            }
        };
        let attention = n * 4 * d * d + 2 * n * n * d;
        let block = attention + 2 * n * d * m;
        2 * (stem + self.depth * block + d * self.num_classes) as u64
    }
}

/// Either way from pictures to tokens.
#[derive(Module, Debug)]
enum Embedding {
    /// Flattened patches.
    Linear(PatchEmbedding),
    /// Strided convolutions.
    Convolutional(ConvStem),
}

/// The Vision Transformer.
#[derive(Module, Debug)]
pub struct Vit {
    embedding: Embedding,
    position: Option<Param<Tensor<3>>>,
    class_token: Option<Param<Tensor<3>>>,
    registers: Option<Param<Tensor<3>>>,
    blocks: Vec<EncoderBlock>,
    norm: LayerNorm,
    head: Linear,
    #[module(skip)]
    config: VitConfig,
}

impl Vit {
    /// A model of this architecture; the configuration must be valid.
    pub fn new(config: &VitConfig, init: &Init) -> Self {
        let d = config.embed_dim;
        let embedding = match config.stem {
            Stem::Linear => Embedding::Linear(PatchEmbedding::new(
                3,
                config.patch_size,
                d,
                &init.part("embedding"),
            )),
            Stem::Convolutional => Embedding::Convolutional(ConvStem::new(
                3,
                config.patch_size,
                d,
                &init.part("embedding"),
            )),
        };
        let token = |name: &str, count: usize| {
            (count > 0).then(|| init.part(name).truncated_normal([1, count, d], 0.02))
        };
        let places = config.patches() + config.class_tokens();
        Self {
            embedding,
            position: match config.position {
                Position::Learned => token("position", places),
                _ => None,
            },
            class_token: token("class_token", config.class_tokens()),
            registers: token("registers", config.registers),
            blocks: (0..config.depth)
                .map(|i| {
                    let along = i as f64 / (config.depth.max(2) - 1) as f64;
                    EncoderBlock::new(
                        d,
                        config.num_heads,
                        config.mlp_dim,
                        f64::from(config.drop_path) * along,
                        &init.part(&format!("blocks.{i}")),
                    )
                })
                .collect(),
            norm: init.part("norm").layer_norm(d, NORM_EPSILON),
            head: init.part("head").head(d, config.num_classes),
            config: config.clone(),
        }
    }

    /// Logits.
    ///
    /// # Shapes
    ///
    /// `images`: `[B, 3, H, W]`; the result: `[B, K]`.
    pub fn forward(&self, images: Tensor<4>, noise: Option<&mut Noise>) -> Tensor<2> {
        self.head.forward(self.features(images, noise))
    }

    /// Pooled features.
    ///
    /// # Shapes
    ///
    /// `images`: `[B, 3, H, W]`; the result: `[B, D]`.
    pub fn features(&self, images: Tensor<4>, noise: Option<&mut Noise>) -> Tensor<2> {
        let tokens = self.encode(self.embed(images), noise);
        let [b, _, d] = tokens.dims();
        match self.config.pooling {
            Pooling::ClassToken => tokens.slice([0..b, 0..1]).reshape([b, d]),
            // Patches come first, so that registers are left out by their place.
            Pooling::Mean => tokens
                .slice([0..b, 0..self.config.patches()])
                .mean_dim(1)
                .reshape([b, d]),
        }
    }

    /// Tokens in order: class token, patches with their positions, registers (eq. 1).
    fn embed(&self, images: Tensor<4>) -> Tensor<3> {
        let patches = match &self.embedding {
            Embedding::Linear(embedding) => embedding.forward(images),
            Embedding::Convolutional(stem) => stem.forward(images),
        };
        let [b, _, d] = patches.dims();
        let (grid, places) = (
            self.config.grid(),
            self.config.patches() + self.config.class_tokens(),
        );
        let device = patches.device();
        let with_class = match &self.class_token {
            Some(token) => Tensor::cat(vec![token.val().expand([b, 1, d]), patches], 1),
            None => patches,
        };
        let placed = match (self.config.position, &self.position) {
            (Position::Learned, Some(position)) => with_class + position.val(),
            (Position::Sinusoidal1d, _) => with_class + sinusoidal_1d(places, d, &device),
            (Position::Sinusoidal2d, _) => {
                let grid = sinusoidal_2d(grid, grid, d, &device);
                let grid = match self.config.class_tokens() {
                    0 => grid,
                    // The class token stands nowhere on the grid.
                    n => Tensor::cat(vec![Tensor::zeros([1, n, d], &device), grid], 1),
                };
                with_class + grid
            }
            _ => with_class,
        };
        match &self.registers {
            Some(registers) => {
                let n = self.config.registers;
                Tensor::cat(vec![placed, registers.val().expand([b, n, d])], 1)
            }
            None => placed,
        }
    }

    /// The encoder: blocks, then a last layer norm (eq. 4).
    ///
    /// # Shapes
    ///
    /// `[B, N, D]` to `[B, N, D]`.
    pub fn encode(&self, tokens: Tensor<3>, mut noise: Option<&mut Noise>) -> Tensor<3> {
        let mut x = tokens;
        for block in &self.blocks {
            x = block.forward(x, None, noise.as_deref_mut());
        }
        self.norm.forward(x)
    }
}
