//! Predictions of saved weights on one split of a data set.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::data::{OpenData, data_of_run};
use super::dir::{RunDir, find_weights, is_run, open_file, open_weights};
use super::error::RunError;
use super::pictures;
use crate::checkpoint::{self, Checkpoint, TensorFile, WeightsMeta};
use crate::data::{
    Dataset, EvalLoader, Pictures, PicturesOptions, Sample, Skipped, SplitLists, SplitName,
};
use crate::device::Selected;
use crate::eval::{self, Predictions, SplitFeatures, Tta};
use crate::names::composed;
use crate::ops::{InferencePrecision, Precision, Purpose};
use crate::recipe::Recipe;
use crate::stop::Stop;

/// What to evaluate on, how, and where to write the results.
#[derive(Debug, Clone)]
pub struct EvaluateOptions {
    /// Precision of matrix products.
    pub precision: InferencePrecision,
    /// Data set; default: the one that the run was trained on.
    pub data: Option<PathBuf>,
    /// Split; default: test. Without a test split it is a run's validation split, or the only split
    /// of other data, unless that is train and the weights are of a run, which may have learned it.
    pub split: Option<SplitName>,
    /// Batch size.
    pub batch_size: usize,
    /// Threads that make batches; 0 uses the process's own.
    pub workers: usize,
    /// An unreadable picture is an error and not skipped.
    pub strict: bool,
    /// Memory for decoded pictures, in MiB; default: 4096.
    pub cache_mb: Option<usize>,
    /// Folder for the results; default: `eval-<split>/` in the run, and none for a weights file.
    pub out: Option<PathBuf>,
    /// Test-time augmentation, evaluated in addition to the plain pictures.
    pub tta: Option<Tta>,
    /// Pictures that show none of the classes, to be told from those of the split: a folder of pictures, or a data
    /// set.
    pub unknown: Option<PathBuf>,
    /// Most pictures of the split; of more, so many are taken at even distances. Default: all.
    pub most: Option<usize>,
    /// Whether what the head sees of the pictures is kept.
    pub features: bool,
    /// Requested by whoever wants it to end before it is done, which is an error that says so.
    pub stop: Stop,
}

impl Default for EvaluateOptions {
    fn default() -> Self {
        Self {
            precision: InferencePrecision::default(),
            data: None,
            split: None,
            batch_size: 128,
            workers: 0,
            strict: false,
            cache_mb: None,
            out: None,
            tta: None,
            unknown: None,
            most: None,
            features: false,
            stop: Stop::default(),
        }
    }
}

/// Predictions on one split, with the pictures that they belong to.
#[derive(Debug)]
pub(crate) struct Answers {
    /// Metadata of the weights.
    pub meta: WeightsMeta,
    /// Logits and labels, one row per picture.
    pub predictions: Predictions,
    /// The same with test-time augmentation, if it was requested.
    pub augmented: Option<(Tta, Predictions)>,
    /// What the head sees of the pictures, if it was wanted.
    pub features: Option<SplitFeatures>,
    /// The pictures, in the order of the rows.
    pub pictures: Pictures,
    /// The data set that they are from.
    pub dataset: Arc<Dataset>,
    /// The split.
    pub split: SplitName,
    /// What of the data set is of no class of the run.
    pub left_out: Vec<Skipped>,
}

/// Results with test-time augmentation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TtaReport {
    /// The views that were averaged.
    pub augmentation: Tta,
    /// Number of pictures.
    pub n: usize,
    /// Top-1 accuracy, a fraction.
    pub top1: f64,
    /// 95 % interval of `top1`.
    pub top1_interval: (f64, f64),
    /// Top-5 accuracy, a fraction; `None` below six classes.
    pub top5: Option<f64>,
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// Expected calibration error.
    pub ece: f64,
}

impl Answers {
    /// Files that the data set's layout leaves out, classes that the run does not know, and pictures of the
    /// split that cannot be read.
    pub(crate) fn skipped(&self) -> Vec<Skipped> {
        let skipped = self.pictures.skipped();
        [&self.dataset.skipped, &self.left_out, skipped].concat()
    }

