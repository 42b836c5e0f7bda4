//! Batch norm over rows of channels, with what follows it: a sum and a ReLU.
//!
//! One pass finds the statistics and one normalises; backwards, one pass finds the gradients of γ
//! and β and one that of the input. Sums run in f32 over a block of rows, then in f64 over blocks.

use std::array;
use std::ops::Range;

use rayon::prelude::*;

use super::linear::output;
use super::map::relu;
use super::matrix::Operand;
use super::vector::vectorised;
use crate::ops::batch_norm::Tail;

/// Channels at a time: a cache line of bf16, two of f32. What belongs to a channel then stays in
/// registers from row to row.
const LANES: usize = 32;

/// Values of one block: what the second-nearest cache holds of three maps.
const BLOCK: usize = 1 << 15;

/// Few enough rows that a sum in f32 over them is exact to six digits.
const ROWS: usize = 1024;

fn block(channels: usize) -> usize {
    (BLOCK / channels).clamp(1, ROWS) * channels
}

/// Means and variances (biased) of the channels.
#[derive(Debug, Clone)]
pub struct Statistics {
    /// Means.
    pub mean: Vec<f32>,
    /// Variances.
    pub variance: Vec<f32>,
}

impl Statistics {
    /// Of rows of `channels` values.
    pub fn of<E: Operand>(z: &[E], channels: usize) -> Self {
        // Sums of squares around some value of the channel lose nothing to the distance between
        // its mean and zero.
        let mut shift = vec![0.0; channels];
        E::to_f32(&z[..channels], &mut shift);
        let [sum, squares] = sum_rows(z, z, [&shift], |[shift], z, _| {
            let centred = z - shift;
            [centred, centred * centred]
        });
        let rows = (z.len() / channels) as f64;
        let off = |i: usize| sum[i] / rows;
        Self {
            mean: (0..channels)
                .map(|i| (f64::from(shift[i]) + off(i)) as f32)
                .collect(),
            variance: (0..channels)
                .map(|i| (squares[i] / rows - off(i) * off(i)).max(0.0) as f32)
                .collect(),
        }
    }

    /// One over the standard deviation.
    fn inverse(&self, epsilon: f64) -> impl Iterator<Item = f64> {
        let inverse = move |&variance| 1.0 / (f64::from(variance) + epsilon).sqrt();
        self.variance.iter().map(inverse)
    }

    /// γ over the standard deviation.
    fn scale(&self, gamma: &[f32], epsilon: f64) -> Vec<f32> {
        let inverse = self.inverse(epsilon).zip(gamma);
        inverse
            .map(|(inverse, &gamma)| (f64::from(gamma) * inverse) as f32)
            .collect()
    }
}

/// The norm of one value. Both passes use this very formula, so that they agree on every sign.
#[inline(always)]
fn normal([mean, scale, beta]: [f32; 3], z: f32) -> f32 {
    (z - mean) * scale + beta
}

/// tail(γ·(z − mean)/√(variance + ε) + β).
pub fn forward<E: Operand>(
    z: &[E],
    statistics: &Statistics,
    [gamma, beta]: [&[f32]; 2],
    epsilon: f64,
    tail: Tail<&[E]>,
) -> Vec<E> {
    let scale = statistics.scale(gamma, epsilon);
    let of = [&statistics.mean, &scale[..], beta];
    match tail {
        Tail::Plain => map_rows(z, z, of, |of, z, _| normal(of, z)),
        Tail::Relu => map_rows(z, z, of, |of, z, _| relu(normal(of, z))),
        Tail::AddRelu(x) => map_rows(z, x, of, |of, z, x| relu(normal(of, z) + x)),
        Tail::ReluAdd(x) => map_rows(z, x, of, |of, z, x| relu(normal(of, z)) + x),
    }
}

/// What [`backward`] finds.
#[derive(Debug)]
pub struct Gradients<E> {
    /// Of the input.
    pub z: Vec<E>,
    /// Of γ.
    pub gamma: Vec<f32>,
    /// Of β.
    pub beta: Vec<f32>,
    /// Of the map that the tail adds, where it is not that of the result itself.
    pub added: Option<Vec<E>>,
}

