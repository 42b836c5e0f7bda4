//! The Vision Transformer (Dosovitskiy et al. 2021).

use burn::module::{Module, Param};
use burn::nn::{Initializer, Linear};
use burn::tensor::{Bool, Device, Tensor, TensorData};

use super::block::EncoderBlock;
use super::config::{Init, Pooling, Position, VitConfig};
use super::patch_embedding::PatchEmbedding;
use super::{mimetic, position};
use crate::model::family::Family;
use crate::model::layers::{affine, undrawn_linear};
use crate::model::network::{Network, Outputs};
use crate::model::norm::LayerNorm;
use crate::model::pass::Pass;
use crate::model::role::{Declarations, Declare, Role};
use crate::ops::gather::gather_rows;
use crate::ops::linear::linear;
use crate::ops::norm::{mean_of_normed, norm_of_mean};

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
    /// After the last block, or after pooling.
    pub norm: LayerNorm,
    /// From pooled features to logits.
    pub head: Linear,
    /// From the distillation token to logits.
    pub distillation_head: Option<Linear>,
    /// Fixed positions, `[patches, D]`: not a parameter, and not in a weights file.
    fixed_positions: Option<Tensor<2>>,
    /// Rotary positions, `[N, d]`, as in [`QueryKey`](crate::ops::attention::QueryKey): no
    /// parameter either.
    pub(crate) rotation: Option<Tensor<2>>,
    #[module(skip)]
    position: Position,
    #[module(skip)]
    init: Init,
    #[module(skip)]
    pooling: Pooling,
    norm_after_pooling: bool,
    /// Patches along a side of a picture of full size.
    grid: usize,
    patch_size: usize,
}

impl VitConfig {
    pub(crate) fn build<M: From<Vit>>(&self, device: &Device) -> M {
        Vit::new(self, device).into()
    }
}

impl Vit {
    /// As `config` has it, with weights yet to be drawn.
    fn new(config: &VitConfig, device: &Device) -> Self {
        let (grid, width) = (config.grid(), config.embed_dim);
        let tokens = |count: usize| Initializer::Zeros.init::<2, _>([count, width], device);
        let class_tokens = usize::from(config.pooling.has_class_token());
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
            norm: LayerNorm::new(width, config.norm_epsilon, device),
            head: undrawn_linear(config.width(), config.num_classes, device),
            distillation_head: config
                .distillation_token
                .then(|| undrawn_linear(width, config.num_classes, device)),
            fixed_positions,
            position: config.position,
            init: config.init,
            pooling: config.pooling,
            norm_after_pooling: config.norm_after_pooling,
            grid,
            patch_size: config.patch_size,
            rotation,
        }
    }

    /// What the head sees of the last block's tokens: the normalised class token, the mean of the
    /// patches' normalised tokens or both side by side, or the normalised mean of their tokens.
    ///
    /// # Shapes
    ///
    /// `[B·N, D]` → `[B, F]`.
    fn pool(&self, tokens: &Tensor<2>, batch: usize) -> Tensor<2> {
        let (prefix, scale) = (self.prefix(), self.norm.scale());
        let mean = || match self.norm_after_pooling {
            true => norm_of_mean(tokens.clone(), batch, prefix, &scale),
            false => mean_of_normed(tokens.clone(), batch, prefix, &scale),
        };
        let class_token = || self.normed_token(tokens, batch, 0);
        match self.pooling {
            Pooling::ClassToken => class_token(),
            Pooling::Mean => mean(),
            Pooling::ClassTokenAndMean => Tensor::cat(vec![class_token(), mean()], 1),
        }
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

    /// Leaves out the patches' tokens that this step drops; see [`Noise`](crate::model::Noise).
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
        (self.pooling == Pooling::ClassToken).then_some(1 + distillation)
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

impl Declare for Vit {
    fn declare(&self, to: &mut Declarations) {
        to.layer(0).module("patch_embedding", &self.patch_embedding);
        let tokens = &self.position_embedding;
        to.optional("position_embedding", tokens, Role::Position);
        to.optional("class_token", &self.class_token, Role::ClassToken);
        let token = &self.distillation_token;
        to.optional("distillation_token", token, Role::DistillationToken);
        let tokens = &self.register_tokens;
        to.optional("register_tokens", tokens, Role::RegisterToken);
        to.within("blocks", |to| {
            for (i, block) in self.blocks.iter().enumerate() {
                to.layer(1 + i).module(&i.to_string(), block);
            }
        });
        to.layer(1 + self.blocks.len()).module("norm", &self.norm);
        to.linear("head", &self.head, Role::Head);
        if let Some(head) = &self.distillation_head {
            to.linear("distillation_head", head, Role::DistillationHead);
        }
    }
}

impl Network for Vit {
    fn outputs(&self, images: Tensor<4>, with_map: bool, pass: &mut Pass) -> Outputs {
        let [batch, ..] = images.dims();
        let embedded = self.embed(images, pass);
        let whole = embedded.dims();
        let tokens = self.drop_tokens(embedded, batch, pass);
        let read = self.tokens_read().filter(|_| !with_map);
        let tokens = self.encode(tokens, batch, None, read, pass);
        let logits = |head: &Linear, features: Tensor<2>| {
            linear(features, &affine(head), pass.precision, pass.prepared)
        };
        let features = self.pool(&tokens, batch);
        Outputs {
            head: logits(&self.head, features.clone()),
            features,
            distillation: self.distillation_head.as_ref().map(|head| {
                let token = usize::from(self.class_token.is_some());
                logits(head, self.normed_token(&tokens, batch, token))
            }),
            // A map that lacks tokens is no grid.
            map: (with_map && tokens.dims() == whole).then(|| {
                let [rows, width] = tokens.dims();
                let (count, prefix) = (rows / batch, self.prefix());
                let pooled = match self.norm_after_pooling {
                    true => tokens,
                    false => self.norm.forward(tokens),
                };
                let pooled = pooled.reshape([batch, count, width]);
                pooled.narrow(1, prefix, count - prefix)
            }),
        }
    }

    /// What the head sees; see [`Pooling`].
    fn features(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        let [batch, ..] = images.dims();
        let tokens = self.embed(images, pass);
        let tokens = self.drop_tokens(tokens, batch, pass);
        let tokens = self.encode(tokens, batch, None, self.tokens_read(), pass);
        self.pool(&tokens, batch)
    }

    fn width(&self) -> usize {
        self.head.weight.dims()[0]
    }

    fn map_width(&self) -> usize {
        self.norm.gamma.dims()[0]
    }

    fn draw(&mut self, seed: u64, device: &Device, wanted: &dyn Fn(&str) -> bool) {
        if self.init == Init::Mimetic {
            for (i, block) in self.blocks.iter_mut().enumerate() {
                let name = format!("Vit.blocks.{i}");
                mimetic::draw(&mut block.attention, seed, &name, device, wanted);
            }
        }
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
