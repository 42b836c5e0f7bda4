//! How unlike all training pictures a picture is to a model: the Mahalanobis distance of its features from the
//! nearest class, and how well such distances tell pictures of other kinds.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Added to the variance of every feature, as a share of the mean one: directions in which training pictures hardly
/// differ would decide everything else.
const RIDGE: f64 = 1e-3;

/// Percentage of the known pictures that are to be within a limit.
const KEPT: usize = 95;

/// Rows of the covariance that a thread sums up at a time: few enough to stay in its cache.
const ROWS: usize = 32;

/// Numbers that are summed up side by side.
const LANES: usize = 8;

/// Where the features of training pictures lie: normally distributed around the mean of each class, with one
/// covariance for all (Lee et al. 2018, equations 1 and 2, <https://arxiv.org/abs/1807.03888>).
#[derive(Debug, Clone, PartialEq)]
pub struct Familiarity {
    width: usize,
    /// W `[F, F]`, an upper triangle with W·Wᵀ = Σ⁻¹.
    whitening: Vec<f32>,
    /// Class means times W, `[M, F]`.
    means: Vec<f32>,
}

/// From where on a picture counts as unlike all that was learned, and what that comes of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FamiliarityLimit {
    /// The distance beyond which it does.
    pub threshold: f32,
    /// The share of the validation pictures that are within it, at least 0.95.
    pub share: f64,
    /// Number of training pictures behind the means and the covariance.
    pub pictures: usize,
}

/// How well distances tell unknown pictures from known ones.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Separation {
    /// Number of known pictures.
    pub known: usize,
    /// Number of unknown pictures.
    pub unknown: usize,
    /// Area under the ROC curve: the probability that an unknown picture is farther than a known one.
    pub auroc: f64,
    /// Share of the unknown pictures that pass where 95 % of the known ones do.
    pub fpr95: f64,
    /// Share of the known pictures beyond the threshold.
    pub flagged_known: f64,
    /// Share of the unknown pictures beyond the threshold.
    pub flagged_unknown: f64,
}

impl Familiarity {
    /// The means of the classes that have pictures, and their covariance, with 0.001 of its mean variance added to
    /// each variance. `None` where the pictures of no class differ, or where features are no numbers.
    ///
    /// # Shapes
    ///
    /// `features` `[n, F]`, row by row; `labels` `[n]`; `width` is F.
    pub fn fit(features: &[f32], labels: &[usize], width: usize) -> Option<Self> {
        let classes = labels.iter().max()? + 1;
        let mut means = vec![0.0; classes * width];
        let mut counts = vec![0usize; classes];
        for (row, &label) in features.chunks(width).zip(labels) {
            counts[label] += 1;
            let mean = &mut means[label * width..][..width];
            mean.iter_mut()
                .zip(row)
                .for_each(|(mean, x)| *mean += f64::from(*x));
        }
        for (mean, &count) in means.chunks_mut(width).zip(&counts) {
            mean.iter_mut().for_each(|x| *x /= count.max(1) as f64);
        }
        let mut matrix = covariance(features, labels, width, &means);
        let variance = (0..width).map(|i| matrix[i * width + i]).sum::<f64>() / width as f64;
        if !(variance > 0.0 && variance.is_finite()) {
            return None;
        }
        for i in 0..width {
            matrix[i * width + i] += RIDGE * variance;
        }
        cholesky(&mut matrix, width);
        let inverse = inverse_of_triangle(&matrix, width);
        let mut whitening = vec![0.0; width * width];
        for (i, row) in inverse.chunks(width).enumerate() {
            for (j, x) in row[..=i].iter().enumerate() {
                whitening[j * width + i] = *x as f32;
            }
        }
        let plain = Self {
            width,
            whitening,
            means: Vec::new(),
        };
        let of_pictures = means.chunks(width).zip(&counts).filter(|(_, n)| **n > 0);
        let whitened = of_pictures.flat_map(|(mean, _)| plain.whitened(mean.iter().copied()));
        let means: Vec<f32> = whitened.map(|x| x as f32).collect();
        let mut numbers = means.iter().chain(&plain.whitening);
        numbers
            .all(|x| x.is_finite())
            .then_some(Self { means, ..plain })
    }

