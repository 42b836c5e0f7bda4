//! The loss of multinomial logistic regression, and its gradient.

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

/// Rows that are multiplied at once: enough to keep a device busy, few enough for sums in f32.
const ROWS: usize = 4096;

/// Mean and deviation of each feature.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scale {
    mean: Vec<f64>,
    /// 1 where a feature has none.
    deviation: Vec<f64>,
}

impl Scale {
    /// Of `[n, D]` values, row by row.
    pub(super) fn of<'a>(rows: impl Iterator<Item = &'a [f32]> + Clone, width: usize) -> Self {
        let mut mean = vec![0.0; width];
        let mut count = 0.0_f64;
        for row in rows.clone() {
            count += 1.0;
            mean.iter_mut()
                .zip(row)
                .for_each(|(m, x)| *m += f64::from(*x));
        }
        mean.iter_mut().for_each(|m| *m /= count.max(1.0));
        let mut variance = vec![0.0; width];
        for row in rows {
            let pairs = row.iter().zip(&mean);
            let squares = pairs.map(|(x, m)| (f64::from(*x) - m).powi(2));
            variance.iter_mut().zip(squares).for_each(|(v, s)| *v += s);
        }
        let deviation = variance.iter().zip(&mean).map(|(v, m)| {
            let deviation = (v / count.max(1.0)).sqrt();
            // What differs by rounding alone says nothing.
            match deviation > 1e-6 * m.abs() {
                true => deviation,
                false => 1.0,
            }
        });
        Self {
            deviation: deviation.collect(),
            mean,
        }
    }

    fn apply(&self, row: &[f32], to: &mut Vec<f32>) {
        let scales = self.mean.iter().zip(&self.deviation);
        to.extend(
            row.iter()
                .zip(scales)
                .map(|(x, (mean, deviation))| ((f64::from(*x) - mean) / deviation) as f32),
        );
    }

    /// Weights `[D, K]` and bias `[K]` for features as they are, from those for standardised ones: w/σ and
    /// b − Σ μ·w/σ.
    pub(super) fn fold(&self, parameters: &[f64], classes: usize) -> (Vec<f32>, Vec<f32>) {
        let (weight, bias) = parameters.split_at(self.mean.len() * classes);
        let mut bias = bias.to_vec();
        let mut folded = Vec::with_capacity(weight.len());
        for ((row, mean), deviation) in weight.chunks(classes).zip(&self.mean).zip(&self.deviation)
        {
            for (w, b) in row.iter().zip(&mut bias) {
                folded.push((w / deviation) as f32);
                *b -= mean * w / deviation;
            }
        }
        (folded, bias.into_iter().map(|b| b as f32).collect())
    }
}

/// Standardised features on a device, with their labels.
#[derive(Debug)]
pub(super) struct Rows {
    /// Up to [`ROWS`] rows each, with their labels.
    chunks: Vec<(Tensor<2>, Vec<usize>)>,
    n: usize,
    width: usize,
    classes: usize,
    device: Device,
}

/// How good parameters are on some rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Judged {
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// Share whose most probable class is right, and whose five most probable ones include it.
    pub top1: f64,
    pub top5: f64,
}

impl Rows {
    /// The rows of `features` at `indices`, standardised by `scale`.
    pub(super) fn new(
        features: &[f32],
        labels: &[usize],
        indices: &[usize],
        scale: &Scale,
        classes: usize,
        device: &Device,
    ) -> Self {
        let width = scale.mean.len();
        let chunks = indices.chunks(ROWS).map(|indices| {
            let mut values = Vec::with_capacity(indices.len() * width);
            for &i in indices {
                scale.apply(&features[i * width..][..width], &mut values);
            }
            let data = TensorData::new(values, [indices.len(), width]);
            let labels = indices.iter().map(|&i| labels[i]).collect();
            (Tensor::from_data(data, device), labels)
        });
        Self {
            chunks: chunks.collect(),
            n: indices.len(),
            width,
            classes,
            device: device.clone(),
        }
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.n
    }

