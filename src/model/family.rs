//! What every family's configuration knows, and its presets.

use super::count::Count;
use super::error::ModelError;

/// Sizes of a preset that do not follow from its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Side of the square input, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels, where one was asked for.
    pub patch_size: Option<usize>,
    /// Classes.
    pub num_classes: usize,
}

impl Sizes {
    /// Refuses a size of patches for a preset that has none.
    pub(crate) fn without_patches(&self, preset: &str) -> Result<(), ModelError> {
        match self.patch_size {
            None => Ok(()),
            Some(_) => Err(ModelError::NoPatches {
                name: preset.to_owned(),
            }),
        }
    }
}

/// One line of a family's table of presets.
#[derive(Debug)]
pub(crate) struct PresetOf<C> {
    /// As typed after `--model`.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// The architecture, before it is given its [`Sizes`].
    pub config: C,
}

/// The configuration of one family of models.
pub(crate) trait Family {
    /// The family, in a word.
    fn name(&self) -> &'static str;

    /// The family's architectures by name, smallest first.
    fn presets() -> &'static [PresetOf<Self>]
    where
        Self: Sized;

    /// The architecture of a preset, whose name is for messages, for these sizes.
    fn sized(&self, preset: &str, sizes: Sizes) -> Result<Self, ModelError>
    where
        Self: Sized;

    /// The first number that is outside its range, if any is.
    fn validate(&self) -> Result<(), ModelError>;

    /// Side of the square input, in pixels.
    fn image_size(&self) -> usize;

    /// Pixels by which the side of an input may differ from [`image_size`](Self::image_size), and
    /// its smallest side.
    fn size_step(&self) -> usize;

    /// Side of a patch, in pixels; `None` for a family without patches.
    fn patch_size(&self) -> Option<usize> {
        None
    }

    /// The setting for which every picture has to be of full size and whole, if there is one.
    fn needs_whole_pictures(&self) -> Option<&'static str> {
        None
    }

    /// The width of the features that the head sees.
    fn width(&self) -> usize;

    /// D, the width of the feature map.
    fn map_width(&self) -> usize {
        self.width()
    }

    /// Fields that files leave out at their default, and their values here.
    fn unwritten(&self) -> Vec<(&'static str, serde_json::Value)> {
        Vec::new()
    }

    /// K.
    fn num_classes(&self) -> usize;

    /// Parameters, and arithmetic of a picture of another size, a share of whose patches is left
    /// out of the encoder.
    fn count(&self, image_size: usize, token_drop: f64) -> Count;

    /// Side of the patches, in pixels, whose covariance
    /// [`whiten`](super::network::Network::whiten) wants.
    fn whitens(&self) -> Option<usize> {
        None
    }
}
