//! What a model's logits are worth: accuracy, confusion, calibration, significance.

mod calibration;

use serde::{Deserialize, Serialize};

pub use calibration::{Calibration, Figures, Threshold, fit_temperature};

/// Bins of the reliability diagram (Guo et al. 2017 use 15).
const BINS: usize = 15;

/// How many confused pairs and mistakes a report lists.
const CONFUSED: usize = 10;
const MISTAKES: usize = 25;

/// The figures of one pass over a split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalReport {
    /// Pictures.
    pub n: usize,
    /// Share whose most probable class is right.
    pub top1: f64,
    /// Its 95 % interval after Wilson 1927.
    pub top1_interval: (f64, f64),
    /// Share whose five most probable classes hold the right one; `None` below six classes.
    pub top5: Option<f64>,
    /// Its 95 % interval.
    pub top5_interval: Option<(f64, f64)>,
    /// Mean cross-entropy in nats; NaN where a logit is not finite.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// Mean of the classes' F1.
    pub macro_f1: f64,
    /// Expected calibration error (Guo et al. 2017, eq. 3), 0 to 1.
    pub ece: f64,
    /// Each class.
    pub per_class: Vec<ClassReport>,
    /// Row: true class; column: predicted class.
    pub confusion: Vec<Vec<u64>>,
    /// The reliability diagram's bins.
    pub reliability: Vec<ReliabilityBin>,
    /// The pairs most often taken for each other, most often first.
    pub most_confused: Vec<ConfusedPair>,
    /// The wrong answers given with the most confidence.
    pub mistakes: Vec<Mistake>,
}

/// One class's figures; a class that is never predicted has precision 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    /// Its name.
    pub label: String,
    /// Pictures of it.
    pub support: u64,
    /// Share of the answers "this class" that are right.
    pub precision: f64,
    /// Share of its pictures that are found.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
}

/// Answers of about the same confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Lower end of the confidence.
    pub lo: f64,
    /// Upper end.
    pub hi: f64,
    /// Answers in it.
    pub count: u64,
    /// Their mean confidence.
    pub confidence: f64,
    /// Share of them that is right.
    pub accuracy: f64,
}

/// A class taken for another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConfusedPair {
    /// What it was.
    pub label: String,
    /// What it was taken for.
    pub predicted: String,
    /// How often.
    pub count: u64,
}

/// A wrong answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mistake {
    /// The picture.
    pub name: String,
    /// What it was.
    pub label: String,
    /// What it was taken for.
    pub predicted: String,
    /// With what probability.
    pub confidence: f64,
}

/// Softmax in f64, safe against large logits; NaN passes through.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f64> = logits.iter().map(|&z| f64::from(z - max).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.into_iter().map(|e| e / sum).collect()
}

/// JSON has no NaN: `serde_json` writes `null` for it, and would refuse to read that back.
fn null_is_nan<'de, D: serde::Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

/// Place of the largest logit, the first of equals; `None` where one is not finite.
fn argmax(logits: &[f32]) -> Option<usize> {
    if logits.iter().any(|z| !z.is_finite()) {
        return None;
    }
    (0..logits.len())
        .rev()
        .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
}

