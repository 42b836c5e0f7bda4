//! A temperature fitted on the validation split and stored in the weights file.

use std::path::{Path, PathBuf};

use super::answer::{EvaluateOptions, answer_raw};
use super::data::OpenData;
use super::dir::{RunDir, find_weights, is_run, open_file};
use super::error::RunError;
use crate::checkpoint::{self, CheckpointError, Shipped, TensorFile, WeightsMeta};
use crate::data::{Skipped, SplitName};
use crate::device::Selected;
use crate::hub::Repo;
use crate::metrics::Calibration;
use crate::whole_file::Unfinished;

/// A weights file that was calibrated.
#[derive(Debug)]
pub struct Calibrated {
    /// The file.
    pub path: PathBuf,
    /// The fitted temperature.
    pub temperature: f32,
    /// Calibration error before and after, and the thresholds for abstaining.
    pub calibration: Calibration,
    /// Files that the data set's layout leaves out, and validation pictures that cannot be read.
    pub skipped: Vec<Skipped>,
}

/// Fits a temperature on the validation split, never on another, and writes it into the weights file
/// (Guo et al. 2017, <https://arxiv.org/abs/1706.04599>). In a run directory, the best and the last
/// weights each get their own.
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
        return Err(CheckpointError::NotOurs { path }.into());
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
        ..EvaluateOptions::default()
    };
    let mut opened = OpenData::default();
    let mut measured: Vec<(Calibrated, TensorFile, WeightsMeta)> = Vec::new();
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
        let answers = answer_raw(&file, run.as_ref(), &options, &mut opened, device);
        let answers = answers.map_err(|e| match e {
            RunError::NoSplit { origin, .. } => RunError::NothingHeldOut { origin },
            other => other,
        })?;
        let logits = &answers.predictions.logits;
        if logits.iter().any(|z| !z.is_finite()) {
            return Err(RunError::NotFinite { path });
        }
        let (temperature, calibration) = Calibration::fit(
            logits,
            &answers.predictions.labels,
            &answers.meta.classes,
            &answers.dataset.name,
        );
        // Finite logits too may be so large that no figure of them is a number.
        if calibration.validate().is_err() {
            return Err(RunError::NotFinite { path });
        }
        let meta = WeightsMeta {
            temperature,
            calibration: Some(calibration.clone()),
            ..answers.meta.clone()
        };
        measured.push((
            Calibrated {
                path,
                temperature,
                calibration,
                skipped: answers.skipped(),
            },
            file,
            meta,
        ));
    }
    for (_, file, meta) in &measured {
        checkpoint::save_meta(file, meta)?;
    }
    Ok(measured.into_iter().map(|(c, ..)| c).collect())
}
