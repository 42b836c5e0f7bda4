//! One recipe, one run directory: data, model and trainer put together.
//!
//! Nothing here prints; what happens goes out as [`RunEvent`].

mod calibrate;
mod dir;
mod error;
mod evaluate;
mod export;
mod finish;
mod info;
mod init;
mod teacher;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::checkpoint::WeightsMeta;
use crate::data::{
    DataError, Dataset, DecodeLimits, EvalLoader, Pictures, PicturesOptions, Preprocess, Shard,
    Skipped, SplitName, Splits, TrainLoader, decode,
};
use crate::device::Selected;
use crate::metrics::EvalReport;
use crate::model::ModelConfig;
use crate::ops::Precision;
use crate::recipe::{Recipe, RecipeError};
use crate::train::{
    Curriculum, Distillation, Outcome, Saved, TrainEvent, Trainer, seconds_per_update,
};

pub use calibrate::{Calibrated, calibrate};
pub use dir::{RunDir, find_weights, next_free, open_weights};
pub use error::RunError;
pub use evaluate::{Answers, EvaluateOptions, Evaluated, TtaReport, answer, evaluate};
pub use export::{Exported, PICTURES as EXPORT_PICTURES, export};
pub use finish::{Redrawn, history, redraw, write_evaluation};
pub use info::{COMMIT, RunInfo, recorded};
pub use init::{check as check_init, resolve};
pub use teacher::{PlannedTeacher, TeacherInfo};

/// What happens during a run, for whoever shows it.
#[derive(Debug)]
pub enum RunEvent<'a> {
    /// Pictures of a split are being read and decoded.
    Decoding {
        /// The split.
        split: SplitName,
        /// Pictures done, and in all.
        done: usize,
        /// Pictures in all.
        total: usize,
    },
    /// The data is ready and training begins.
    Begin(&'a Plan),
    /// The trainer's own.
    Train(TrainEvent),
    /// The final figures are being taken.
    Testing,
}

/// Everything about a training that follows from recipe and data.
#[derive(Debug)]
pub struct Plan {
    /// The data set.
    pub dataset: Arc<Dataset>,
    /// Its splits.
    pub splits: Splits,
    /// Size and normalisation; mean and deviation are neutral until the pictures are read.
    pub preprocess: Preprocess,
    /// The architecture.
    pub model: ModelConfig,
    /// What changes along the training.
    pub curriculum: Curriculum,
    /// The teacher, if there is one.
    pub teacher: Option<PlannedTeacher>,
    /// What the data set's layout leaves out, and the unreadable pictures met so far.
    pub skipped: Vec<Skipped>,
}

/// Opens the data a recipe names.
///
/// # Errors
///
/// [`DataError`].
pub fn open_data(path: Option<&Path>) -> Result<Arc<Dataset>, DataError> {
    Ok(Arc::new(match path {
        Some(path) => Dataset::open(path)?,
        None => Dataset::embedded(),
    }))
}

impl Plan {
    /// Floating-point operations of training on one picture, on average over a training whose
    /// pictures take a share `work` of the whole ones' work: a backward pass costs twice a forward
    /// pass, and a teacher's forward pass comes on top. What is frozen counts as if it learned.
    pub fn training_flops(&self, work: f64) -> f64 {
        let teacher = self.teacher.as_ref();
        let teacher = teacher.map_or(0, |teacher| teacher.meta.model.flops());
        3.0 * self.model.flops() as f64 * work + teacher as f64
    }
}

/// Opens the data, splits it, and settles size and architecture.
///
/// `listed` is the folder of a run's split lists, when it has some.
///
/// # Errors
///
/// [`RunError`], before anything is written.
pub fn plan(recipe: &Recipe, listed: Option<&Path>) -> Result<Plan, RunError> {
    let dataset = open_data(recipe.data.path.as_deref())?;
    if let (true, Some(first)) = (recipe.data.strict, dataset.skipped.first()) {
        return Err(strictly(first).into());
    }
    let splits = match listed {
        Some(folder) => Splits::read(folder, &dataset)?,
        None => dataset
            .split(
                recipe.data.split_seed,
                recipe.data.val_fraction,
                recipe.data.test_fraction,
            )?
            .fraction(recipe.data.fraction, recipe.data.split_seed),
    };
    let image_size = match recipe.preprocess.image_size {
        Some(size) => size,
        None => natural_size(&dataset, &splits),
    };
    let preprocess = Preprocess {
        image_size,
        resize: recipe.preprocess.resize,
        mean: recipe.preprocess.mean.unwrap_or([0.0; 3]),
        std: recipe.preprocess.std.unwrap_or([1.0; 3]),
    };
    let model = recipe.model_config(image_size, dataset.classes.len())?;
    let curriculum = recipe
        .curriculum
        .resolve(&model)
        .map_err(RecipeError::from)?;
    let teacher = PlannedTeacher::find(recipe, &dataset)?;
    let skipped = dataset.skipped.clone();
    Ok(Plan {
        dataset,
        splits,
        preprocess,
        model,
        curriculum,
        teacher,
        skipped,
    })
}

