//! The figures of one pass over a split.

use serde::{Deserialize, Serialize};

use super::confusion::Confusion;
use super::logits::{argmax, softmax};
use super::statistics::wilson;

/// Bins of the reliability diagram (Guo et al. 2017 use 15).
const BINS: usize = 15;

/// Number of confused pairs, and of mistakes, that a report lists.
const CONFUSED: usize = 10;
const MISTAKES: usize = 25;

/// The figures of one pass over a split. Shares are fractions, 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalReport {
    /// Number of pictures.
    pub n: usize,
    /// Share of the pictures whose most probable class is right.
    pub top1: f64,
    /// Its 95 % interval ([`wilson`]).
    pub top1_interval: (f64, f64),
    /// Share of the pictures whose five most probable classes include the right one; `None` below six classes.
    pub top5: Option<f64>,
    /// Its 95 % interval.
    pub top5_interval: Option<(f64, f64)>,
    /// Mean cross-entropy in nats; NaN where a logit is not finite.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// Mean F1 of the classes that occur as a label or as an answer.
    pub macro_f1: f64,
    /// Expected calibration error (Guo et al. 2017, eq. 3), 0 to 1.
    pub ece: f64,
    /// Figures of each class, in the order of the classes.
    pub per_class: Vec<ClassReport>,
    /// Pictures by true and predicted class.
    #[serde(flatten)]
    pub confusion: Confusion,
    /// The reliability diagram's bins.
    pub reliability: Vec<ReliabilityBin>,
    /// The most frequent confusions, most frequent first.
    pub most_confused: Vec<ConfusedPair>,
    /// The wrong answers with the highest confidence, highest first.
    pub mistakes: Vec<Mistake>,
}

impl EvalReport {
    /// Checks a report that was read from a file: shares are shares, and all of it is of the same classes and
    /// pictures.
    ///
    /// # Errors
    ///
    /// What was found and what was expected, by key.
    pub fn validate(&self) -> Result<(), String> {
        let shares = [
            ("top1", self.top1),
            ("macro_f1", self.macro_f1),
            ("ece", self.ece),
            ("top5", self.top5.unwrap_or(0.0)),
        ];
        let per_class = self.per_class.iter().flat_map(|class| {
            [
                ("per_class.precision", class.precision),
                ("per_class.recall", class.recall),
                ("per_class.f1", class.f1),
            ]
        });
        let bins = self.reliability.iter().flat_map(|bin| {
            [
                ("reliability.lo", bin.lo),
                ("reliability.hi", bin.hi),
                ("reliability.confidence", bin.confidence),
                ("reliability.accuracy", bin.accuracy),
            ]
        });
        // What is summed may be rounded up.
        let is_share = |share: f64| (0.0..=1.0 + 1e-9).contains(&share);
        let mut all = shares.into_iter().chain(per_class).chain(bins);
        if let Some((key, found)) = all.find(|(_, share)| !is_share(*share)) {
            return Err(format!("{key} is {found:?}, expected a share from 0 to 1"));
        }
        let (classes, named) = (self.confusion.classes(), self.per_class.len());
        if classes != named {
            return Err(format!(
                "confusion is of {classes} classes, expected the {named} of per_class"
            ));
        }
        let n = self.n as u64;
        if self.confusion.total() != Some(n) {
            return Err(format!("confusion does not count {n} pictures, as n does"));
        }
        let counts = self.reliability.iter().map(|bin| bin.count);
        let counts = counts.chain(self.per_class.iter().map(|class| class.support));
        if let Some(found) = counts.max().filter(|count| *count > n) {
            return Err(format!(
                "a count is {found}, expected at most the {n} pictures"
            ));
        }
        Ok(())
    }

    /// The class with most pictures, the first of equals, and its share of them: the accuracy of always answering it.
    /// `None` without pictures.
    pub fn majority(&self) -> Option<(&str, f64)> {
        let largest = self
            .per_class
            .iter()
            .rev()
            .max_by_key(|class| class.support)?;
        let share = largest.support as f64 / self.n as f64;
        (self.n > 0).then_some((largest.label.as_str(), share))
    }
}

/// The figures of one class. A class that is never predicted has precision 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    /// The class.
    pub label: String,
    /// Number of its pictures.
    pub support: u64,
    /// Share of the answers with this class that are right.
    pub precision: f64,
    /// Share of its pictures that are answered with it.
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
}

/// One bin of the reliability diagram: answers of similar confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Lower bound of the confidence.
    pub lo: f64,
    /// Upper bound.
    pub hi: f64,
    /// Number of answers.
    pub count: u64,
    /// Their mean confidence.
    pub confidence: f64,
    /// Share of them that are right.
    pub accuracy: f64,
}