/// Whether each answer is right; an answer with a logit that is not finite is wrong.
///
/// # Shapes
///
/// `logits`: row-major `[n, K]`; `labels`: `[n]`.
pub fn correct(logits: &[f32], labels: &[usize]) -> Vec<bool> {
    let classes = logits.len() / labels.len().max(1);
    logits
        .chunks(classes.max(1))
        .zip(labels)
        .map(|(row, &label)| argmax(row) == Some(label))
        .collect()
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
    let mut confusion = vec![vec![0u64; k]; k];
    let mut bins = [(0u64, 0.0f64, 0u64); BINS];
    let (mut top1, mut top5, mut loss) = (0u64, 0u64, 0.0);
    let mut mistakes: Vec<(usize, usize, f64)> = Vec::new();
    for (i, (row, &label)) in logits.chunks(k.max(1)).zip(labels).enumerate() {
        let probabilities = softmax(row);
        let Some(predicted) = argmax(row) else {
            loss = f64::NAN;
            // Not finite: wrong, and taken for whatever comes first that it is not.
            confusion[label][usize::from(label == 0).min(k - 1)] += 1;
            continue;
        };
        // −ln p from the logits themselves: exact where p would round to zero.
        let max = f64::from(row[predicted]);
        let sum: f64 = row.iter().map(|&z| (f64::from(z) - max).exp()).sum();
        loss += sum.ln() + max - f64::from(row[label]);
        let confidence = probabilities[predicted];
        let hit = predicted == label;
        confusion[label][predicted] += 1;
        top1 += u64::from(hit);
        // Of equals the first counts as the better one, as in `argmax`.
        let better = (0..k).filter(|&j| row[j] > row[label] || (row[j] == row[label] && j < label));
        let better = better.count();
        top5 += u64::from(better < 5);
        let bin = ((confidence * BINS as f64) as usize).min(BINS - 1);
        bins[bin].0 += 1;
        bins[bin].1 += confidence;
        bins[bin].2 += u64::from(hit);
        if !hit {
            mistakes.push((i, predicted, confidence));
        }
    }
    mistakes.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)));
    let share = |count: u64| count as f64 / n.max(1) as f64;
    let per_class = per_class(&confusion, classes);
    let reliability: Vec<ReliabilityBin> = bins
        .iter()
        .enumerate()
        .map(|(i, &(count, confidence, hits))| ReliabilityBin {
            lo: i as f64 / BINS as f64,
            hi: (i + 1) as f64 / BINS as f64,
            count,
            confidence: confidence / count.max(1) as f64,
            accuracy: hits as f64 / count.max(1) as f64,
        })
        .collect();
    EvalReport {
        n,
        top1: share(top1),
        top1_interval: wilson(top1, n as u64),
        top5: (k > 5).then(|| share(top5)),
        top5_interval: (k > 5).then(|| wilson(top5, n as u64)),
        loss: loss / n.max(1) as f64,
        macro_f1: macro_f1(&per_class, &confusion),
        ece: reliability
            .iter()
            .map(|b| share(b.count) * (b.confidence - b.accuracy).abs())
            .sum(),
        most_confused: most_confused(&confusion, classes),
        mistakes: mistakes
            .into_iter()
            .take(MISTAKES)
            .map(|(i, predicted, confidence)| Mistake {
                name: names.get(i).cloned().unwrap_or_default(),
                label: classes[labels[i]].clone(),
                predicted: classes[predicted].clone(),
                confidence,
            })
            .collect(),
        per_class,
        confusion,
        reliability,
    }
}

/// Mean F1 of the classes that occur, as a label or as an answer: of the others nothing was measured.
fn macro_f1(per_class: &[ClassReport], confusion: &[Vec<u64>]) -> f64 {
    let occurring: Vec<f64> = per_class
        .iter()
        .enumerate()
        .filter(|(c, class)| class.support > 0 || confusion.iter().any(|row| row[*c] > 0))
        .map(|(_, class)| class.f1)
        .collect();
    occurring.iter().sum::<f64>() / occurring.len().max(1) as f64
}

