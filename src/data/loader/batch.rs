//! One batch: its pictures, and what they show.

use image::RgbImage;
use rayon::prelude::*;

use crate::data::error::DataError;
use crate::data::pictures::Pictures;
use crate::data::preprocess::Preprocess;

/// What a batch's pictures show.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// One class each.
    Hard(Vec<usize>),
    /// Two classes each: `lambda` · one-hot(`a`) + (1 − `lambda`) · one-hot(`b`).
    Mixed {
        /// The class of the picture itself.
        a: Vec<usize>,
        /// The class of what was mixed into it.
        b: Vec<usize>,
        /// The share of `a`, 0 to 1.
        lambda: Vec<f32>,
    },
}

/// Some pictures, ready for a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Normalised pixels, `[B, 3, S, S]`, row-major.
    pub images: Vec<f32>,
    /// S, in pixels.
    pub image_size: usize,
    /// B.
    pub len: usize,
    /// What they show.
    pub targets: Targets,
    /// Which they are, as indices into the loader's [`Pictures`].
    pub indices: Vec<usize>,
}

/// Reads, changes and normalises pictures side by side: `[B, 3, S, S]`, where `change` gives sides of S pixels.
pub(super) fn normalised(
    pictures: &Pictures,
    preprocess: &Preprocess,
    size: usize,
    indices: &[usize],
    change: impl Fn(&RgbImage, usize) -> RgbImage + Sync,
) -> Result<Vec<f32>, DataError> {
    let picture = 3 * size * size;
    let mut images = vec![0.0; indices.len() * picture];
    images
        .par_chunks_mut(picture)
        .zip(indices)
        .try_for_each(|(values, &index)| {
            let changed = change(&*pictures.get(index)?, index);
            preprocess.normalise_into(changed.as_raw(), values);
            Ok(())
        })?;
    Ok(images)
}