    /// Results with test-time augmentation, if it was requested.
    pub(crate) fn tta(&self) -> Option<TtaReport> {
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

    /// Divides the logits by the temperature of the weights, which are those at `path`.
    ///
    /// # Errors
    ///
    /// [`RunError::NotFinite`]: no figure can come of such logits.
    pub(super) fn tempered(mut self, path: &Path) -> Result<Self, RunError> {
        let augmented = self.augmented.iter_mut().map(|(_, augmented)| augmented);
        for predictions in augmented.chain([&mut self.predictions]) {
            for logit in &mut predictions.logits {
                *logit /= self.meta.temperature;
            }
            if predictions.logits.iter().any(|logit| !logit.is_finite()) {
                return Err(RunError::NotFinite {
                    path: path.to_owned(),
                });
            }
        }
        Ok(self)
    }
}

/// Predicts a split with `weights`: a run directory, a weights file, or the name of weights that are
/// built in. The logits are divided by the weights' temperature.
///
/// # Errors
///
/// [`RunError`]: there are no whole weights, their answers are not numbers, the data has no such split or other classes, or the
/// device cannot compute in the precision.
pub(crate) fn answer(
    weights: &Path,
    options: &EvaluateOptions,
    data: &mut OpenData,
    device: &Selected,
) -> Result<Answers, RunError> {
    let (file, run) = open(weights)?;
    answer_raw(&file, run.as_ref(), options, data, device)?.tempered(file.path())
}

/// The precision that a choice means on `device`, for weights that were saved in eight bits or not.
///
/// # Errors
///
/// [`RunError::Precision`] where the device lacks it.
pub fn inference_precision(
    choice: InferencePrecision,
    device: &Selected,
    is_int8: bool,
    purpose: Purpose,
) -> Result<Precision, RunError> {
    let found = choice.on(&device.device, is_int8, purpose);
    found.ok_or_else(|| RunError::Precision {
        device: device.name.clone(),
        precision: choice.to_string(),
    })
}

/// The weights file that `weights` means, and its run where that is given.
pub(super) fn open(weights: &Path) -> Result<(TensorFile, Option<RunDir>), RunError> {
    // A run's folder is meant where one is given, whatever ships under its name.
    let is_foreign = !is_run(weights) && checkpoint::is_foreign(weights);
    match weights.is_dir() && !is_foreign {
        true => Ok((
            open_file(&find_weights(weights)?)?,
            Some(RunDir::open(weights)?),
        )),
        false => Ok((open_weights(weights)?, None)),
    }
}

/// [`answer`] for a weights file, which may belong to a run; the logits are not divided.
pub(super) fn answer_raw(
    file: &TensorFile,
    run: Option<&RunDir>,
    options: &EvaluateOptions,
    data: &mut OpenData,
    device: &Selected,
) -> Result<Answers, RunError> {
    let checkpoint = checkpoint::load(file, &device.device)?;
    let dataset = open_data(options.data.as_deref(), run, options.strict, data)?;
    let chosen = choose(&dataset, options.split, run, options.data.is_some())?;
    let samples = relabel(&dataset, &checkpoint.meta.classes, &chosen)?;
    let samples = at_most(samples, options.most);
    let mut answers = predict(
        &checkpoint,
        &dataset,
        chosen.split,
        &samples,
        options,
        device,
    )?;
    answers.left_out = chosen.left_out;
    Ok(answers)
}

/// The data set at `path`; without one, that of the run, or the embedded sample.
pub(super) fn open_data(
    path: Option<&Path>,
    run: Option<&RunDir>,
    strict: bool,
    data: &mut OpenData,
) -> Result<Arc<Dataset>, RunError> {
    let of_run = match (path, run) {
        (None, Some(run)) => Recipe::load(&run.recipe())?.data.path,
        _ => None,
    };
    let opened = data.open(path.or(of_run.as_deref()), strict);
    opened.map_err(|error| match run {
        Some(run) if path.is_none() => data_of_run(run, error),
        _ => error.into(),
    })
}

/// Predicts `samples`, whose labels are indices into the weights' classes; the logits are not divided
/// by the temperature.
pub(super) fn predict(
    checkpoint: &Checkpoint,
    dataset: &Arc<Dataset>,
    split: SplitName,
    samples: &[Sample],
    options: &EvaluateOptions,
    device: &Selected,
) -> Result<Answers, RunError> {
    let Checkpoint {
        model,
        meta,
        is_int8,
        ..
    } = checkpoint;
    let pictures = pictures::load(
        dataset,
        samples,
        &meta.preprocess,
        &PicturesOptions {
            cache_mb: options.cache_mb.unwrap_or(4096),
            strict: options.strict,
            keep_larger: false,
        },
        &options.stop,
        &mut |_| {},
    )?;
    if pictures.is_empty() {
        return Err(RunError::Unreadable {
            origin: dataset.origin.clone(),
            split,
            total: samples.len(),
            first: pictures
                .skipped()
                .first()
                .map(|first| format!("{}: {}", first.name, first.reason))
                .unwrap_or_default(),
        });
    }
    let precision = inference_precision(options.precision, device, *is_int8, Purpose::Figures)?;
    let loader = EvalLoader::new(
        pictures.clone(),
        meta.preprocess.clone(),
        options.batch_size,
        options.workers,
    );
    let device = &device.device;
    let (predictions, features) = match options.features {
        true => {
            let (predictions, features) =
                eval::predict_with_features(model, &loader, device, precision)?;
            (predictions, Some(features))
        }
        false => (
            eval::predict(model, &loader, device, precision, &mut |_| {})?,
            None,
        ),
    };
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
        features,
        pictures,
        dataset: Arc::clone(dataset),
        split,
        left_out: Vec::new(),
    })
}