fn per_class(confusion: &[Vec<u64>], classes: &[String]) -> Vec<ClassReport> {
    let ratio = |a: u64, b: u64| if b == 0 { 0.0 } else { a as f64 / b as f64 };
    (0..classes.len())
        .map(|c| {
            let hits = confusion[c][c];
            let support: u64 = confusion[c].iter().sum();
            let answered: u64 = confusion.iter().map(|row| row[c]).sum();
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

fn most_confused(confusion: &[Vec<u64>], classes: &[String]) -> Vec<ConfusedPair> {
    let mut pairs: Vec<(u64, usize, usize)> = Vec::new();
    for (label, row) in confusion.iter().enumerate() {
        for (predicted, &count) in row.iter().enumerate() {
            if label != predicted && count > 0 {
                pairs.push((count, label, predicted));
            }
        }
    }
    pairs.sort_by_key(|&(count, label, predicted)| (std::cmp::Reverse(count), label, predicted));
    pairs
        .into_iter()
        .take(CONFUSED)
        .map(|(count, label, predicted)| ConfusedPair {
            label: classes[label].clone(),
            predicted: classes[predicted].clone(),
            count,
        })
        .collect()
}

/// 97.5 % point of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// 95 % interval of a share (Wilson 1927); (0, 1) where there is nothing.
pub fn wilson(hits: u64, n: u64) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    let (n, p) = (n as f64, hits as f64 / n as f64);
    let z2 = Z * Z;
    let centre = p + z2 / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z2 / n;
    // Rounding would leave 0.9999999999999999 where nothing is wrong.
    let low = if hits == 0 {
        0.0
    } else {
        (centre - half) / scale
    };
    let high = if p == 1.0 {
        1.0
    } else {
        (centre + half) / scale
    };
    (low, high)
}

/// Two classifiers on the same pictures (McNemar 1947).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct McNemar {
    /// Pictures that only the first gets right.
    pub only_a: u64,
    /// Pictures that only the second gets right.
    pub only_b: u64,
    /// χ² with continuity correction (Edwards 1948); `None` where the exact test is used.
    pub statistic: Option<f64>,
    /// Probability of so large a difference if both were equally good.
    pub p_value: f64,
}

/// McNemar's test: exact below 25 discordant pictures, χ² with one degree of freedom above.
pub fn mcnemar(a: &[bool], b: &[bool]) -> McNemar {
    let count =
        |x: bool, y: bool| a.iter().zip(b).filter(|&(&p, &q)| p == x && q == y).count() as u64;
    let (only_a, only_b) = (count(true, false), count(false, true));
    let n = only_a + only_b;
    if n < 25 {
        return McNemar {
            only_a,
            only_b,
            statistic: None,
            p_value: exact(only_a.min(only_b), n),
        };
    }
    let distance = (only_a.abs_diff(only_b) as f64 - 1.0).max(0.0);
    let statistic = distance * distance / n as f64;
    McNemar {
        only_a,
        only_b,
        statistic: Some(statistic),
        // A χ² of one degree of freedom is a squared normal number.
        p_value: erfc((statistic / 2.0).sqrt()),
    }
}

/// Two-sided binomial test of `low` of `n` at one half.
fn exact(low: u64, n: u64) -> f64 {
    let mut term = 0.5f64.powi(n as i32);
    let mut sum = 0.0;
    for i in 0..=low {
        sum += term;
        term *= (n - i) as f64 / (i + 1) as f64;
    }
    (2.0 * sum).min(1.0)
}

/// The complementary error function, by its series near zero and Lentz's continued fraction
/// further out; relative error below 1e-12.
fn erfc(x: f64) -> f64 {
    if x < 2.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..100 {
            let n = f64::from(n);
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
        }
        return 1.0 - std::f64::consts::FRAC_2_SQRT_PI * sum;
    }
    let mut fraction = x;
    for i in (1..=60).rev() {
        fraction = x + f64::from(i) / 2.0 / fraction;
    }
    (-x * x).exp() / fraction / std::f64::consts::PI.sqrt()
}

/// Mean over seeds, and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MeanInterval {
    /// Arithmetic mean.
    pub mean: f64,
    /// Sample standard deviation; 0 for one value.
    pub std: f64,
    /// 95 % interval of the mean (Student 1908); the value itself for one.
    pub interval: (f64, f64),
}

/// Mean, sample deviation and Student's 95 % interval.
pub fn mean_std_interval(values: &[f64]) -> MeanInterval {
    let n = values.len();
    let mean = values.iter().sum::<f64>() / n.max(1) as f64;
    if n < 2 {
        return MeanInterval {
            mean,
            std: 0.0,
            interval: (mean, mean),
        };
    }
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
    let std = variance.sqrt();
    let half = student_975(n - 1) * std / (n as f64).sqrt();
    MeanInterval {
        mean,
        std,
        interval: (mean - half, mean + half),
    }
}

