//! Weights evaluated on a split.

use std::path::{Path, PathBuf};

use super::answer::{EvaluateOptions, TtaReport, answer_raw, open};
use super::data::OpenData;
use super::dir::RunDir;
use super::error::RunError;
use super::files::make_folder;
use super::findings::{Finding, findings, miscalibrated};
use super::results::{history, write_evaluation};
use super::unknown::{Recogniser, UnknownReport};
use crate::data::{Skipped, SplitName};
use crate::device::Selected;
use crate::eval;
use crate::metrics::EvalReport;

/// What [`evaluate`] returns.
#[derive(Debug)]
pub struct Evaluated {
    /// The results.
    pub report: EvalReport,
    /// What explains them.
    pub findings: Vec<Finding>,
    /// Results with test-time augmentation, if requested; nothing is ever chosen by them.
    pub tta: Option<TtaReport>,
    /// How well pictures that show none of the classes are recognised, if some were named.
    pub unknown: Option<UnknownReport>,
    /// The split.
    pub split: SplitName,
    /// Path of the data set, or `embedded`.
    pub data: String,
    /// Files that the data set's layout leaves out, and pictures that cannot be read.
    pub skipped: Vec<Skipped>,
    /// What was understood of the data set where it is not plain, a sentence each.
    pub notes: Vec<String>,
    /// Folder of the written results.
    pub folder: Option<PathBuf>,
    /// Why not all of them are there.
    pub unwritten: Option<RunError>,
    /// Pictures per second.
    pub images_per_s: f64,
    /// The temperature, and the number of pictures it was fitted on, if it was.
    pub temperature: (f32, Option<usize>),
}

/// Evaluates `weights` (a run directory, a weights file, or the name of weights that are built in)
/// and writes results and plots. What was measured is returned even where it cannot be written.
///
/// # Errors
///
/// [`RunError`]: there are no whole weights, the data has no such split or other classes, or the device
/// cannot compute in the precision.
pub fn evaluate(
    weights: &Path,
    options: &EvaluateOptions,
    device: &Selected,
) -> Result<Evaluated, RunError> {
    let (file, run) = open(weights)?;
    let recogniser = match options.unknown {
        Some(_) => Some(Recogniser::open(&file, weights, options.precision, device)?),
        None => None,
    };
    let options = &EvaluateOptions {
        features: recogniser.is_some(),
        ..options.clone()
    };
    let mut data = OpenData::default();
    let answers =
        answer_raw(&file, run.as_ref(), options, &mut data, device)?.tempered(file.path())?;
    let mut skipped = answers.skipped();
    let unknown = match (&recogniser, &options.unknown, &answers.features) {
        (Some(recogniser), Some(path), Some(features)) => {
            let known = recogniser.distances_of(&features.values);
            let unknown = recogniser.distances(path, options.strict, &options.stop)?;
            skipped.extend(unknown.skipped);
            Some(UnknownReport::new(path, &known, &unknown.found))
        }
        _ => None,
    };
    let report = eval::report(&answers.predictions, &answers.meta.classes);
    // The course of a training says nothing of other data.
    let history = match (&run, &options.data) {
        (Some(run), None) => history(run),
        _ => Vec::new(),
    };
    let mut found = findings(&report, &history);
    found.extend(miscalibrated(&report, &answers));
    let folder = match &options.out {
        Some(out) => Some(out.clone()),
        None => run.map(|run| run.file(&format!("eval-{}", answers.split))),
    };
    let unwritten = folder.as_ref().and_then(|folder| {
        let write = || {
            // An evaluation that began later may have written the figures of newer weights.
            if options.out.is_none() && file.check_current().is_err() {
                return Err(RunError::Outdated {
                    path: file.path().to_owned(),
                });
            }
            // The folder of a run has files of these names of its own.
            let _held = match RunDir::open(folder) {
                Ok(run) => Some(run.lock()?),
                Err(_) => None,
            };
            make_folder(folder)?;
            write_evaluation(folder, &report, &answers, unknown.as_ref(), "png")
        };
        write().err()
    });
    Ok(Evaluated {
        report,
        findings: found,
        tta: answers.tta(),
        unknown,
        split: answers.split,
        data: answers.dataset.origin.clone(),
        skipped,
        notes: answers.dataset.notes.clone(),
        folder,
        unwritten,
        images_per_s: answers.predictions.images_per_s,
        temperature: (
            answers.meta.temperature,
            answers.meta.calibration.map(|c| c.pictures),
        ),
    })
}
