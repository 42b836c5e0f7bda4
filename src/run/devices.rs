//! The devices of a training, and its precision on them.

use super::error::RunError;
use crate::device::Selected;
use crate::ops::Precision;
use crate::recipe::Recipe;

/// The devices of a training.
#[derive(Debug, Clone, Copy)]
pub struct Devices<'a> {
    /// For the model that is trained.
    pub student: &'a Selected,
    /// For its teacher, if there is one.
    pub teacher: &'a Selected,
}

impl<'a> From<&'a Selected> for Devices<'a> {
    /// One device for both.
    fn from(device: &'a Selected) -> Self {
        Self {
            student: device,
            teacher: device,
        }
    }
}

/// The precision that a recipe trains in on a device.
///
/// # Errors
///
/// [`RunError::Precision`] if the device cannot compute in it.
pub(crate) fn precision(recipe: &Recipe, device: &Selected) -> Result<Precision, RunError> {
    let choice = recipe.train.precision;
    choice
        .for_training(&device.device)
        .ok_or_else(|| RunError::Precision {
            device: device.name.clone(),
            precision: choice.to_string(),
        })
}