    /// Number of parameters: weights `[D, K]` row by row, then K biases.
    pub(super) fn parameters(&self) -> usize {
        (self.width + 1) * self.classes
    }

    /// Mean cross-entropy + `l2`/2·‖weights‖², and its gradient. Products are in f32, sums over rows and classes in
    /// f64.
    pub(super) fn loss(&self, parameters: &[f64], l2: f64, gradient: &mut [f64]) -> f64 {
        gradient.fill(0.0);
        let weights = self.width * self.classes;
        let mut loss = 0.0;
        for (x, labels) in &self.chunks {
            let mut logits = self.logits(x, parameters);
            // Each row's logits become what they are off by, and its loss is kept.
            let losses: Vec<f64> = logits
                .par_chunks_mut(self.classes)
                .zip(labels)
                .map(|(row, &label)| {
                    let probabilities = softmax(row);
                    let loss = -log_probability(row, label);
                    for (k, (off, p)) in row.iter_mut().zip(probabilities).enumerate() {
                        *off = (p - f64::from(u8::from(k == label))) as f32;
                    }
                    loss
                })
                .collect();
            loss += losses.iter().sum::<f64>();
            for row in logits.chunks(self.classes) {
                let bias = gradient[weights..].iter_mut();
                bias.zip(row).for_each(|(to, off)| *to += f64::from(*off));
            }
            let off = TensorData::new(logits, [labels.len(), self.classes]);
            let off = Tensor::<2>::from_data(off, &self.device);
            let product = host(x.clone().transpose().matmul(off));
            let of_weights = gradient[..weights].iter_mut();
            of_weights
                .zip(product)
                .for_each(|(to, x)| *to += f64::from(x));
        }
        let n = self.n as f64;
        gradient.iter_mut().for_each(|g| *g /= n);
        let mut squares = 0.0;
        for (g, w) in gradient.iter_mut().zip(&parameters[..weights]) {
            *g += l2 * w;
            squares += w * w;
        }
        loss / n + 0.5 * l2 * squares
    }

    /// The figures of parameters on these rows.
    pub(super) fn judge(&self, parameters: &[f64]) -> Judged {
        let mut sums = [0.0; 3];
        for (x, labels) in &self.chunks {
            let logits = self.logits(x, parameters);
            for (row, &label) in logits.chunks(self.classes).zip(labels) {
                let above =
                    |(k, z): (usize, &f32)| *z > row[label] || (*z == row[label] && k < label);
                let rank = row
                    .iter()
                    .enumerate()
                    .filter(|(k, z)| above((*k, z)))
                    .count();
                sums[0] -= log_probability(row, label);
                sums[1] += f64::from(u8::from(rank < 1));
                sums[2] += f64::from(u8::from(rank < 5));
            }
        }
        let [loss, top1, top5] = sums.map(|sum| sum / self.n as f64);
        Judged { loss, top1, top5 }
    }

    /// `[n, K]`, row by row.
    fn logits(&self, x: &Tensor<2>, parameters: &[f64]) -> Vec<f32> {
        let narrow: Vec<f32> = parameters.iter().map(|p| *p as f32).collect();
        let (weight, bias) = narrow.split_at(self.width * self.classes);
        let weight = TensorData::new(weight.to_vec(), [self.width, self.classes]);
        let mut logits = host(x.clone().matmul(Tensor::from_data(weight, &self.device)));
        for row in logits.chunks_mut(self.classes) {
            row.iter_mut().zip(bias).for_each(|(z, b)| *z += b);
        }
        logits
    }
}

fn host(tensor: Tensor<2>) -> Vec<f32> {
    let values = tensor.try_into_vec_as::<f32>();
    values.expect("floats read back as f32")
}

