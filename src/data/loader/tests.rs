use super::*;
use crate::data::augment::{AugmentConfig, Flip, Policy};
use crate::data::pictures::tests::{load, preprocess, small_set};
use crate::data::pictures::{Pictures, PicturesOptions};

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
                    let either = both().all(|((own, other), seen)| own == seen || other == seen);
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
    let (whole, seen) = (all(loader.epoch(3, 0)), all(loader.epoch_with(3, 0, view)));
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
    assert_eq!(all(loader.epoch_with(3, 1, view)), seen[1..]);
    // A small picture shows what the large one shows.
    let plain = train(&pictures, AugmentConfig::default(), 4, 1);
    let mean = |batch: &Batch| batch.images.iter().sum::<f32>() / batch.images.len() as f32;
    let (large, small) = (all(plain.epoch(0, 0)), all(plain.epoch_with(0, 0, view)));
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