/// A class that is answered with another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConfusedPair {
    /// The true class.
    pub label: String,
    /// The predicted class.
    pub predicted: String,
    /// Number of pictures.
    pub count: u64,
}

/// A wrong answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "MistakeFields")]
pub struct Mistake {
    /// Name of the picture.
    pub name: String,
    /// The true class.
    pub label: String,
    /// The predicted class.
    pub predicted: String,
    /// Probability of the predicted class, 0 to 1.
    pub prob: f64,
}

/// A mistake as it is read: `confidence` is what `prob` was called before, and some files have both.
#[derive(Deserialize)]
struct MistakeFields {
    name: String,
    label: String,
    predicted: String,
    prob: Option<f64>,
    confidence: Option<f64>,
}

impl From<MistakeFields> for Mistake {
    fn from(fields: MistakeFields) -> Self {
        Self {
            name: fields.name,
            label: fields.label,
            predicted: fields.predicted,
            prob: fields.prob.or(fields.confidence).unwrap_or(f64::NAN),
        }
    }
}

/// Reads `null` as NaN: JSON has no NaN, and `serde_json` writes `null` for it.
fn null_is_nan<'de, D: serde::Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

/// All figures of one pass.
///
/// # Shapes
///
/// `logits`: row-major `[n, K]`; `labels`, `names`: `[n]`; `classes`: `[K]`.
pub fn evaluate(
    logits: &[f32],
    labels: &[usize],
    names: &[String],
    classes: &[String],
) -> EvalReport {
    let (n, k) = (labels.len(), classes.len());
    let mut tally = Tally::new(k);
    for (i, (row, &label)) in logits.chunks(k.max(1)).zip(labels).enumerate() {
        tally.add(i, row, label);
    }
    tally
        .mistakes
        .sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)));
    let share = |count: u64| count as f64 / n.max(1) as f64;
    let per_class = per_class(&tally.confusion, classes);
    let reliability: Vec<ReliabilityBin> = tally
        .bins
        .iter()
        .enumerate()
        .map(|(i, bin)| ReliabilityBin {
            lo: i as f64 / BINS as f64,
            hi: (i + 1) as f64 / BINS as f64,
            count: bin.count,
            confidence: bin.confidence / bin.count.max(1) as f64,
            accuracy: bin.hits as f64 / bin.count.max(1) as f64,
        })
        .collect();
    EvalReport {
        n,
        top1: share(tally.top1),
        top1_interval: wilson(tally.top1, n as u64),
        top5: (k > 5).then(|| share(tally.top5)),
        top5_interval: (k > 5).then(|| wilson(tally.top5, n as u64)),
        loss: tally.loss / n.max(1) as f64,
        macro_f1: macro_f1(&per_class, &tally.confusion),
        ece: reliability
            .iter()
            .map(|b| share(b.count) * (b.confidence - b.accuracy).abs())
            .sum(),
        most_confused: most_confused(&tally.confusion, classes),
        mistakes: tally
            .mistakes
            .into_iter()
            .take(MISTAKES)
            .map(|(i, predicted, prob)| Mistake {
                name: names.get(i).cloned().unwrap_or_default(),
                label: classes[labels[i]].clone(),
                predicted: classes[predicted].clone(),
                prob,
            })
            .collect(),
        per_class,
        confusion: tally.confusion,
        reliability,
    }
}

/// The counts and sums of one pass, picture by picture.
struct Tally {
    confusion: Confusion,
    bins: [Bin; BINS],
    top1: u64,
    top5: u64,
    /// Sum of the cross-entropies, in nats.
    loss: f64,
    /// Index, predicted class and confidence of each wrong answer.
    mistakes: Vec<(usize, usize, f64)>,
}

/// The sums of one [`ReliabilityBin`].
#[derive(Clone, Copy, Default)]
struct Bin {
    count: u64,
    confidence: f64,
    hits: u64,
}

impl Tally {
    fn new(num_classes: usize) -> Tally {
        Tally {
            confusion: Confusion::new(num_classes),
            bins: [Bin::default(); BINS],
            top1: 0,
            top5: 0,
            loss: 0.0,
            mistakes: Vec::new(),
        }
    }

