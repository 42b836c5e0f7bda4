//! What a run shows while it works: a bar on a terminal, else one line per epoch.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use unicode_width::UnicodeWidthStr;

use super::output::{error_columns, interactive, note};
use crate::names::visible;
use crate::recipe::TrainRecipe;
use crate::report::text;
use crate::run::RunEvent;
use crate::train::probe::{Chosen, PROBE_L2};
use crate::train::task::classification::{TOP1, VAL_LOSS};
use crate::train::{Curriculum, EpochRecord, TrainEvent};

/// Weight of the newest update in the shown loss.
const SMOOTHING: f64 = 0.05;

/// Shows the events of one run on stderr.
pub(super) struct Progress {
    prefix: String,
    epochs: Option<usize>,
    of_time: bool,
    bar: Option<ProgressBar>,
    loss: Option<f64>,
    rate: Option<f64>,
    waiting: f64,
    spent: f64,
    begun: Option<(Instant, f64)>,
    /// If the budget is no time: updates then take longer as pictures grow.
    curriculum: Option<Curriculum>,
    warned: usize,
}

impl Progress {
    /// `budget` is the recipe's; `prefix` starts every line.
    pub(super) fn new(prefix: &str, budget: &TrainRecipe) -> Self {
        Self {
            prefix: prefix.to_owned(),
            epochs: budget.epochs,
            of_time: budget.time.is_some(),
            bar: None,
            loss: None,
            rate: None,
            waiting: 0.0,
            spent: 0.0,
            begun: None,
            curriculum: None,
            warned: 0,
        }
    }

    /// Shows one event.
    pub(super) fn show(&mut self, event: RunEvent<'_>) {
        match event {
            RunEvent::Decoding { split, done, total } => {
                if interactive() {
                    let bar = self.bar(total as u64, "decoding {msg} [{bar:30}] {pos}/{len}");
                    bar.set_message(split.to_string());
                    bar.set_position(done as u64);
                }
            }
            RunEvent::Features { split, done, total } => {
                if interactive() {
                    let bar = self.bar(total as u64, "features of {msg} [{bar:30}] {pos}/{len}");
                    bar.set_message(split.to_string());
                    bar.set_position(done as u64);
                }
            }
            RunEvent::Head {
                seconds,
                chosen,
                on,
            } => {
                self.clear();
                note(&format!(
                    "{}head fitted on features of the weights in {}, before the clock: {} top-1 on {}; now all that is not frozen learns",
                    self.prefix,
                    text::seconds(seconds),
                    text::percent(chosen.top1),
                    match on {
                        Chosen::Validation => "validation",
                        Chosen::Folds => "folds of the training pictures",
                    },
                ));
            }
            RunEvent::Begin(plan) => {
                self.clear();
                self.curriculum = (!self.of_time).then(|| plan.curriculum.clone());
                let s = &plan.splits;
                note(&format!(
                    "{}{}: {} classes; {} train, {} val, {} test pictures",
                    self.prefix,
                    visible(&plan.dataset.origin),
                    plan.splits.classes.len(),
                    text::count(s.train.len() as u64),
                    text::count(s.val.len() as u64),
                    text::count(s.test.len() as u64),
                ));
                note(&format!(
                    "{}{} parameters, {} per training picture, pictures {}x{}",
                    self.prefix,
                    text::count(plan.model.parameters()),
                    text::flops(3 * plan.model.flops()),
                    plan.preprocess.image_size,
                    plan.preprocess.image_size,
                ));
                for text in &plan.dataset.notes {
                    note(&format!("{}note: {}", self.prefix, visible(text)));
                }
                self.warn(&plan.skipped);
            }
            RunEvent::NothingLeft(progress)
                if progress
                    .history
                    .iter()
                    .any(|r| r.figure(PROBE_L2).is_some()) =>
            {
                note(&format!(
                    "{}this probe is fitted and is only evaluated again",
                    self.prefix
                ));
            }
            RunEvent::NothingLeft(progress) => note(&format!(
                "{}this run is finished ({} updates, {} epochs) and is only evaluated again; to train on, ask for more --epochs, --steps, --time or --patience",
                self.prefix,
                text::count(progress.update),
                text::count(progress.epoch as u64),
            )),
            RunEvent::Train(TrainEvent::Update {
                epoch,
                batches,
                loss,
                lr,
                images,
                seconds,
                waited_s,
                spent,
                flops: _,
            }) => {
                self.begun.get_or_insert_with(|| (Instant::now(), spent));
                let smooth = |old: Option<f64>, new: f64| {
                    old.map_or(new, |old| old + SMOOTHING * (new - old))
                };
                self.loss = Some(smooth(self.loss, loss));
                self.rate = Some(smooth(self.rate, images as f64 / seconds.max(1e-9)));
                self.waiting = smooth(Some(self.waiting), waited_s / seconds.max(1e-9));
                self.spent = spent;
                if interactive() {
                    let line = fit(
                        &[
                            (0, format!("{}epoch {}", self.prefix, self.epoch(epoch))),
                            (1, format!("step {}/{}", batches.0, batches.1)),
                            (2, format!("loss {:.3}", self.loss.unwrap_or(loss))),
                            (6, format!("lr {lr:.2e}")),
                            (4, format!("{:.0} images/s", self.rate.unwrap_or_default())),
                            (5, format!("{:.0} % waiting", 100.0 * self.waiting)),
                            (3, self.eta()),
                        ],
                        error_columns().saturating_sub(1),
                    );
                    let bar = self.bar(1000, "{msg} [{wide_bar}]");
                    bar.set_position((1000.0 * spent) as u64);
                    bar.set_message(line);
                }
            }
            RunEvent::Train(TrainEvent::Epoch { record, best }) => {
                self.clear();
                note(&format!("{}{}", self.prefix, self.line(&record, best)));
            }
            RunEvent::Train(TrainEvent::ValidationLeftOut {
                expected_s,
                budget_s,
            }) => {
                self.clear();
                note(&format!(
                    "{}no validation while it trains: one would take about {} of the {}; the last weights are kept",
                    self.prefix,
                    text::seconds(expected_s),
                    text::seconds(budget_s),
                ));
            }
            RunEvent::Train(TrainEvent::Saved) => {}
            RunEvent::Testing => self.clear(),
        }
    }

