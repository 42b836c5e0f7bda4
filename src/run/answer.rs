//! What weights answer to the pictures of a split.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::data::OpenData;
use super::dir::{RunDir, find_weights, open_weights};
use super::error::RunError;
use super::pictures;
use crate::checkpoint::{self, Checkpoint, TensorFile, WeightsMeta};
use crate::data::{
    Dataset, EvalLoader, Pictures, PicturesOptions, Sample, Skipped, SplitName, Splits,
};
use crate::device::Selected;
use crate::eval::{self, Predictions, Tta};
use crate::recipe::Recipe;

/// What to measure on, and where to put it.
#[derive(Debug, Clone, Default)]
pub struct EvaluateOptions {
    /// Operands of matrix products.
    pub precision: crate::ops::PrecisionChoice,
    /// Data set; without it, the one the run was trained on.
    pub data: Option<PathBuf>,
    /// Split; without it, test, or what there is instead: a run's validation split, or the only
    /// split of other data, which for a run must not be train.
    pub split: Option<SplitName>,
    /// Pictures a batch.
    pub batch_size: usize,
    /// Threads that make batches; 0 shares the process's own, one a core.
    pub workers: usize,
    /// Whether an unreadable picture is an error.
    pub strict: bool,
    /// Memory for decoded pictures in MiB; without it 4096.
    pub cache_mb: Option<usize>,
    /// Folder for the files.
    pub out: Option<PathBuf>,
    /// Views to average beside the plain pass.
    pub tta: Option<Tta>,
}

/// A model's answers on a split, and the pictures they are about.
#[derive(Debug)]
pub struct Answers {
    /// What the weights say of themselves.
    pub meta: WeightsMeta,
    /// Their answers.
    pub predictions: Predictions,
    /// Their answers to the mean of several views, where that was asked for.
    pub augmented: Option<(Tta, Predictions)>,
    /// The pictures, in the same order.
    pub pictures: Pictures,
    /// Where they come from.
    pub dataset: Arc<Dataset>,
    /// The split that was measured.
    pub split: SplitName,
}

/// The figures of a pass with test-time augmentation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TtaReport {
    /// Which views were averaged.
    pub augmentation: Tta,
    /// Pictures.
    pub n: usize,
    /// Share of them whose most probable class is right.
    pub top1: f64,
    /// Its 95 % interval.
    pub top1_interval: (f64, f64),
    /// Share of them whose class is among the five most probable; `None` below six classes.
    pub top5: Option<f64>,
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// Expected calibration error.
    pub ece: f64,
}

impl Answers {
    /// What the data set's layout leaves out, and the pictures of the split that could not be read.
    pub fn skipped(&self) -> Vec<Skipped> {
        [&self.dataset.skipped, self.pictures.skipped()].concat()
    }

    /// The figures with test-time augmentation, where that was asked for.
    pub fn tta(&self) -> Option<TtaReport> {
        let (augmentation, predictions) = self.augmented.as_ref()?;
        let report = eval::report(predictions, &self.meta.classes);
        Some(TtaReport {
            augmentation: *augmentation,
            n: report.n,
            top1: report.top1,
            top1_interval: report.top1_interval,
            top5: report.top5,
            loss: report.loss,
            ece: report.ece,
        })
    }

    /// Divides the logits by the temperature of the weights.
    pub(super) fn tempered(mut self) -> Self {
        let augmented = self.augmented.iter_mut().map(|(_, augmented)| augmented);
        for predictions in augmented.chain([&mut self.predictions]) {
            for logit in &mut predictions.logits {
                *logit /= self.meta.temperature;
            }
        }
        self
    }
}

/// Runs `weights`, a run directory or a file, over the split that `options` name, and divides their
/// logits by their temperature.
///
/// # Errors
///
/// [`RunError`].
pub fn answer(
    weights: &Path,
    options: &EvaluateOptions,
    data: &mut OpenData,
    device: &Selected,
) -> Result<Answers, RunError> {
    // A run's folder is meant where one is given, whatever ships under its name.
    let (file, run) = match weights.is_dir() {
        true => (
            TensorFile::open(&find_weights(weights)?)?,
            Some(RunDir::open(weights)?),
        ),
        false => (open_weights(weights)?, None),
    };
    Ok(answer_raw(&file, run.as_ref(), options, data, device)?.tempered())
}

/// [`answer`] for a weights file, which may be of a run, with the logits at temperature 1.
pub(super) fn answer_raw(
    file: &TensorFile,
    run: Option<&RunDir>,
    options: &EvaluateOptions,
    data: &mut OpenData,
    device: &Selected,
) -> Result<Answers, RunError> {
    let checkpoint = checkpoint::load(file, &device.device)?;
    let path = match (&options.data, run) {
        (Some(path), _) => Some(path.clone()),
        (None, Some(run)) => Recipe::load(&run.recipe())?.data.path,
        (None, None) => None,
    };
    let dataset = data.open(path.as_deref(), options.strict)?;
    let (split, samples) = choose(&dataset, options.split, run, options.data.is_some())?;
    let samples = relabel(&dataset, &checkpoint.meta.classes, samples)?;
    predict(&checkpoint, &dataset, split, &samples, options, device)
}

