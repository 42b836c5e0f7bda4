//! Architectures by name.

use super::error::ModelError;
use super::families::ModelConfig;
use super::family::Sizes;

/// An architecture with a name.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// As typed after `--model`.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
}

/// All presets, family by family, smallest first.
pub fn presets() -> Vec<Preset> {
    let names = ModelConfig::preset_names().into_iter();
    names.map(|(name, about)| Preset { name, about }).collect()
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

    /// [`ModelConfig::preset`] before validation, for callers that change it before validation.
    pub(crate) fn unchecked_preset(
        name: &str,
        image_size: usize,
        patch_size: Option<usize>,
        num_classes: usize,
    ) -> Result<Self, ModelError> {
        let sizes = Sizes {
            image_size,
            patch_size,
            num_classes,
        };
        Self::find_preset(name, sizes).unwrap_or_else(|| Err(unknown(name)))
    }
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