/// The gradients of [`forward`] with the statistics of `z` itself. The tail's map is the result.
pub fn backward<E: Operand>(
    z: &[E],
    statistics: &Statistics,
    [gamma, beta]: [&[f32]; 2],
    epsilon: f64,
    tail: Tail<&[E]>,
    dy: &[E],
) -> Gradients<E> {
    let channels = gamma.len();
    let (mean, scale) = (&statistics.mean[..], statistics.scale(gamma, epsilon));
    // Through a ReLU after the sum, to both summands.
    let added = match tail {
        Tail::AddRelu(y) => Some(map_rows(
            y,
            dy,
            [mean],
            |_, y, g| if y > 0.0 { g } else { 0.0 },
        )),
        _ => None,
    };
    let g = added.as_deref().unwrap_or(dy);
    // Through a ReLU before it.
    let rectified = matches!(tail, Tail::Relu | Tail::ReluAdd(_));
    let pass = |of, z, g| if normal(of, z) > 0.0 { g } else { 0.0 };
    let of = [mean, &scale, beta];
    let [sum, product] = if rectified {
        sum_rows(z, g, of, |of, z, g| {
            let g = pass(of, z, g);
            [g, g * (z - of[0])]
        })
    } else {
        sum_rows(z, g, [mean], |[mean], z, g| [g, g * (z - mean)])
    };
    let rows = (z.len() / channels) as f64;
    let gradient = |sums: [f64; 2], inverse: f64| [sums[0], sums[1] * inverse];
    let sums = sum
        .into_iter()
        .zip(product)
        .zip(statistics.inverse(epsilon));
    // dz = scale·(g − mean of g − (z − mean)·slope)
    let (mut shift, mut slope) = (Vec::new(), Vec::new());
    let (mut dgamma, mut dbeta) = (Vec::new(), Vec::new());
    for ((sum, product), inverse) in sums {
        let [db, dg] = gradient([sum, product], inverse);
        dbeta.push(db as f32);
        dgamma.push(dg as f32);
        shift.push((db / rows) as f32);
        slope.push((dg * inverse / rows) as f32);
    }
    let of = [mean, &scale, beta, &shift, &slope];
    let dz = if rectified {
        map_rows(z, g, of, |[mean, scale, beta, shift, slope], z, g| {
            let g = pass([mean, scale, beta], z, g);
            scale * (g - shift - (z - mean) * slope)
        })
    } else {
        map_rows(z, g, of, |[mean, scale, _, shift, slope], z, g| {
            scale * (g - shift - (z - mean) * slope)
        })
    };
    Gradients {
        z: dz,
        gamma: dgamma,
        beta: dbeta,
        added,
    }
}

/// f(what belongs to the channel, a, b), value by value.
fn map_rows<E: Operand, const K: usize>(
    a: &[E],
    b: &[E],
    of: [&[f32]; K],
    f: impl Fn([f32; K], f32, f32) -> f32 + Sync,
) -> Vec<E> {
    let channels = of[0].len();
    let block = block(channels);
    let mut target = output::<E>(a.len());
    target
        .par_chunks_mut(block)
        .enumerate()
        .for_each(|(i, target)| {
            let here = i * block..i * block + target.len();
            let (a, b) = (&a[here.clone()], &b[here]);
            vectorised(
                #[inline(always)]
                || {
                    for group in groups(channels) {
                        let of = of.map(|of| load(&of[group.clone()]));
                        for ((target, a), b) in target
                            .chunks_exact_mut(channels)
                            .zip(a.chunks_exact(channels))
                            .zip(b.chunks_exact(channels))
                        {
                            let (a, b) = (load(&a[group.clone()]), load(&b[group.clone()]));
                            let mut values = [E::zeroed(); LANES];
                            for i in 0..LANES {
                                values[i] = E::narrow(f(array::from_fn(|k| of[k][i]), a[i], b[i]));
                            }
                            let target = &mut target[group.clone()];
                            match target.first_chunk_mut::<LANES>() {
                                Some(target) => *target = values,
                                None => target.copy_from_slice(&values[..group.len()]),
                            }
                        }
                    }
                },
            );
        });
    target
}

