//! What a finished training prints.

use std::path::Path;

use crate::cli::shell::{program, quoted};
use crate::metrics::EvalReport;
use crate::names::{self, shown};
use crate::report::text;
use crate::run::{Finished, RunDir};
use crate::train::Ending;

/// The results as text.
pub(super) fn plain(dir: &RunDir, finished: &Finished) -> String {
    let progress = &finished.outcome.progress;
    let mut out = String::new();
    let ending = match finished.outcome.ending {
        Ending::Stale => ", stopped early: validation no longer improved",
        _ => "",
    };
    out += &format!(
        "trained {} in {}{ending}; best epoch {}\n",
        match progress.history.len() {
            1 => "1 epoch".to_owned(),
            n => format!("{n} epochs"),
        },
        text::seconds(progress.elapsed_s),
        progress.best.map_or(progress.epoch, |b| b.epoch),
    );
    if let Some(val) = &finished.val {
        out += &(text::accuracy_line("val", val) + "\n");
    }
    if let Some(test) = &finished.test {
        out += &(text::accuracy_line("test", test) + "\n");
    }
    let plots = shown(dir.file("results.png"));
    let weights = shown(dir.best());
    out += &format!("plots:    {plots}, confusion_matrix.png, predictions.png\n");
    out += &format!("weights:  {weights}\n");
    let example = finished.example.as_deref();
    let example = example.unwrap_or(Path::new("PICTURE"));
    out + &format!(
        "classify: {} classify {} {}\n",
        program(),
        quoted(dir.root()),
        quoted(example)
    )
}

/// The results as one JSON object.
pub(super) fn json(dir: &RunDir, finished: &Finished) -> serde_json::Value {
    let progress = &finished.outcome.progress;
    let brief = |report: &Option<EvalReport>| {
        report.as_ref().map(|r| {
            serde_json::json!({
                "n": r.n, "top1": r.top1, "top1_interval": r.top1_interval,
                "top5": r.top5, "loss": r.loss, "macro_f1": r.macro_f1, "ece": r.ece,
            })
        })
    };
    serde_json::json!({
        "run": names::text(dir.root()),
        "weights": names::text(dir.best()),
        "epochs": progress.history.len(),
        "best_epoch": progress.best.map(|b| b.epoch),
        "training_s": progress.elapsed_s,
        "val": brief(&finished.val),
        "test": brief(&finished.test),
        "example": finished.example.as_ref().map(names::text),
    })
}
