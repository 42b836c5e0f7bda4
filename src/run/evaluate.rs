//! Weights measured on a split.

use std::path::{Path, PathBuf};

use super::answer::{EvaluateOptions, TtaReport, answer};
use super::data::OpenData;
use super::error::RunError;
use super::files::make_folder;
use super::results::write_evaluation;
use crate::data::{Skipped, SplitName};
use crate::device::Selected;
use crate::eval;
use crate::metrics::EvalReport;

/// What [`evaluate`] gives.
#[derive(Debug)]
pub struct Evaluated {
    /// The figures.
    pub report: EvalReport,
    /// Those with test-time augmentation, where that was asked for; nothing is ever chosen by them.
    pub tta: Option<TtaReport>,
    /// The split that was measured.
    pub split: SplitName,
    /// The data set that it is of.
    pub data: String,
    /// What the data set's layout leaves out, and pictures that could not be read.
    pub skipped: Vec<Skipped>,
    /// Where the files went.
    pub folder: Option<PathBuf>,
    /// Pictures a second.
    pub images_per_s: f64,
    /// What the logits were divided by, and the pictures that it was fitted on, if it was.
    pub temperature: (f32, Option<usize>),
}

/// Measures `weights`, a run directory or a file, and writes figures and plots.
///
/// # Errors
///
/// [`RunError`].
pub fn evaluate(
    weights: &Path,
    options: &EvaluateOptions,
    device: &Selected,
) -> Result<Evaluated, RunError> {
    let answers = answer(weights, options, &mut OpenData::default(), device)?;
    let report = eval::report(&answers.predictions, &answers.meta.classes);
    let folder = match &options.out {
        Some(out) => Some(out.clone()),
        None => weights
            .is_dir()
            .then(|| weights.join(format!("eval-{}", answers.split))),
    };
    if let Some(folder) = &folder {
        make_folder(folder)?;
        write_evaluation(folder, &report, &answers, "png")?;
    }
    Ok(Evaluated {
        report,
        tta: answers.tta(),
        split: answers.split,
        data: answers.dataset.origin.clone(),
        skipped: answers.skipped(),
        folder,
        images_per_s: answers.predictions.images_per_s,
        temperature: (
            answers.meta.temperature,
            answers.meta.calibration.map(|c| c.pictures),
        ),
    })
}
