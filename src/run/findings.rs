//! Why an accuracy is low, as far as the figures show it.

use serde::Serialize;

use super::answer::Answers;
use crate::metrics::{EvalReport, calibration_on_folds};
use crate::train::probe::PROBE_L2;
use crate::train::task::classification::{TOP1, VAL_LOSS};
use crate::train::{Budget, EpochRecord, Progress};

/// Something that the figures show and that explains, or qualifies, them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Finding {
    /// Always answering the largest class would not be clearly worse.
    AtChance {
        /// That class.
        class: String,
        /// Its share of the pictures.
        share: f64,
        /// Number of the pictures.
        pictures: usize,
        /// Whether the accuracy itself is higher, and only its interval is not.
        above: bool,
        /// For how many of the last epochs validation was exactly at that share.
        epochs: usize,
    },
    /// Classes that occur and are never the answer.
    NeverPredicted {
        /// The classes.
        classes: Vec<String>,
        /// Number of classes that occur.
        of: usize,
        /// The only class that is ever answered, if there is but one.
        only: Option<String>,
    },
    /// Each training picture was seen a few times at most.
    FewPasses {
        /// Passes over the training split.
        epochs_seen: f64,
    },
    /// Validation loss was still falling while the learning rate was high, so that more time would help.
    StillFalling {
        /// Over how many epochs it fell, on average from as many before them.
        epochs: usize,
        /// Mean validation loss before.
        from: f64,
        /// Mean validation loss of these epochs.
        to: f64,
        /// The last of them, where the learning rate fell below half its peak afterwards.
        until: Option<usize>,
    },
    /// Validation loss has risen since its best epoch, while the training went on.
    Overfitting {
        /// The epoch with the lowest validation loss.
        epoch: usize,
        /// That loss.
        lowest: f64,
        /// The loss of the last epoch.
        last: f64,
    },
    /// No epoch did better on validation than the fitted head that the training started from, which is kept.
    NotAboveStart {
        /// What validation scored the start.
        score: f64,
        /// The best that it scored an epoch.
        reached: f64,
    },
    /// The time budget was overrun, as its updates are too long for it.
    Overrun {
        /// Seconds that were used.
        used_s: f64,
        /// Seconds of the budget.
        budget_s: f64,
        /// Seconds of one update.
        update_s: f64,
    },
    /// Probabilities that `calibrate` would mend.
    Miscalibrated {
        /// Expected calibration error.
        ece: f64,
        /// The same with a temperature that was fitted on other pictures.
        on_folds: f64,
    },
}

/// How far beyond a time budget goes without a word, as a share of it.
const OVERRUN: f64 = 0.05;

/// Above this accuracy, beyond doubt, nothing is low.
const HIGH: f64 = 0.95;

/// Below so many passes over its pictures a small model is still at the beginning, whatever the settings: the
/// recipes that ship take 20 and more.
const FEW_PASSES: f64 = 3.0;

/// A fall of validation loss by a smaller share within a quarter of a training is not worth a longer one.
const FALL: f64 = 0.05;

/// So many standard errors are no chance.
const BEYOND_NOISE: f64 = 2.0;

/// Where training loss is below this share of validation loss, a model knows its pictures by heart: more of them
/// help, more time does not.
const BY_HEART: f64 = 0.5;

/// Validation loss moves by a few percent from epoch to epoch; a rise by this share is more than that.
const RISE: f64 = 0.1;

/// A calibration error of a few hundred pictures moves by about this much by chance, and a difference below it is
/// not seen in a probability that is shown in percent.
const CALIBRATION: f64 = 0.02;

/// Finds what one split's figures show; `history` is that of the training, if they are of its own data.
pub fn findings(report: &EvalReport, history: &[EpochRecord]) -> Vec<Finding> {
    let mut found: Vec<Finding> = at_chance(report, history).into_iter().collect();
    found.extend(never_predicted(report));
    if report.n > 0 && report.top1_interval.1 < HIGH {
        found.extend(of_training(history));
    }
    found
}

/// Whether a training took more than its time.
pub(super) fn overrun(budget: Budget, progress: &Progress) -> Option<Finding> {
    let Budget::Time(time) = budget else {
        return None;
    };
    let (used_s, budget_s) = (progress.elapsed_s, time.as_secs_f64());
    (used_s > (1.0 + OVERRUN) * budget_s).then_some(Finding::Overrun {
        used_s,
        budget_s,
        update_s: progress.update_s,
    })
}

/// Whether the start of a training is still its best.
pub(super) fn not_above_start(progress: &Progress) -> Option<Finding> {
    let start = progress.best.filter(|best| best.epoch == 0)?;
    let scores = progress.history.iter().filter_map(|r| r.figure(TOP1));
    let reached = scores.max_by(f64::total_cmp)?;
    Some(Finding::NotAboveStart {
        score: start.score,
        reached,
    })
}

