//! What a ResNet is made of, its presets, and what it costs.

use serde::{Deserialize, Serialize};

use crate::model::count::Count;
use crate::model::error::ModelError;
use crate::model::family::{Family, PresetOf, Sizes};
use crate::setting::{Invalid, within};

/// Which baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResnetVariant {
    /// He et al. 2016, table 1.
    Resnet18,
    /// After D. Page's DAWNBench entry of 2018.
    Resnet9,
}

/// The first layers of ResNet-18.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResnetStem {
    /// `small` for pictures below 96 pixels, else `imagenet`.
    #[default]
    BySize,
    /// A 3×3 convolution, as for CIFAR.
    Small,
    /// A 7×7 convolution of stride 2, then 3×3 max pooling of stride 2, as for ImageNet.
    Imagenet,
}

impl ResnetStem {
    fn is_by_size(&self) -> bool {
        *self == Self::BySize
    }
}

/// The architecture of a convolutional baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResnetConfig {
    /// Which baseline.
    pub variant: ResnetVariant,
    /// Side of the square input, in pixels.
    pub image_size: usize,
    /// Classes.
    pub num_classes: usize,
    /// Channels after the first convolution; later stages have 2, 4 and 8 times as many.
    pub width: usize,
    /// The first layers of ResNet-18.
    #[serde(default, skip_serializing_if = "ResnetStem::is_by_size")]
    pub stem: ResnetStem,
}

/// Image side from which ResNet-18 takes its ImageNet stem.
const IMAGENET_FROM: usize = 96;

impl ResnetConfig {
    /// Whether ResNet-18 takes the ImageNet stem, 7×7 with pooling, over CIFAR's 3×3.
    pub(crate) fn imagenet_stem(&self) -> bool {
        match self.stem {
            ResnetStem::BySize => self.image_size >= IMAGENET_FROM,
            ResnetStem::Small => false,
            ResnetStem::Imagenet => true,
        }
    }
}

impl Family for ResnetConfig {
    fn name(&self) -> &'static str {
        "resnet"
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
        // Three halvings must leave a pixel.
        within("image_size", self.image_size, 8..=4096)?;
        within("num_classes", self.num_classes, 1..=1_000_000)?;
        within("width", self.width, 1..=2048)?;
        if self.variant == ResnetVariant::Resnet9 && self.stem != ResnetStem::BySize {
            let found = if self.imagenet_stem() {
                "imagenet"
            } else {
                "small"
            };
            let expected = "by-size, for ResNet-9 has one stem alone";
            return Err(Invalid::new("stem", found, expected).into());
        }
        Ok(())
    }

    fn image_size(&self) -> usize {
        self.image_size
    }

    fn size_step(&self) -> usize {
        // Three halvings, then a pooling over whatever is left.
        8
    }

    fn width(&self) -> usize {
        8 * self.width
    }

    fn num_classes(&self) -> usize {
        self.num_classes
    }

    fn unwritten(&self) -> Vec<(&'static str, serde_json::Value)> {
        match self.variant {
            ResnetVariant::Resnet18 => vec![("stem", serde_json::json!(self.stem))],
            ResnetVariant::Resnet9 => Vec::new(),
        }
    }

    /// The stem stays that of the configuration's own size.
    fn count(&self, image_size: usize, _token_drop: f64) -> Count {
        match self.variant {
            ResnetVariant::Resnet18 => resnet18(self, image_size),
            ResnetVariant::Resnet9 => resnet9(self, image_size),
        }
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

const PRESETS: &[PresetOf<ResnetConfig>] = &[
    PresetOf {
        name: "resnet9",
        about: "small fast CNN baseline, 1.6 M parameters",
        config: preset(ResnetVariant::Resnet9, 32),
    },
    PresetOf {
        name: "resnet18",
        about: "CNN baseline, 11 M parameters: CIFAR form below 96 pixels, ImageNet form from there",
        config: preset(ResnetVariant::Resnet18, 64),
    },
];

/// A baseline without a size of picture and without classes.
const fn preset(variant: ResnetVariant, width: usize) -> ResnetConfig {
    ResnetConfig {
        variant,
        image_size: 0,
        num_classes: 0,
        width,
        stem: ResnetStem::BySize,
    }
}
