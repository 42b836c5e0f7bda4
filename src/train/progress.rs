//! Where a training stands, and what it has recorded.

use serde::{Deserialize, Serialize};

use super::schedule::Budget;
use super::task::{Figure, Validation};

/// One epoch's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Seconds since the start, validation and saving included, sessions added up.
    pub elapsed_s: f64,
    /// Mean training loss of the epoch, in nats.
    pub train_loss: f64,
    /// What validation has found; nothing without a validation split.
    pub figures: Vec<Figure>,
    /// Learning rate of the epoch's last update.
    pub lr: f64,
    /// Training images a second of the epoch, validation not counted.
    pub images_per_s: f64,
    /// Share of the epoch's training time spent waiting for data, 0 to 1.
    pub waiting: f64,
    /// Share of the epoch's batches that were taken: below 1 where the budget ended first.
    #[serde(default = "whole")]
    pub share: f64,
    /// Share of the budget that was spent at the epoch's end, validation and saving included; `None` in what
    /// earlier versions have recorded.
    #[serde(default)]
    pub spent: Option<f64>,
}

fn whole() -> f64 {
    1.0
}

impl EpochRecord {
    /// The figure of a column of `results.csv`, if validation gave one.
    pub fn figure(&self, column: &str) -> Option<f64> {
        let mut figures = self.figures.iter();
        let figure = figures.find(|figure| figure.column == column);
        figure.map(|figure| figure.value)
    }
}

/// The best epoch so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Epoch, from 1; 0 is a start with a fitted head, before its first update.
    pub epoch: usize,
    /// What validation scored it.
    pub score: f64,
    /// Its validation loss; it breaks ties.
    pub loss: f64,
}

impl Best {
    pub(super) fn of(epoch: usize, validation: &Validation) -> Self {
        Self {
            epoch,
            score: validation.score,
            loss: validation.loss,
        }
    }
}

/// Where a training stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Finished epochs.
    pub epoch: usize,
    /// Batches of the present epoch that are behind us.
    pub batch: usize,
    /// Optimizer updates since the start.
    pub update: u64,
    /// Seconds since the start, validation and saving included, sessions added up.
    pub elapsed_s: f64,
    /// Sum of the batches' losses of the present epoch.
    pub loss_sum: f64,
    /// Seconds of training within the present epoch.
    pub epoch_s: f64,
    /// Seconds of the present epoch spent waiting for data.
    pub waited_s: f64,
    /// Training pictures of the finished epochs.
    pub images: u64,
    /// Seconds of training within the finished epochs.
    pub training_s: f64,
    /// Seconds that closing the last epoch took, or is expected to: what a time budget keeps for the next one.
    pub closing_s: f64,
    /// Seconds that the next update is expected to take: a time budget that has less left is spent.
    #[serde(default)]
    pub update_s: f64,
    /// Learning rate of the last update.
    pub lr: f64,
    /// The best epoch so far; a start with a fitted head counts as one.
    pub best: Option<Best>,
    /// Epochs since the best one.
    pub stale: usize,
    /// Figures of the finished epochs.
    pub history: Vec<EpochRecord>,
    /// Whether the training came to its own end.
    pub finished: bool,
    pub(super) optimizer_updates: u64,
    pub(super) ema_updates: u64,
}

impl Progress {
    /// Passes over the training split in the finished epochs; one that the budget cut short counts as its share.
    pub fn epochs_seen(&self) -> f64 {
        self.history.iter().map(|record| record.share).sum()
    }

    /// What a time budget must have left for one more update.
    pub(super) fn reserve_s(&self) -> f64 {
        self.closing_s + self.update_s
    }

    /// Whether nothing of a budget is left.
    pub fn has_spent(&self, budget: Budget) -> bool {
        self.batch == 0
            && match budget {
                Budget::Epochs(epochs) => self.epoch >= epochs,
                Budget::Steps(steps) => self.update >= steps,
                // A time budget keeps room to close its last epoch.
                Budget::Time(time) => self.elapsed_s >= time.as_secs_f64() - self.reserve_s(),
            }
    }

    /// Whether more has been trained than a budget allows.
    pub fn exceeds(&self, budget: Budget) -> bool {
        match budget {
            Budget::Epochs(epochs) => self.epoch + usize::from(self.batch > 0) > epochs,
            Budget::Steps(steps) => self.update > steps,
            Budget::Time(time) => self.elapsed_s > time.as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_budget_is_left_spent_or_exceeded() {
        let at = |epoch, batch, update, elapsed_s| Progress {
            epoch,
            batch,
            update,
            elapsed_s,
            closing_s: 1.0,
            ..Progress::default()
        };
        let between = at(3, 0, 30, 60.0);
        let within = at(3, 4, 34, 60.0);
        let time = |seconds| Budget::Time(Duration::from_secs(seconds));
        for (progress, budget, spent, exceeded) in [
            (&between, Budget::Epochs(4), false, false),
            (&between, Budget::Epochs(3), true, false),
            (&between, Budget::Epochs(2), true, true),
            (&within, Budget::Epochs(4), false, false),
            (&within, Budget::Epochs(3), false, true),
            (&between, Budget::Steps(31), false, false),
            (&between, Budget::Steps(30), true, false),
            (&between, Budget::Steps(29), true, true),
            (&between, time(62), false, false),
            (&between, time(61), true, false),
            (&between, time(59), true, true),
        ] {
            let found = (progress.has_spent(budget), progress.exceeds(budget));
            assert_eq!(found, (spent, exceeded), "{progress:?} {budget:?}");
        }
    }
}