/// 97.5 % point of Student's distribution.
fn student_975(degrees: usize) -> f64 {
    const TABLE: [f64; 10] = [
        12.706_2, 4.302_65, 3.182_45, 2.776_45, 2.570_58, 2.446_91, 2.364_62, 2.306_00, 2.262_16,
        2.228_14,
    ];
    if let Some(value) = degrees.checked_sub(1).and_then(|i| TABLE.get(i)) {
        return *value;
    }
    // Cornish and Fisher's expansion: four digits from eleven degrees on.
    let (v, z) = (degrees as f64, Z);
    z + (z.powi(3) + z) / (4.0 * v)
        + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * v * v)
        + (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / (384.0 * v.powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("p{i}")).collect()
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
        assert_eq!(r.confusion, [[1, 1, 0], [0, 1, 0], [1, 0, 1]]);
        assert_eq!(
            (r.per_class[0].precision, r.per_class[0].recall),
            (0.5, 0.5)
        );
        assert_eq!(
            (r.per_class[1].precision, r.per_class[1].recall),
            (0.5, 1.0)
        );
        assert!((r.per_class[2].f1 - 2.0 / 3.0).abs() < 1e-12);
        // The most confident mistake comes first.
        assert_eq!(r.mistakes[0].name, "p4");
        assert_eq!(r.mistakes.len(), 2);
        assert_eq!(r.most_confused.len(), 2);
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
        assert_eq!(r.confusion, [[1, 1], [0, 0]]);
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

    #[test]
    fn wilson_as_in_the_tables() {
        let (lo, hi) = wilson(8, 10);
        assert!(
            (lo - 0.490_16).abs() < 1e-5 && (hi - 0.943_32).abs() < 1e-5,
            "{lo} {hi}"
        );
        assert_eq!(wilson(0, 0), (0.0, 1.0));
        assert_eq!(wilson(10, 10).1, 1.0);
    }

    #[test]
    fn mcnemar_as_in_the_tables() {
        let make = |only_a: usize, only_b: usize, both: usize| {
            let mut a = vec![true; only_a];
            a.extend(vec![false; only_b]);
            a.extend(vec![true; both]);
            let mut b = vec![false; only_a];
            b.extend(vec![true; only_b]);
            b.extend(vec![true; both]);
            mcnemar(&a, &b)
        };
        // χ² = (|59 − 16| − 1)² / 75 = 23.52.
        let large = make(59, 16, 3);
        assert!((large.statistic.unwrap_or_default() - 23.52).abs() < 1e-9);
        assert!(
            (large.p_value / 1.236e-6 - 1.0).abs() < 5e-3,
            "{}",
            large.p_value
        );
        // Two of ten, both sides: 2·(1 + 10 + 45)/1024.
        let small = make(2, 8, 0);
        assert!((small.p_value - 0.109_375).abs() < 1e-12);
        assert_eq!(make(0, 0, 5).p_value, 1.0);
    }

    #[test]
    fn erfc_as_in_the_tables() {
        for (x, want) in [
            (0.0, 1.0),
            (0.5, 0.479_500_122),
            (1.0, 0.157_299_207),
            (2.0, 0.004_677_735),
            (3.5, 7.430_983_7e-7),
        ] {
            assert!((erfc(x) / want - 1.0).abs() < 1e-7, "{x}: {}", erfc(x));
        }
    }

    #[test]
    fn student_as_in_the_tables() {
        let three = mean_std_interval(&[1.0, 2.0, 3.0]);
        assert_eq!((three.mean, three.std), (2.0, 1.0));
        assert!((three.interval.1 - (2.0 + 4.302_65 / 3f64.sqrt())).abs() < 1e-6);
        for (degrees, value) in [(11, 2.200_99), (20, 2.085_96), (60, 2.000_30)] {
            assert!((student_975(degrees) - value).abs() < 2e-4, "{degrees}");
        }
        assert_eq!(mean_std_interval(&[0.7]).interval, (0.7, 0.7));
    }
}
