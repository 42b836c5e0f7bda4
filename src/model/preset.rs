//! Architectures by name.

use super::{ModelConfig, ModelError, Pooling, Position, ResnetConfig, ResnetVariant, Stem, VitConfig};

/// A named architecture that adapts to the size of the pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preset {
    /// Its name for `--model`.
    pub name: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    shape: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    Vit {
        embed_dim: usize,
        depth: usize,
        num_heads: usize,
        mlp_dim: usize,
        pooling: Pooling,
    },
    Resnet {
        variant: ResnetVariant,
        width: usize,
    },
}

const fn vit(embed_dim: usize, depth: usize, num_heads: usize, mlp_dim: usize, pooling: Pooling) -> Shape {
    Shape::Vit {
        embed_dim,
        depth,
        num_heads,
        mlp_dim,
        pooling,
    }
}

/// Every preset.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "vit-micro",
        about: "ViT of 0.5 M parameters, trains in minutes on a CPU",
        shape: vit(96, 4, 3, 192, Pooling::Mean),
    },
    Preset {
        name: "vit-w1",
        about: "ViT of 1.8 M parameters, for 32x32 pictures",
        shape: vit(192, 6, 3, 384, Pooling::Mean),
    },
    Preset {
        name: "vit-tiny",
        about: "ViT-Ti/16 (Touvron et al. 2021): 5.7 M",
        shape: vit(192, 12, 3, 768, Pooling::ClassToken),
    },
    Preset {
        name: "vit-small",
        about: "ViT-S/16 (Touvron et al. 2021): 22 M",
        shape: vit(384, 12, 6, 1536, Pooling::ClassToken),
    },
    Preset {
        name: "vit-base",
        about: "ViT-B/16 (Dosovitskiy et al. 2021): 87 M",
        shape: vit(768, 12, 12, 3072, Pooling::ClassToken),
    },
    Preset {
        name: "resnet9",
        about: "small fast CNN of 1.7 M parameters",
        shape: Shape::Resnet {
            variant: ResnetVariant::Resnet9,
            width: 32,
        },
    },
    Preset {
        name: "resnet18",
        about: "ResNet-18 (He et al. 2016): 11 M",
        shape: Shape::Resnet {
            variant: ResnetVariant::Resnet18,
            width: 64,
        },
    },
];

/// Finds a preset.
///
/// # Errors
///
/// [`ModelError::Unknown`], with the nearest name.
pub(super) fn find(name: &str) -> Result<&'static Preset, ModelError> {
    PRESETS.iter().find(|p| p.name == name).ok_or_else(|| {
        let nearest = PRESETS
            .iter()
            .map(|p| (p.name, strsim::jaro_winkler(p.name, name)))
            .filter(|(_, score)| *score > 0.7)
            .max_by(|a, b| a.1.total_cmp(&b.1));
        ModelError::Unknown {
            name: name.to_owned(),
            hint: nearest.map_or_else(String::new, |(n, _)| format!("; did you mean {n}?")),
            known: PRESETS.iter().map(|p| p.name).collect::<Vec<_>>().join(", "),
        }
    })
}

/// 16 from 96 pixels on, 8 from 48, 4 below; the nearest smaller divisor where that does not fit.
fn natural_patch(image_size: usize) -> usize {
    let wanted = match image_size {
        96.. => 16,
        48..96 => 8,
        _ => 4,
    };
    (1..=wanted)
        .rev()
        .find(|p| image_size.is_multiple_of(*p))
        .unwrap_or(1)
}

impl Preset {
    pub(super) fn config(
        &self,
        image_size: usize,
        patch_size: Option<usize>,
        num_classes: usize,
    ) -> ModelConfig {
        match self.shape {
            Shape::Vit {
                embed_dim,
                depth,
                num_heads,
                mlp_dim,
                pooling,
            } => ModelConfig::Vit(VitConfig {
                image_size,
                patch_size: patch_size.unwrap_or_else(|| natural_patch(image_size)),
                embed_dim,
                depth,
                num_heads,
                mlp_dim,
                num_classes,
                pooling,
                position: Position::Learned,
                stem: Stem::Linear,
                registers: 0,
                drop_path: 0.0,
            }),
            Shape::Resnet { variant, width } => ModelConfig::Resnet(ResnetConfig {
                variant,
                image_size,
                num_classes,
                width,
            }),
        }
    }
}
