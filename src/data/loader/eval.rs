//! Batches of a validation or test split.

use super::ahead::Batches;
use super::batch::{Batch, Targets, normalised};
use super::workers::Workers;
use crate::data::error::DataError;
use crate::data::pictures::Pictures;
use crate::data::preprocess::Preprocess;

/// Batches of a validation or test split: in order, all of it, unchanged.
#[derive(Clone, Debug)]
pub struct EvalLoader {
    pictures: Pictures,
    preprocess: Preprocess,
    batch_size: usize,
    workers: Workers,
}

impl EvalLoader {
    /// A loader of `batch_size` pictures a batch, with `workers` threads; 0 is one a core.
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

    /// The pictures it gives.
    pub fn pictures(&self) -> &Pictures {
        &self.pictures
    }

    /// What every picture goes through.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// Batches a pass; the last may be short.
    pub fn steps(&self) -> usize {
        self.pictures.len().div_ceil(self.batch_size)
    }

    /// Every picture once, in order.
    pub fn pass(&self) -> Batches {
        let loader = self.clone();
        Batches::ahead(0..self.steps(), move |step| {
            loader.workers.install(|| loader.batch(step))
        })
    }

    fn batch(&self, step: usize) -> Result<Batch, DataError> {
        let end = ((step + 1) * self.batch_size).min(self.pictures.len());
        let indices: Vec<usize> = (step * self.batch_size..end).collect();
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