fn softmax(row: &[f32]) -> Vec<f64> {
    let largest = row.iter().fold(f32::NEG_INFINITY, |most, z| most.max(*z));
    let mut shares: Vec<f64> = row.iter().map(|z| f64::from(z - largest).exp()).collect();
    let sum: f64 = shares.iter().sum();
    shares.iter_mut().for_each(|share| *share /= sum);
    shares
}

fn log_probability(row: &[f32], label: usize) -> f64 {
    let largest = row.iter().fold(f32::NEG_INFINITY, |most, z| most.max(*z));
    let sum: f64 = row.iter().map(|z| f64::from(z - largest).exp()).sum();
    f64::from(row[label] - largest) - sum.ln()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Numbers that look random, from −1 to 1.
    pub(crate) fn noise(count: usize, seed: u64) -> Vec<f32> {
        let mut numbers = crate::random::numbers(seed);
        (0..count)
            .map(|_| (2.0 * numbers.next_unit() - 1.0) as f32)
            .collect()
    }

    const WIDTH: usize = 5;
    const CLASSES: usize = 3;

    fn rows() -> (Rows, Vec<f32>, Vec<usize>, Scale) {
        let mut features = noise(13 * WIDTH, 1);
        // A feature far from 0, and one that never changes.
        features.chunks_mut(WIDTH).for_each(|row| {
            row[1] = 40.0 + 8.0 * row[1];
            row[3] = 0.3;
        });
        let labels: Vec<usize> = (0..13).map(|i| (i * 5) % CLASSES).collect();
        let scale = Scale::of(features.chunks(WIDTH), WIDTH);
        let indices: Vec<usize> = (0..13).collect();
        let device = Device::flex();
        let rows = Rows::new(&features, &labels, &indices, &scale, CLASSES, &device);
        (rows, features, labels, scale)
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let (rows, ..) = rows();
        let parameters: Vec<f64> = noise(rows.parameters(), 2)
            .into_iter()
            .map(f64::from)
            .collect();
        let mut gradient = vec![0.0; parameters.len()];
        let mut unused = gradient.clone();
        for l2 in [0.0, 0.7] {
            rows.loss(&parameters, l2, &mut gradient);
            for i in 0..parameters.len() {
                let mut at = |step: f64| {
                    let mut moved = parameters.clone();
                    moved[i] += step;
                    rows.loss(&moved, l2, &mut unused)
                };
                let difference = (at(1e-3) - at(-1e-3)) / 2e-3;
                assert!(
                    (difference - gradient[i]).abs() < 1e-4,
                    "{i}: {difference} {}",
                    gradient[i]
                );
            }
        }
    }

    #[test]
    fn standardisation_folds_into_the_weights() {
        let (rows, features, labels, scale) = rows();
        let parameters: Vec<f64> = noise(rows.parameters(), 3)
            .into_iter()
            .map(f64::from)
            .collect();
        let (weight, bias) = scale.fold(&parameters, CLASSES);
        let standardised = rows.logits(&rows.chunks[0].0, &parameters);
        let mut right = 0;
        for ((row, logits), label) in features
            .chunks(WIDTH)
            .zip(standardised.chunks(CLASSES))
            .zip(&labels)
        {
            for (k, logit) in logits.iter().enumerate() {
                let product = |(j, x): (usize, &f32)| x * weight[j * CLASSES + k];
                let folded = bias[k] + row.iter().enumerate().map(product).sum::<f32>();
                assert!((folded - logit).abs() < 1e-4, "{folded} {logit}");
            }
            let best = (0..CLASSES).max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
            right += usize::from(best == Some(*label));
        }
        let judged = rows.judge(&parameters);
        assert!((judged.top1 - right as f64 / 13.0).abs() < 1e-12);
        assert_eq!(judged.top5, 1.0);
        let plain = rows.loss(&parameters, 0.0, &mut vec![0.0; parameters.len()]);
        assert!((judged.loss - plain).abs() < 1e-9);
    }
}