/// What `--strict` says of what the layout of a data set leaves out.
pub(super) fn strictly(skipped: &Skipped) -> crate::data::DataError {
    crate::data::DataError::Unreadable {
        name: skipped.name.clone(),
        reason: format!("{}; without --strict it is skipped", skipped.reason),
    }
}

/// About how many bytes decoded pictures take, those of train and those of val, judged by a few of them.
pub fn kept_bytes(recipe: &Recipe, plan: &Plan) -> [u64; 2] {
    const LOOKED_AT: usize = 16;
    let fixed = (3 * plan.preprocess.image_size * plan.preprocess.image_size) as u64;
    let train = &plan.splits.train;
    let mut sizes = Vec::new();
    if recipe.augment.random_resized_crop.is_some() {
        for sample in train.iter().step_by(train.len().div_ceil(LOOKED_AT).max(1)) {
            let raw = plan.dataset.read(sample).ok();
            let picture = raw.and_then(|raw| decode(&raw, &DecodeLimits::default()).ok());
            sizes
                .extend(picture.map(|p| plan.preprocess.shrink_for_crops(p).as_raw().len() as u64));
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

/// Sizes past this are not taken from the data unasked: a CPU would train for days.
const LARGEST_NATURAL_SIZE: usize = 96;

/// The pictures' own size where they are all alike, square and small; else
/// [`LARGEST_NATURAL_SIZE`].
fn natural_size(dataset: &Dataset, splits: &Splits) -> usize {
    let stride = (splits.train.len() / 64).max(1);
    let mut sizes = splits.train.iter().step_by(stride).filter_map(|sample| {
        let picture = decode(&dataset.read(sample).ok()?, &DecodeLimits::default()).ok()?;
        Some(picture.dimensions())
    });
    match sizes.next() {
        Some((w, h))
            if w == h && w as usize <= LARGEST_NATURAL_SIZE && sizes.all(|s| s == (w, h)) =>
        {
            (w as usize).max(8)
        }
        _ => LARGEST_NATURAL_SIZE,
    }
}

/// The precision a recipe's training comes to on a device.
///
/// # Errors
///
/// [`RunError::Precision`] where the device cannot.
pub fn precision(recipe: &Recipe, device: &Selected) -> Result<Precision, RunError> {
    let choice = recipe.train.precision;
    choice
        .for_training(&device.device)
        .ok_or_else(|| RunError::Precision {
            device: device.name.clone(),
        })
}

/// Where a training's models live.
#[derive(Debug, Clone, Copy)]
pub struct Devices<'a> {
    /// The model that is trained.
    pub student: &'a Selected,
    /// Its teacher, where there is one.
    pub teacher: &'a Selected,
}

impl<'a> From<&'a Selected> for Devices<'a> {
    /// Both on one.
    fn from(device: &'a Selected) -> Self {
        Self {
            student: device,
            teacher: device,
        }
    }
}

/// Seconds of one update of this plan on these devices, measured.
///
/// # Errors
///
/// As [`precision`], and what loading the teacher brings.
pub fn measure_update<'a>(
    recipe: &Recipe,
    plan: &Plan,
    devices: impl Into<Devices<'a>>,
) -> Result<f64, RunError> {
    let devices = devices.into();
    let precision = precision(recipe, devices.student)?;
    Ok(seconds_per_update(
        &plan.model,
        &recipe.optimizer,
        &recipe.init.finetune,
        distillation(recipe, plan, precision, devices)?,
        recipe.train.batch_size.min(plan.splits.train.len()),
        recipe.train.accumulate,
        precision,
        &devices.student.device,
    ))
}

