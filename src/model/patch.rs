//! Pictures to tokens.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;

use super::init::Init;
use super::resnet::{Conv, ConvNorm};

/// Patch embedding (Dosovitskiy et al. 2021, eq. 1): cut into patches, flatten, project.
///
/// A convolution of stride P says the same; a reshape and a matrix product say it faster. A patch
/// is flattened in the order (C, P, P), so that the weight is timm's convolution weight, reshaped
/// to `[D, C·P·P]` and transposed.
#[derive(Module, Debug)]
pub struct PatchEmbedding {
    projection: Linear,
    patch_size: usize,
}

impl PatchEmbedding {
    /// Patches of `patch_size` from `channels` channels to width `embed_dim`.
    pub fn new(channels: usize, patch_size: usize, embed_dim: usize, init: &Init) -> Self {
        Self {
            projection: init
                .part("projection")
                .linear(channels * patch_size * patch_size, embed_dim),
            patch_size,
        }
    }

    /// # Shapes
    ///
    /// `[B, C, H, W]` to `[B, N, D]`, rows of patches first.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<3> {
        let [b, c, h, w] = images.dims();
        let p = self.patch_size;
        let (rows, columns) = (h / p, w / p);
        let patches = images
            .reshape([b, c, rows, p, columns, p])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([b * rows * columns, c * p * p]);
        let [_, width] = self.projection.weight.dims();
        self.projection
            .forward(patches)
            .reshape([b, rows * columns, width])
    }
}

/// A convolutional stem (Xiao et al. 2021, "Early convolutions"): 3×3 convolutions of stride 2
/// with batch norm and ReLU until the grid is the patch grid, then a 1×1 projection.
#[derive(Module, Debug)]
pub struct ConvStem {
    layers: Vec<ConvNorm>,
    projection: Conv,
}

impl ConvStem {
    /// Widths of the stem's layers: halved from `embed_dim` backwards, one a factor of two.
    pub fn widths(patch_size: usize, embed_dim: usize) -> Vec<usize> {
        let steps = patch_size.ilog2() as usize;
        (0..steps)
            .map(|i| (embed_dim >> (steps - 1 - i)).max(8))
            .collect()
    }

    /// A stem that divides the side by `patch_size`, a power of two.
    pub fn new(channels: usize, patch_size: usize, embed_dim: usize, init: &Init) -> Self {
        let mut inputs = channels;
        let mut layers = Vec::new();
        for (i, width) in Self::widths(patch_size, embed_dim).into_iter().enumerate() {
            let init = init.part(&format!("layers.{i}"));
            layers.push(ConvNorm::new(inputs, width, 3, 2, &init));
            inputs = width;
        }
        Self {
            layers,
            projection: Conv::new(inputs, embed_dim, 1, 1, &init.part("projection")),
        }
    }

    /// # Shapes
    ///
    /// `[B, C, H, W]` to `[B, N, D]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<3> {
        let mut x = images;
        for layer in &self.layers {
            x = burn::tensor::activation::relu(layer.forward(x));
        }
        let x = self.projection.forward(x);
        let [b, d, h, w] = x.dims();
        x.reshape([b, d, h * w]).swap_dims(1, 2)
    }
}