/// The answers of weights to some pictures, whose labels are places in the weights' classes, with
/// the logits at temperature 1.
pub(super) fn predict(
    checkpoint: &Checkpoint,
    dataset: &Arc<Dataset>,
    split: SplitName,
    samples: &[Sample],
    options: &EvaluateOptions,
    device: &Selected,
) -> Result<Answers, RunError> {
    let Checkpoint { model, meta } = checkpoint;
    let pictures = pictures::load(
        dataset,
        samples,
        &meta.preprocess,
        &PicturesOptions {
            cache_mb: options.cache_mb.unwrap_or(4096),
            strict: options.strict,
            keep_larger: false,
        },
        &mut |_| {},
    )?;
    if pictures.is_empty() {
        return Err(RunError::Unreadable {
            origin: dataset.origin.clone(),
            split,
            total: samples.len(),
        });
    }
    let precision = options
        .precision
        .for_inference(&device.device)
        .ok_or_else(|| RunError::Precision {
            device: device.name.clone(),
        })?;
    let loader = EvalLoader::new(
        pictures.clone(),
        meta.preprocess.clone(),
        options.batch_size,
        options.workers,
    );
    let device = &device.device;
    let predictions = eval::predict(model, &loader, device, precision, &mut |_| {})?;
    let augmented = match options.tta {
        Some(tta) => {
            let answers = eval::predict_augmented(model, &loader, device, precision, tta)?;
            Some((tta, answers))
        }
        None => None,
    };
    Ok(Answers {
        meta: meta.clone(),
        predictions,
        augmented,
        pictures,
        dataset: Arc::clone(dataset),
        split,
    })
}

/// The samples to measure on: those of the run's own lists, of data that they do not list the
/// data's own.
fn choose(
    dataset: &Dataset,
    wanted: Option<SplitName>,
    run: Option<&RunDir>,
    elsewhere: bool,
) -> Result<(SplitName, Vec<Sample>), RunError> {
    let lists = match run.map(|run| Splits::read(&run.splits(), dataset)) {
        Some(Err(error)) if !elsewhere => return Err(error.into()),
        Some(lists) => lists.ok(),
        None => None,
    };
    // The data's train split is what a run with lists learned from: of that they alone decide.
    let candidates = match &lists {
        Some(own) => vec![
            (SplitName::Train, own.get(SplitName::Train)),
            (SplitName::Val, own.get(SplitName::Val)),
            (SplitName::Test, own.get(SplitName::Test)),
            (SplitName::Test, dataset.given(SplitName::Test)),
        ],
        None => SplitName::ALL
            .map(|split| (split, dataset.given(split)))
            .to_vec(),
    };
    let there: Vec<(SplitName, &[Sample])> = candidates
        .into_iter()
        .filter(|(_, samples)| !samples.is_empty())
        .collect();
    let named = |name| there.iter().find(|(split, _)| *split == name);
    let found = match (wanted, &lists) {
        (Some(split), _) => named(split),
        (None, Some(_)) => named(SplitName::Test).or(named(SplitName::Val)),
        (None, None) => {
            // A run may have learned from data whose names its lists do not know: the same
            // pictures moved, or packed into an archive.
            let only = there.first().filter(|(split, _)| {
                there.len() == 1 && (run.is_none() || *split != SplitName::Train)
            });
            named(SplitName::Test).or(only)
        }
    };
    let Some((split, samples)) = found else {
        let has = SplitName::ALL
            .into_iter()
            .filter(|&name| named(name).is_some());
        let has: Vec<String> = has.map(|name| name.to_string()).collect();
        return Err(RunError::NoSplit {
            origin: dataset.origin.clone(),
            split: wanted.unwrap_or(SplitName::Test),
            has: has.join(", "),
        });
    };
    Ok((*split, samples.to_vec()))
}

/// Brings the data's labels into the order of the weights' classes.
fn relabel(
    dataset: &Dataset,
    classes: &[String],
    mut samples: Vec<Sample>,
) -> Result<Vec<Sample>, RunError> {
    if dataset.classes == classes {
        return Ok(samples);
    }
    let order: Option<Vec<usize>> = dataset
        .classes
        .iter()
        .map(|name| classes.iter().position(|c| c == name))
        .collect();
    let Some(order) = order else {
        return Err(RunError::Classes {
            origin: dataset.origin.clone(),
            weights: classes.to_vec(),
            data: dataset.classes.clone(),
        });
    };
    for sample in &mut samples {
        sample.label = order[sample.label];
    }
    Ok(samples)
}
