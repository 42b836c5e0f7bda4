//! The end of a run: the best weights evaluated, the test split used once.

use std::path::PathBuf;

use super::answer::{Answers, EvaluateOptions, predict};
use super::dir::{RunDir, find_weights};
use super::error::RunError;
use super::files::write;
use super::findings::{Finding, findings, miscalibrated, overrun};
use super::plan::Plan;
use super::results::{Metrics, write_evaluation, write_metrics};
use crate::checkpoint::{self, TensorFile};
use crate::data::{DecodeLimits, Skipped, SplitName, decode};
use crate::device::Selected;
use crate::eval;
use crate::metrics::EvalReport;
use crate::train::Outcome;

/// A finished or interrupted run.
#[derive(Debug)]
pub struct Finished {
    /// How training ended.
    pub outcome: Outcome,
    /// Results of the best weights on validation; `None` when interrupted or without validation.
    pub val: Option<EvalReport>,
    /// Results of the best weights on the test split, which is used for nothing else; `None` when
    /// interrupted or without a test split.
    pub test: Option<EvalReport>,
    /// What explains the figures: those of validation, else of the test split.
    pub findings: Vec<Finding>,
    /// Number of training pictures.
    pub train_pictures: usize,
    /// Path of a picture to classify, copied from the last split that was evaluated.
    pub example: Option<PathBuf>,
    /// Test pictures that could not be read; those of the other splits were in the plan when
    /// training began.
    pub skipped: Vec<Skipped>,
}

impl Finished {
    /// A run that was stopped before its budget was spent.
    pub(super) fn interrupted(plan: &Plan, outcome: Outcome) -> Self {
        Self {
            outcome,
            findings: Vec::new(),
            train_pictures: plan.splits.train.len(),
            val: None,
            test: None,
            example: None,
            skipped: Vec::new(),
        }
    }
}

/// Evaluates the best weights on validation and, this once, on the test split.
pub(super) fn finish(
    plan: &Plan,
    dir: &RunDir,
    device: &Selected,
    outcome: Outcome,
) -> Result<Finished, RunError> {
    let best = TensorFile::open(&find_weights(dir.root())?)?;
    let best = checkpoint::load(&best, &device.device)?;
    let options = EvaluateOptions {
        batch_size: plan.recipe.train.batch_size,
        workers: plan.recipe.data.workers,
        strict: plan.recipe.data.strict,
        cache_mb: Some(plan.recipe.data.cache_mb),
        ..EvaluateOptions::default()
    };
    let mut metrics = Metrics::default();
    let mut last: Option<(EvalReport, Answers)> = None;
    let mut skipped = Vec::new();
    let mut found: Option<Vec<Finding>> = None;
    for split in [SplitName::Val, SplitName::Test] {
        let samples = plan.splits.get(split);
        if samples.is_empty() {
            continue;
        }
        // The pictures of one split at a time.
        drop(last.take());
        let answers = match predict(&best, &plan.dataset, split, samples, &options, device) {
            // Training and validation are done; an unreadable test split must not lose them.
            Err(unreadable @ RunError::Unreadable { .. }) if split == SplitName::Test => {
                skipped.push(Skipped {
                    name: "test".into(),
                    reason: unreadable.to_string(),
                });
                continue;
            }
            other => other?.tempered(),
        };
        let report = eval::report(&answers.predictions, &answers.meta.classes);
        found.get_or_insert_with(|| {
            let mut found = findings(&report, &outcome.progress.history);
            found.extend(miscalibrated(&report, &answers));
            found
        });
        match split {
            SplitName::Val => metrics.val = Some(report.clone()),
            _ => {
                metrics.test = Some(report.clone());
                skipped.extend_from_slice(answers.pictures.skipped());
            }
        }
        last = Some((report, answers));
    }
    let mut example = None;
    if let Some((report, answers)) = &last {
        write_evaluation(dir.root(), report, answers, "png")?;
        example = write_example(dir, answers)?;
    }
    write_metrics(&dir.file("metrics.json"), &metrics)?;
    let late = overrun(plan.recipe.budget()?, &outcome.progress);
    let findings = late.into_iter().chain(found.unwrap_or_default());
    Ok(Finished {
        outcome,
        val: metrics.val,
        test: metrics.test,
        findings: findings.collect(),
        train_pictures: plan.splits.train.len(),
        example,
        skipped,
    })
}

/// Writes one picture of the data set as `example.png`, for a first `vitrine classify`.
fn write_example(dir: &RunDir, answers: &Answers) -> Result<Option<PathBuf>, RunError> {
    let Some(sample) = answers.pictures.samples().first() else {
        return Ok(None);
    };
    // It has been read before; a data set that vanished meanwhile costs only the example.
    let Ok(raw) = answers.dataset.read(sample) else {
        return Ok(None);
    };
    let Ok(picture) = decode(&raw, &DecodeLimits::default()) else {
        return Ok(None);
    };
    let mut png = std::io::Cursor::new(Vec::new());
    if picture.write_to(&mut png, image::ImageFormat::Png).is_err() {
        return Ok(None);
    }
    let path = dir.file("example.png");
    write(&path, &png.into_inner())?;
    Ok(Some(path))
}
