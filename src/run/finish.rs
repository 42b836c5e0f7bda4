//! What a training or an evaluation leaves in its folder.

use std::path::{Path, PathBuf};

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::{Answers, EvaluateOptions, Finished, Plan, RunDir, RunError, TtaReport, answer, write};
use crate::data::{DecodeLimits, Preprocess, Skipped, SplitName, Targets, TrainLoader, decode};
use crate::device::Selected;
use crate::eval;
use crate::metrics::{EvalReport, softmax};
use crate::recipe::Recipe;
use crate::report::csv;
use crate::report::plot::{self, Cell, Mark};
use crate::report::text;
use crate::train::{EpochRecord, Outcome};

/// Writes `results.csv` and `results.png`.
pub(super) fn write_results(dir: &RunDir, history: &[EpochRecord]) -> Result<(), RunError> {
    csv::write_results(&dir.file("results.csv"), history)?;
    plot::results(history, &dir.file("results.png"))?;
    Ok(())
}

/// Draws the first batch as the model will see it.
pub(super) fn write_train_batch(
    dir: &RunDir,
    loader: &TrainLoader,
    plan: &Plan,
) -> Result<(), RunError> {
    let view = plan.curriculum.at(0.0).view;
    let first_view = move |_| view;
    let Some(batch) = loader.epoch_seen(0, 0, first_view).next().transpose()? else {
        return Ok(());
    };
    let classes = plot::class_names(&plan.dataset.classes, "png");
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

/// What the `i`th picture of a batch counts as: its class, or the two that were mixed.
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

/// `metrics.json`: figures by split.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Metrics {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    train: Option<EvalReport>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    val: Option<EvalReport>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    test: Option<EvalReport>,
    /// Of the same split with test-time augmentation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    tta: Option<TtaReport>,
}

/// Writes the figures of one split, its tables and its plots, into `folder`.
///
/// # Errors
///
/// [`RunError`], which names the file.
pub fn write_evaluation(
    folder: &Path,
    report: &EvalReport,
    answers: &Answers,
    extension: &str,
) -> Result<(), RunError> {
    let mut metrics = Metrics {
        tta: answers.tta(),
        ..Metrics::default()
    };
    match answers.split {
        SplitName::Train => metrics.train = Some(report.clone()),
        SplitName::Val => metrics.val = Some(report.clone()),
        SplitName::Test => metrics.test = Some(report.clone()),
    }
    write_metrics(&folder.join("metrics.json"), &metrics)?;
    csv::write_confusion(&folder.join("confusion_matrix.csv"), report)?;
    draw_report(folder, report, extension)?;
    draw_predictions(folder, report, answers, extension)
}

fn write_metrics(path: &Path, metrics: &Metrics) -> Result<(), RunError> {
    let json = serde_json::to_string_pretty(metrics).expect("metrics are plain data");
    write(path.to_owned(), json.as_bytes())
}

fn draw_report(folder: &Path, report: &EvalReport, extension: &str) -> Result<(), RunError> {
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

fn draw_predictions(
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

/// Takes the final figures with the best weights: validation, and the test split, once.
pub(super) fn finish(
    recipe: &Recipe,
    dir: &RunDir,
    device: &Selected,
    plan: &Plan,
    outcome: Outcome,
) -> Result<Finished, RunError> {
    let mut metrics = Metrics::default();
    let mut last: Option<(EvalReport, Answers)> = None;
    let mut skipped = Vec::new();
    for split in [SplitName::Val, SplitName::Test] {
        if plan.splits.get(split).is_empty() {
            continue;
        }
        let options = EvaluateOptions {
            precision: crate::ops::PrecisionChoice::Auto,
            data: None,
            split: Some(split),
            batch_size: recipe.train.batch_size,
            workers: recipe.data.workers,
            strict: recipe.data.strict,
            cache_mb: Some(recipe.data.cache_mb),
            out: None,
            tta: None,
        };
        // The pictures of one split at a time.
        drop(last.take());
        let answers = match answer(dir.root(), &options, device) {
            // The training is done, and validation measured: that no test picture can be read is said, and costs neither.
            Err(unreadable @ RunError::Unreadable { .. }) if split == SplitName::Test => {
                skipped.push(Skipped {
                    name: "test".into(),
                    reason: unreadable.to_string(),
                });
                continue;
            }
            other => other?,
        };
        let report = eval::report(&answers.predictions, &answers.meta.classes);
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
    Ok(Finished {
        outcome,
        val: metrics.val,
        test: metrics.test,
        example,
        skipped,
    })
}

/// Writes one picture, as it stands in the data set, for the command that classifies it.
fn write_example(dir: &RunDir, answers: &Answers) -> Result<Option<String>, RunError> {
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
    write(path.clone(), &png.into_inner())?;
    Ok(Some(path.display().to_string()))
}

/// A run's epochs, from `results.csv`; none where it has none yet.
pub fn history(dir: &RunDir) -> Vec<EpochRecord> {
    csv::read_results(&dir.file("results.csv")).unwrap_or_default()
}

/// What [`redraw`] wrote, and why it could not ask the model again, which `predictions` needs.
#[derive(Debug)]
pub struct Redrawn {
    /// The plots.
    pub written: Vec<PathBuf>,
    /// Why `predictions` is not among them.
    pub without_predictions: Option<RunError>,
}

/// Redraws everything that a run's files allow, and its data, where they still are.
///
/// # Errors
///
/// [`RunError`], which names the file.
pub fn redraw(dir: &RunDir, extension: &str, device: &Selected) -> Result<Redrawn, RunError> {
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
    draw_report(dir.root(), &report, extension)?;
    written.extend(["confusion_matrix", "reliability", "per_class"].map(at));
    let options = EvaluateOptions {
        precision: crate::ops::PrecisionChoice::Auto,
        split: Some(split),
        batch_size: 128,
        ..EvaluateOptions::default()
    };
    let answers = match answer(dir.root(), &options, device) {
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
