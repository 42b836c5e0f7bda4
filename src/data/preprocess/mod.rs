//! Resizing and normalisation, the same in training and inference.
//!
//! The settings are saved with the weights, so that inference sees pictures as training did. Nothing here is random:
//! random changes are in [`augment`](super::augment).
//!
//! There are two ways to resize. Our own trainings decode large photographs at a reduced scale and resize them with
//! `fast_image_resize`. Where [`Preprocess::exact`] is set, every pixel is decoded and takes part, and the numbers are
//! Pillow's: what other projects' weights are used to.

mod foreign;
mod pillow;
mod prepare;
mod resample;
mod settings;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub(super) use resample::{all_of, resample};
#[cfg(test)]
pub(super) use settings::MAX_IMAGE_SIZE;
pub(crate) use settings::check_resize_to;
pub use settings::{Centre, Filter, Preprocess, Resize};
