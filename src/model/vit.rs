//! The Vision Transformer (Dosovitskiy et al. 2021).

use burn::module::{Module, Param};
use burn::nn::{Initializer, Linear};
use burn::tensor::{Bool, Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::block::EncoderBlock;
use super::norm::LayerNorm;
use super::patch::{PatchEmbedding, affine, undrawn_linear};
use super::{ModelError, Outputs, Pass, position};
use crate::ops::gather::gather_rows;
use crate::ops::linear::linear;
use crate::ops::norm::mean_of_normed;
use crate::setting::{Invalid, within};

/// What of the last tokens the head sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// A learned token before all others, as in the paper.
    ClassToken,
    /// The mean of the patches' tokens; register tokens do not count.
    Mean,
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
    /// away (Trockman & Kolter 2023); see [`mimetic`](super::mimetic).
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
}

impl VitConfig {
    /// Patches along one side.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Tokens before the patches: class token, distillation token, then registers.
    pub fn prefix(&self) -> usize {
        self.registers
            + usize::from(self.pooling == Pooling::ClassToken)
            + usize::from(self.distillation_token)
    }

    /// N: all tokens.
    pub fn tokens(&self) -> usize {
        self.grid() * self.grid() + self.prefix()
    }

    pub(super) fn validate(&self) -> Result<(), ModelError> {
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
        if !self.image_size.is_multiple_of(self.patch_size) {
            let divisors: Vec<String> = (2..=self.image_size)
                .filter(|size| self.image_size.is_multiple_of(*size))
                .map(|size| size.to_string())
                .collect();
            return Err(ModelError::PatchSize {
                patch_size: self.patch_size,
                image_size: self.image_size,
                divisors: divisors.join(", "),
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
}

/// A Vision Transformer.
#[derive(Module, Debug)]
pub struct Vit {
    /// From pixels to tokens.
    pub patch_embedding: PatchEmbedding,
    /// Learned positions of the class token, where there is one, and of the patches, `[.., D]`.
    pub position_embedding: Option<Param<Tensor<2>>>,
    /// `[1, D]`.
    pub class_token: Option<Param<Tensor<2>>>,
    /// `[1, D]`, without a position: added to a learned token, one would only be more of the same.
    pub distillation_token: Option<Param<Tensor<2>>>,
    /// `[registers, D]`.
    pub register_tokens: Option<Param<Tensor<2>>>,
    /// The encoder.
    pub blocks: Vec<EncoderBlock>,
    /// After the last block.
    pub norm: LayerNorm,
    /// From pooled features to logits.
    pub head: Linear,
    /// From the distillation token to logits.
    pub distillation_head: Option<Linear>,
    /// Fixed positions, `[patches, D]`: not a parameter, and not in a weights file.
    fixed_positions: Option<Tensor<2>>,
    /// Rotary positions, `[N, d]`, as in [`QueryKey`](crate::ops::attention::QueryKey): no
    /// parameter either.
    pub(super) rotation: Option<Tensor<2>>,
    #[module(skip)]
    position: Position,
    /// Patches along a side of a picture of full size.
    grid: usize,
    patch_size: usize,
}

impl Vit {
    /// As `config` has it, with weights yet to be drawn.
    pub(super) fn new(config: &VitConfig, device: &Device) -> Self {
        let (grid, width) = (config.grid(), config.embed_dim);
        let tokens = |count: usize| Initializer::Zeros.init::<2, _>([count, width], device);
        let class_tokens = usize::from(config.pooling == Pooling::ClassToken);
        let learned = config.position == Position::Learned;
        let fixed_positions = fixed_positions(config.position, grid, grid, width, device);
        let rotation = (config.position == Position::Rope2d).then(|| {
            let head_dim = width / config.num_heads;
            let table = position::rotations(&position::places(grid), config.prefix(), head_dim);
            Tensor::from_data(TensorData::new(table, [config.tokens(), head_dim]), device)
        });
        let last = (config.depth - 1).max(1) as f64;
        Self {
            patch_embedding: PatchEmbedding::new(config, device),
            position_embedding: learned.then(|| tokens(grid * grid + class_tokens)),
            class_token: (class_tokens > 0).then(|| tokens(1)),
            distillation_token: config.distillation_token.then(|| tokens(1)),
            register_tokens: (config.registers > 0).then(|| tokens(config.registers)),
            blocks: (0..config.depth)
                .map(|i| {
                    let drop_path = f64::from(config.drop_path) * i as f64 / last;
                    EncoderBlock::new(config, drop_path, device)
                })
                .collect(),
            norm: LayerNorm::new(width, device),
            head: undrawn_linear(width, config.num_classes, device),
            distillation_head: config
                .distillation_token
                .then(|| undrawn_linear(width, config.num_classes, device)),
            fixed_positions,
            position: config.position,
            grid,
            patch_size: config.patch_size,
            rotation,
        }
    }

    /// What each head says; with the normalised tokens of the patches where `with_map`.
    ///
    /// # Shapes
    ///
    /// `[B, 3, H, W]` → [`Outputs`].
    pub fn outputs(&self, images: Tensor<4>, with_map: bool, pass: &mut Pass) -> Outputs {
        let [batch, ..] = images.dims();
        let embedded = self.embed(images, pass);
        let whole = embedded.dims();
        let tokens = self.drop_tokens(embedded, batch, pass);
        let read = self.tokens_read().filter(|_| !with_map);
        let tokens = self.encode(tokens, batch, None, read, pass);
        let logits = |head: &Linear, features: Tensor<2>| {
            linear(features, &affine(head), pass.precision, pass.prepared)
        };
        Outputs {
            head: logits(&self.head, self.pool(&tokens, batch)),
            distillation: self.distillation_head.as_ref().map(|head| {
                let token = usize::from(self.class_token.is_some());
                logits(head, self.normed_token(&tokens, batch, token))
            }),
            // A map that lacks tokens is no grid.
            map: (with_map && tokens.dims() == whole).then(|| {
                let [rows, width] = tokens.dims();
                let (count, prefix) = (rows / batch, self.prefix());
                let normed = self.norm.forward(tokens).reshape([batch, count, width]);
                normed.narrow(1, prefix, count - prefix)
            }),
        }
    }

    /// The normalised class token, or the mean of the patches' normalised tokens.
    ///
    /// # Shapes
    ///
    /// `[B, 3, H, W]` → `[B, D]`.
    pub fn features(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        let [batch, ..] = images.dims();
        let tokens = self.embed(images, pass);
        let tokens = self.drop_tokens(tokens, batch, pass);
        let tokens = self.encode(tokens, batch, None, self.tokens_read(), pass);
        self.pool(&tokens, batch)
    }

    /// [`features`](Self::features) of the last block's tokens.
    fn pool(&self, tokens: &Tensor<2>, batch: usize) -> Tensor<2> {
        if self.class_token.is_some() {
            return self.normed_token(tokens, batch, 0);
        }
        mean_of_normed(tokens.clone(), batch, self.prefix(), &self.norm.scale())
    }

    /// One token of each picture, normalised: the norm works token by token, so the others need
    /// none.
    fn normed_token(&self, tokens: &Tensor<2>, batch: usize, index: usize) -> Tensor<2> {
        let [rows, width] = tokens.dims();
        let tokens = tokens.clone().reshape([batch, rows / batch, width]);
        let token = tokens.narrow(1, index, 1).reshape([batch, width]);
        self.norm.forward(token)
    }

    /// Tokens before the first block, positions added: class token, distillation token, registers,
    /// patches.
    ///
    /// A picture of another size than the configuration's has fewer or more patches; their
    /// positions are then read between the known ones, where they stand in the picture.
    ///
    /// # Shapes
    ///
    /// `[B, 3, H, W]` → `[B·N, D]`.
    pub fn embed(&self, images: Tensor<4>, pass: &Pass) -> Tensor<2> {
        let grid = images.dims()[2] / self.patch_size;
        let mut class_token = self.class_token.as_ref().map(|token| token.val());
        let mut positions = match &self.fixed_positions {
            Some(table) if grid != self.grid => {
                let [_, width] = table.dims();
                fixed_positions(self.position, grid, self.grid, width, &images.device())
            }
            table => table.clone(),
        };
        if let Some(learned) = &self.position_embedding {
            let learned = learned.val();
            let [count, _] = learned.dims();
            let first = usize::from(class_token.is_some());
            class_token = class_token.map(|token| token + learned.clone().narrow(0, 0, 1));
            let of_patches = match first {
                0 => learned,
                _ => learned.narrow(0, first, count - first),
            };
            positions = Some(interpolated(of_patches, self.grid, grid));
        }
        let distillation_token = self.distillation_token.as_ref().map(|token| token.val());
        let registers = self.register_tokens.as_ref().map(|tokens| tokens.val());
        let prefix = [class_token, distillation_token, registers];
        let prefix: Vec<_> = prefix.into_iter().flatten().collect();
        let prefix = (!prefix.is_empty()).then(|| Tensor::cat(prefix, 0));
        let (positions, prefix) = (positions.as_ref(), prefix.as_ref());
        self.patch_embedding
            .forward(images, positions, prefix, pass)
    }

    /// Leaves out the patches' tokens that this step drops; see [`Noise`](super::Noise).
    ///
    /// # Shapes
    ///
    /// `[B·N, D]` → `[B·N', D]`.
    fn drop_tokens(&self, tokens: Tensor<2>, batch: usize, pass: &mut Pass) -> Tensor<2> {
        let (count, prefix) = (tokens.dims()[0] / batch, self.prefix());
        let Some(kept) = pass.kept(batch, count - prefix) else {
            return tokens;
        };
        let rows = kept.into_iter().enumerate().flat_map(|(picture, kept)| {
            let first = picture * count;
            let patches = kept.into_iter().map(move |patch| first + prefix + patch);
            (first..first + prefix).chain(patches)
        });
        gather_rows(tokens, rows.collect())
    }

    /// How many of the last block's tokens, from the first, the heads read, where not all: the class
    /// and the distillation token.
    fn tokens_read(&self) -> Option<usize> {
        let distillation = usize::from(self.distillation_token.is_some());
        self.class_token.is_some().then_some(1 + distillation)
    }

    /// The encoder; `mask` as in [`add_attention`](crate::ops::attention::add_attention). With `read`, the
    /// last block works out that many tokens of each picture, from the first: the others' values
    /// there would go nowhere.
    ///
    /// # Shapes
    ///
    /// `[B·N, D]` → `[B·N, D]`, or `[B·read, D]`, before the last norm.
    pub fn encode(
        &self,
        tokens: Tensor<2>,
        batch: usize,
        mask: Option<&Tensor<4, Bool>>,
        read: Option<usize>,
        pass: &mut Pass,
    ) -> Tensor<2> {
        let mut x = tokens;
        for (i, block) in self.blocks.iter().enumerate() {
            let queries = read.filter(|_| i + 1 == self.blocks.len());
            x = block.forward(x, batch, self.rotation.as_ref(), mask, queries, pass);
        }
        x
    }

    fn prefix(&self) -> usize {
        let registers = self.register_tokens.as_ref();
        let registers = registers.map_or(0, |tokens| tokens.val().dims()[0]);
        registers
            + usize::from(self.class_token.is_some())
            + usize::from(self.distillation_token.is_some())
    }
}

/// The table of fixed positions at `grid`² places over a grid of `of`²; `None` where positions are
/// learned or absent.
fn fixed_positions(
    position: Position,
    grid: usize,
    of: usize,
    width: usize,
    device: &Device,
) -> Option<Tensor<2>> {
    let table = match position {
        Position::Learned | Position::Rope2d | Position::None => return None,
        Position::Sinusoidal1d => position::sinusoidal_1d(grid, of, width),
        Position::Sinusoidal2d => position::sinusoidal_2d(grid, of, width),
    };
    let shape = [grid * grid, width];
    Some(Tensor::from_data(TensorData::new(table, shape), device))
}

/// Learned positions of a grid of `from`² patches, read at `to`² places.
///
/// # Shapes
///
/// `[from², D]` → `[to², D]`.
fn interpolated(table: Tensor<2>, from: usize, to: usize) -> Tensor<2> {
    if from == to {
        return table;
    }
    let matrix = TensorData::new(position::interpolation(from, to), [to * to, from * from]);
    Tensor::from_data(matrix, &table.device()).matmul(table)
}
