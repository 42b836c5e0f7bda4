//! The plots of a run, drawn again from its files.

use std::path::PathBuf;

use super::answer::{EvaluateOptions, answer};
use super::data::OpenData;
use super::dir::RunDir;
use super::error::RunError;
use super::results::{Metrics, draw_predictions, draw_report};
use crate::data::SplitName;
use crate::device::Selected;
use crate::report::{csv, plot};

/// What [`redraw`] wrote.
#[derive(Debug)]
pub struct Redrawn {
    /// The plots.
    pub written: Vec<PathBuf>,
    /// Why the plot `predictions`, which needs the model and the data, is not among them.
    pub without_predictions: Option<RunError>,
}

/// Redraws every plot of a run except `train_batch`; `predictions` only if the data is still there.
///
/// # Errors
///
/// [`RunError`], which names the file that cannot be read or written, or says that a training, which draws its
/// plots itself, is not over.
pub fn redraw(dir: &RunDir, extension: &str, device: &Selected) -> Result<Redrawn, RunError> {
    let _held = dir.lock()?;
    let whole = |written| Redrawn {
        written,
        without_predictions: None,
    };
    let at = |stem: &str| dir.file(&format!("{stem}.{extension}"));
    let mut written = vec![at("results")];
    plot::results(
        &csv::read_results(&dir.file("results.csv"))?,
        &at("results"),
    )?;
    let path = dir.file("metrics.json");
    if !path.is_file() {
        return Ok(whole(written));
    }
    let broken = |reason: String| RunError::Broken {
        path: path.clone(),
        reason,
    };
    let json = std::fs::read_to_string(&path).map_err(|e| broken(e.to_string()))?;
    let metrics: Metrics = serde_json::from_str(&json).map_err(|e| broken(e.to_string()))?;
    let (split, report) = match (metrics.test, metrics.val) {
        (Some(test), _) => (SplitName::Test, test),
        (None, Some(val)) => (SplitName::Val, val),
        (None, None) => return Ok(whole(written)),
    };
    report
        .validate()
        .map_err(|reason| broken(format!("{split}: {reason}")))?;
    draw_report(dir.root(), &report, extension)?;
    written.extend(["confusion_matrix", "reliability", "per_class"].map(at));
    let options = EvaluateOptions {
        precision: crate::ops::InferencePrecision::Auto,
        split: Some(split),
        batch_size: 128,
        ..EvaluateOptions::default()
    };
    let answers = match answer(dir.root(), &options, &mut OpenData::default(), device) {
        Ok(answers) => answers,
        Err(why) => {
            return Ok(Redrawn {
                written,
                without_predictions: Some(why),
            });
        }
    };
    draw_predictions(dir.root(), &report, &answers, extension)?;
    written.push(at("predictions"));
    Ok(whole(written))
}