    /// Statistics that were saved.
    ///
    /// # Panics
    ///
    /// Where `whitening` is not `[F, F]`, or `means` not `[M, F]` with M above 0.
    pub fn of_parts(width: usize, whitening: Vec<f32>, means: Vec<f32>) -> Self {
        assert_eq!(whitening.len(), width * width, "one row a feature");
        assert!(
            !means.is_empty() && means.len().is_multiple_of(width),
            "rows of as many numbers as there are features"
        );
        Self {
            width,
            whitening,
            means,
        }
    }

    /// F, the number of features.
    pub fn width(&self) -> usize {
        self.width
    }

    /// W `[F, F]`: the distance between rows of features f and g is ‖f·W − g·W‖.
    pub fn whitening(&self) -> &[f32] {
        &self.whitening
    }

    /// The means times W, `[M, F]`, of the M classes that had pictures.
    pub fn means(&self) -> &[f32] {
        &self.means
    }

    /// The distance of each row from the nearest class mean, in standard deviations; NaN where a feature is no
    /// number.
    ///
    /// # Shapes
    ///
    /// `features` `[n, F]` → `[n]`.
    pub fn distances(&self, features: &[f32]) -> Vec<f32> {
        let rows = features.par_chunks(self.width);
        rows.map(|row| self.distance(row)).collect()
    }

    fn distance(&self, row: &[f32]) -> f32 {
        let place = self.whitened(row.iter().copied().map(f64::from));
        if place.iter().any(|x| x.is_nan()) {
            return f32::NAN;
        }
        let squares = self.means.chunks(self.width).map(|mean| {
            let pairs = place.iter().zip(mean);
            pairs.map(|(x, m)| (x - f64::from(*m)).powi(2)).sum::<f64>()
        });
        squares.fold(f64::INFINITY, f64::min).sqrt() as f32
    }

    /// A row times W.
    fn whitened(&self, row: impl Iterator<Item = f64>) -> Vec<f64> {
        let mut out = vec![0.0; self.width];
        for (i, x) in row.enumerate() {
            let weights = &self.whitening[i * self.width + i..(i + 1) * self.width];
            let sums = out[i..].iter_mut().zip(weights);
            sums.for_each(|(sum, w)| *sum += x * f64::from(*w));
        }
        out
    }
}

impl FamiliarityLimit {
    /// The smallest distance within which 95 % of the validation pictures are, whose `distances` from `pictures`
    /// training pictures are given; `None` without any, or where it is no number above 0.
    pub fn of(distances: &[f32], pictures: usize) -> Option<Self> {
        let threshold = limit(distances)?;
        let within = distances.iter().filter(|d| **d <= threshold).count();
        (threshold > 0.0 && threshold.is_finite()).then(|| Self {
            threshold,
            share: within as f64 / distances.len() as f64,
            pictures,
        })
    }

    /// Checks a limit that was read from a file.
    ///
    /// # Errors
    ///
    /// What was found and what was expected, by key.
    pub fn validate(&self) -> Result<(), String> {
        let Self {
            threshold, share, ..
        } = self;
        match (0.0..=1.0).contains(share) {
            _ if !(threshold.is_finite() && *threshold > 0.0) => Err(format!(
                "calibration.familiarity.threshold is {threshold}, expected a number above 0"
            )),
            false => Err(format!(
                "calibration.familiarity.share is {share}, expected a share from 0 to 1"
            )),
            true => Ok(()),
        }
    }

    /// A distance as a multiple of the threshold: above 1 the picture is unlike all that was learned.
    pub fn ratio(&self, distance: f32) -> f32 {
        distance / self.threshold
    }
}

