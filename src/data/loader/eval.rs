//! Batches of a validation or test split.

use super::ahead::Batches;
use super::batch::{Batch, Targets, normalised};
use super::workers::Workers;
use crate::data::error::DataError;
use crate::data::pictures::Pictures;
use crate::data::preprocess::Preprocess;

/// Batches of a validation or test split: every picture, in order, without augmentation.
#[derive(Clone, Debug)]
pub struct EvalLoader {
    pictures: Pictures,
    preprocess: Preprocess,
    batch_size: usize,
    workers: Workers,
}

impl EvalLoader {
    /// A loader with `batch_size` pictures in a batch. Batches are made on `workers` threads; 0: one per core.
    pub fn new(
        pictures: Pictures,
        preprocess: Preprocess,
        batch_size: usize,
        workers: usize,
    ) -> EvalLoader {
        EvalLoader {
            pictures,
            preprocess,
            batch_size: batch_size.max(1),
            workers: Workers::new(workers),
        }
    }

    /// The pictures of the split.
    pub fn pictures(&self) -> &Pictures {
        &self.pictures
    }

    /// How pictures are resized and normalised.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// Number of batches in a pass; the last may be smaller.
    pub fn steps(&self) -> usize {
        self.pictures.len().div_ceil(self.batch_size)
    }

    /// One pass: every picture once, in order.
    pub fn pass(&self) -> Batches {
        let loader = self.clone();
        Batches::ahead(0..self.steps(), self.pictures.stop(), move |step| {
            loader.workers.install(|| loader.batch(step))
        })
    }

    fn batch(&self, step: usize) -> Result<Batch, DataError> {
        let end = ((step + 1) * self.batch_size).min(self.pictures.len());
        self.of((step * self.batch_size..end).collect())
    }

    /// Number of pictures of a whole batch.
    pub fn batch_size(&self) -> usize {
        self.batch_size.min(self.pictures.len())
    }

    /// A batch of the first pictures, made on this thread's behalf and not ahead.
    ///
    /// # Errors
    ///
    /// [`DataError`] where a picture can no longer be read.
    pub fn first(&self, count: usize) -> Result<Batch, DataError> {
        let count = count.min(self.pictures.len());
        self.workers.install(|| self.of((0..count).collect()))
    }

    fn of(&self, indices: Vec<usize>) -> Result<Batch, DataError> {
        let size = self.preprocess.image_size;
        let images = normalised(
            &self.pictures,
            &self.preprocess,
            size,
            &indices,
            |picture, _| self.preprocess.resize(picture),
        )?;
        Ok(Batch {
            images,
            image_size: size,
            len: indices.len(),
            targets: Targets::Hard(
                indices
                    .iter()
                    .map(|&index| self.pictures.labels()[index])
                    .collect(),
            ),
            indices,
        })
    }
}
