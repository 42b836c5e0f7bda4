//! Calibration: a temperature for a model's logits, and confidence thresholds with a bounded error rate.

use serde::{Deserialize, Serialize};

use super::familiarity::FamiliarityLimit;
use super::logits::{argmax, correct, softmax};
use super::report::evaluate;

/// Bounds of the temperature. A fit outside of them would come from logits without information.
const TEMPERATURES: (f64, f64) = (0.05, 20.0);

/// Number of rows of the risk-coverage table, about.
const ROWS: usize = 128;

/// More pictures than any validation split has: what a file may claim, and so what a threshold may cost, ends
/// here.
const MOST_PICTURES: u64 = 1_000_000_000;

/// Probability that a chosen threshold exceeds its error rate (δ in Geifman & El-Yaniv 2017).
const DELTA: f64 = 0.05;

/// The calibration of a model, measured on a validation split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Name of the data set.
    pub data: String,
    /// Number of pictures in its validation split.
    pub pictures: usize,
    /// Figures at temperature 1.
    pub before: Figures,
    /// Figures at the temperature that is kept: the fitted one, or 1.
    pub after: Figures,
    /// Figures with temperatures that were fitted on other pictures, fold by fold; `None` in what earlier
    /// versions have stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_folds: Option<Figures>,
    /// The risk-coverage curve (El-Yaniv & Wiener 2010), from the highest threshold to the lowest.
    pub coverage: Vec<Threshold>,
    /// From where on pictures count as unlike all that was learned; `None` where nothing was found out about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub familiarity: Option<FamiliarityLimit>,
}

/// How well predicted probabilities agree with the labels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Mean negative log-likelihood in nats.
    pub nll: f64,
    /// Expected calibration error (Guo et al. 2017, eq. 3), 0 to 1.
    pub ece: f64,
}

/// The result of answering only from a confidence on. In JSON: `[confidence, answered, wrong]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "(f32, u64, u64)", into = "(f32, u64, u64)")]
pub struct Threshold {
    /// The lowest confidence that is answered, 0 to 1.
    pub confidence: f32,
    /// Number of pictures answered.
    pub answered: u64,
    /// Number of wrong answers among them.
    pub wrong: u64,
}

impl From<(f32, u64, u64)> for Threshold {
    fn from((confidence, answered, wrong): (f32, u64, u64)) -> Self {
        Self {
            confidence,
            answered,
            wrong,
        }
    }
}

impl From<Threshold> for (f32, u64, u64) {
    fn from(row: Threshold) -> Self {
        (row.confidence, row.answered, row.wrong)
    }
}

impl Threshold {
    /// Whether a picture of this confidence is answered; one of confidence NaN is not.
    pub fn answers(&self, confidence: f32) -> bool {
        confidence >= self.confidence
    }
}

impl Calibration {
    /// Fits the temperature, and measures the calibration before and after. Returns the temperature and the measurements,
    /// without a word on features.
    ///
    /// A fit is kept only if it helps with pictures that it was not fitted on, fold by fold, else the temperature is
    /// 1: with few pictures, or a model that is calibrated already, a fit may follow their accidents.
    ///
    /// # Shapes
    ///
    /// `logits`: row-major `[n, K]`, finite, at temperature 1; `labels`: `[n]`; `classes`: `[K]`.
    pub fn fit(logits: &[f32], labels: &[usize], classes: &[String], data: &str) -> (f32, Self) {
        let before = figures(logits, labels, classes);
        let held_out = on_folds(logits, labels, classes);
        let temperature = match held_out.improves(&before) {
            true => fit_temperature(logits, labels),
            false => 1.0,
        };
        let scaled: Vec<f32> = logits.iter().map(|z| z / temperature).collect();
        let calibration = Self {
            data: data.to_owned(),
            pictures: labels.len(),
            before,
            after: figures(&scaled, labels, classes),
            on_folds: Some(held_out),
            coverage: coverage(&scaled, labels),
            familiarity: None,
        };
        (temperature, calibration)
    }

