//! What a training or an evaluation writes into its folder: results, tables, plots.

use std::path::Path;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::answer::{Answers, TtaReport};
use super::dir::RunDir;
use super::error::RunError;
use super::files::write;
use super::plan::Plan;
use super::unknown::UnknownReport;
use crate::data::{Preprocess, SplitName, Targets, TrainLoader};
use crate::metrics::{EvalReport, softmax};
use crate::report::csv;
use crate::report::plot::{self, Cell, Mark};
use crate::report::text;
use crate::train::EpochRecord;

/// Writes `results.csv` and `results.png`.
///
/// `columns` are those of the task.
pub(super) fn write_results(
    dir: &RunDir,
    columns: &[&str],
    history: &[EpochRecord],
) -> Result<(), RunError> {
    csv::write_results(&dir.file("results.csv"), columns, history)?;
    plot::results(history, &dir.file("results.png"))?;
    Ok(())
}

/// The finished epochs of a run, read from `results.csv`; empty if there is none.
pub(crate) fn history(dir: &RunDir) -> Vec<EpochRecord> {
    csv::read_results(&dir.file("results.csv")).unwrap_or_default()
}

/// Draws the first batch as the model sees it: augmented.
pub(super) fn write_train_batch(
    dir: &RunDir,
    loader: &TrainLoader,
    plan: &Plan,
) -> Result<(), RunError> {
    let view = plan.curriculum.at(0.0).view;
    let first_view = move |_| view;
    let Some(batch) = loader.epoch_with(0, 0, first_view).next().transpose()? else {
        return Ok(());
    };
    let classes = plot::class_names(&plan.splits.classes, "png");
    let side = batch.image_size;
    let cells: Vec<Cell> = batch
        .images
        .chunks(3 * side * side)
        .take(30)
        .enumerate()
        .map(|(i, values)| Cell {
            picture: denormalise(values, side, &plan.preprocess),
            caption: caption(&batch.targets, i, &classes),
            mark: Mark::Plain,
        })
        .collect();
    plot::picture_grid(
        "First training pictures, augmented",
        &cells,
        &dir.file("train_batch.png"),
    )?;
    Ok(())
}

/// The label of picture `i` of a batch: its class, or the two classes that were mixed.
fn caption(targets: &Targets, i: usize, classes: &[String]) -> [String; 2] {
    match targets {
        Targets::Mixed { a, b, lambda } if a[i] != b[i] && lambda[i] < 1.0 => {
            let share = |class: usize, share: f32| {
                format!("{} {}", classes[class], text::percent(f64::from(share)))
            };
            [share(a[i], lambda[i]), share(b[i], 1.0 - lambda[i])]
        }
        Targets::Hard(labels) | Targets::Mixed { a: labels, .. } => {
            [classes[labels[i]].clone(), String::new()]
        }
    }
}

fn denormalise(values: &[f32], side: usize, preprocess: &Preprocess) -> RgbImage {
    RgbImage::from_fn(side as u32, side as u32, |x, y| {
        let at = y as usize * side + x as usize;
        image::Rgb(std::array::from_fn(|channel| {
            let value = values[channel * side * side + at];
            let value = value * preprocess.std[channel] + preprocess.mean[channel];
            (value * 255.0).round().clamp(0.0, 255.0) as u8
        }))
    })
}

/// `metrics.json`: results by split.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Metrics {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub train: Option<EvalReport>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub val: Option<EvalReport>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub test: Option<EvalReport>,
    /// The same split with test-time augmentation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tta: Option<TtaReport>,
    /// How well pictures that show none of the classes are told from those of the split.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unknown: Option<UnknownReport>,
}

/// Writes results, tables and plots of one split into `folder`; `extension` is `png` or `svg`.
///
/// # Errors
///
/// [`RunError`], which names the file.
pub(crate) fn write_evaluation(
    folder: &Path,
    report: &EvalReport,
    answers: &Answers,
    unknown: Option<&UnknownReport>,
    extension: &str,
) -> Result<(), RunError> {
    let mut metrics = Metrics {
        tta: answers.tta(),
        unknown: unknown.cloned(),
        ..Metrics::default()
    };
    match answers.split {
        SplitName::Train => metrics.train = Some(report.clone()),
        SplitName::Val => metrics.val = Some(report.clone()),
        SplitName::Test => metrics.test = Some(report.clone()),
    }
    write_metrics(&folder.join("metrics.json"), &metrics)?;
    write_plots(folder, report, answers, extension)
}

/// Writes the tables and plots of one split into `folder`.
///
/// # Errors
///
/// [`RunError`], which names the file.
pub(super) fn write_plots(
    folder: &Path,
    report: &EvalReport,
    answers: &Answers,
    extension: &str,
) -> Result<(), RunError> {
    csv::write_confusion(&folder.join("confusion_matrix.csv"), report)?;
    draw_report(folder, report, extension)?;
    draw_predictions(folder, report, answers, extension)
}

pub(super) fn write_metrics(path: &Path, metrics: &Metrics) -> Result<(), RunError> {
    let json = serde_json::to_string_pretty(metrics).expect("metrics are plain data");
    write(path, json.as_bytes())
}

pub(super) fn draw_report(
    folder: &Path,
    report: &EvalReport,
    extension: &str,
) -> Result<(), RunError> {
    let at = |stem: &str| folder.join(format!("{stem}.{extension}"));
    let mut shown = report.clone();
    let classes: Vec<String> = report.per_class.iter().map(|c| c.label.clone()).collect();
    for (class, name) in shown
        .per_class
        .iter_mut()
        .zip(plot::class_names(&classes, extension))
    {
        class.label = name;
    }
    plot::confusion_matrix(&shown, &at("confusion_matrix"))?;
    plot::reliability(&shown, &at("reliability"))?;
    plot::per_class(&shown, &at("per_class"))?;
    Ok(())
}

/// Pictures of the prediction grid: a sample of all, then the worst mistakes.
const SAMPLED: usize = 18;
const WORST: usize = 12;

pub(super) fn draw_predictions(
    folder: &Path,
    report: &EvalReport,
    answers: &Answers,
    extension: &str,
) -> Result<(), RunError> {
    let predictions = &answers.predictions;
    let n = predictions.labels.len();
    let mut chosen: Vec<usize> = (0..SAMPLED.min(n))
        .map(|i| i * n / SAMPLED.min(n).max(1))
        .collect();
    for mistake in report.mistakes.iter().take(WORST) {
        chosen.extend(
            predictions
                .names
                .iter()
                .position(|name| *name == mistake.name),
        );
    }
    let classes = plot::class_names(&answers.meta.classes, extension);
    let mut cells = Vec::new();
    for index in chosen {
        let row = &predictions.logits[index * classes.len()..][..classes.len()];
        let probabilities = softmax(row);
        let predicted = (0..row.len())
            .max_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]))
            .unwrap_or(0);
        let label = predictions.labels[index];
        cells.push(Cell {
            picture: answers.pictures.get(index)?.into_owned(),
            caption: [
                format!(
                    "{} {:.0} %",
                    classes[predicted],
                    100.0 * probabilities[predicted]
                ),
                if predicted == label {
                    String::new()
                } else {
                    format!("is {}", classes[label])
                },
            ],
            mark: if predicted == label {
                Mark::Right
            } else {
                Mark::Wrong
            },
        });
    }
    let title = format!(
        "Predictions on {}: a sample, then the worst mistakes",
        answers.split
    );
    plot::picture_grid(
        &title,
        &cells,
        &folder.join(format!("predictions.{extension}")),
    )?;
    Ok(())
}