impl Separation {
    /// Compares the distances of known and unknown pictures, of which there are some. A distance that is no number
    /// is farther than any.
    pub fn of(known: &[f32], unknown: &[f32], threshold: f32) -> Self {
        let far = |distances: &[f32]| -> Vec<f32> {
            let far = |d: &f32| if d.is_nan() { f32::INFINITY } else { *d };
            distances.iter().map(far).collect()
        };
        let (mut known, unknown) = (far(known), far(unknown));
        known.sort_unstable_by(f32::total_cmp);
        // Twice the number of pairs in which the unknown picture is farther, equal ones counted once (Mann & Whitney
        // 1947).
        let farther = unknown.iter().map(|d| {
            let less = known.partition_point(|k| k < d) as u128;
            let at_most = known.partition_point(|k| k <= d) as u128;
            less + at_most
        });
        let pairs = known.len() as f64 * unknown.len() as f64;
        let share = |distances: &[f32], counts: &dyn Fn(f32) -> bool| {
            let count = distances.iter().filter(|d| counts(**d)).count();
            count as f64 / distances.len() as f64
        };
        let within = limit(&known).unwrap_or(f32::NAN);
        Self {
            known: known.len(),
            unknown: unknown.len(),
            auroc: farther.sum::<u128>() as f64 / 2.0 / pairs,
            fpr95: share(&unknown, &|d| d <= within),
            flagged_known: share(&known, &|d| d > threshold),
            flagged_unknown: share(&unknown, &|d| d > threshold),
        }
    }
}

/// The smallest of the distances that 95 % of them do not exceed.
fn limit(distances: &[f32]) -> Option<f32> {
    let mut sorted = distances.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let count = (KEPT * sorted.len()).div_ceil(100);
    sorted.get(count.checked_sub(1)?).copied()
}

/// The mean of (f − μ)ᵀ(f − μ), μ the mean of the row's class; its lower triangle, `[F, F]`. Each of its numbers is
/// summed up in the order of the rows, by whichever thread.
fn covariance(features: &[f32], labels: &[usize], width: usize, means: &[f64]) -> Vec<f64> {
    let mut matrix = vec![0.0; width * width];
    let parts = matrix.par_chunks_mut(ROWS * width).enumerate();
    parts.for_each(|(part, sums)| {
        let first = part * ROWS;
        let mut row = vec![0.0; width];
        for (values, &label) in features.chunks(width).zip(labels) {
            let mean = &means[label * width..][..width];
            let centred = values.iter().zip(mean).map(|(x, m)| f64::from(*x) - m);
            row.iter_mut().zip(centred).for_each(|(to, x)| *to = x);
            for (i, sums) in sums.chunks_mut(width).enumerate() {
                let x = row[first + i];
                let pairs = sums.iter_mut().zip(&row[..=first + i]);
                pairs.for_each(|(sum, y)| *sum += x * y);
            }
        }
        sums.iter_mut().for_each(|sum| *sum /= labels.len() as f64);
    });
    matrix
}