    /// Checks a calibration that was read from a file: figures are numbers, and the rows of the risk-coverage
    /// curve can come of so many pictures.
    ///
    /// # Errors
    ///
    /// What was found and what was expected, by key.
    pub fn validate(&self) -> Result<(), String> {
        let pictures = self.pictures as u64;
        if pictures > MOST_PICTURES {
            return Err(format!(
                "calibration.pictures is {pictures}, expected at most {MOST_PICTURES}"
            ));
        }
        let figures = [Some(self.before), Some(self.after), self.on_folds];
        for found in figures.into_iter().flatten() {
            if !found.nll.is_finite() || !(0.0..=1.0 + 1e-9).contains(&found.ece) {
                return Err(format!(
                    "a calibration of nll {} and ece {}, expected a number and a share from 0 to 1",
                    found.nll, found.ece
                ));
            }
        }
        if let Some(limit) = self.familiarity {
            limit.validate()?;
        }
        let mut before = Threshold {
            confidence: f32::INFINITY,
            answered: 0,
            wrong: 0,
        };
        for (index, &row) in self.coverage.iter().enumerate() {
            let reason = if !(0.0..=1.0).contains(&row.confidence) {
                "expected a confidence from 0 to 1"
            } else if row.answered > pictures {
                "more answers than pictures"
            } else if row.wrong > row.answered {
                "more wrong answers than answers"
            } else if row.confidence >= before.confidence
                || row.answered <= before.answered
                || row.wrong < before.wrong
            {
                "expected a lower confidence than in the row before, and further answers"
            } else {
                before = row;
                continue;
            };
            return Err(format!(
                "row {} of calibration.coverage is {:?}: {reason}",
                index + 1,
                <(f32, u64, u64)>::from(row)
            ));
        }
        Ok(())
    }

    /// Whether the fitted temperature was kept.
    pub fn is_kept(&self) -> bool {
        self.on_folds
            .is_none_or(|held_out| held_out.improves(&self.before))
    }

