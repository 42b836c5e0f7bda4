//! What a finished training prints.

use crate::checkpoint::Fit;
use crate::cli::findings::{Tried, lines};
use crate::cli::shell::{program, quoted};
use crate::cli::weights::fetching::megabytes;
use crate::metrics::EvalReport;
use crate::names::{self, shown};
use crate::recipe::Recipe;
use crate::report::text;
use crate::run::{Finished, RunDir};
use crate::train::probe::PROBE_L2;
use crate::train::{Budget, Ending, Progress};

/// The results as text.
pub(super) fn plain(dir: &RunDir, recipe: &Recipe, finished: &Finished) -> String {
    let progress = &finished.outcome.progress;
    let mut out = String::new();
    let ending = match finished.outcome.ending {
        Ending::Stale => ", stopped early: validation no longer improved",
        _ => "",
    };
    if let Some((l2, tried)) = probed(progress) {
        out += &format!(
            "fitted a probe on {} in {}; L2 {l2:.1e} is the best of {tried} {}\n",
            text::pictures(finished.train_pictures),
            text::seconds(progress.elapsed_s),
            match finished.val {
                Some(_) => "on validation",
                None => "on folds of them",
            }
        );
    } else {
        out += &format!(
            "trained {} in {}{}{ending}; best {}\n",
            passes(progress, finished.train_pictures),
            text::seconds(progress.elapsed_s),
            match recipe.budget() {
                Ok(Budget::Time(time)) => {
                    format!(" of the {} budget", text::seconds(time.as_secs_f64()))
                }
                _ => String::new(),
            },
            match progress.best.map_or(progress.epoch, |b| b.epoch) {
                0 => "before the first update".to_owned(),
                epoch => format!("epoch {epoch}"),
            },
        );
    }
    if let Some(val) = &finished.val {
        out += &(text::accuracy_line("val", val) + "\n");
    }
    if let Some(test) = &finished.test {
        out += &(text::accuracy_line("test", test) + "\n");
    }
    out += &lines(
        &finished.findings,
        Tried {
            weights: Some(dir.root()),
            // A probe has no rate to lower and no budget to raise.
            trained: recipe.init.probe.is_none(),
            started: recipe.init.weights.is_some(),
        },
    );
    // Without held-out pictures there is nothing to draw a confusion matrix of.
    let plots = ["results.png", "confusion_matrix.png", "predictions.png"];
    let drawn: Vec<&str> = plots
        .into_iter()
        .filter(|plot| dir.file(plot).is_file())
        .collect();
    if !drawn.is_empty() {
        out += &format!("plots:    {}\n", shown(dir.file(&drawn.join(", "))));
    }
    out += &format!("weights:  {}{}\n", shown(dir.best()), adapted(dir, recipe));
    if let Some(example) = &finished.example {
        out += &format!(
            "classify: {} classify {} {}\n",
            program(),
            quoted(dir.root()),
            quoted(example)
        );
    }
    out
}

/// How large weights of adapters alone are, and what they need.
fn adapted(dir: &RunDir, recipe: &Recipe) -> String {
    let (Some(base), true) = (&recipe.init.weights, recipe.init.finetune.adapts()) else {
        return String::new();
    };
    let bytes = std::fs::metadata(dir.best()).map_or(0, |file| file.len());
    format!(
        " (adapters, {}; they need {})",
        megabytes(bytes),
        shown(base)
    )
}

/// The strength of a probe's penalty, and how many were tried; `None` of a training.
fn probed(progress: &Progress) -> Option<(f64, usize)> {
    let best = progress.history.get(progress.best?.epoch.checked_sub(1)?)?;
    Some((best.figure(PROBE_L2)?, progress.history.len()))
}

/// How much was trained: `1 epoch`, `12 epochs`, `12.4 epochs`, `0.28 epochs (2,500 of 9,000 pictures)`.
fn passes(progress: &Progress, pictures: usize) -> String {
    let seen = progress.epochs_seen();
    // A part and the rest of it, after a resume, are a whole.
    if seen >= 0.5 && (seen - seen.round()).abs() < 1e-9 {
        return match seen.round() {
            1.0 => "1 epoch".to_owned(),
            n => format!("{n} epochs"),
        };
    }
    if seen < 1.0 {
        return format!(
            "{seen:.2} epochs ({} of {} pictures)",
            text::count(progress.images),
            text::count(pictures as u64)
        );
    }
    format!("{seen:.2} epochs")
}

/// The results as one JSON object.
pub(super) fn json(dir: &RunDir, recipe: &Recipe, finished: &Finished) -> serde_json::Value {
    let progress = &finished.outcome.progress;
    let brief = |report: &Option<EvalReport>| {
        report.as_ref().map(|r| {
            serde_json::json!({
                "n": r.n, "top1": r.top1, "top1_interval": r.top1_interval,
                "top5": r.top5, "loss": r.loss, "macro_f1": r.macro_f1, "ece": r.ece,
                "majority": r.majority().map(|(label, top1)| serde_json::json!({"label": label, "top1": top1})),
            })
        })
    };
    let mut summary = serde_json::json!({
        "run": names::text(dir.root()),
        "weights": names::text(dir.best()),
        "epochs": progress.history.len(),
        "epochs_seen": progress.epochs_seen(),
        "images_seen": progress.images,
        "train_pictures": finished.train_pictures,
        "best_epoch": progress.best.map(|b| b.epoch),
        "training_s": progress.elapsed_s,
        "budget_s": match recipe.budget() {
            Ok(Budget::Time(time)) => Some(time.as_secs_f64()),
            _ => None,
        },
        "findings": finished.findings,
        "val": brief(&finished.val),
        "test": brief(&finished.test),
        "example": finished.example.as_ref().map(names::text),
    });
    if let Some((l2, tried)) = probed(progress) {
        summary["probe"] = serde_json::json!({"l2": l2, "tried": tried});
    }
    summary
}

/// What becomes of each tensor of the weights that a training starts from, in a line.
pub(super) fn fit(fit: &Fit) -> String {
    let some = |what: &str, names: &[String]| match names {
        [] => String::new(),
        _ => format!("; {what} {}", names::listed(names)),
    };
    format!(
        "start: {} tensors taken{}{}{}",
        text::count(fit.taken as u64),
        some("interpolated", &fit.resampled),
        some("drawn anew", &fit.fresh),
        some("left out", &fit.left_out)
    )
}
