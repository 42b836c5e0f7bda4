//! One batch: its pictures and its targets.

use image::RgbImage;
use rayon::prelude::*;

use crate::data::error::DataError;
use crate::data::pictures::Pictures;
use crate::data::preprocess::Preprocess;

/// The classes of a batch's pictures, `[B]`.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// One class for each picture.
    Hard(Vec<usize>),
    /// Two classes for each picture: `lambda` · one-hot(`a`) + (1 − `lambda`) · one-hot(`b`).
    Mixed {
        /// The class of the picture itself.
        a: Vec<usize>,
        /// The class of the picture that was mixed into it.
        b: Vec<usize>,
        /// The weight of `a`, 0 to 1.
        lambda: Vec<f32>,
    },
}

/// Pictures in the form of a model's input, with their targets.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Normalised pixels, `[B, 3, S, S]`, row-major.
    pub images: Vec<f32>,
    /// S: side of the pictures, in pixels.
    pub image_size: usize,
    /// B: number of pictures.
    pub len: usize,
    /// Their classes.
    pub targets: Targets,
    /// Their indices in the loader's [`Pictures`].
    pub indices: Vec<usize>,
}

/// Reads, changes and normalises pictures in parallel. `change` takes a picture and its index, and returns one of S×S
/// pixels, with S = `size`.
///
/// # Shapes
///
/// Returns `[B, 3, S, S]`, row-major, with B the number of `indices`.
///
/// # Errors
///
/// [`DataError`] where a picture can no longer be read.
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
