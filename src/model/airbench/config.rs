//! What the CNN of airbench is made of, its presets, and what it costs.

use serde::{Deserialize, Serialize};

use crate::model::count::Count;
use crate::model::error::ModelError;
use crate::model::family::{Family, PresetOf, Sizes};
use crate::setting::within;

/// The architecture of an [`Airbench`](super::Airbench); the preset is airbench94.
///
/// Jordan's airbench96 is near `widths = [128, 384, 512]`, `depth = 3`, `residual = true`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AirbenchConfig {
    /// Side of the square input, in pixels.
    pub image_size: usize,
    /// Classes.
    pub num_classes: usize,
    /// Channels of the three groups.
    pub widths: [usize; 3],
    /// Convolutions of a group.
    pub depth: usize,
    /// Whether a group's first map is added before its last GELU.
    pub residual: bool,
    /// Side of the first convolution's patches, in pixels.
    pub stem_kernel: usize,
    /// Whether the first convolution whitens the training pictures' patches and stays as it is;
    /// without it, it is drawn and trained like the others.
    pub whiten: bool,
}

impl AirbenchConfig {
    /// Filters of the first convolution: each principal component of a patch, with both signs.
    pub(crate) fn stem_width(&self) -> usize {
        2 * 3 * self.stem_kernel * self.stem_kernel
    }

    /// Side of the first convolution's map.
    pub(crate) fn stem_side(&self) -> usize {
        self.image_size - self.stem_kernel + 1
    }
}

impl Family for AirbenchConfig {
    fn name(&self) -> &'static str {
        "airbench"
    }

    fn presets() -> &'static [PresetOf<Self>] {
        PRESETS
    }

    fn sized(&self, preset: &str, sizes: Sizes) -> Result<Self, ModelError> {
        sizes.without_patches(preset)?;
        Ok(Self {
            image_size: sizes.image_size,
            num_classes: sizes.num_classes,
            ..self.clone()
        })
    }

    fn validate(&self) -> Result<(), ModelError> {
        within("stem_kernel", self.stem_kernel, 1..=4)?;
        // Three halvings must leave a pixel.
        within("image_size", self.image_size, self.stem_kernel + 7..=4096)?;
        within("num_classes", self.num_classes, 1..=1_000_000)?;
        for width in self.widths {
            within("widths", width, 1..=4096)?;
        }
        let least = if self.residual { 2 } else { 1 };
        within("depth", self.depth, least..=64)?;
        Ok(())
    }

    fn image_size(&self) -> usize {
        self.image_size
    }

    fn size_step(&self) -> usize {
        // Of 8 pixels the first convolution would leave too few to halve.
        self.image_size.min(16)
    }

    fn width(&self) -> usize {
        self.widths[2]
    }

    fn num_classes(&self) -> usize {
        self.num_classes
    }

    fn count(&self, image_size: usize, _token_drop: f64) -> Count {
        let config = &Self {
            image_size,
            ..self.clone()
        };
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

    fn whitens(&self) -> Option<usize> {
        self.whiten.then_some(self.stem_kernel)
    }
}

const PRESETS: &[PresetOf<AirbenchConfig>] = &[PresetOf {
    name: "airbench",
    about: "strong CNN baseline for small pictures, 2.0 M parameters: the network of airbench94",
    config: AirbenchConfig {
        image_size: 0,
        num_classes: 0,
        widths: [64, 256, 256],
        depth: 2,
        residual: false,
        stem_kernel: 2,
        whiten: true,
    },
}];