/// L in place of the lower triangle of a positive definite L·Lᵀ `[F, F]` (Cholesky, row by row).
fn cholesky(matrix: &mut [f64], width: usize) {
    for i in 0..width {
        let (done, rest) = matrix.split_at_mut(i * width);
        let row = &mut rest[..width];
        for j in 0..i {
            let other = &done[j * width..][..=j];
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        row[i] = (row[i] - dot(&row[..i], &row[..i])).sqrt();
    }
}

/// The inverse of a lower triangle `[F, F]`, whose upper one is not looked at.
fn inverse_of_triangle(triangle: &[f64], width: usize) -> Vec<f64> {
    let mut inverse = vec![0.0; width * width];
    for i in 0..width {
        let (done, rest) = inverse.split_at_mut(i * width);
        let row = &mut rest[..width];
        let scales = &triangle[i * width..][..=i];
        for (scale, above) in scales[..i].iter().zip(done.chunks(width)) {
            let pairs = row[..i].iter_mut().zip(above);
            pairs.for_each(|(x, y)| *x -= scale * y);
        }
        row[i] = 1.0;
        row[..=i].iter_mut().for_each(|x| *x /= scales[i]);
    }
    inverse
}

/// Σ aᵢbᵢ.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let (a, rest_of_a) = a.as_chunks::<LANES>();
    let (b, rest_of_b) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        let products = a.iter().zip(b).map(|(a, b)| a * b);
        let sums = sums.iter_mut().zip(products);
        sums.for_each(|(sum, product)| *sum += product);
    }
    let rest = rest_of_a.iter().zip(rest_of_b).map(|(a, b)| a * b);
    sums.iter().sum::<f64>() + rest.sum::<f64>()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Two classes around (1, 0) and (−3, 4), each with the same four pictures around its mean.
    fn two_classes() -> (Vec<f32>, Vec<usize>) {
        let around = [(2.0, 1.0), (-2.0, -1.0), (1.0, -1.0), (-1.0, 1.0)];
        let mut features = Vec::new();
        let mut labels = Vec::new();
        for (label, (x, y)) in [(0, (1.0, 0.0)), (2, (-3.0, 4.0))] {
            for (dx, dy) in around {
                features.extend([x + dx, y + dy]);
                labels.push(label);
            }
        }
        (features, labels)
    }

    #[test]
    fn distances_are_those_worked_out_by_hand() {
        let (features, labels) = two_classes();
        let found = Familiarity::fit(&features, &labels, 2).unwrap();
        // Variances 10/4 and 4/4, covariance 2/4; the mean variance 7/4 gives 0.00175 to each. Class 1 has no mean.
        let (a, b, c) = (2.5 + 0.00175, 0.5, 1.0 + 0.00175);
        assert_eq!(found.means().len(), 2 * 2);
        let determinant: f64 = a * c - b * b;
        let by_hand = |x: f64, y: f64| {
            let from = |(mx, my): (f64, f64)| {
                let (x, y) = (x - mx, y - my);
                ((c * x * x - 2.0 * b * x * y + a * y * y) / determinant).sqrt()
            };
            from((1.0, 0.0)).min(from((-3.0, 4.0)))
        };
        let rows = [(1.0, 0.0), (4.0, -2.0), (-3.0, 9.0), (-1.0, 2.0)];
        let values: Vec<f32> = rows
            .iter()
            .flat_map(|&(x, y)| [x as f32, y as f32])
            .collect();
        for (distance, (x, y)) in found.distances(&values).into_iter().zip(rows) {
            let expected = by_hand(x, y);
            assert!((f64::from(distance) - expected).abs() < 1e-5 * (1.0 + expected));
        }
        assert!(found.distances(&[f32::NAN, 0.0])[0].is_nan());
        // Saved and read they are the same.
        let parts = (found.whitening().to_vec(), found.means().to_vec());
        assert_eq!(Familiarity::of_parts(2, parts.0, parts.1), found);
    }

    /// Pictures of 40 features that depend on each other, in three classes.
    fn many() -> (Vec<f32>, Vec<usize>) {
        let mut numbers = crate::random::numbers(5);
        let mut draw = || numbers.next_unit() as f32 - 0.5;
        let mut features = Vec::new();
        let labels: Vec<usize> = (0..300).map(|i| i * i % 3).collect();
        for &label in &labels {
            let mut before = label as f32;
            for i in 0..40 {
                before = 0.8 * before + (1.0 + i as f32) * draw();
                features.push(before + 10.0);
            }
        }
        (features, labels)
    }

    #[test]
    fn whitened_training_pictures_have_a_covariance_of_one() {
        let (features, labels) = many();
        let found = Familiarity::fit(&features, &labels, 40).unwrap();
        // W·Wᵀ is the inverse of the covariance: of a whitened row's squares F are left in the mean, less the ridge.
        let mut total = 0.0;
        let classes = [0, 1, 2].map(|class| {
            let rows = features.chunks(40).zip(&labels);
            rows.filter(|(_, label)| **label == class)
                .map(|(row, _)| row)
                .collect::<Vec<_>>()
        });
        for rows in &classes {
            let mean: Vec<f64> = (0..40)
                .map(|i| rows.iter().map(|row| f64::from(row[i])).sum::<f64>() / rows.len() as f64)
                .collect();
            let mean = found.whitened(mean.into_iter());
            for row in rows {
                let row = found.whitened(row.iter().copied().map(f64::from));
                total += row
                    .iter()
                    .zip(&mean)
                    .map(|(x, m)| (x - m).powi(2))
                    .sum::<f64>();
            }
        }
        let mean = total / 300.0;
        assert!((35.0..40.0).contains(&mean), "{mean}");
    }

    #[test]
    fn threads_change_no_bit() {
        let (features, labels) = many();
        let of = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let found = Familiarity::fit(&features, &labels, 40).unwrap();
                let distances = found.distances(&features);
                (found, distances)
            })
        };
        assert_eq!(of(1), of(3));
    }

    #[test]
    fn what_does_not_differ_gives_no_statistics() {
        assert_eq!(Familiarity::fit(&[], &[], 2), None);
        assert_eq!(
            Familiarity::fit(&[1.0, 2.0, 1.0, 2.0, 5.0, 5.0], &[0, 0, 1], 2),
            None
        );
        assert_eq!(Familiarity::fit(&[1.0, f32::NAN], &[0, 0], 1), None);
        assert_eq!(FamiliarityLimit::of(&[], 3), None);
        assert_eq!(FamiliarityLimit::of(&[0.0, 0.0], 3), None);
        // One direction alone is enough: the ridge covers the other.
        let flat = Familiarity::fit(&[0.0, 7.0, 2.0, 7.0], &[0, 0], 2).unwrap();
        // The variances are 1 and 0, so the ridge is 0.0005.
        let far = flat.distances(&[1.0, 7.5])[0];
        assert!((far - 0.5 / 0.0005f32.sqrt()).abs() < 1e-3, "{far}");
    }

    #[test]
    fn a_limit_keeps_95_of_a_hundred() {
        let distances: Vec<f32> = (1..=100).rev().map(|d| d as f32).collect();
        let limit = FamiliarityLimit::of(&distances, 7).unwrap();
        assert_eq!(
            (limit.threshold, limit.share, limit.pictures),
            (95.0, 0.95, 7)
        );
        assert_eq!(limit.ratio(190.0), 2.0);
        // 95 % of eleven are ten and a half: all of them.
        let few = FamiliarityLimit::of(&distances[..11], 7).unwrap();
        assert_eq!((few.threshold, few.share), (100.0, 1.0));
        // Equals stay together.
        let equal = FamiliarityLimit::of(&[2.0; 40], 7).unwrap();
        assert_eq!((equal.threshold, equal.share), (2.0, 1.0));
    }

    #[test]
    fn auroc_and_fpr_are_those_worked_out_by_hand() {
        // Of the 4 · 3 pairs the unknown one is farther in 3 + 4 + 1, and two are equal.
        let found = Separation::of(&[1.0, 2.0, 3.0, 4.0], &[3.5, 9.0, 2.0], 3.0);
        assert_eq!((found.known, found.unknown), (4, 3));
        assert_eq!(found.auroc, (3.0 + 4.0 + 1.0 + 0.5) / 12.0);
        // 95 % of four are all four, up to 4.
        assert_eq!(found.fpr95, 2.0 / 3.0);
        assert_eq!(
            (found.flagged_known, found.flagged_unknown),
            (0.25, 2.0 / 3.0)
        );
        // 19 of 20 are within 19.
        let known: Vec<f32> = (1..=20).map(|d| d as f32).collect();
        let found = Separation::of(&known, &[19.0, 19.5], 20.0);
        assert_eq!((found.fpr95, found.flagged_known), (0.5, 0.0));
        // Farther than all, nearer than all, no number.
        for (unknown, auroc) in [(50.0, 1.0), (0.0, 0.0), (f32::NAN, 1.0)] {
            assert_eq!(Separation::of(&known, &[unknown], 20.0).auroc, auroc);
        }
    }
}