/// The sums over all rows of the two numbers f(what belongs to the channel, a, b).
fn sum_rows<E: Operand, const K: usize>(
    a: &[E],
    b: &[E],
    of: [&[f32]; K],
    f: impl Fn([f32; K], f32, f32) -> [f32; 2] + Sync,
) -> [Vec<f64>; 2] {
    let channels = of[0].len();
    let block = block(channels);
    let partial: Vec<[Vec<f32>; 2]> = a
        .par_chunks(block)
        .zip(b.par_chunks(block))
        .map(|(a, b)| {
            let mut sums = [vec![0.0; channels], vec![0.0; channels]];
            vectorised(
                #[inline(always)]
                || {
                    for group in groups(channels) {
                        let of = of.map(|of| load(&of[group.clone()]));
                        let (mut first, mut second) = ([0.0; LANES], [0.0; LANES]);
                        for (a, b) in a.chunks_exact(channels).zip(b.chunks_exact(channels)) {
                            let (a, b) = (load(&a[group.clone()]), load(&b[group.clone()]));
                            for i in 0..LANES {
                                let [x, y] = f(array::from_fn(|k| of[k][i]), a[i], b[i]);
                                first[i] += x;
                                second[i] += y;
                            }
                        }
                        sums[0][group.clone()].copy_from_slice(&first[..group.len()]);
                        sums[1][group.clone()].copy_from_slice(&second[..group.len()]);
                    }
                },
            );
            sums
        })
        .collect();
    [0, 1].map(|which| {
        let mut sums = vec![0.0; channels];
        for partial in &partial {
            for (sum, &x) in sums.iter_mut().zip(&partial[which]) {
                *sum += f64::from(x);
            }
        }
        sums
    })
}

/// The channels, [`LANES`] at a time and then the rest.
fn groups(channels: usize) -> impl Iterator<Item = Range<usize>> {
    (0..channels)
        .step_by(LANES)
        .map(move |first| first..(first + LANES).min(channels))
}

