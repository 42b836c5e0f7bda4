//! Pictures → batches: normalised, in a seeded order, made ahead on a thread of their own.
//!
//! What a batch holds depends on the seed, the epoch and the step alone: not on the number of threads, on how far ahead
//! batches are made, on the cache, or on where within the epoch one begins.

mod ahead;

use std::sync::Arc;

use image::RgbImage;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

pub use ahead::Batches;

use super::DataError;
use super::augment::{AugmentConfig, Purpose, draw_mix, generator};
use super::pictures::Pictures;
use super::preprocess::{Preprocess, resample};

/// One device's part of every batch, where several train together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which part, from 0.
    pub index: usize,
    /// How many parts.
    pub count: usize,
}

impl Shard {
    /// All of it: one device.
    pub fn whole() -> Shard {
        Shard { index: 0, count: 1 }
    }
}

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

/// How the pictures of a batch are made, beyond what every batch has in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Side in pixels; where it is not that of the preprocessing, pictures are resized to it after they are augmented.
    pub image_size: usize,
    /// Whether mixup and cutmix apply.
    pub mix: bool,
}

/// Batches of a training split: shuffled, augmented.
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
    /// A loader of `batch_size` pictures a batch (of this shard), with `workers` threads; 0 is one a core.
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

    /// The pictures it draws from.
    pub fn pictures(&self) -> &Pictures {
        &self.pictures
    }

    /// What every picture goes through.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// Pictures a batch of this shard.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Batches an epoch. The last, incomplete one is left out, save where it would be the only one.
    pub fn steps_per_epoch(&self) -> usize {
        let (pictures, shards) = (self.pictures.len(), self.shard.count);
        match pictures / (self.batch_size * shards) {
            0 if pictures >= shards => 1,
            steps => steps,
        }
    }

    /// The batches of `epoch` from `first_step` on: exactly those that an uninterrupted pass gives from there.
    pub fn epoch(&self, epoch: usize, first_step: usize) -> Batches {
        let whole = View {
            image_size: self.preprocess.image_size,
            mix: true,
        };
        self.epoch_seen(epoch, first_step, move |_| whole)
    }

    /// [`epoch`](Self::epoch) with each step's batch made as `view` of the step says; batches are made ahead, so it is
    /// asked before the step's turn comes.
    pub fn epoch_seen(
        &self,
        epoch: usize,
        first_step: usize,
        mut view: impl FnMut(usize) -> View + Send + 'static,
    ) -> Batches {
        let loader = self.clone();
        let mut order: Vec<usize> = (0..self.pictures.len()).collect();
        order.shuffle(&mut generator(self.seed, Purpose::Order, epoch, 0));
        Batches::ahead(first_step..self.steps_per_epoch(), move |step| {
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
        // All shards' parts of this step lie side by side in the order.
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
                resized(shown, size as u32)
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

/// A square picture with sides of `size` pixels.
fn resized(picture: RgbImage, size: u32) -> RgbImage {
    let (width, height) = picture.dimensions();
    if (width, height) == (size, size) {
        return picture;
    }
    resample(&picture, (0, 0, width, height), (size, size))
}

/// Reads, changes and normalises pictures side by side: `[B, 3, S, S]`, where `change` gives sides of S pixels.
fn normalised(
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

/// The threads that make batches: a pool of their own, or the one a core that everything shares.
#[derive(Clone, Debug)]
struct Workers(Option<Arc<ThreadPool>>);

impl Workers {
    /// A system that refuses more threads is no reason not to train: the shared ones do.
    fn new(count: usize) -> Workers {
        let pool = (count > 0).then(|| ThreadPoolBuilder::new().num_threads(count).build().ok());
        Workers(pool.flatten().map(Arc::new))
    }

    fn install<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.0 {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::augment::{Flip, Policy};
    use super::super::pictures::PicturesOptions;
    use super::super::pictures::tests::{load, preprocess, small_set};
    use super::*;

    const SIZE: usize = 13;

    fn pictures(count: u32, cache_mb: usize) -> (tempfile::TempDir, Pictures) {
        let folder = tempfile::tempdir().unwrap();
        let dataset = small_set(folder.path(), count);
        let pictures = load(
            &dataset,
            SIZE,
            PicturesOptions {
                cache_mb,
                ..PicturesOptions::default()
            },
        );
        (folder, pictures)
    }

    fn everything() -> AugmentConfig {
        AugmentConfig {
            crop_padding: 2,
            flip: Flip::Alternating,
            policy: Policy::TrivialAugment,
            erasing: 0.3,
            mixup: 0.4,
            cutmix: 1.0,
            ..AugmentConfig::default()
        }
    }

    fn train(
        pictures: &Pictures,
        augment: AugmentConfig,
        batch_size: usize,
        workers: usize,
    ) -> TrainLoader {
        TrainLoader::new(
            pictures.clone(),
            preprocess(SIZE),
            augment,
            batch_size,
            42,
            Shard::whole(),
            workers,
        )
    }

    fn all(batches: Batches) -> Vec<Batch> {
        batches.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn an_epoch_shows_each_picture_once_and_drops_the_rest() {
        let (_folder, pictures) = pictures(9, 64);
        let loader = train(&pictures, AugmentConfig::default(), 5, 0);
        assert_eq!(loader.steps_per_epoch(), 3);
        let batches = all(loader.epoch(0, 0));
        assert_eq!(batches.len(), 3);
        let mut seen: Vec<usize> = batches
            .iter()
            .flat_map(|batch| batch.indices.clone())
            .collect();
        assert_ne!(seen, (0..15).collect::<Vec<_>>(), "shuffled");
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 15);
        for batch in &batches {
            assert_eq!((batch.len, batch.image_size), (5, SIZE));
            assert_eq!(batch.images.len(), 5 * 3 * SIZE * SIZE);
            let labels: Vec<usize> = batch
                .indices
                .iter()
                .map(|&index| pictures.labels()[index])
                .collect();
            assert_eq!(batch.targets, Targets::Hard(labels));
        }
        let next = all(loader.epoch(1, 0));
        assert_ne!(batches[0].indices, next[0].indices);
    }

    #[test]
    fn batches_are_the_same_on_any_number_of_threads_and_without_a_cache() {
        let (_one, cached) = pictures(9, 64);
        let (_other, streamed) = pictures(9, 0);
        let expected = all(train(&cached, everything(), 4, 1).epoch(3, 0));
        assert!(
            expected
                .iter()
                .all(|batch| matches!(batch.targets, Targets::Mixed { .. }))
        );
        assert!(
            expected
                .iter()
                .flat_map(|batch| &batch.images)
                .all(|value| value.is_finite())
        );
        assert_eq!(
            all(train(&cached, everything(), 4, 3).epoch(3, 0)),
            expected
        );
        assert_eq!(
            all(train(&streamed, everything(), 4, 0).epoch(3, 0)),
            expected
        );
        assert_ne!(
            all(train(&cached, everything(), 4, 1).epoch(4, 0)),
            expected
        );
    }

    #[test]
    fn what_is_mixed_into_a_picture_is_what_its_label_says() {
        const BATCH: usize = 6;
        const VALUES: usize = 3 * SIZE * SIZE;
        let (_folder, pictures) = pictures(9, 64);
        let batches = |mixup, cutmix| {
            let augment = AugmentConfig {
                mixup,
                cutmix,
                ..AugmentConfig::default()
            };
            all(train(&pictures, augment, BATCH, 1).epoch(0, 0))
        };
        let plain = batches(0.0, 0.0);
        assert!(plain.len() > 1);
        for mixed in [batches(0.4, 0.0), batches(0.0, 1.0)] {
            assert_eq!(mixed.len(), plain.len());
            let mut with_others = 0;
            for (plain, mixed) in plain.iter().zip(&mixed) {
                assert_eq!(plain.indices, mixed.indices);
                let (Targets::Hard(labels), Targets::Mixed { a, b, lambda }) =
                    (&plain.targets, &mixed.targets)
                else {
                    panic!("{:?}, {:?}", plain.targets, mixed.targets)
                };
                assert_eq!(a, labels);
                let picture = |p: usize| &plain.images[p * VALUES..][..VALUES];
                for i in 0..BATCH {
                    let share = lambda[i];
                    let seen = &mixed.images[i * VALUES..][..VALUES];
                    // Each value a mean of both, or one of them, and of all of them the share of each.
                    let explains = |p: usize| {
                        let both = || picture(i).iter().zip(picture(p)).zip(seen);
                        let mean = |((own, other), seen): ((&f32, &f32), &f32)| {
                            (share * own + (1.0 - share) * other - seen).abs() < 1e-4
                        };
                        let own = both().filter(|((own, _), seen)| own == seen).count() as f32;
                        let other = both().filter(|((_, other), seen)| other == seen).count();
                        let either =
                            both().all(|((own, other), seen)| own == seen || other == seen);
                        let parts = own + 0.5 >= share * VALUES as f32
                            && other as f32 + 0.5 >= (1.0 - share) * VALUES as f32;
                        both().all(mean) || (either && parts)
                    };
                    let found = (0..BATCH).find(|&p| labels[p] == b[i] && explains(p));
                    assert!(found.is_some(), "picture {i} of {:?}", mixed.indices);
                    with_others += usize::from(found != Some(i));
                }
            }
            assert!(with_others > 0);
        }
    }

    #[test]
    fn a_view_decides_size_and_mixing_and_nothing_else() {
        let (_folder, pictures) = pictures(9, 64);
        let view = |step: usize| View {
            image_size: if step < 2 { 8 } else { SIZE },
            mix: step != 3,
        };
        let loader = train(&pictures, everything(), 4, 1);
        let (whole, seen) = (all(loader.epoch(3, 0)), all(loader.epoch_seen(3, 0, view)));
        assert_eq!((whole.len(), seen.len()), (4, 4));
        for (step, (whole, seen)) in whole.iter().zip(&seen).enumerate() {
            let size = view(step).image_size;
            assert_eq!(seen.indices, whole.indices);
            assert_eq!(seen.image_size, size);
            assert_eq!(seen.images.len(), 4 * 3 * size * size);
            let mixed = matches!(seen.targets, Targets::Mixed { .. });
            assert_eq!(mixed, view(step).mix, "step {step}");
        }
        assert_eq!(seen[2], whole[2]);
        assert_eq!(all(loader.epoch_seen(3, 1, view)), seen[1..]);
        // A small picture shows what the large one shows.
        let plain = train(&pictures, AugmentConfig::default(), 4, 1);
        let mean = |batch: &Batch| batch.images.iter().sum::<f32>() / batch.images.len() as f32;
        let (large, small) = (all(plain.epoch(0, 0)), all(plain.epoch_seen(0, 0, view)));
        assert!((mean(&large[0]) - mean(&small[0])).abs() < 0.1);
    }

    #[test]
    fn beginning_within_an_epoch_gives_its_rest() {
        let (_folder, pictures) = pictures(9, 64);
        let loader = train(&pictures, everything(), 4, 0);
        let whole = all(loader.epoch(2, 0));
        for first in 0..=whole.len() {
            assert_eq!(all(loader.epoch(2, first)), whole[first..]);
        }
        assert!(all(loader.epoch(2, 99)).is_empty());
    }

    #[test]
    fn augmentation_does_not_depend_on_the_batch_size() {
        let (_folder, pictures) = pictures(6, 64);
        let augment = AugmentConfig {
            mixup: 0.0,
            cutmix: 0.0,
            ..everything()
        };
        let flat = |batch_size| -> Vec<f32> {
            all(train(&pictures, augment.clone(), batch_size, 0).epoch(1, 0))
                .into_iter()
                .flat_map(|batch| batch.images)
                .collect()
        };
        assert_eq!(flat(2), flat(6));
    }

    #[test]
    fn a_set_smaller_than_a_batch_is_one_batch() {
        let (_folder, pictures) = pictures(3, 64);
        let loader = train(&pictures, AugmentConfig::default(), 100, 0);
        assert_eq!(loader.steps_per_epoch(), 1);
        let batches = all(loader.epoch(0, 0));
        assert_eq!(batches.len(), 1);
        assert_eq!(batches[0].len, 6);
    }

    #[test]
    fn shards_share_every_batch() {
        let (_folder, pictures) = pictures(9, 64);
        let shard = |index, count, batch_size| {
            let shard = Shard { index, count };
            let loader = TrainLoader::new(
                pictures.clone(),
                preprocess(SIZE),
                AugmentConfig::default(),
                batch_size,
                42,
                shard,
                0,
            );
            all(loader.epoch(0, 0))
                .into_iter()
                .map(|batch| batch.indices)
                .collect::<Vec<_>>()
        };
        let whole = shard(0, 1, 6);
        let parts = [shard(0, 3, 2), shard(1, 3, 2), shard(2, 3, 2)];
        assert_eq!(whole.len(), 3);
        for (step, indices) in whole.iter().enumerate() {
            let joined: Vec<usize> = parts.iter().flat_map(|part| part[step].clone()).collect();
            assert_eq!(&joined, indices);
        }
        // Fewer pictures than one step of all shards: still one part each, of what there is.
        let few: usize = (0..4).map(|index| shard(index, 4, 100)[0].len()).sum();
        assert_eq!(few, 18);
    }

    #[test]
    fn a_pass_gives_everything_in_order() {
        let (_folder, pictures) = pictures(4, 64);
        let loader = EvalLoader::new(pictures.clone(), preprocess(SIZE), 3, 0);
        let batches = all(loader.pass());
        assert_eq!(
            batches.iter().map(|batch| batch.len).collect::<Vec<_>>(),
            [3, 3, 2]
        );
        let indices: Vec<usize> = batches
            .iter()
            .flat_map(|batch| batch.indices.clone())
            .collect();
        assert_eq!(indices, (0..8).collect::<Vec<_>>());
        let mut expected = vec![0.0; 3 * SIZE * SIZE];
        preprocess(SIZE).normalise_into(pictures.get(4).unwrap().as_raw(), &mut expected);
        assert_eq!(
            batches[1].images[3 * SIZE * SIZE..2 * 3 * SIZE * SIZE],
            expected
        );
    }

    #[test]
    fn dropping_early_does_not_hang() {
        let (_folder, pictures) = pictures(9, 64);
        let loader = train(&pictures, everything(), 1, 0);
        for taken in 0..4 {
            let mut batches = loader.epoch(0, 0);
            for _ in 0..taken {
                batches.next().unwrap().unwrap();
            }
        }
    }

    #[test]
    fn an_error_is_given_and_ends_it() {
        let (folder, pictures) = pictures(4, 0);
        std::fs::write(folder.path().join("cat/002.png"), b"gone").unwrap();
        let loader = EvalLoader::new(pictures, preprocess(SIZE), 1, 0);
        let mut batches = loader.pass();
        assert!(batches.next().unwrap().is_ok());
        assert!(batches.next().unwrap().is_ok());
        let error = batches.next().unwrap().unwrap_err().to_string();
        assert!(error.starts_with("cat/002.png: "), "{error}");
        assert!(batches.next().is_none());
    }
}