/// Whether a report is no better than always answering the largest class, as far as its pictures can tell.
pub(crate) fn at_chance(report: &EvalReport, history: &[EpochRecord]) -> Option<Finding> {
    let (class, share) = report.majority()?;
    // All right is never chance, however few the pictures.
    if report.top1_interval.0 > share || report.top1 == 1.0 {
        return None;
    }
    let at = |record: &&EpochRecord| {
        let top1 = record.figure(TOP1);
        top1.is_some_and(|top1| (top1 - share).abs() < 1e-9)
    };
    Some(Finding::AtChance {
        class: class.to_owned(),
        share,
        pictures: report.n,
        above: report.top1 > share,
        epochs: history.iter().rev().take_while(at).count(),
    })
}

fn never_predicted(report: &EvalReport) -> Option<Finding> {
    let answers = report.confusion.answered();
    let answered = |class: usize| answers[class] > 0;
    let mut occurring = report
        .per_class
        .iter()
        .enumerate()
        .filter(|(_, class)| class.support > 0);
    let of = occurring.clone().count();
    let classes: Vec<String> = occurring
        .by_ref()
        .filter(|(index, _)| !answered(*index))
        .map(|(_, class)| class.label.clone())
        .collect();
    let mut predicted = report
        .per_class
        .iter()
        .enumerate()
        .filter(|(index, _)| answered(*index));
    let only = match (predicted.next(), predicted.next()) {
        (Some((_, class)), None) => Some(class.label.clone()),
        _ => None,
    };
    (!classes.is_empty()).then_some(Finding::NeverPredicted { classes, of, only })
}

/// What the course of a training shows.
fn of_training(history: &[EpochRecord]) -> Vec<Finding> {
    let epochs_seen: f64 = history.iter().map(|record| record.share).sum();
    // What a probe has tried is no course of time.
    let is_probe = |record: &EpochRecord| record.figure(PROBE_L2).is_some();
    if history.is_empty() || history.iter().any(is_probe) {
        return Vec::new();
    }
    if epochs_seen < FEW_PASSES {
        return vec![Finding::FewPasses { epochs_seen }];
    }
    // A last epoch that was cut short may have too few pictures for a loss that means something.
    let whole = match history {
        [before @ .., last] if last.share < 0.5 => before,
        all => all,
    };
    let val_loss = |record: &EpochRecord| record.figure(VAL_LOSS);
    let lowest = whole
        .iter()
        .filter_map(|record| Some((record.epoch, val_loss(record)?)))
        .min_by(|a, b| a.1.total_cmp(&b.1));
    let Some(last) = whole.last() else {
        return Vec::new();
    };
    if let (Some((epoch, lowest)), Some(last)) = (lowest, val_loss(last))
        && last > (1.0 + RISE) * lowest
    {
        return vec![Finding::Overfitting {
            epoch,
            lowest,
            last,
        }];
    }
    still_falling(whole).into_iter().collect()
}

/// Whether validation loss was still falling, beyond its noise, while the training could learn.
fn still_falling(whole: &[EpochRecord]) -> Option<Finding> {
    // A learning rate that falls lowers the loss at the end of any training, however long: the epochs before that say
    // whether there was more to learn.
    let peak = whole.iter().map(|record| record.lr).fold(0.0, f64::max);
    let end = whole.iter().rposition(|record| record.lr >= 0.5 * peak)? + 1;
    let losses: Vec<f64> = whole[..end]
        .iter()
        .map(|record| record.figure(VAL_LOSS))
        .collect::<Option<_>>()?;
    let epochs = losses.len() / 4;
    if epochs == 0 {
        return None;
    }
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (before, after) = losses[end - 2 * epochs..].split_at(epochs);
    let (from, to) = (mean(before), mean(after));
    // What a straight course leaves over is noise: of independent values, a second difference has six times the variance.
    let bends = losses[end / 2 - 1..]
        .windows(3)
        .map(|three| (three[0] - 2.0 * three[1] + three[2]).powi(2));
    let bends: Vec<f64> = bends.collect();
    let noise = (mean(&bends) / 6.0 * 2.0 / epochs as f64).sqrt();
    let falls = from - to > BEYOND_NOISE * noise && to < (1.0 - FALL) * from;
    let last = whole.last()?;
    let by_heart = last.train_loss < BY_HEART * last.figure(VAL_LOSS)?;
    (falls && !by_heart).then_some(Finding::StillFalling {
        epochs,
        from,
        to,
        until: (end < whole.len()).then(|| whole[end - 1].epoch),
    })
}