    /// The threshold with the largest coverage whose answers are wrong at a rate of at most
    /// `error_rate`, with 95 % confidence; `None` where the validation split supports none.
    ///
    /// Selection with guaranteed risk (Geifman & El-Yaniv 2017, algorithm 1): a binary search over
    /// the table, where a row passes if so few errors among so many answers have a probability of at
    /// most δ/steps at that error rate. Dividing δ by the number of steps corrects for testing more than
    /// once, so the guarantee holds for the chosen row, on pictures drawn like the validation split.
    /// Rows with so few answers that they would not pass even without an error are left out first.
    pub fn threshold(&self, error_rate: f64) -> Option<Threshold> {
        let mut high = self.coverage.len();
        let steps = self.steps()?;
        let passes = |wrong: u64, row: &Threshold| {
            binomial_cdf(wrong, row.answered, error_rate) <= DELTA / steps
        };
        let mut low = self.coverage.partition_point(|row| !passes(0, row));
        let mut found = None;
        while low < high {
            let middle = (low + high) / 2;
            let row = self.coverage[middle];
            if passes(row.wrong, &row) {
                found = Some(row);
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        found
    }

    /// Steps of a binary search over the table, each of which is a test; `None` for an empty table.
    fn steps(&self) -> Option<f64> {
        Some(f64::from(self.coverage.len().checked_ilog2()? + 1))
    }

    /// Fewest validation pictures that support an error rate, 0 to 1, if none of the answers is wrong: with n of
    /// them (1 − rate)ⁿ must be at most δ/steps.
    pub fn fewest_pictures(&self, error_rate: f64) -> u64 {
        let chance = DELTA / self.steps().unwrap_or(1.0);
        (chance.ln() / (-error_rate).ln_1p()).ceil() as u64
    }

    /// Share of the validation pictures that are answered with this threshold, 0 to 1.
    pub fn share(&self, threshold: &Threshold) -> f64 {
        threshold.answered as f64 / self.pictures.max(1) as f64
    }
}

impl Figures {
    /// Whether these are better than `before`: a likelier truth at a calibration error that is no larger.
    pub fn improves(&self, before: &Self) -> bool {
        self.nll < before.nll && self.ece <= before.ece
    }
}

fn figures(logits: &[f32], labels: &[usize], classes: &[String]) -> Figures {
    let report = evaluate(logits, labels, &[], classes);
    Figures {
        nll: report.loss,
        ece: report.ece,
    }
}

/// Folds of the cross-validation.
const FOLDS: usize = 5;

/// The figures of a calibration on pictures that it was not fitted on: each of five folds, which hold every class
/// in proportion, is divided by the temperature fitted on the other four.
///
/// # Shapes
///
/// As [`Calibration::fit`].
fn on_folds(logits: &[f32], labels: &[usize], classes: &[String]) -> Figures {
    let k = classes.len().max(1);
    let mut seen = vec![0; k];
    let folds: Vec<usize> = labels
        .iter()
        .map(|&label| {
            seen[label] += 1;
            // Classes begin at folds of their own, so that classes of one picture do not share a fold.
            (seen[label] + label) % FOLDS
        })
        .collect();
    let mut scaled = logits.to_vec();
    for fold in 0..FOLDS {
        let (mut others, mut truths) = (Vec::new(), Vec::new());
        for (i, row) in logits.chunks(k).enumerate() {
            if folds[i] != fold {
                others.extend_from_slice(row);
                truths.push(labels[i]);
            }
        }
        let temperature = fit_temperature(&others, &truths);
        for (row, _) in scaled
            .chunks_mut(k)
            .zip(&folds)
            .filter(|(_, of)| **of == fold)
        {
            row.iter_mut().for_each(|z| *z /= temperature);
        }
    }
    figures(&scaled, labels, classes)
}

/// The figures as the logits are, and those of a calibration on pictures that it was not fitted on.
///
/// # Shapes
///
/// As [`Calibration::fit`].
pub fn calibration_on_folds(logits: &[f32], labels: &[usize], classes: &[String]) -> [Figures; 2] {
    [
        figures(logits, labels, classes),
        on_folds(logits, labels, classes),
    ]
}

/// The temperature T that minimises the cross-entropy of softmax(z/T) (Guo et al. 2017, section
/// 4.2), between 0.05 and 20.
///
/// The cross-entropy is convex in β = 1/T, so its derivative, the mean of E_p\[z\] − z_y, grows with
/// β, and bisection finds its zero. Where no answer is wrong there is no zero, as more confidence is
/// always better: the temperature is then 1.
///
/// # Shapes
///
/// `logits`: row-major `[n, K]`, finite; `labels`: `[n]`.
pub fn fit_temperature(logits: &[f32], labels: &[usize]) -> f32 {
    let classes = (logits.len() / labels.len().max(1)).max(1);
    if correct(logits, labels).iter().all(|&right| right) {
        return 1.0;
    }
    let slope = |beta: f64| -> f64 {
        let rows = logits.chunks(classes).zip(labels);
        rows.map(|(row, &label)| {
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let (mut sum, mut mean) = (0.0, 0.0);
            for &z in row {
                let z = f64::from(z) - f64::from(max);
                let weight = (beta * z).exp();
                sum += weight;
                mean += weight * z;
            }
            mean / sum - (f64::from(row[label]) - f64::from(max))
        })
        .sum()
    };
    // Bisection on a logarithmic scale, so that the relative precision is the same everywhere.
    let (mut low, mut high) = (-TEMPERATURES.1.ln(), -TEMPERATURES.0.ln());
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        if slope(middle.exp()) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    (-0.5 * (low + high)).exp() as f32
}

/// The risk-coverage table: evenly spaced in pictures answered, equal confidences together.
fn coverage(logits: &[f32], labels: &[usize]) -> Vec<Threshold> {
    let classes = (logits.len() / labels.len().max(1)).max(1);
    let mut answers: Vec<(f32, bool)> = logits
        .chunks(classes)
        .zip(labels)
        .map(|(row, &label)| {
            let best = argmax(row);
            let confidence = best.map_or(0.0, |best| softmax(row)[best] as f32);
            (confidence, best == Some(label))
        })
        .collect();
    answers.sort_by(|a, b| b.0.total_cmp(&a.0));
    let n = answers.len();
    let mut rows: Vec<Threshold> = Vec::new();
    let mut wrong = 0;
    for (i, &(confidence, right)) in answers.iter().enumerate() {
        wrong += u64::from(!right);
        let last_of_equals = answers.get(i + 1).is_none_or(|next| next.0 < confidence);
        // Rows are evenly spaced: row r is due at r/ROWS of the pictures.
        let due = (i + 1) * ROWS >= (rows.len() + 1) * n.max(ROWS) || i + 1 == n;
        if last_of_equals && due {
            rows.push(Threshold {
                confidence,
                answered: i as u64 + 1,
                wrong,
            });
        }
    }
    rows
}

/// Probability of at most `wrong` errors in `n` answers, each wrong with probability `rate`.
///
/// Summed from the term next to `wrong` outwards, on the side of it where terms fall, until they no longer count:
/// about √n of them at most.
fn binomial_cdf(wrong: u64, n: u64, rate: f64) -> f64 {
    if wrong >= n || rate <= 0.0 {
        return 1.0;
    }
    if rate >= 1.0 {
        return 0.0;
    }
    let odds = rate / (1.0 - rate);
    // The sum of the terms from k on, where `next` gives each divided by the one before; in logarithms, since
    // (1 − rate)ⁿ underflows for large n.
    let tail = |k: u64, next: &mut dyn FnMut() -> f64| {
        let choose = ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k);
        let first = choose + k as f64 * rate.ln() + (n - k) as f64 * (-rate).ln_1p();
        let (mut sum, mut term) = (1.0, 1.0);
        while term > f64::EPSILON * sum {
            term *= next();
            sum += term;
        }
        (first + f64::ln(sum)).exp().min(1.0)
    };
    if (wrong as f64) < n as f64 * rate {
        let mut k = wrong;
        tail(wrong, &mut || {
            // The last term is that of k = 0: its successor is 0.
            let factor = k as f64 / ((n - k + 1) as f64 * odds);
            k = k.saturating_sub(1);
            factor
        })
    } else {
        let mut k = wrong + 1;
        1.0 - tail(wrong + 1, &mut || {
            let factor = (n - k) as f64 * odds / (k + 1) as f64;
            k = (k + 1).min(n);
            factor
        })
    }
}

/// ln n!
fn ln_factorial(n: u64) -> f64 {
    libm::lgamma(n as f64 + 1.0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Logits whose softmax is the true distribution of their labels: rows of log-probabilities
    /// with counts of labels in proportion.
    fn honest() -> (Vec<f32>, Vec<usize>) {
        let (mut logits, mut labels) = (Vec::new(), Vec::new());
        for shares in [[8, 1, 1], [1, 6, 3], [2, 3, 5]] {
            for (label, &count) in shares.iter().enumerate() {
                for _ in 0..count {
                    logits.extend(shares.map(|share| (share as f32 / 10.0).ln()));
                    labels.push(label);
                }
            }
        }
        (logits, labels)
    }

    /// Every term, one after the other.
    fn cdf_by_the_book(wrong: u64, n: u64, rate: f64) -> f64 {
        let mut term = n as f64 * (1.0 - rate).ln();
        let mut sum = 0.0;
        for i in 0..=wrong {
            sum += term.exp();
            term += ((n - i) as f64 / (i + 1) as f64).ln() + (rate / (1.0 - rate)).ln();
        }
        sum
    }

    #[test]
    fn the_binomial_sum_is_that_of_all_its_terms() {
        for n in [1, 2, 10, 59, 1000, 10_000] {
            for rate in [0.001, 0.01, 0.05, 0.3, 0.5] {
                let likely = (n as f64 * rate) as u64;
                let around = [0, 1, likely / 2, likely, likely + 1, likely * 3 / 2, n - 1];
                for wrong in around.into_iter().filter(|wrong| *wrong < n) {
                    let (got, want) = (
                        binomial_cdf(wrong, n, rate),
                        cdf_by_the_book(wrong, n, rate).min(1.0),
                    );
                    if want > 1e-290 {
                        assert!(
                            (got / want - 1.0).abs() < 1e-8,
                            "{wrong} of {n} at {rate}: {got}, {want}"
                        );
                    }
                }
            }
        }
        let start = std::time::Instant::now();
        let n = MOST_PICTURES;
        for wrong in [0, n / 4, n / 2 - 20_000, n / 2, n / 2 + 20_000, n - 1] {
            let p = binomial_cdf(wrong, n, 0.5);
            assert!((0.0..=1.0).contains(&p), "{wrong}: {p}");
        }
        assert!((binomial_cdf(n / 2, n, 0.5) - 0.5).abs() < 1e-3);
        assert!(start.elapsed().as_secs_f64() < 10.0);
    }

    #[test]
    fn a_calibration_that_cannot_be_is_refused_by_row() {
        let row = |confidence, answered, wrong| Threshold {
            confidence,
            answered,
            wrong,
        };
        let of = |pictures, coverage: &[Threshold]| {
            let figures = Figures { nll: 0.5, ece: 0.1 };
            let calibration = Calibration {
                data: "set".into(),
                pictures,
                before: figures,
                after: figures,
                on_folds: None,
                coverage: coverage.to_vec(),
                familiarity: None,
            };
            calibration.validate()
        };
        assert_eq!(of(9, &[row(1.0, 4, 0), row(0.5, 9, 3)]), Ok(()));
        assert_eq!(of(0, &[]), Ok(()));
        for (pictures, rows, reason) in [
            (
                10,
                vec![row(0.9, 1 << 62, 1 << 60)],
                "row 1 of calibration.coverage is (0.9, 4611686018427387904, 1152921504606846976): more answers than pictures",
            ),
            (
                1 << 62,
                vec![],
                "calibration.pictures is 4611686018427387904, expected at most 1000000000",
            ),
            (9, vec![row(0.9, 3, 4)], "more wrong answers than answers"),
            (9, vec![row(1.5, 3, 1)], "expected a confidence from 0 to 1"),
            (
                9,
                vec![row(f32::NAN, 3, 1)],
                "expected a confidence from 0 to 1",
            ),
            (9, vec![row(0.1, 3, 1), row(0.9, 4, 1)], "row 2 of"),
            (9, vec![row(0.9, 3, 1), row(0.1, 3, 1)], "row 2 of"),
            (9, vec![row(0.9, 3, 1), row(0.1, 4, 0)], "row 2 of"),
        ] {
            let error = of(pictures, &rows).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        let (logits, labels) = honest();
        let classes = ["a", "b", "c"].map(str::to_owned);
        let (_, mut made) = Calibration::fit(&logits, &labels, &classes, "set");
        assert_eq!(made.validate(), Ok(()));
        made.after.nll = f64::INFINITY;
        assert!(made.validate().unwrap_err().contains("nll inf"));
    }

    #[test]
    fn a_known_temperature_is_found_again() {
        let (logits, labels) = honest();
        for factor in [0.3f32, 1.0, 1.7, 6.0] {
            let scaled: Vec<f32> = logits.iter().map(|z| z * factor).collect();
            let found = fit_temperature(&scaled, &labels);
            assert!((found / factor - 1.0).abs() < 1e-5, "{factor}: {found}");
        }
    }

    #[test]
    fn a_fit_improves_the_likelihood_and_changes_no_answer() {
        let (logits, labels) = honest();
        let steep: Vec<f32> = logits.iter().map(|z| 4.0 * z).collect();
        let classes = ["a", "b", "c"].map(str::to_owned);
        let (temperature, calibration) = Calibration::fit(&steep, &labels, &classes, "set");
        assert!((temperature - 4.0).abs() < 1e-4);
        assert!(calibration.after.nll < calibration.before.nll);
        // 0.8, 0.6 and 0.5 are exactly the shares of right answers.
        assert!(calibration.after.ece < 1e-5 && calibration.before.ece > 0.2);
        assert_eq!(calibration.pictures, 30);
        let json = serde_json::to_string(&calibration).unwrap();
        let back: Calibration = serde_json::from_str(&json).unwrap();
        assert_eq!(back, calibration);
    }

    #[test]
    fn a_fit_that_does_not_help_with_other_pictures_is_not_kept() {
        // As good as its confidence says, but for the accidents of thirty labels.
        let (logits, labels) = honest();
        let classes = ["a", "b", "c"].map(str::to_owned);
        let (temperature, calibration) = Calibration::fit(&logits, &labels, &classes, "set");
        assert_eq!(temperature, 1.0);
        assert!(!calibration.is_kept());
        assert_eq!(calibration.after, calibration.before);
        let held_out = calibration.on_folds.unwrap();
        assert!(held_out.nll >= calibration.before.nll || held_out.ece > calibration.before.ece);
        // The fit itself can only look better on the pictures that it was made from.
        let steep: Vec<f32> = logits.iter().map(|z| 4.0 * z).collect();
        let (_, calibration) = Calibration::fit(&steep, &labels, &classes, "set");
        assert!(calibration.is_kept());
        let held_out = calibration.on_folds.unwrap();
        assert!(calibration.after.nll < held_out.nll && held_out.nll < calibration.before.nll);
        // One picture, or none, is nothing to fit.
        for n in [0, 1] {
            let (temperature, _) = Calibration::fit(&steep[..3 * n], &labels[..n], &classes, "set");
            assert_eq!(temperature, 1.0);
        }
    }

    #[test]
    fn a_better_likelihood_at_a_worse_calibration_error_is_no_improvement() {
        let before = Figures {
            nll: 1.0,
            ece: 0.07,
        };
        for (nll, ece, better) in [
            (0.9, 0.06, true),
            (0.9, 0.07, true),
            (0.9, 0.08, false),
            (1.0, 0.01, false),
            (f64::NAN, 0.01, false),
        ] {
            let after = Figures { nll, ece };
            assert_eq!(after.improves(&before), better, "{after:?}");
        }
    }

    #[test]
    fn the_fewest_pictures_are_those_that_pass_without_an_error() {
        // Three rows, two steps: 0.9^35 is just too much, 0.9^36 will do.
        assert_eq!(table(&[(10, 0), (36, 0), (60, 9)]).fewest_pictures(0.1), 36);
        assert_eq!(
            table(&[(10, 0), (36, 0), (60, 9)]).fewest_pictures(0.01),
            368
        );
    }

    #[test]
    fn the_temperature_keeps_its_bounds() {
        // Nothing wrong: no temperature is better than another that is lower.
        assert_eq!(fit_temperature(&[2.0, 0.0, 0.0, 1.0], &[0, 1]), 1.0);
        // Worse than guessing: the flattest that there is.
        let found = fit_temperature(&[3.0, 0.0, 0.0, 3.0], &[1, 0]);
        assert!((found - 20.0).abs() < 1e-3, "{found}");
    }

    #[test]
    fn the_table_counts_by_hand() {
        // Two classes; confidences fall from picture to picture, the third and fourth are equal.
        let logits = [4.0, 0.0, 0.0, 3.0, 2.0, 0.0, 2.0, 0.0, 0.0, 1.0];
        let rows = coverage(&logits, &[0, 1, 1, 0, 0]);
        let counts: Vec<_> = rows.iter().map(|r| (r.answered, r.wrong)).collect();
        assert_eq!(counts, [(1, 0), (2, 0), (4, 1), (5, 2)]);
        let confidence = 1.0 / (1.0 + (-2f64).exp());
        assert!((f64::from(rows[2].confidence) - confidence).abs() < 1e-7);
        assert!(rows[2].answers(rows[2].confidence) && !rows[2].answers(rows[3].confidence));
        assert!(!rows[0].answers(f32::NAN));
    }

    #[test]
    fn a_long_table_is_thinned_and_keeps_both_ends() {
        let n = 1000;
        let logits: Vec<f32> = (0..n).flat_map(|i| [(n - i) as f32 / 100.0, 0.0]).collect();
        let rows = coverage(&logits, &vec![0; n]);
        assert_eq!(rows.len(), ROWS);
        assert_eq!((rows[0].answered, rows[ROWS - 1].answered), (8, 1000));
        assert!(rows.is_sorted_by(|a, b| a.answered < b.answered && a.confidence > b.confidence));
    }

    /// A table of rows (answered, wrong) at falling confidences.
    fn table(rows: &[(u64, u64)]) -> Calibration {
        let figures = Figures { nll: 0.0, ece: 0.0 };
        let coverage: Vec<Threshold> = rows
            .iter()
            .enumerate()
            .map(|(i, &(answered, wrong))| Threshold {
                confidence: 0.9 - 0.1 * i as f32,
                answered,
                wrong,
            })
            .collect();
        Calibration {
            data: String::new(),
            pictures: rows.last().map_or(0, |r| r.0) as usize,
            before: figures,
            after: figures,
            on_folds: None,
            coverage,
            familiarity: None,
        }
    }

    #[test]
    fn the_threshold_answers_as_much_as_its_promise_allows() {
        // Three rows are searched in two steps, so each may err with probability 0.025. At an
        // error rate of 10 %, 0.9^35 = 0.02503 is just too much and 0.9^36 = 0.0225 will do.
        let chosen = |rows: &[(u64, u64)], rate| {
            let found = table(rows).threshold(rate);
            found.map(|row| row.answered)
        };
        assert_eq!(chosen(&[(10, 0), (36, 0), (60, 9)], 0.1), Some(36));
        assert_eq!(chosen(&[(10, 0), (35, 0), (60, 9)], 0.1), None);
        // One error of 54: 0.9^54 + 54·0.1·0.9^53 = 0.0237; of 53 it would be 0.0259.
        assert_eq!(chosen(&[(10, 0), (36, 0), (54, 1)], 0.1), Some(54));
        assert_eq!(chosen(&[(10, 0), (36, 0), (53, 1)], 0.1), Some(36));
        assert_eq!(chosen(&[], 0.1), None);
        let share = table(&[(30, 0), (40, 1)]);
        assert_eq!(share.share(&share.coverage[0]), 0.75);
    }

    #[test]
    fn rows_of_too_few_answers_do_not_hide_those_that_keep_the_promise() {
        // No mistake in 150 pictures, whose middle row, of 75, proves too little by itself.
        let rows: Vec<(u64, u64)> = (1..=150).map(|answered| (answered, 0)).collect();
        let chosen = table(&rows).threshold(0.05);
        assert_eq!(chosen.map(|row| row.answered), Some(150));
    }

    #[test]
    fn the_binomial_as_in_the_tables() {
        assert!((binomial_cdf(2, 10, 0.25) - 0.525_592_8).abs() < 1e-7);
        assert!((binomial_cdf(0, 59, 0.05) - 0.95f64.powi(59)).abs() < 1e-12);
        assert_eq!(binomial_cdf(4, 4, 0.5), 1.0);
        // Far below the smallest number before it is summed up: the median of a large one.
        let median = binomial_cdf(50_000, 100_000, 0.5);
        assert!((median - 0.501_26).abs() < 1e-4, "{median}");
    }
}
