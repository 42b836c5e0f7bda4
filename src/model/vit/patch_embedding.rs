//! From pixels to tokens.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};

use super::config::VitConfig;
use crate::model::convolution::{ConvNorm, channels_last, pixels};
use crate::model::layers::{affine, undrawn_linear};
use crate::model::pass::Pass;
use crate::model::role::{Declarations, Declare, Role};
use crate::ops::batch_norm::Tail;
use crate::ops::embedding::embed;

/// The weights that turn pictures into tokens.
#[derive(Module, Debug)]
pub struct PatchEmbedding {
    /// Convolutions before the projection; none with a linear stem.
    pub stem: Vec<ConvNorm>,
    /// The linear map to the token width.
    pub projection: Linear,
    patch_size: usize,
}

impl Declare for PatchEmbedding {
    fn declare(&self, to: &mut Declarations) {
        to.within("stem", |to| {
            for (i, layer) in self.stem.iter().enumerate() {
                let role = match i {
                    0 => Role::FirstConvolution,
                    _ => Role::Convolution,
                };
                layer.declare(&i.to_string(), role, to);
            }
        });
        to.linear("projection", &self.projection, Role::Embedding);
    }
}

impl PatchEmbedding {
    /// As `config` has it.
    pub fn new(config: &VitConfig, device: &Device) -> Self {
        let mut stem = Vec::new();
        let mut channels = 3;
        for (width, stride) in config.stem_layers() {
            stem.push(ConvNorm::new([channels, width], 3, stride, device));
            channels = width;
        }
        let patch_size = config.patch_size;
        let inputs = match stem.is_empty() {
            true => channels * patch_size * patch_size,
            // The stem has made a pixel of each patch.
            false => channels,
        };
        Self {
            stem,
            projection: undrawn_linear(inputs, config.embed_dim, device),
            patch_size,
        }
    }

    /// Tokens of the patches, row by row over each picture, after the `prefix`; see [`embed`].
    ///
    /// # Shapes
    ///
    /// `[B, 3, H, W]` → `[B·N, D]`.
    pub fn forward(
        &self,
        images: Tensor<4>,
        positions: Option<&Tensor<2>>,
        prefix: Option<&Tensor<2>>,
        pass: &Pass,
    ) -> Tensor<2> {
        let (x, patch) = if self.stem.is_empty() {
            (images, [self.patch_size; 2])
        } else {
            let mut map = channels_last(images);
            for layer in &self.stem {
                map = layer.forward(map, Tail::Relu, pass);
            }
            // A patch's channels lie side by side: one line of a picture of one channel.
            let map = pixels(map);
            let channels = map.dims()[2];
            (map.unsqueeze_dim(1), [1, channels])
        };
        embed(
            x,
            patch,
            &affine(&self.projection),
            positions,
            prefix,
            pass.precision,
            pass.prepared,
        )
    }
}
