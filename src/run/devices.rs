//! What a training computes on.

use super::error::RunError;
use crate::device::Selected;
use crate::ops::Precision;
use crate::recipe::Recipe;

/// Where a training's models live.
#[derive(Debug, Clone, Copy)]
pub struct Devices<'a> {
    /// The model that is trained.
    pub student: &'a Selected,
    /// Its teacher, where there is one.
    pub teacher: &'a Selected,
}

impl<'a> From<&'a Selected> for Devices<'a> {
    /// Both on one.
    fn from(device: &'a Selected) -> Self {
        Self {
            student: device,
            teacher: device,
        }
    }
}

/// The precision of a recipe's training on a device.
///
/// # Errors
///
/// [`RunError::Precision`] where the device cannot compute in it.
pub fn precision(recipe: &Recipe, device: &Selected) -> Result<Precision, RunError> {
    let choice = recipe.train.precision;
    choice
        .for_training(&device.device)
        .ok_or_else(|| RunError::Precision {
            device: device.name.clone(),
        })
}
