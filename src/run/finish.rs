//! The end of a run: the best weights evaluated, the test split used once.

use std::path::PathBuf;

use super::answer::{Answers, EvaluateOptions, predict};
use super::dir::{RunDir, find_weights, open_file};
use super::error::RunError;
use super::files::write;
use super::findings::{Finding, findings, miscalibrated, not_above_start, overrun};
use super::plan::Plan;
use super::results::{Metrics, write_metrics, write_plots};
use crate::checkpoint;
use crate::data::{DecodeLimits, Sample, Skipped, SplitName, decode};
use crate::device::Selected;
use crate::eval;
use crate::metrics::EvalReport;
use crate::stop::Stop;
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
    /// Path of a picture to classify, copied from the last split that was evaluated, else from train.
    pub example: Option<PathBuf>,
    /// Test pictures that could not be read; those of the other splits were in the plan when
    /// training began.
    pub skipped: Vec<Skipped>,
    /// The first table or plot that could not be written; weights and state are.
    pub unwritten: Option<RunError>,
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
            unwritten: None,
        }
    }
}

/// Evaluates the best weights on validation and, this once, on the test split. `unwritten` is a file that could
/// not be written before.
pub(super) fn finish(
    plan: &Plan,
    dir: &RunDir,
    device: &Selected,
    outcome: Outcome,
    mut unwritten: Option<RunError>,
    stop: &Stop,
) -> Result<Finished, RunError> {
    let file = open_file(&find_weights(dir.root())?)?;
    let best = checkpoint::load(&file, &device.device)?;
    let options = EvaluateOptions {
        batch_size: plan.recipe.train.batch_size,
        workers: plan.recipe.data.workers,
        strict: plan.recipe.data.strict,
        cache_mb: Some(plan.recipe.data.cache_mb),
        stop: stop.clone(),
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
        let answers = predict(&best, &plan.dataset, split, samples, &options, device)
            .and_then(|answers| answers.tempered(file.path()));
        let answers = match answers {
            // Training and validation are done; a test split without an answer must not lose them.
            Err(without @ (RunError::Unreadable { .. } | RunError::NotFinite { .. }))
                if split == SplitName::Test =>
            {
                skipped.push(Skipped {
                    name: "test".into(),
                    reason: without.to_string(),
                });
                continue;
            }
            other => other?,
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
    // What was measured is told whatever becomes of the files.
    let mut keep_first = |result: Result<(), RunError>| {
        if let Err(error) = result {
            unwritten.get_or_insert(error);
        }
    };
    keep_first(write_metrics(&dir.file("metrics.json"), &metrics));
    if let Some((report, answers)) = &last {
        keep_first(write_plots(dir.root(), report, answers, "png"));
    }
    let late = overrun(plan.recipe.budget()?, &outcome.progress);
    let below = not_above_start(&outcome.progress);
    let findings = late.into_iter().chain(below);
    let findings = findings.chain(found.unwrap_or_default());
    let pictured = match &last {
        Some((_, answers)) => answers.pictures.samples().first(),
        None => plan.splits.train.first(),
    };
    let example = pictured.and_then(|sample| example_of(plan, sample));
    let example = example.and_then(|png| {
        let path = dir.file("example.png");
        let written = write(&path, &png);
        let is_there = written.is_ok();
        keep_first(written);
        is_there.then_some(path)
    });
    Ok(Finished {
        outcome,
        val: metrics.val,
        test: metrics.test,
        findings: findings.collect(),
        train_pictures: plan.splits.train.len(),
        example,
        skipped,
        unwritten,
    })
}

/// A picture of the data set as PNG, for a first `vitrine classify`; a data set that vanished meanwhile costs
/// only that.
fn example_of(plan: &Plan, sample: &Sample) -> Option<Vec<u8>> {
    let raw = plan.dataset.read(sample).ok()?;
    let picture = decode(&raw, &DecodeLimits::default()).ok()?;
    let mut png = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut png, image::ImageFormat::Png).ok()?;
    Some(png.into_inner())
}
