//! A temperature fitted on the validation split, and where the features of training pictures lie, stored in the weights
//! file.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::answer::{Answers, EvaluateOptions, answer_raw};
use super::data::OpenData;
use super::dir::{RunDir, find_weights, is_run, open_file, open_weights};
use super::error::RunError;
use crate::checkpoint::{self, CheckpointError, Shipped, TensorFile, WeightsMeta};
use crate::data::{Skipped, SplitName};
use crate::device::Selected;
use crate::eval::SplitFeatures;
use crate::hub::Repo;
use crate::metrics::{Calibration, Familiarity, FamiliarityLimit};
use crate::whole_file::Unfinished;

/// Most training pictures whose features are looked at: far more than a covariance of some thousand features needs,
/// in minutes where all of a large data set would take hours.
const MOST_PICTURES: usize = 20_000;

/// A weights file that was calibrated.
#[derive(Debug, Clone)]
pub struct Calibrated {
    /// The file.
    pub path: PathBuf,
    /// The fitted temperature.
    pub temperature: f32,
    /// Calibration error before and after, and the thresholds for abstaining.
    pub calibration: Calibration,
    /// Why it cannot recognise pictures unlike anything it learned; `None` where it can.
    pub without_familiarity: Option<String>,
    /// Seconds that the statistics of features took.
    pub familiarity_s: f64,
    /// Files that the data set's layout leaves out, and validation and training pictures that cannot be read.
    pub skipped: Vec<Skipped>,
}

/// Where the features of training pictures lie.
struct Learned {
    familiarity: Familiarity,
    limit: FamiliarityLimit,
    skipped: Vec<Skipped>,
}