fn distillation(
    recipe: &Recipe,
    plan: &Plan,
    precision: Precision,
    devices: Devices<'_>,
) -> Result<Option<Distillation>, RunError> {
    let load = |teacher: &PlannedTeacher| {
        teacher.load(recipe, &plan.preprocess, precision, devices.teacher)
    };
    plan.teacher.as_ref().map(load).transpose()
}

/// A finished or interrupted run.
#[derive(Debug)]
pub struct Finished {
    /// How training ended.
    pub outcome: Outcome,
    /// The best weights on validation; `None` when interrupted.
    pub val: Option<EvalReport>,
    /// The best weights on the test split, opened this once; `None` when interrupted or where
    /// there is none.
    pub test: Option<EvalReport>,
    /// Names of some test pictures, for the command that classifies one.
    pub example: Option<String>,
    /// Test pictures that could not be read; those of the other splits were in the plan when
    /// training began.
    pub skipped: Vec<Skipped>,
}

/// Trains `recipe` into `dir`, from its saved state when `resume`, and writes every result.
///
/// # Errors
///
/// [`RunError`]; what was saved before stays as it was.
pub fn train<'a>(
    recipe: &Recipe,
    dir: &RunDir,
    resume: bool,
    devices: impl Into<Devices<'a>>,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(RunEvent<'_>),
) -> Result<Finished, RunError> {
    let devices = devices.into();
    let device = devices.student;
    // What `auto` came to is kept, so that a resume elsewhere computes the same.
    let precision = precision(recipe, device)?;
    let mut recipe = recipe.clone();
    recipe.train.precision = precision.into();
    let mut held = None;
    let saved = if resume {
        if !dir.state_folder().join("state.safetensors").is_file() {
            return Err(RunError::NoState {
                path: dir.root().to_owned(),
            });
        }
        // Before it is read: another process may be about to write a newer one.
        held = Some(dir.lock()?);
        Some(Saved::open(&dir.state_folder())?)
    } else {
        None
    };
    let listed = resume.then(|| dir.splits());
    let mut plan = plan(&recipe, listed.as_deref())?;
    // A resume finds all weights in its state.
    let init = match resume {
        true => None,
        false => init::open(&mut recipe)?,
    };
    // So is the hash of the teacher, whom a resume must find unchanged.
    recipe.distillation.sha256 = plan.teacher.as_ref().map(|teacher| teacher.sha256.clone());
    let recipe = &recipe;
    let _held = match held {
        Some(held) => held,
        None => dir.lock()?,
    };
    dir.sweep();
    write(dir.recipe(), recipe.to_toml().as_bytes())?;
    if !resume {
        std::fs::create_dir_all(dir.splits()).map_err(|source| RunError::Write {
            path: dir.splits(),
            source,
        })?;
        plan.splits.write(&dir.splits())?;
    }
    let mut info = RunInfo::begin(recipe, devices, &plan, dir);
    if resume && let Some(before) = info::read(dir) {
        info = info.resume(&before);
    }
    write(dir.info(), info.to_json().as_bytes())?;

    let pictures = load(recipe, &mut plan, SplitName::Train, observe)?;
    if recipe.preprocess.mean.is_none() || recipe.preprocess.std.is_none() {
        let (mean, std) = channel_statistics(&pictures, &plan.preprocess)?;
        plan.preprocess.mean = recipe.preprocess.mean.unwrap_or(mean);
        plan.preprocess.std = recipe.preprocess.std.unwrap_or(std);
    }
    let val = if plan.splits.val.is_empty() {
        None
    } else {
        let pictures = load(recipe, &mut plan, SplitName::Val, observe)?;
        Some(eval_loader(pictures, &plan.preprocess, recipe))
    };
    let train_loader = TrainLoader::new(
        pictures,
        plan.preprocess.clone(),
        recipe.augment.clone(),
        recipe.train.batch_size,
        recipe.train.seed,
        Shard::whole(),
        recipe.data.workers,
    );
    finish::write_train_batch(dir, &train_loader, &plan)?;
    if recipe.data.strict && !plan.splits.test.is_empty() {
        // Said now and not after hours of training; what they show is looked at at the end alone.
        let (split, total) = (SplitName::Test, plan.splits.test.len());
        let options = PicturesOptions {
            cache_mb: 0,
            strict: true,
            keep_larger: false,
        };
        let mut progress = |done| observe(RunEvent::Decoding { split, done, total });
        let (dataset, samples) = (&plan.dataset, &plan.splits.test);
        load_pictures(dataset, samples, &plan.preprocess, &options, &mut progress)?;
    }
    observe(RunEvent::Begin(&plan));

    let meta = WeightsMeta {
        name: recipe.model.name.clone(),
        model: plan.model.clone(),
        classes: plan.dataset.classes.clone(),
        preprocess: plan.preprocess.clone(),
        temperature: 1.0,
        epoch: 0,
        val_top1: None,
        calibration: None,
    };
    let trainer = Trainer {
        config: recipe.train_config(precision)?,
        train: train_loader,
        val,
        device: device.device.clone(),
        distillation: distillation(recipe, &plan, precision, devices)?,
        meta,
        init,
        weights: dir.weights_folder(),
        state: dir.state_folder(),
        stop,
    };
    let mut history = saved
        .as_ref()
        .map(|s| s.progress.history.clone())
        .unwrap_or_default();
    let mut failed = None;
    let outcome = trainer.train(saved, &mut |event| {
        if let TrainEvent::Epoch { record, .. } = &event {
            history.push(record.clone());
            if let Err(e) = finish::write_results(dir, &history) {
                failed.get_or_insert(e);
            }
        }
        observe(RunEvent::Train(event));
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    if !outcome.progress.finished {
        info.pause();
        write(dir.info(), info.to_json().as_bytes())?;
        return Ok(Finished {
            outcome,
            val: None,
            test: None,
            example: None,
            skipped: Vec::new(),
        });
    }
    observe(RunEvent::Testing);
    let finished = finish::finish(recipe, dir, device, &plan, outcome)?;
    info.end(&finished);
    write(dir.info(), info.to_json().as_bytes())?;
    Ok(finished)
}

fn write(path: PathBuf, bytes: &[u8]) -> Result<(), RunError> {
    crate::checkpoint::write_atomically(&path, bytes)
        .map_err(|source| RunError::Write { path, source })
}

/// Decodes one split's pictures.
fn load(
    recipe: &Recipe,
    plan: &mut Plan,
    split: SplitName,
    observe: &mut dyn FnMut(RunEvent<'_>),
) -> Result<Pictures, RunError> {
    let samples = match split {
        SplitName::Train => &plan.splits.train,
        SplitName::Val => &plan.splits.val,
        SplitName::Test => &plan.splits.test,
    };
    let options = PicturesOptions {
        cache_mb: recipe.data.cache_mb,
        strict: recipe.data.strict,
        keep_larger: split == SplitName::Train && recipe.augment.random_resized_crop.is_some(),
    };
    let total = samples.len();
    let pictures = load_pictures(
        &plan.dataset,
        samples,
        &plan.preprocess,
        &options,
        &mut |done| {
            observe(RunEvent::Decoding { split, done, total });
        },
    )?;
    if pictures.is_empty() {
        return Err(RunError::Unreadable {
            origin: plan.dataset.origin.clone(),
            split,
            total,
        });
    }
    plan.skipped.extend(pictures.skipped().iter().cloned());
    Ok(pictures)
}

/// [`Pictures::load`], with its progress brought back to the calling thread.
///
/// # Errors
///
/// As [`Pictures::load`].
pub fn load_pictures(
    dataset: &Arc<Dataset>,
    samples: &[crate::data::Sample],
    preprocess: &Preprocess,
    options: &PicturesOptions,
    progress: &mut dyn FnMut(usize),
) -> Result<Pictures, DataError> {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let loading = scope.spawn(move || {
            Pictures::load(dataset, samples, preprocess, options, &move |done| {
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

fn eval_loader(pictures: Pictures, preprocess: &Preprocess, recipe: &Recipe) -> EvalLoader {
    EvalLoader::new(
        pictures,
        preprocess.clone(),
        recipe.train.batch_size,
        recipe.data.workers,
    )
}

/// Mean and standard deviation of each channel over at most this many pictures.
const STATISTICS_PICTURES: usize = 10_000;

/// Channel means and deviations of the training pictures at the model's size, 0 to 1.
fn channel_statistics(
    pictures: &Pictures,
    preprocess: &Preprocess,
) -> Result<([f32; 3], [f32; 3]), DataError> {
    let stride = (pictures.len() / STATISTICS_PICTURES).max(1);
    // Sums of integers: exact, and so the same in any order.
    let (mut sum, mut squares, mut count) = ([0u64; 3], [0u64; 3], 0u64);
    for index in (0..pictures.len()).step_by(stride) {
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