    /// Counts picture `i`, of class `label`, with its `[K]` logits.
    fn add(&mut self, i: usize, row: &[f32], label: usize) {
        let Some(predicted) = argmax(row) else {
            self.loss = f64::NAN;
            // Not finite: wrong, and counted as an answer of the first class that it is not.
            let k = self.confusion.classes();
            let other = usize::from(label == 0).min(k - 1);
            self.confusion.add(label, other);
            return;
        };
        // −ln p from the logits themselves: exact where p would round to zero.
        let max = f64::from(row[predicted]);
        let sum: f64 = row.iter().map(|&z| (f64::from(z) - max).exp()).sum();
        self.loss += sum.ln() + max - f64::from(row[label]);
        let confidence = softmax(row)[predicted];
        let hit = predicted == label;
        self.confusion.add(label, predicted);
        self.top1 += u64::from(hit);
        // Of equals the first counts as the better one, as in `argmax`.
        let better = row
            .iter()
            .enumerate()
            .filter(|&(j, &z)| z > row[label] || (z == row[label] && j < label))
            .count();
        self.top5 += u64::from(better < 5);
        let bin = &mut self.bins[((confidence * BINS as f64) as usize).min(BINS - 1)];
        bin.count += 1;
        bin.confidence += confidence;
        bin.hits += u64::from(hit);
        if !hit {
            self.mistakes.push((i, predicted, confidence));
        }
    }
}

/// Mean F1 of the classes that occur as a label or as an answer; nothing was measured of the others.
fn macro_f1(per_class: &[ClassReport], confusion: &Confusion) -> f64 {
    let occurring: Vec<f64> = per_class
        .iter()
        .zip(confusion.answered())
        .filter(|(class, answered)| class.support > 0 || *answered > 0)
        .map(|(class, _)| class.f1)
        .collect();
    occurring.iter().sum::<f64>() / occurring.len().max(1) as f64
}

fn per_class(confusion: &Confusion, classes: &[String]) -> Vec<ClassReport> {
    let ratio = |a: u64, b: u64| if b == 0 { 0.0 } else { a as f64 / b as f64 };
    let sums = confusion.support().into_iter().zip(confusion.answered());
    sums.enumerate()
        .map(|(c, (support, answered))| {
            let hits = confusion.get(c, c);
            ClassReport {
                label: classes[c].clone(),
                support,
                precision: ratio(hits, answered),
                recall: ratio(hits, support),
                f1: ratio(2 * hits, support + answered),
            }
        })
        .collect()
}