/// Whether `calibrate` would mend the probabilities, judged on folds of these answers; `None` where it has been run.
pub(super) fn miscalibrated(report: &EvalReport, answers: &Answers) -> Option<Finding> {
    /// Logits that are looked at, at most, so that a fit takes no noticeable time.
    const LOGITS: usize = 1_000_000;
    if answers.meta.calibration.is_some() || at_chance(report, &[]).is_some() {
        return None;
    }
    let (predictions, classes) = (&answers.predictions, &answers.meta.classes);
    let k = classes.len().max(1);
    let stride = predictions.logits.len().div_ceil(LOGITS).max(1);
    let chosen = (0..predictions.labels.len()).step_by(stride);
    let labels: Vec<usize> = chosen.clone().map(|i| predictions.labels[i]).collect();
    let logits: Vec<f32> = chosen
        .flat_map(|i| predictions.logits[i * k..][..k].iter().copied())
        .collect();
    if logits.iter().any(|z| !z.is_finite()) {
        return None;
    }
    let [before, after] = calibration_on_folds(&logits, &labels, classes);
    let mends = after.improves(&before) && before.ece - after.ece >= CALIBRATION;
    mends.then_some(Finding::Miscalibrated {
        ece: before.ece,
        on_folds: after.ece,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics;
    use crate::train::task::classification::figures;

    /// A report of `answers`, pairs of true and predicted class.
    fn report(classes: &[&str], answers: &[(usize, usize)]) -> EvalReport {
        let k = classes.len();
        let logits: Vec<f32> = answers
            .iter()
            .flat_map(|&(_, answer)| (0..k).map(move |c| if c == answer { 2.0 } else { 0.0 }))
            .collect();
        let labels: Vec<usize> = answers.iter().map(|&(label, _)| label).collect();
        let classes: Vec<String> = classes.iter().map(|&c| c.to_owned()).collect();
        metrics::evaluate(&logits, &labels, &[], &classes)
    }

    fn record(epoch: usize, train_loss: f64, top1: f64, val_loss: f64) -> EpochRecord {
        EpochRecord {
            epoch,
            elapsed_s: epoch as f64,
            train_loss,
            figures: figures(top1, None, val_loss),
            lr: 1e-3,
            images_per_s: 1.0,
            waiting: 0.0,
            share: 1.0,
            spent: None,
        }
    }

    fn history(losses: &[(f64, f64)]) -> Vec<EpochRecord> {
        let records = losses.iter().enumerate();
        let record = |(i, &(train, val)): (usize, &(f64, f64))| record(i + 1, train, 0.6, val);
        records.map(record).collect()
    }

    #[test]
    fn one_answer_for_everything_is_named_with_the_share_of_its_class() {
        // Six hats, three coats and a shoe, all called hats.
        let answers: Vec<_> = [0, 0, 0, 0, 0, 0, 1, 1, 1, 2]
            .map(|label| (label, 0))
            .into();
        let report = report(&["hat", "coat", "shoe"], &answers);
        let mut stuck = vec![record(1, 1.0, 0.3, 1.0)];
        stuck.extend((2..5).map(|epoch| record(epoch, 1.0, 0.6, 1.0)));
        let found = findings(&report, &stuck);
        assert_eq!(
            found[..2],
            [
                Finding::AtChance {
                    class: "hat".to_owned(),
                    share: 0.6,
                    pictures: 10,
                    above: false,
                    epochs: 3,
                },
                Finding::NeverPredicted {
                    classes: vec!["coat".to_owned(), "shoe".to_owned()],
                    of: 3,
                    only: Some("hat".to_owned()),
                }
            ]
        );
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn chance_is_judged_by_the_number_of_pictures() {
        let classes = ["a", "b"];
        // 14 of 20 right where half would be by chance; then 140 of 200.
        let answers: Vec<_> = (0..20)
            .map(|i| (i % 2, if i < 14 { i % 2 } else { 1 - i % 2 }))
            .collect();
        let few = at_chance(&report(&classes, &answers), &[]);
        assert!(
            matches!(
                few,
                Some(Finding::AtChance {
                    above: true,
                    pictures: 20,
                    ..
                })
            ),
            "{few:?}"
        );
        assert_eq!(at_chance(&report(&classes, &answers.repeat(10)), &[]), None);
        // Two pictures, both right.
        assert_eq!(at_chance(&report(&classes, &[(0, 0), (1, 1)]), &[]), None);
        assert_eq!(at_chance(&report(&classes, &[]), &[]), None);
    }

    #[test]
    fn a_class_without_pictures_is_not_missed() {
        let answers: Vec<_> = (0..100).map(|i| (i % 2, i % 2)).collect();
        assert_eq!(findings(&report(&["a", "b", "c"], &answers), &[]), []);
    }

    #[test]
    fn the_course_of_the_loss_says_what_to_try() {
        let kinds = |losses: &[(f64, f64)]| of_training(&history(losses));
        assert_eq!(kinds(&[]), []);
        assert_eq!(
            kinds(&[(2.0, 2.0), (1.9, 1.9)]),
            [Finding::FewPasses { epochs_seen: 2.0 }]
        );
        let falling: Vec<_> = (0..8)
            .map(|i| (2.0 - 0.1 * f64::from(i), 2.0 - 0.1 * f64::from(i)))
            .collect();
        assert!(
            matches!(
                kinds(&falling)[..],
                [Finding::StillFalling {
                    epochs: 2,
                    until: None,
                    ..
                }]
            ),
            "{:?}",
            kinds(&falling)
        );
        // Flat at the end, and falling in training only.
        let flat: Vec<_> = falling
            .iter()
            .map(|&(t, v)| (t.max(1.6), v.max(1.6)))
            .collect();
        assert_eq!(kinds(&flat), []);
        let by_heart: Vec<_> = falling.iter().map(|&(t, _)| (t, 3.2 - t)).collect();
        assert!(
            matches!(
                kinds(&by_heart)[..],
                [Finding::Overfitting { epoch: 1, .. }]
            ),
            "{:?}",
            kinds(&by_heart)
        );
        // The stump of an epoch does not speak for the whole.
        let mut stump = history(&flat);
        stump.push(EpochRecord {
            share: 0.1,
            ..record(9, 0.4, 0.6, 1.6)
        });
        assert_eq!(of_training(&stump), []);
    }

    /// Epochs with these validation losses under a cosine to zero over all of them.
    fn annealed(losses: &[f64]) -> Vec<EpochRecord> {
        let losses: Vec<_> = losses.iter().map(|&loss| (loss, loss)).collect();
        let mut records = history(&losses);
        let of = records.len() as f64;
        for record in &mut records {
            let along = record.epoch as f64 / of;
            record.lr = 0.5 * (1.0 + (std::f64::consts::PI * along).cos());
        }
        records
    }

    #[test]
    fn more_time_is_advised_where_it_would_help_and_not_for_what_the_schedule_does() {
        // A training that has learned what it can at a high rate: only the falling rate lowers its loss.
        let saturated = [
            1.4, 1.05, 0.95, 0.92, 0.9, 0.91, 0.9, 0.89, 0.8, 0.72, 0.66, 0.62, 0.6, 0.59, 0.585,
            0.584,
        ];
        assert_eq!(of_training(&annealed(&saturated)), []);
        // The default training of the bundled sample.
        let default = [
            1.124, 0.852, 0.795, 0.641, 0.612, 0.581, 0.521, 0.527, 0.509, 0.484, 0.469, 0.468,
        ];
        assert_eq!(of_training(&annealed(&default)), []);
        // One that falls from epoch to epoch until the rate does too: a longer one is worth its time.
        let unfinished: Vec<f64> = (0..16).map(|i| 2.0 - 0.08 * f64::from(i)).collect();
        assert_eq!(
            of_training(&annealed(&unfinished)),
            [Finding::StillFalling {
                epochs: 2,
                from: (unfinished[4] + unfinished[5]) / 2.0,
                to: (unfinished[6] + unfinished[7]) / 2.0,
                until: Some(8),
            }]
        );
        // As large a fall, and within what the loss moves by from one epoch to the next.
        let noisy: Vec<_> = [2.0, 1.5, 1.9, 1.3, 1.8, 1.4, 1.5, 1.35]
            .map(|loss| (loss, loss))
            .into();
        assert_eq!(of_training(&history(&noisy)), []);
        // Training loss is at a third: its pictures are known by heart, and more time would not help.
        let by_heart: Vec<_> = unfinished.iter().map(|&loss| (loss / 3.0, loss)).collect();
        assert_eq!(of_training(&history(&by_heart)), []);
        // Without validation nothing is known.
        let mut blind = history(&[(2.0, 2.0), (1.5, 1.5), (1.0, 1.0), (0.5, 0.5)]);
        for record in &mut blind {
            record.figures.clear();
        }
        assert_eq!(of_training(&blind), []);
    }

    #[test]
    fn a_high_accuracy_needs_no_reason() {
        let answers: Vec<_> = (0..400).map(|i| (i % 2, i % 2)).collect();
        assert_eq!(
            findings(&report(&["a", "b"], &answers), &history(&[(2.0, 2.0)])),
            []
        );
    }
}
