//! Why an accuracy is low, as far as the figures show it.

use serde::Serialize;

use super::answer::Answers;
use crate::metrics::{EvalReport, calibration_on_folds};
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
    /// The loss was still falling when the budget ended.
    StillFalling {
        /// Over how many of the last epochs.
        epochs: usize,
        /// Training loss before them.
        from: f64,
        /// Training loss of the last.
        to: f64,
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

/// The mean loss of an epoch over some thousand pictures moves by one or two percent by chance; a fall by this share
/// is more than that.
const FALL: f64 = 0.05;

/// Validation loss moves more: it is measured on fewer pictures.
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
    if history.is_empty() {
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
    let (Some(last), since) = (whole.last(), (whole.len() / 4).max(1)) else {
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
    let before = whole.len().checked_sub(1 + since).map(|at| &whole[at]);
    let fell = |before: &&EpochRecord| {
        let is_lowest = lowest.is_none_or(|(epoch, _)| epoch > before.epoch);
        is_lowest && last.train_loss < (1.0 - FALL) * before.train_loss
    };
    before
        .filter(fell)
        .map(|before| Finding::StillFalling {
            epochs: since,
            from: before.train_loss,
            to: last.train_loss,
        })
        .into_iter()
        .collect()
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
                [Finding::StillFalling { epochs: 2, .. }]
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

    #[test]
    fn a_high_accuracy_needs_no_reason() {
        let answers: Vec<_> = (0..400).map(|i| (i % 2, i % 2)).collect();
        assert_eq!(
            findings(&report(&["a", "b"], &answers), &history(&[(2.0, 2.0)])),
            []
        );
    }
}
