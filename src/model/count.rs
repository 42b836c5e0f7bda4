//! Parameters and arithmetic, by formula.

use super::drop_path::kept_tokens;
use super::patch::stem_layers;
use super::vit::{Pooling, Position, VitConfig};
use super::{AirbenchConfig, ModelConfig, ResnetConfig, ResnetVariant};

/// Parameters, and multiply-adds of one picture.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    parameters: u64,
    multiply_adds: u64,
}

impl Count {
    /// A linear layer with bias, applied to `rows` vectors.
    fn linear(&mut self, rows: usize, inputs: usize, outputs: usize) {
        self.parameters += product([inputs, outputs]) + outputs as u64;
        self.multiply_adds += product([rows, inputs, outputs]);
    }

    /// A k×k convolution and its batch norm, giving `side`² pixels.
    fn conv(&mut self, kernel: usize, inputs: usize, outputs: usize, side: usize) {
        let weights = product([kernel, kernel, inputs, outputs]);
        self.parameters += weights + 2 * outputs as u64;
        self.multiply_adds = self
            .multiply_adds
            .saturating_add(weights.saturating_mul(product([side, side])));
    }
}

fn product<const N: usize>(factors: [usize; N]) -> u64 {
    factors.into_iter().fold(1_u64, |product, factor| {
        product.saturating_mul(factor as u64)
    })
}

impl ModelConfig {
    /// Trainable numbers; running statistics of batch norms and a whitening layer do not count.
    pub fn parameters(&self) -> u64 {
        self.count().parameters
    }

    /// Floating-point operations of one forward pass over one picture.
    ///
    /// A multiply-add is 2. Counted are the products of linear layers, convolutions and
    /// attention; not counted are biases, norms, activations, softmax, pooling and additions,
    /// which are about 1 % of a Vision Transformer. A training step takes about three times as
    /// many. As papers count, every block works out every token; where the heads read a class token
    /// alone, the last block does less here (a ViT-Ti 6.5 % less in all).
    pub fn flops(&self) -> u64 {
        self.count().multiply_adds.saturating_mul(2)
    }

    /// [`flops`](Self::flops) of a training picture of another size, with a share of its patches
    /// left out of the encoder.
    pub fn flops_of(&self, image_size: usize, token_drop: f64) -> u64 {
        let count = match self {
            Self::Vit(config) => {
                let config = VitConfig {
                    image_size,
                    ..config.clone()
                };
                let patches = config.grid() * config.grid();
                vit(&config, kept_tokens(patches, token_drop))
            }
            Self::Resnet(config) => resnet(config, image_size),
            Self::Airbench(config) => airbench(&AirbenchConfig {
                image_size,
                ..config.clone()
            }),
        };
        count.multiply_adds.saturating_mul(2)
    }

    fn count(&self) -> Count {
        match self {
            Self::Vit(config) => vit(config, config.grid() * config.grid()),
            Self::Resnet(config) => resnet(config, config.image_size),
            Self::Airbench(config) => airbench(config),
        }
    }
}

/// Of the patches, `kept` go through the encoder.
fn vit(config: &VitConfig, kept: usize) -> Count {
    let mut count = Count::default();
    let (width, tokens) = (config.embed_dim, kept + config.prefix());
    let patches = config.grid() * config.grid();
    let mut channels = 3;
    let mut side = config.image_size;
    for (outputs, stride) in stem_layers(config) {
        side /= stride;
        count.conv(3, channels, outputs, side);
        channels = outputs;
    }
    let patch_size = side / config.grid();
    count.linear(patches, channels * patch_size * patch_size, width);
    let class_tokens = usize::from(config.pooling == Pooling::ClassToken);
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
        block.parameters += 2 * (width / config.num_heads) as u64;
    }
    let depth = config.depth as u64;
    count.parameters += depth * (block.parameters + 2 * norm) + norm;
    count.multiply_adds += depth * block.multiply_adds;
    count.linear(1, width, config.num_classes);
    if config.distillation_token {
        count.linear(1, width, config.num_classes);
    }
    count
}

/// A baseline of `config`, whose stem is that of its own size, on pictures of another `side`.
fn resnet(config: &ResnetConfig, side: usize) -> Count {
    match config.variant {
        ResnetVariant::Resnet18 => resnet18(config, side),
        ResnetVariant::Resnet9 => resnet9(config, side),
    }
}

/// A 3×3 convolution and its like of stride 2 give half the side, rounded up.
fn resnet18(config: &ResnetConfig, mut side: usize) -> Count {
    let mut count = Count::default();
    let mut channels = config.width;
    if config.imagenet_stem() {
        side = side.div_ceil(2);
        count.conv(7, 3, channels, side);
        side = side.div_ceil(2);
    } else {
        count.conv(3, 3, channels, side);
    }
    for stage in 0..4 {
        let width = config.width << stage;
        if stage > 0 {
            side = side.div_ceil(2);
            count.conv(1, channels, width, side);
        }
        count.conv(3, channels, width, side);
        for _ in 0..3 {
            count.conv(3, width, width, side);
        }
        channels = width;
    }
    count.linear(1, channels, config.num_classes);
    count
}

fn resnet9(config: &ResnetConfig, side: usize) -> Count {
    let mut count = Count::default();
    let width = config.width;
    count.conv(3, 3, width, side);
    count.conv(3, width, 2 * width, side);
    count.conv(3, 2 * width, 2 * width, side / 2);
    count.conv(3, 2 * width, 2 * width, side / 2);
    count.conv(3, 2 * width, 4 * width, side / 2);
    count.conv(3, 4 * width, 8 * width, side / 4);
    count.conv(3, 8 * width, 8 * width, side / 8);
    count.conv(3, 8 * width, 8 * width, side / 8);
    count.linear(1, 8 * width, config.num_classes);
    count
}

fn airbench(config: &AirbenchConfig) -> Count {
    let mut count = Count::default();
    let (kernel, mut channels) = (config.stem_kernel, config.stem_width());
    let mut side = config.stem_side();
    count.linear(side * side, 3 * kernel * kernel, channels);
    if config.whiten {
        // Its bias alone is trained.
        count.parameters = channels as u64;
    }
    for width in config.widths {
        count.conv(3, channels, width, side);
        side /= 2;
        for _ in 1..config.depth {
            count.conv(3, width, width, side);
        }
        channels = width;
    }
    count.linear(1, channels, config.num_classes);
    count
}
