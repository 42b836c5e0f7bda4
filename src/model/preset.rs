//! Architectures by name.

use super::vit::{Init, Pooling, Position, Stem, VitConfig};
use super::{AirbenchConfig, ModelConfig, ModelError, ResnetConfig, ResnetVariant};

/// An architecture with a name.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// As typed after `--model`.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    shape: Shape,
}

#[derive(Debug, Clone, Copy)]
enum Shape {
    Vit {
        embed_dim: usize,
        depth: usize,
        num_heads: usize,
        mlp_dim: usize,
        pooling: Pooling,
        stem: Stem,
    },
    Resnet {
        variant: ResnetVariant,
        width: usize,
    },
    Airbench {
        widths: [usize; 3],
        depth: usize,
    },
}

const fn deit(embed_dim: usize, num_heads: usize) -> Shape {
    Shape::Vit {
        embed_dim,
        depth: 12,
        num_heads,
        mlp_dim: 4 * embed_dim,
        pooling: Pooling::ClassToken,
        stem: Stem::Linear,
    }
}

/// All presets, smallest first.
pub fn presets() -> &'static [Preset] {
    const PRESETS: &[Preset] = &[
        Preset {
            name: "vit-micro",
            about: "ViT of 0.16 M parameters with a convolutional stem, for pictures of about 28 pixels: minutes on a CPU",
            shape: Shape::Vit {
                embed_dim: 64,
                depth: 4,
                num_heads: 2,
                mlp_dim: 128,
                pooling: Pooling::Mean,
                stem: Stem::Convolutional,
            },
        },
        Preset {
            name: "vit-w1",
            about: "ViT of 1.8 M parameters for small pictures: width 192, depth 6, mean pooling",
            shape: Shape::Vit {
                embed_dim: 192,
                depth: 6,
                num_heads: 3,
                mlp_dim: 384,
                pooling: Pooling::Mean,
                stem: Stem::Linear,
            },
        },
        Preset {
            name: "vit-tiny",
            about: "ViT-Ti of DeiT, 5.7 M parameters: width 192, depth 12, class token",
            shape: deit(192, 3),
        },
        Preset {
            name: "vit-small",
            about: "ViT-S of DeiT, 22 M parameters: width 384, depth 12, class token",
            shape: deit(384, 6),
        },
        Preset {
            name: "vit-base",
            about: "ViT-B of the paper, 87 M parameters: width 768, depth 12, class token",
            shape: deit(768, 12),
        },
        Preset {
            name: "resnet9",
            about: "small fast CNN baseline, 1.6 M parameters",
            shape: Shape::Resnet {
                variant: ResnetVariant::Resnet9,
                width: 32,
            },
        },
        Preset {
            name: "airbench",
            about: "strong CNN baseline for small pictures, 2.0 M parameters: the network of airbench94",
            shape: Shape::Airbench {
                widths: [64, 256, 256],
                depth: 2,
            },
        },
        Preset {
            name: "resnet18",
            about: "CNN baseline, 11 M parameters: CIFAR form below 96 pixels, ImageNet form from there",
            shape: Shape::Resnet {
                variant: ResnetVariant::Resnet18,
                width: 64,
            },
        },
    ];
    PRESETS
}

impl ModelConfig {
    /// The preset `name` for pictures of `image_size`, in patches of `patch_size` where it has
    /// any.
    ///
    /// Without a patch size it is 16 from 96 pixels up, 8 from 48 up, else 4; where that does not
    /// divide the picture, the next smaller that does. A convolutional stem halves the picture, so
    /// a patch size that is no power of two gets a linear one.
    ///
    /// # Errors
    ///
    /// A name that is none, a patch size for a model without patches, and whatever
    /// [`ModelConfig::validate`] refuses.
    pub fn preset(
        name: &str,
        image_size: usize,
        patch_size: Option<usize>,
        num_classes: usize,
    ) -> Result<Self, ModelError> {
        let config = Self::unchecked_preset(name, image_size, patch_size, num_classes)?;
        config.validate()?;
        Ok(config)
    }

    /// [`ModelConfig::preset`] before validation, for whoever changes it first.
    pub(crate) fn unchecked_preset(
        name: &str,
        image_size: usize,
        patch_size: Option<usize>,
        num_classes: usize,
    ) -> Result<Self, ModelError> {
        let preset = presets()
            .iter()
            .find(|preset| preset.name == name)
            .ok_or_else(|| unknown(name))?;
        let config = match (preset.shape, patch_size) {
            (
                Shape::Vit {
                    embed_dim,
                    depth,
                    num_heads,
                    mlp_dim,
                    pooling,
                    stem,
                },
                patch_size,
            ) => {
                let patch_size = patch_size.unwrap_or_else(|| default_patch_size(image_size));
                let halves = patch_size >= 2 && patch_size.is_power_of_two();
                Self::Vit(VitConfig {
                    image_size,
                    patch_size,
                    embed_dim,
                    depth,
                    num_heads,
                    mlp_dim,
                    num_classes,
                    pooling,
                    position: Position::Learned,
                    stem: if halves { stem } else { Stem::Linear },
                    stem_depth: 0,
                    registers: 0,
                    drop_path: 0.0,
                    distillation_token: false,
                    init: Init::Xavier,
                    layer_scale: 0.0,
                    qk_norm: false,
                })
            }
            (Shape::Resnet { variant, width }, None) => Self::Resnet(ResnetConfig {
                variant,
                image_size,
                num_classes,
                width,
            }),
            (Shape::Airbench { widths, depth }, None) => Self::Airbench(AirbenchConfig {
                image_size,
                num_classes,
                widths,
                depth,
                residual: false,
                stem_kernel: 2,
                whiten: true,
            }),
            (Shape::Resnet { .. } | Shape::Airbench { .. }, Some(_)) => {
                return Err(ModelError::NoPatches { name: name.into() });
            }
        };
        Ok(config)
    }

    /// The preset that this is, whatever its sizes of picture and patch and its classes; else the
    /// family.
    pub fn name(&self) -> &'static str {
        let (family, patch_size) = match self {
            Self::Vit(config) => ("vit", Some(config.patch_size)),
            Self::Resnet(_) => ("resnet", None),
            Self::Airbench(_) => ("airbench", None),
        };
        let alike = |preset: &&Preset| {
            Self::preset(
                preset.name,
                self.image_size(),
                patch_size,
                self.num_classes(),
            )
            .as_ref()
                == Ok(self)
        };
        presets()
            .iter()
            .find(alike)
            .map_or(family, |preset| preset.name)
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

fn unknown(name: &str) -> ModelError {
    let known: Vec<&str> = presets().iter().map(|preset| preset.name).collect();
    let nearest = known
        .iter()
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), known))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = match nearest {
        Some((likeness, known)) if likeness > 0.5 => format!(", did you mean {known:?}?"),
        _ => String::new(),
    };
    ModelError::UnknownPreset {
        name: name.into(),
        hint,
        known: known.join(", "),
    }
}
