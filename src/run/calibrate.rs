//! A temperature fitted on validation, and kept with the weights.

use std::path::{Path, PathBuf};

use super::answer::{EvaluateOptions, answer_raw};
use super::data::OpenData;
use super::dir::{RunDir, find_weights};
use super::error::RunError;
use crate::checkpoint::{self, Shipped, TensorFile, WeightsMeta};
use crate::data::{Skipped, SplitName};
use crate::device::Selected;
use crate::metrics::Calibration;

/// A weights file that now holds its calibration.
#[derive(Debug)]
pub struct Calibrated {
    /// The file.
    pub path: PathBuf,
    /// What it was calibrated to.
    pub temperature: f32,
    /// What came of it.
    pub calibration: Calibration,
    /// What the data set's layout leaves out, and validation pictures that could not be read.
    pub skipped: Vec<Skipped>,
}

/// Fits the temperature of `weights` on the validation split, never on another, and writes it into
/// the file; of a run directory, into the best and the last weights, each its own.
///
/// It starts from the logits themselves, so a second time gives the same bytes.
///
/// # Errors
///
/// [`RunError`]; nothing is written before every file has been measured.
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
    let best = find_weights(weights)?;
    let run = match weights.is_dir() {
        true => Some(RunDir::open(weights)?),
        false => None,
    };
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
    let mut measured: Vec<(Calibrated, [WeightsMeta; 2])> = Vec::new();
    for path in files.into_iter().filter(|file| file.is_file()) {
        let file = TensorFile::open(&path)?;
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
            [answers.meta, meta],
        ));
    }
    for (calibrated, [known, meta]) in &measured {
        checkpoint::save_meta(&calibrated.path, known, meta)?;
    }
    Ok(measured.into_iter().map(|(c, _)| c).collect())
}