/// [`LANES`] values, or as many as there are and zeros.
#[inline(always)]
fn load<E: Operand>(x: &[E]) -> [f32; LANES] {
    let mut values = [0.0; LANES];
    match x.first_chunk::<LANES>() {
        Some(x) => {
            for i in 0..LANES {
                values[i] = x[i].widen();
            }
        }
        None => {
            for (value, x) in values.iter_mut().zip(x) {
                *value = x.widen();
            }
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    fn numbers(len: usize, seed: u32) -> Vec<f32> {
        let mut bits = seed;
        let next = || {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (bits >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        std::iter::repeat_with(next).take(len).collect()
    }

    fn tails<T: Copy>(x: T) -> [Tail<T>; 4] {
        [Tail::Plain, Tail::Relu, Tail::AddRelu(x), Tail::ReluAdd(x)]
    }

    #[test]
    fn statistics_survive_a_mean_far_from_zero() {
        // 30,000 rows of 3: several blocks, the last one short.
        let noise = numbers(90_000, 1);
        let z: Vec<f32> = noise.iter().map(|x| x * 0.01 + 1000.0).collect();
        let of = Statistics::of(&z, 3);
        for c in 0..3 {
            let column = || z.iter().skip(c).step_by(3).map(|&z| f64::from(z));
            let mean = column().sum::<f64>() / 30_000.0;
            let variance = column().map(|z| (z - mean).powi(2)).sum::<f64>() / 30_000.0;
            assert!((f64::from(of.mean[c]) / mean - 1.0).abs() < 1e-7);
            assert!((f64::from(of.variance[c]) / variance - 1.0).abs() < 1e-5);
        }
    }

    /// The result in f64.
    fn reference(z: &[f64], gamma: &[f64], beta: &[f64], x: &[f64], tail: Tail<()>) -> Vec<f64> {
        let channels = gamma.len();
        let rows = (z.len() / channels) as f64;
        let mut y = vec![0.0; z.len()];
        for c in 0..channels {
            let column = || z.iter().skip(c).step_by(channels);
            let mean = column().sum::<f64>() / rows;
            let variance = column().map(|z| (z - mean).powi(2)).sum::<f64>() / rows;
            for i in (c..z.len()).step_by(channels) {
                let normal = (z[i] - mean) / (variance + 1e-5).sqrt();
                let u = normal * gamma[c] + beta[c];
                y[i] = match tail {
                    Tail::Plain => u,
                    Tail::Relu => u.max(0.0),
                    Tail::AddRelu(()) => (u + x[i]).max(0.0),
                    Tail::ReluAdd(()) => u.max(0.0) + x[i],
                };
            }
        }
        y
    }

    #[test]
    fn gradients_equal_differences() {
        let (rows, channels) = (13, 5);
        let (z, x) = (numbers(rows * channels, 1), numbers(rows * channels, 2));
        let dy = numbers(rows * channels, 3);
        let (gamma, beta) = (numbers(channels, 4), numbers(channels, 5));
        let of = Statistics::of(&z, channels);
        let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        for (tail, tail64) in tails(&x[..]).into_iter().zip(tails(())) {
            let y = forward(&z, &of, [&gamma, &beta], 1e-5, tail);
            let inputs = [&z, &gamma, &beta, &x].map(|x| wide(x));
            let loss = |[z, gamma, beta, x]: &[Vec<f64>; 4]| {
                let y = reference(z, gamma, beta, x, tail64);
                y.iter()
                    .zip(&dy)
                    .map(|(y, &dy)| y * f64::from(dy))
                    .sum::<f64>()
            };
            let [z64, gamma64, beta64, x64] = &inputs;
            let expected = reference(z64, gamma64, beta64, x64, tail64);
            for (y, expected) in y.iter().zip(&expected) {
                assert!((f64::from(*y) - expected).abs() < 1e-6);
            }
            let result = match tail {
                Tail::AddRelu(_) => Tail::AddRelu(&y[..]),
                other => other,
            };
            let got = backward(&z, &of, [&gamma, &beta], 1e-5, result, &dy);
            let added = match tail {
                Tail::ReluAdd(_) => dy.clone(),
                _ => got.added.unwrap_or(vec![0.0; dy.len()]),
            };
            for (which, got) in [got.z, got.gamma, got.beta, added].iter().enumerate() {
                for (i, &got) in got.iter().enumerate() {
                    let at = |step: f64| {
                        let mut moved = inputs.clone();
                        moved[which][i] += step;
                        loss(&moved)
                    };
                    let measured = (at(1e-6) - at(-1e-6)) / 2e-6;
                    let off = (f64::from(got) - measured).abs();
                    assert!(off < 1e-5, "{tail:?} {which} {i}: {got} {measured}");
                }
            }
        }
    }

    #[test]
    fn threads_and_precision() {
        let (rows, channels) = (9_000, 7);
        let [z, x, dy] = [1, 2, 3].map(|seed| -> Vec<bf16> {
            numbers(rows * channels, seed)
                .into_iter()
                .map(bf16::from_f32)
                .collect()
        });
        let wide = |x: &[bf16]| x.iter().map(|x| x.to_f32()).collect::<Vec<f32>>();
        let (gamma, beta) = (numbers(channels, 4), numbers(channels, 5));
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("a thread pool").install(|| {
                let of = Statistics::of(&z, channels);
                let y = forward(&z, &of, [&gamma, &beta], 1e-5, Tail::AddRelu(&x[..]));
                let got = backward(&z, &of, [&gamma, &beta], 1e-5, Tail::AddRelu(&y[..]), &dy);
                (of.mean, of.variance, y, got.z, got.gamma, got.beta)
            })
        };
        let one = run(1);
        assert!(one == run(2) && one == run(3));
        let (z, x, dy, y) = (wide(&z), wide(&x), wide(&dy), wide(&one.2));
        let of = Statistics::of(&z, channels);
        let exact = forward(&z, &of, [&gamma, &beta], 1e-5, Tail::AddRelu(&x[..]));
        for (y, exact) in y.iter().zip(&exact) {
            assert!((y - exact).abs() <= exact.abs() / 256.0);
        }
        let got = backward(&z, &of, [&gamma, &beta], 1e-5, Tail::AddRelu(&y[..]), &dy);
        assert_eq!(got.gamma, one.4);
        for (narrow, exact) in one.3.iter().zip(&got.z) {
            assert!((narrow.to_f32() - exact).abs() <= exact.abs() / 256.0);
        }
    }
}