/// Fits a temperature on the validation split, never on another, and writes it into the weights file
/// (Guo et al. 2017, <https://arxiv.org/abs/1706.04599>). Beside it go the class means and the covariance of the
/// features of at most 20,000 training pictures, at even distances in their list, and the distance from these within
/// which 95 % of the validation pictures are ([`Familiarity`]); without a training split they are left out. In a run
/// directory, the best and the last weights each get their own.
///
/// It fits the logits before any earlier temperature, so calibrating twice gives the same bytes.
///
/// # Errors
///
/// [`RunError`], [`Busy`](RunError::Busy) where a training writes those weights; nothing is written before every
/// file has been evaluated.
pub fn calibrate(
    weights: &Path,
    data: Option<PathBuf>,
    batch_size: usize,
    device: &Selected,
) -> Result<Vec<Calibrated>, RunError> {
    if let Some(shipped) = Shipped::find(weights)
        && !weights.exists()
    {
        return Err(RunError::ShippedIsCalibrated { name: shipped.name });
    }
    if Repo::is_named(weights) {
        return Err(RunError::OfHub {
            path: weights.to_owned(),
        });
    }
    if !is_run(weights) && checkpoint::is_foreign(weights) {
        let path = weights.to_owned();
        let meta = checkpoint::meta(&open_weights(weights)?)?;
        // A copy of such weights would not do, either.
        return Err(match meta.classes.is_empty() {
            true => CheckpointError::NoClassifier { path }.into(),
            false => CheckpointError::NotOurs { path }.into(),
        });
    }
    let best = find_weights(weights)?;
    let run = match weights.is_dir() {
        true => Some(RunDir::open(weights)?),
        false => None,
    };
    let of_run = run.clone().or_else(|| RunDir::of_weights(&best));
    let mut files = vec![best];
    if let Some(run) = &run {
        files.push(run.last());
    } else if data.is_none() {
        return Err(RunError::NoValidation {
            path: weights.to_owned(),
        });
    }
    let options = EvaluateOptions {
        data,
        split: Some(SplitName::Val),
        batch_size,
        features: true,
        ..EvaluateOptions::default()
    };
    let mut opened = OpenData::default();
    let mut measured: Vec<(Calibrated, Option<Familiarity>, TensorFile, WeightsMeta)> = Vec::new();
    let files: Vec<PathBuf> = files.into_iter().filter(|file| file.is_file()).collect();
    // What cannot be kept need not be measured.
    for path in &files {
        Unfinished::beside(path).map_err(|source| RunError::Write {
            path: path.clone(),
            source,
        })?;
    }
    // Held from before the weights are read until they are written: a training would write newer ones meanwhile.
    let _held = of_run.as_ref().map(RunDir::lock).transpose()?;
    for path in files {
        let file = open_file(&path)?;
        // Of many a run the last epoch is the best one.
        let sha256 = file.sha256();
        let same = measured
            .iter()
            .find(|(.., file, _)| file.sha256() == sha256);
        if let Some((calibrated, familiarity, _, meta)) = same {
            let calibrated = Calibrated {
                path,
                ..calibrated.clone()
            };
            measured.push((calibrated, familiarity.clone(), file, meta.clone()));
            continue;
        }
        let answers = answer_raw(&file, run.as_ref(), &options, &mut opened, device);
        let answers = answers.map_err(|e| match e {
            RunError::NoSplit { origin, .. } => RunError::NothingHeldOut { origin },
            other => other,
        })?;
        let logits = &answers.predictions.logits;
        if logits.iter().any(|z| !z.is_finite()) {
            return Err(RunError::NotFinite { path });
        }
        let (temperature, mut calibration) = Calibration::fit(
            logits,
            &answers.predictions.labels,
            &answers.meta.classes,
            &answers.dataset.name,
        );
        // Finite logits too may be so large that no figure of them is a number.
        if calibration.validate().is_err() {
            return Err(RunError::NotFinite { path });
        }
        let began = Instant::now();
        let mut skipped = answers.skipped();
        let (mut meta, of_val) = (answers.meta, answers.features);
        // The pictures of one split at a time.
        drop(answers.pictures);
        let training = EvaluateOptions {
            split: Some(SplitName::Train),
            most: Some(MOST_PICTURES),
            ..options.clone()
        };
        let training = answer_raw(&file, run.as_ref(), &training, &mut opened, device);
        let (familiarity, without_familiarity) = match learned(training, of_val)? {
            Ok(learned) => {
                calibration.familiarity = Some(learned.limit);
                skipped.extend(learned.skipped);
                (Some(learned.familiarity), None)
            }
            Err(reason) => (None, Some(reason)),
        };
        meta.temperature = temperature;
        meta.calibration = Some(calibration.clone());
        measured.push((
            Calibrated {
                path,
                temperature,
                calibration,
                without_familiarity,
                familiarity_s: began.elapsed().as_secs_f64(),
                skipped,
            },
            familiarity,
            file,
            meta,
        ));
    }
    for (_, familiarity, file, meta) in &measured {
        checkpoint::save_meta(file, meta, familiarity.as_ref())?;
    }
    Ok(measured.into_iter().map(|(c, ..)| c).collect())
}

/// Where the features of the training pictures lie, and how far from them those of the validation pictures `of_val`;
/// or in words why nobody knows.
fn learned(
    training: Result<Answers, RunError>,
    of_val: Option<SplitFeatures>,
) -> Result<Result<Learned, String>, RunError> {
    let training = match training {
        Ok(training) => training,
        // A temperature needs none of them.
        Err(
            error @ (RunError::NoSplit { .. }
            | RunError::Classes { .. }
            | RunError::Unreadable { .. }
            | RunError::Data(_)),
        ) if !error.is_stop() => return Ok(Err(error.to_string())),
        Err(error) => return Err(error),
    };
    let (Some(of_train), Some(of_val)) = (&training.features, of_val) else {
        unreachable!("features were wanted of both")
    };
    let Some(familiarity) = Familiarity::fit(&of_train.values, &of_train.labels, of_train.width)
    else {
        return Ok(Err("the training pictures of no class differ".to_owned()));
    };
    let distances = familiarity.distances(&of_val.values);
    Ok(
        match FamiliarityLimit::of(&distances, of_train.labels.len()) {
            Some(limit) => Ok(Learned {
                familiarity,
                limit,
                skipped: training.pictures.skipped().to_vec(),
            }),
            None => {
                Err("the validation pictures do not differ from the training pictures".to_owned())
            }
        },
    )
}