    /// Removes the bar.
    pub(super) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Names the first few pictures that could not be read.
    pub(super) fn warn(&mut self, skipped: &[crate::data::Skipped]) {
        const SHOWN: usize = 10;
        for bad in skipped.iter().take(SHOWN) {
            note(&format!("{}skipped {bad}", self.prefix));
        }
        if skipped.len() > SHOWN {
            note(&format!(
                "{}… and {} more; `vitrine data verify` lists them all",
                self.prefix,
                skipped.len() - SHOWN
            ));
        }
        self.warned = skipped.len();
    }

    fn bar(&mut self, length: u64, template: &str) -> &ProgressBar {
        if self
            .bar
            .as_ref()
            .is_some_and(|b| b.length() != Some(length))
        {
            self.clear();
        }
        self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(length);
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        })
    }

    fn epoch(&self, epoch: usize) -> String {
        match self.epochs {
            Some(epochs) => format!("{epoch}/{epochs}"),
            None => epoch.to_string(),
        }
    }

    fn eta(&self) -> String {
        match self.begun {
            Some((since, at)) if self.spent > at => {
                let work = |from: f64, to: f64| match &self.curriculum {
                    Some(curriculum) => curriculum.work(from..to),
                    None => to - from,
                };
                let rate = work(at, self.spent) / since.elapsed().as_secs_f64().max(1e-9);
                format!("ETA {}", text::seconds(work(self.spent, 1.0) / rate))
            }
            _ => "ETA –".to_owned(),
        }
    }

    fn line(&self, record: &EpochRecord, best: bool) -> String {
        if let (Some(l2), Some(top1), Some(loss)) = (
            record.figure(PROBE_L2),
            record.figure(TOP1),
            record.figure(VAL_LOSS),
        ) {
            return format!(
                "L2 {l2:.1e}, loss {:.4}, val loss {loss:.4}, val top-1 {}{}",
                record.train_loss,
                text::percent(top1),
                if best { " (best)" } else { "" }
            );
        }
        let mut line = format!(
            "epoch {}, loss {:.4}",
            self.epoch(record.epoch),
            record.train_loss
        );
        if record.share < 1.0 {
            line = format!(
                "epoch {} (the first {:.0} % of it), loss {:.4}",
                self.epoch(record.epoch),
                100.0 * record.share,
                record.train_loss
            );
        }
        if let (Some(top1), Some(loss)) = (record.figure(TOP1), record.figure(VAL_LOSS)) {
            line += &format!(
                ", val loss {loss:.4}, val top-1 {}{}",
                text::percent(top1),
                if best { " (best)" } else { "" }
            );
        }
        line + &format!(
            ", lr {:.2e}, {:.0} images/s, {:.1} % waiting for data, {}",
            record.lr,
            record.images_per_s,
            100.0 * record.waiting,
            self.eta()
        )
    }
}

/// The parts of a progress line that fit into `columns`, beside a short bar if there is room for one;
/// those of the largest number are left out first.
fn fit(parts: &[(u8, String)], columns: usize) -> String {
    /// Brackets, a space, and a few columns.
    const BAR: usize = 8;
    let line = |least: u8| -> String {
        let kept = parts.iter().filter(|(number, _)| *number < least);
        kept.map(|(_, part)| part.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let most = parts
        .iter()
        .map(|(number, _)| number + 1)
        .max()
        .unwrap_or(0);
    let mut lines = (1..=most).rev().map(line);
    let fits = lines.clone().find(|line| line.width() + BAR <= columns);
    fits.or_else(|| lines.next_back()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_terminal_gets_the_parts_that_matter_most() {
        let parts = [
            (0, "epoch 3/20"),
            (1, "step 7/70"),
            (3, "lr 1.0e-3"),
            (2, "ETA 12 s"),
        ];
        let parts = parts.map(|(number, part)| (number, part.to_owned()));
        for (columns, line) in [
            (usize::MAX, "epoch 3/20, step 7/70, lr 1.0e-3, ETA 12 s"),
            (50, "epoch 3/20, step 7/70, lr 1.0e-3, ETA 12 s"),
            (49, "epoch 3/20, step 7/70, ETA 12 s"),
            (30, "epoch 3/20, step 7/70"),
            (20, "epoch 3/20"),
            (5, "epoch 3/20"),
        ] {
            assert_eq!(fit(&parts, columns), line, "{columns}");
        }
    }
}