/// The split to evaluate.
pub(super) struct Chosen {
    pub split: SplitName,
    pub samples: Vec<Sample>,
    /// The samples' labels are indices into these.
    pub classes: Vec<String>,
    /// What of the data set is of no class of the run.
    pub left_out: Vec<Skipped>,
}

/// Chooses the split and its samples: from the run's own lists, or from the data's own splits if the
/// lists are of other data.
pub(super) fn choose(
    dataset: &Dataset,
    wanted: Option<SplitName>,
    run: Option<&RunDir>,
    elsewhere: bool,
) -> Result<Chosen, RunError> {
    let lists = match run.map(|run| SplitLists::read(&run.splits())) {
        Some(Err(error)) if !elsewhere => return Err(error.into()),
        Some(lists) => lists.ok(),
        None => None,
    };
    // Of the run's own data one list is enough; that other data is the same it shows by all of them.
    let is_of_them = |lists: &SplitLists| {
        let found = |split| lists.samples(split, dataset).is_ok();
        !elsewhere || SplitName::ALL.into_iter().all(found)
    };
    let lists = lists.filter(is_of_them);
    // The data's train split is what a run with lists learned from: of that they alone decide.
    let is_listed = |split: SplitName| lists.as_ref().is_some_and(|own| !own.is_empty(split));
    let is_given = |split: SplitName| {
        let may_be = lists.is_none() || split == SplitName::Test;
        may_be && !dataset.given(split).is_empty()
    };
    let there: Vec<SplitName> = SplitName::ALL
        .into_iter()
        .filter(|&split| is_listed(split) || is_given(split))
        .collect();
    let named = |name| there.contains(&name).then_some(name);
    let found = match (wanted, &lists) {
        (Some(split), _) => named(split),
        (None, Some(_)) => named(SplitName::Test).or(named(SplitName::Val)),
        (None, None) => {
            // A run may have learned from data whose names its lists do not know: the same
            // pictures moved, or packed into an archive.
            let only = there
                .first()
                .copied()
                .filter(|&split| there.len() == 1 && (run.is_none() || split != SplitName::Train));
            named(SplitName::Test).or(only)
        }
    };
    let Some(split) = found else {
        let has: Vec<String> = there.iter().map(SplitName::to_string).collect();
        return Err(RunError::NoSplit {
            origin: dataset.origin.clone(),
            split: wanted.unwrap_or(SplitName::Test),
            has: has.join(", "),
        });
    };
    Ok(match &lists {
        Some(lists) if is_listed(split) => Chosen {
            split,
            samples: lists.samples(split, dataset)?,
            classes: lists.classes(dataset),
            left_out: lists.left_out(dataset),
        },
        _ => Chosen {
            split,
            samples: dataset.given(split).to_vec(),
            classes: dataset.classes.clone(),
            left_out: Vec::new(),
        },
    })
}

/// So many samples, at even distances: of a list by class, as many of each in proportion.
fn at_most(samples: Vec<Sample>, most: Option<usize>) -> Vec<Sample> {
    let n = samples.len();
    let most = most.unwrap_or(n).min(n);
    (0..most).map(|i| samples[i * n / most].clone()).collect()
}

/// The samples with labels that are indices into the weights' classes. A class without a sample need not be
/// among these.
fn relabel(
    dataset: &Dataset,
    classes: &[String],
    chosen: &Chosen,
) -> Result<Vec<Sample>, RunError> {
    let mut indices = HashMap::new();
    for (index, class) in classes.iter().enumerate() {
        indices.entry(composed(class)).or_insert(index);
    }
    let of_weights = |name: &String| indices.get(&composed(name)).copied();
    let order: Vec<Option<usize>> = chosen.classes.iter().map(of_weights).collect();
    let relabelled = chosen.samples.iter().cloned().map(|mut sample| {
        sample.label = order[sample.label]?;
        Some(sample)
    });
    let samples: Option<Vec<Sample>> = relabelled.collect();
    samples.ok_or_else(|| RunError::Classes {
        origin: dataset.origin.clone(),
        weights: classes.to_vec(),
        data: chosen.classes.clone(),
    })
}
