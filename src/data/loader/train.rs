//! Batches of a training split.

use image::RgbImage;
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::ahead::Batches;
use super::batch::{Batch, Targets, normalised};
use super::workers::Workers;
use crate::data::augment::{AugmentConfig, Purpose, draw_mix, generator};
use crate::data::error::DataError;
use crate::data::pictures::Pictures;
use crate::data::preprocess::{Filter, Preprocess, all_of, resample};

/// One device's part of every batch, where several devices train together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Index of the part, from 0.
    pub index: usize,
    /// Number of parts.
    pub count: usize,
}

impl Shard {
    /// The only part: one device trains.
    pub fn whole() -> Shard {
        Shard { index: 0, count: 1 }
    }
}

/// The settings of a batch that may differ from step to step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Side of the pictures, in pixels. Where it differs from that of the preprocessing, pictures are resized after they
    /// are augmented.
    pub image_size: usize,
    /// Whether mixup and cutmix apply.
    pub mix: bool,
}

/// Batches of a training split: shuffled and augmented.
#[derive(Clone, Debug)]
pub struct TrainLoader {
    pictures: Pictures,
    preprocess: Preprocess,
    augment: AugmentConfig,
    batch_size: usize,
    seed: u64,
    shard: Shard,
    workers: Workers,
}

impl TrainLoader {
    /// A loader with `batch_size` pictures in a batch of this shard. Batches are made on `workers` threads; 0: one per
    /// core.
    pub fn new(
        pictures: Pictures,
        preprocess: Preprocess,
        augment: AugmentConfig,
        batch_size: usize,
        seed: u64,
        shard: Shard,
        workers: usize,
    ) -> TrainLoader {
        TrainLoader {
            pictures,
            preprocess,
            augment,
            batch_size: batch_size.max(1),
            seed,
            shard: Shard {
                index: shard.index,
                count: shard.count.max(1),
            },
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

    /// Number of pictures in a batch of this shard.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Number of batches in an epoch. The last, incomplete one is dropped, unless it is the only one.
    pub fn steps_per_epoch(&self) -> usize {
        let (pictures, shards) = (self.pictures.len(), self.shard.count);
        match pictures / (self.batch_size * shards) {
            0 if pictures >= shards => 1,
            steps => steps,
        }
    }

    /// The batches of `epoch` from `first_step` on: the same as in an epoch that began at step 0.
    pub fn epoch(&self, epoch: usize, first_step: usize) -> Batches {
        let whole = View {
            image_size: self.preprocess.image_size,
            mix: true,
        };
        self.epoch_with(epoch, first_step, move |_| whole)
    }

    /// [`epoch`](Self::epoch) with settings for each step's batch: `view` maps the step to them. As batches are made in
    /// advance, it is called before the step is reached.
    pub fn epoch_with(
        &self,
        epoch: usize,
        first_step: usize,
        mut view: impl FnMut(usize) -> View + Send + 'static,
    ) -> Batches {
        let loader = self.clone();
        let mut order: Vec<usize> = (0..self.pictures.len()).collect();
        order.shuffle(&mut generator(self.seed, Purpose::Order, epoch, 0));
        let steps = first_step..self.steps_per_epoch();
        Batches::ahead(steps, self.pictures.stop(), move |step| {
            let view = view(step);
            loader
                .workers
                .install(|| loader.batch(&order, epoch, step, view))
        })
    }

    fn batch(
        &self,
        order: &[usize],
        epoch: usize,
        step: usize,
        view: View,
    ) -> Result<Batch, DataError> {
        let Shard { index, count } = self.shard;
        // The parts of all shards in this step are neighbours in the order.
        let all = (self.batch_size * count).min(order.len());
        let part = step * all + all * index / count..step * all + all * (index + 1) / count;
        let indices = order[part].to_vec();
        let size = view.image_size;
        let mut images = normalised(
            &self.pictures,
            &self.preprocess,
            size,
            &indices,
            |picture, index| {
                let shown = self
                    .augment
                    .apply(picture, &self.preprocess, self.seed, epoch, index);
                resized(shown, size as u32, self.preprocess.filter)
            },
        )?;
        let labels: Vec<usize> = indices
            .iter()
            .map(|&index| self.pictures.labels()[index])
            .collect();
        let key = step * count + index;
        let mix = || draw_mix(&self.augment, self.seed, epoch, key, indices.len(), size);
        let targets = match view.mix.then(mix).flatten() {
            None => Targets::Hard(labels),
            Some(mix) => {
                let originals = images.clone();
                let picture = 3 * size * size;
                images
                    .par_chunks_mut(picture)
                    .zip(&mix.partner)
                    .for_each(|(values, &partner)| {
                        mix.apply(values, &originals[partner * picture..][..picture], size);
                    });
                Targets::Mixed {
                    b: mix.partner.iter().map(|&partner| labels[partner]).collect(),
                    lambda: vec![mix.lambda; labels.len()],
                    a: labels,
                }
            }
        };
        Ok(Batch {
            images,
            image_size: size,
            len: indices.len(),
            targets,
            indices,
        })
    }
}

/// The picture at `size`² pixels.
fn resized(picture: RgbImage, size: u32, filter: Filter) -> RgbImage {
    if picture.dimensions() == (size, size) {
        return picture;
    }
    resample(&picture, all_of(&picture), (size, size), filter)
}