fn most_confused(confusion: &Confusion, classes: &[String]) -> Vec<ConfusedPair> {
    let wrong = |(label, predicted, _): &(usize, usize, u64)| label != predicted;
    let mut pairs: Vec<_> = confusion.cells().filter(wrong).collect();
    pairs.sort_by_key(|&(label, predicted, count)| (std::cmp::Reverse(count), label, predicted));
    pairs
        .into_iter()
        .take(CONFUSED)
        .map(|(label, predicted, count)| ConfusedPair {
            label: classes[label].clone(),
            predicted: classes[predicted].clone(),
            count,
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::logits::correct;
    use super::*;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("p{i}")).collect()
    }

    #[test]
    fn a_mistake_reads_under_former_names_and_is_written_under_one() {
        let new = r#"{"name":"a.png","label":"cat","predicted":"dog","prob":0.75}"#;
        let former = new.replace("prob", "confidence");
        let both = former.replace('}', r#","prob":0.75}"#);
        for text in [new, &former, &both] {
            let mistake: Mistake = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&mistake).unwrap(), new);
        }
    }

    #[test]
    fn counts_and_ratios_by_hand() {
        // Classes a, b, c; answers a, b, b, c, a for truths a, a, b, c, c.
        let logits = [
            5.0, 0.0, 0.0, //
            0.0, 5.0, 0.0, //
            0.0, 5.0, 0.0, //
            0.0, 0.0, 5.0, //
            9.0, 0.0, 0.0,
        ];
        let r = evaluate(
            &logits,
            &[0, 0, 1, 2, 2],
            &names(5),
            &["a".into(), "b".into(), "c".into()],
        );
        assert_eq!(r.top1, 0.6);
        assert_eq!(r.top5, None);
        let rows = [0, 1, 2].map(|label| r.confusion.row(label));
        assert_eq!(rows, [[1, 1, 0], [0, 1, 0], [1, 0, 1]]);
        assert_eq!(
            (r.per_class[0].precision, r.per_class[0].recall),
            (0.5, 0.5)
        );
        assert_eq!(
            (r.per_class[1].precision, r.per_class[1].recall),
            (0.5, 1.0)
        );
        assert!((r.per_class[2].f1 - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(r.majority(), Some(("a", 0.4)));
        assert_eq!(evaluate(&[], &[], &[], &["a".into()]).majority(), None);
        // The most confident mistake comes first.
        assert_eq!(r.mistakes[0].name, "p4");
        assert_eq!(r.mistakes.len(), 2);
        assert_eq!(r.most_confused.len(), 2);
    }

    #[test]
    fn a_report_that_was_edited_is_refused_by_key() {
        let logits = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0];
        let classes = ["a".to_owned(), "b".to_owned()];
        let good = evaluate(&logits, &[0, 1, 1], &names(3), &classes);
        assert_eq!(good.validate(), Ok(()));
        let none = evaluate(&[], &[], &[], &classes);
        assert_eq!(none.validate(), Ok(()));
        type Edit = fn(&mut EvalReport);
        let edits: [(Edit, &str); 8] = [
            (|r| r.top1 = 1e308, "top1 is 1e308"),
            (|r| r.ece = f64::NAN, "ece is NaN"),
            (|r| r.top5 = Some(-0.1), "top5 is -0.1"),
            (|r| r.per_class[1].recall = 2.0, "per_class.recall is 2"),
            (|r| r.reliability[3].hi = -1e300, "reliability.hi is -1e300"),
            (
                |r| drop(r.per_class.pop()),
                "confusion is of 2 classes, expected the 1 of per_class",
            ),
            (|r| r.n = 4, "confusion does not count 4 pictures"),
            (|r| r.per_class[0].support = u64::MAX, "at most the 3"),
        ];
        for (edit, reason) in edits {
            let mut report = good.clone();
            edit(&mut report);
            let error = report.validate().unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn memory_follows_the_pictures_and_not_the_square_of_the_classes() {
        // A whole matrix of these would take 80 GB.
        let k = 100_000;
        let classes: Vec<String> = (0..k).map(|i| format!("c{i}")).collect();
        let mut logits = vec![0.0; 2 * k];
        logits[3] = 1.0;
        logits[k + 9] = 1.0;
        let report = evaluate(&logits, &[3, k - 1], &names(2), &classes);
        assert_eq!(report.confusion.cells().count(), 2);
        assert_eq!((report.top1, report.most_confused[0].count), (0.5, 1));
        let json = serde_json::to_string(&report).unwrap();
        let back: EvalReport = serde_json::from_str(&json).unwrap();
        assert!(back == report && back.validate().is_ok());
    }

    #[test]
    fn macro_f1_is_over_the_classes_that_occur() {
        let f1 = |logits: &[f32], labels: &[usize]| {
            evaluate(logits, labels, &names(labels.len()), &names(3)).macro_f1
        };
        // Nothing is, or is taken for, the third.
        assert_eq!(f1(&[5.0, 0.0, 0.0, 0.0, 5.0, 0.0], &[0, 1]), 1.0);
        // The second picture is taken for the third: F1 of 1, 0 and 0.
        assert!((f1(&[5.0, 0.0, 0.0, 0.0, 0.0, 5.0], &[0, 1]) - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn loss_and_calibration_of_even_answers() {
        let r = evaluate(&[0.0; 14], &[0, 3], &names(2), &names(7));
        assert!((r.loss - 7f64.ln()).abs() < 1e-12);
        // Confidence 1/7, half of them right by the rule that the first of equals wins.
        assert!((r.ece - (0.5 - 1.0 / 7.0)).abs() < 1e-12);
        assert_eq!(r.top5, Some(1.0));
        // Fifth and sixth of equals.
        let r = evaluate(&[0.0; 14], &[4, 5], &names(2), &names(7));
        assert_eq!(r.top5, Some(0.5));
    }

    #[test]
    fn not_a_number_is_wrong_and_no_panic() {
        let r = evaluate(&[f32::NAN, 1.0, 2.0, 1.0], &[0, 0], &names(2), &names(2));
        assert_eq!(r.top1, 0.5);
        assert_eq!([r.confusion.row(0), r.confusion.row(1)], [[1, 1], [0, 0]]);
        assert_eq!(correct(&[f32::NAN, 1.0, 2.0, 1.0], &[0, 0]), [false, true]);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let r = evaluate(&[bad, bad], &[0], &names(1), &names(2));
            assert!(r.top1 == 0.0 && r.ece == 0.0 && r.loss.is_nan());
            let json = serde_json::to_string(&r).expect("plain data");
            let back: EvalReport = serde_json::from_str(&json).expect("reads back");
            assert!(back.loss.is_nan());
        }
    }

    #[test]
    fn large_logits_do_not_overflow() {
        assert_eq!(softmax(&[1e30, 0.0]), [1.0, 0.0]);
        let r = evaluate(&[1000.0, 0.0], &[1], &names(1), &names(2));
        assert!((r.loss - 1000.0).abs() < 1e-9);
    }
}
