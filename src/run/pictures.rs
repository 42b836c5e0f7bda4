//! The pictures of a plan, decoded and made into batches.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::RunError;
use super::event::RunEvent;
use super::plan::Plan;
use crate::data::{
    DataError, Dataset, DecodeLimits, EvalLoader, Pictures, PicturesOptions, Preprocess, Sample,
    Shard, SplitName, TrainLoader,
};
use crate::stop::Stop;

/// Decodes the training pictures, and sets the plan's normalisation where the recipe leaves it to them.
pub(super) fn training(
    plan: &mut Plan,
    stop: &Stop,
    observe: &mut dyn FnMut(RunEvent<'_>),
) -> Result<TrainLoader, RunError> {
    let pictures = load_split(plan, SplitName::Train, stop, observe)?;
    let recipe = &plan.recipe;
    let (mean, std) = (recipe.preprocess.mean, recipe.preprocess.std);
    if mean.is_none() || std.is_none() {
        let measured = channel_statistics(&pictures, &plan.preprocess)?;
        plan.preprocess.mean = mean.unwrap_or(measured.0);
        plan.preprocess.std = std.unwrap_or(measured.1);
    }
    Ok(TrainLoader::new(
        pictures,
        plan.preprocess.clone(),
        recipe.augment.clone(),
        recipe.train.batch_size,
        recipe.train.seed,
        Shard::whole(),
        recipe.data.workers,
    ))
}

/// Decodes the validation pictures; `None` without a validation split.
pub(super) fn validation(
    plan: &mut Plan,
    stop: &Stop,
    observe: &mut dyn FnMut(RunEvent<'_>),
) -> Result<Option<EvalLoader>, RunError> {
    plain(plan, SplitName::Val, stop, observe)
}

/// Decodes the pictures of a split, as they are evaluated; `None` where it has none.
pub(super) fn plain(
    plan: &mut Plan,
    split: SplitName,
    stop: &Stop,
    observe: &mut dyn FnMut(RunEvent<'_>),
) -> Result<Option<EvalLoader>, RunError> {
    if plan.splits.get(split).is_empty() {
        return Ok(None);
    }
    let pictures = load_split(plan, split, stop, observe)?;
    Ok(Some(EvalLoader::new(
        pictures,
        plan.preprocess.clone(),
        plan.recipe.train.batch_size,
        plan.recipe.data.workers,
    )))
}

/// Checks that every test picture can be read: better now than after hours of training. Nothing else
/// is done with them until the end.
pub(super) fn check_test(
    plan: &Plan,
    stop: &Stop,
    observe: &mut dyn FnMut(RunEvent<'_>),
) -> Result<(), RunError> {
    let (split, samples) = (SplitName::Test, &plan.splits.test);
    let total = samples.len();
    if total == 0 {
        return Ok(());
    }
    let options = PicturesOptions {
        cache_mb: 0,
        strict: true,
        keep_larger: false,
    };
    let mut progress = |done| observe(RunEvent::Decoding { split, done, total });
    load(
        &plan.dataset,
        samples,
        &plan.preprocess,
        &options,
        stop,
        &mut progress,
    )?;
    Ok(())
}

/// Decodes the pictures of one split, and adds those that cannot be read to the plan's `skipped`.
fn load_split(
    plan: &mut Plan,
    split: SplitName,
    stop: &Stop,
    observe: &mut dyn FnMut(RunEvent<'_>),
) -> Result<Pictures, RunError> {
    let (recipe, samples) = (&plan.recipe, plan.splits.get(split));
    let options = PicturesOptions {
        cache_mb: recipe.data.cache_mb,
        strict: recipe.data.strict,
        keep_larger: split == SplitName::Train
            && recipe.augment.random_resized_crop.is_some()
            && recipe.init.probe.is_none(),
    };
    let total = samples.len();
    let mut progress = |done| observe(RunEvent::Decoding { split, done, total });
    let pictures = load(
        &plan.dataset,
        samples,
        &plan.preprocess,
        &options,
        stop,
        &mut progress,
    )?;
    if pictures.is_empty() {
        return Err(RunError::Unreadable {
            origin: plan.dataset.origin.clone(),
            split,
            total,
            first: pictures
                .skipped()
                .first()
                .map(|first| format!("{}: {}", first.name, first.reason))
                .unwrap_or_default(),
        });
    }
    plan.skipped.extend(pictures.skipped().iter().cloned());
    Ok(pictures)
}

/// [`Pictures::load`], with `progress` called on the calling thread.
///
/// # Errors
///
/// As [`Pictures::load`].
pub(super) fn load(
    dataset: &Arc<Dataset>,
    samples: &[Sample],
    preprocess: &Preprocess,
    options: &PicturesOptions,
    stop: &Stop,
    progress: &mut dyn FnMut(usize),
) -> Result<Pictures, DataError> {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let loading = scope.spawn(move || {
            Pictures::load(dataset, samples, preprocess, options, stop, &move |done| {
                // The receiver outlives this thread; a lost progress message would not matter.
                let _ = send.send(done);
            })
        });
        for done in receive {
            progress(done);
        }
        loading.join().unwrap_or_else(|_| {
            Err(DataError::Worker {
                reason: "decoding panicked".to_owned(),
            })
        })
    })
}

/// Estimated bytes of the decoded pictures of train and of val, from a sample of them.
pub fn kept_bytes(plan: &Plan) -> [u64; 2] {
    const LOOKED_AT: usize = 16;
    /// Large photographs take their time to decode.
    const AT_MOST: Duration = Duration::from_secs(2);
    let began = Instant::now();
    let fixed = (3 * plan.preprocess.image_size * plan.preprocess.image_size) as u64;
    let train = &plan.splits.train;
    let mut sizes = Vec::new();
    if plan.recipe.augment.random_resized_crop.is_some() {
        for sample in train.iter().step_by(train.len().div_ceil(LOOKED_AT).max(1)) {
            if began.elapsed() > AT_MOST {
                break;
            }
            let raw = plan.dataset.read(sample).ok();
            let decode = |raw| {
                plan.preprocess
                    .decode_for_crops(&raw, &DecodeLimits::default())
            };
            let picture = raw.and_then(|raw| decode(raw).ok());
            sizes.extend(picture.map(|picture| picture.as_raw().len() as u64));
        }
    }
    let mean = match sizes.len() as u64 {
        0 => fixed,
        n => sizes.iter().sum::<u64>() / n,
    };
    [
        train.len() as u64 * mean,
        plan.splits.val.len() as u64 * fixed,
    ]
}

/// About how many pictures the channel statistics are computed from, at most.
const STATISTICS_PICTURES: usize = 10_000;

/// Mean and standard deviation of each channel at the model's image size, with pixels from 0 to 1.
fn channel_statistics(
    pictures: &Pictures,
    preprocess: &Preprocess,
) -> Result<([f32; 3], [f32; 3]), DataError> {
    let stride = (pictures.len() / STATISTICS_PICTURES).max(1);
    // Sums of integers: exact, and so the same in any order.
    let (mut sum, mut squares, mut count) = ([0u64; 3], [0u64; 3], 0u64);
    for index in (0..pictures.len()).step_by(stride) {
        pictures.go_on()?;
        let picture = preprocess.resize(&*pictures.get(index)?);
        for pixel in picture.pixels() {
            for channel in 0..3 {
                let value = u64::from(pixel.0[channel]);
                sum[channel] += value;
                squares[channel] += value * value;
            }
            count += 1;
        }
    }
    let n = count.max(1) as f64;
    let mean = sum.map(|s| s as f64 / n);
    let mut std = [0.0; 3];
    for channel in 0..3 {
        let variance = squares[channel] as f64 / n - mean[channel] * mean[channel];
        // A channel of one value has no spread to divide by.
        std[channel] = (variance.max(0.0).sqrt() / 255.0).max(0.01) as f32;
    }
    Ok((mean.map(|m| (m / 255.0) as f32), std))
}
