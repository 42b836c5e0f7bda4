//! Batch norm over rows of channels, with what follows it: a sum and a ReLU or GELU.
//!
//! One pass finds the statistics and one normalises; backwards, one pass finds the gradients of γ
//! and β and one that of the input. Sums run in f32 over a block of rows, then in f64 over blocks.

use std::ops::Range;

use rayon::prelude::*;

use crate::dispatch::vectorised;
use crate::operand::Operand;
use crate::scalar::{gelu_of, gelu_slope, relu};
use crate::scratch::output;
use crate::tail::Tail;

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
    #[inline(never)]
    pub fn of<E: Operand>(z: &[E], channels: usize) -> Self {
        if z.is_empty() {
            return Self {
                mean: vec![0.0; channels],
                variance: vec![0.0; channels],
            };
        }
        // Sums of squares around some value of the channel lose nothing to the distance between
        // its mean and zero.
        let mut shift = vec![0.0; channels];
        E::to_f32(&z[..channels], &mut shift);
        let [sum, squares] = sum_rows(
            [z],
            [&shift],
            #[inline(always)]
            |[shift], [z]| {
                let centred = z - shift;
                [centred, centred * centred]
            },
        );
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
#[inline(never)]
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
        Tail::Plain => map_rows([z], of, |of, [z]| normal(of, z)),
        Tail::Relu => map_rows([z], of, |of, [z]| relu(normal(of, z))),
        Tail::Gelu => map_rows(
            [z],
            of,
            #[inline(always)]
            |of, [z]| gelu_of(normal(of, z)),
        ),
        Tail::AddRelu(x) => map_rows([z, x], of, |of, [z, x]| relu(normal(of, z) + x)),
        Tail::AddGelu(x) => map_rows(
            [z, x],
            of,
            #[inline(always)]
            |of, [z, x]| gelu_of(normal(of, z) + x),
        ),
        Tail::ReluAdd(x) => map_rows([z, x], of, |of, [z, x]| relu(normal(of, z)) + x),
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

/// The gradients of [`forward`] with the statistics of `z` itself.
///
/// The map of `AddRelu` is the result; that of the other tails is what was added.
#[inline(never)]
pub fn backward<E: Operand>(
    z: &[E],
    statistics: &Statistics,
    [gamma, beta]: [&[f32]; 2],
    epsilon: f64,
    tail: Tail<&[E]>,
    dy: &[E],
) -> Gradients<E> {
    let scale = statistics.scale(gamma, epsilon);
    let of = [&statistics.mean, &scale[..], beta];
    // Through an activation after the sum, to both summands.
    let added = match tail {
        Tail::AddRelu(y) => Some(map_rows(
            [y, dy],
            of,
            |_, [y, g]| {
                if y > 0.0 { g } else { 0.0 }
            },
        )),
        Tail::AddGelu(x) => Some(map_rows(
            [z, x, dy],
            of,
            #[inline(always)]
            |of, [z, x, g]| g * gelu_slope(normal(of, z) + x),
        )),
        _ => None,
    };
    let g = added.as_deref().unwrap_or(dy);
    // Through one before it, or without a sum.
    let gradients = match tail {
        Tail::Relu | Tail::ReluAdd(_) => through(
            z,
            statistics,
            of,
            epsilon,
            g,
            #[inline(always)]
            |u, g| if u > 0.0 { g } else { 0.0 },
        ),
        Tail::Gelu => through(
            z,
            statistics,
            of,
            epsilon,
            g,
            #[inline(always)]
            |u, g| g * gelu_slope(u),
        ),
        Tail::Plain | Tail::AddRelu(_) | Tail::AddGelu(_) => through(
            z,
            statistics,
            of,
            epsilon,
            g,
            #[inline(always)]
            |_, g| g,
        ),
    };
    Gradients { added, ..gradients }
}

/// [`backward`] of the norm u itself, whose gradient is `pass(u, g)`; `of` are mean, scale and β.
fn through<E: Operand>(
    z: &[E],
    statistics: &Statistics,
    of: [&[f32]; 3],
    epsilon: f64,
    g: &[E],
    pass: impl Fn(f32, f32) -> f32 + Sync,
) -> Gradients<E> {
    let [mean, scale, beta] = of;
    let channels = mean.len();
    let [sum, product] = sum_rows(
        [z, g],
        of,
        #[inline(always)]
        |of, [z, g]| {
            let g = pass(normal(of, z), g);
            [g, g * (z - of[0])]
        },
    );
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
    let of = [mean, scale, beta, &shift, &slope];
    let dz = map_rows(
        [z, g],
        of,
        #[inline(always)]
        |[mean, scale, beta, shift, slope], [z, g]| {
            let g = pass(normal([mean, scale, beta], z), g);
            scale * (g - shift - (z - mean) * slope)
        },
    );
    Gradients {
        z: dz,
        gamma: dgamma,
        beta: dbeta,
        added: None,
    }
}

/// What is at one place of each of several slices.
///
/// A loop, for the closures that `array::map` and `array::from_fn` call are not inlined everywhere,
/// and then know of no instruction set.
#[inline(always)]
fn at<E: Operand, const N: usize>(x: &[&[E]; N], i: usize) -> [f32; N] {
    let mut values = [0.0; N];
    for n in 0..N {
        values[n] = x[n][i].widen();
    }
    values
}

/// The same part of each of several slices.
#[inline(always)]
fn part<'a, E, const N: usize>(x: &[&'a [E]; N], first: usize, len: usize) -> [&'a [E]; N] {
    let mut parts = *x;
    for n in 0..N {
        parts[n] = &x[n][first..][..len];
    }
    parts
}

/// What belongs to the channels of a group, in registers: zeros past its end.
#[inline(always)]
fn loaded<const N: usize>(x: &[&[f32]; N], group: Range<usize>) -> [[f32; LANES]; N] {
    let mut values = [[0.0; LANES]; N];
    for n in 0..N {
        values[n][..group.len()].copy_from_slice(&x[n][group.clone()]);
    }
    values
}

/// One lane of each.
#[inline(always)]
fn lane<const N: usize>(x: &[[f32; LANES]; N], i: usize) -> [f32; N] {
    let mut values = [0.0; N];
    for n in 0..N {
        values[n] = x[n][i];
    }
    values
}

/// f(what belongs to the channel, the maps' values), value by value.
fn map_rows<E: Operand, const K: usize, const M: usize>(
    maps: [&[E]; M],
    of: [&[f32]; K],
    f: impl Fn([f32; K], [f32; M]) -> f32 + Sync,
) -> Vec<E> {
    let channels = of[0].len();
    let block = block(channels);
    let mut target = output::<E>(maps[0].len());
    target
        .par_chunks_mut(block)
        .enumerate()
        .for_each(|(i, target)| {
            let here = i * block..i * block + target.len();
            let maps = maps.map(|map| &map[here.clone()]);
            vectorised(
                #[inline(always)]
                || {
                    for group in groups(channels) {
                        let (first, len) = (group.start, group.len());
                        let of = loaded(&of, group);
                        for (row, target) in target.chunks_exact_mut(channels).enumerate() {
                            let first_value = row * channels + first;
                            // The number of lanes has to be known for them to be registers.
                            if let Some(target) = target[first..].first_chunk_mut::<LANES>()
                                && len == LANES
                            {
                                let maps = part(&maps, first_value, LANES);
                                for (i, target) in target.iter_mut().enumerate() {
                                    *target = E::narrow(f(lane(&of, i), at(&maps, i)));
                                }
                                continue;
                            }
                            let maps = part(&maps, first_value, len);
                            for (i, target) in target[first..][..len].iter_mut().enumerate() {
                                *target = E::narrow(f(lane(&of, i), at(&maps, i)));
                            }
                        }
                    }
                },
            );
        });
    target
}

/// The sums over all rows of the two numbers f(what belongs to the channel, the maps' values).
fn sum_rows<E: Operand, const K: usize, const M: usize>(
    maps: [&[E]; M],
    of: [&[f32]; K],
    f: impl Fn([f32; K], [f32; M]) -> [f32; 2] + Sync,
) -> [Vec<f64>; 2] {
    let channels = of[0].len();
    let block = block(channels);
    let partial: Vec<[Vec<f32>; 2]> = (0..maps[0].len().div_ceil(block))
        .into_par_iter()
        .map(|i| {
            let here = i * block..((i + 1) * block).min(maps[0].len());
            let maps = maps.map(|map| &map[here.clone()]);
            let mut sums = [vec![0.0; channels], vec![0.0; channels]];
            vectorised(
                #[inline(always)]
                || {
                    for group in groups(channels) {
                        let (first, len) = (group.start, group.len());
                        let of = loaded(&of, group.clone());
                        let mut totals = [[0.0; LANES]; 2];
                        let mut add = |i: usize, values: [f32; M]| {
                            let [x, y] = f(lane(&of, i), values);
                            totals[0][i] += x;
                            totals[1][i] += y;
                        };
                        for row in 0..here.len() / channels {
                            let first_value = row * channels + first;
                            if len == LANES {
                                let maps = part(&maps, first_value, LANES);
                                for i in 0..LANES {
                                    add(i, at(&maps, i));
                                }
                                continue;
                            }
                            let maps = part(&maps, first_value, len);
                            for i in 0..len {
                                add(i, at(&maps, i));
                            }
                        }
                        for (sums, totals) in sums.iter_mut().zip(&totals) {
                            sums[group.clone()].copy_from_slice(&totals[..len]);
                        }
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

/// GELU(z + bias), for a layer without a norm.
#[inline(never)]
pub fn shifted_gelu<E: Operand>(z: &[E], bias: &[f32]) -> Vec<E> {
    map_rows(
        [z],
        [bias],
        #[inline(always)]
        |[bias], [z]| gelu_of(z + bias),
    )
}

/// The gradients of [`shifted_gelu`]'s map, if `with_dz`, and of its bias.
#[inline(never)]
pub fn shifted_gelu_gradient<E: Operand>(
    z: &[E],
    bias: &[f32],
    dy: &[E],
    with_dz: bool,
) -> (Option<Vec<E>>, Vec<f32>) {
    let [sum, _] = sum_rows(
        [z, dy],
        [bias],
        #[inline(always)]
        |[bias], [z, g]| [g * gelu_slope(z + bias), 0.0],
    );
    let dz = with_dz.then(|| {
        map_rows(
            [z, dy],
            [bias],
            #[inline(always)]
            |[bias], [z, g]| g * gelu_slope(z + bias),
        )
    });
    (dz, sum.into_iter().map(|sum| sum as f32).collect())
}

/// The channels, [`LANES`] at a time and then the rest.
fn groups(channels: usize) -> impl Iterator<Item = Range<usize>> {
    (0..channels)
        .step_by(LANES)
        .map(move |first| first..(first + LANES).min(channels))
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

    fn tails<T: Copy>(x: T) -> [Tail<T>; 6] {
        [
            Tail::Plain,
            Tail::Relu,
            Tail::Gelu,
            Tail::AddRelu(x),
            Tail::AddGelu(x),
            Tail::ReluAdd(x),
        ]
    }

    /// x·Φ(x), with erf by its power series (Abramowitz & Stegun 7.1.5).
    fn gelu64(x: f64) -> f64 {
        let z = x * std::f64::consts::FRAC_1_SQRT_2;
        let (mut term, mut sum) = (z, z);
        for n in 1..80 {
            term *= -z * z / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        0.5 * x * (1.0 + std::f64::consts::FRAC_2_SQRT_PI * sum)
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
                    Tail::Gelu => gelu64(u),
                    Tail::AddGelu(()) => gelu64(u + x[i]),
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
    fn a_bias_before_a_gelu() {
        let (rows, channels) = (11, 5);
        let (z, bias) = (numbers(rows * channels, 1), numbers(channels, 2));
        let dy = numbers(rows * channels, 3);
        let loss = |z: &[f32], bias: &[f64]| -> f64 {
            let terms = z.iter().zip(&dy).enumerate();
            terms
                .map(|(i, (&z, &dy))| gelu64(f64::from(z) + bias[i % channels]) * f64::from(dy))
                .sum()
        };
        let wide: Vec<f64> = bias.iter().map(|&b| f64::from(b)).collect();
        let y = shifted_gelu(&z, &bias);
        let found: f64 = y.iter().zip(&dy).map(|(y, dy)| f64::from(y * dy)).sum();
        assert!((found - loss(&z, &wide)).abs() < 1e-5);
        let (dz, db) = shifted_gelu_gradient(&z, &bias, &dy, true);
        let dz = dz.expect("with_dz");
        for c in 0..channels {
            let at = |step: f64| {
                let mut moved = wide.clone();
                moved[c] += step;
                loss(&z, &moved)
            };
            let measured = (at(1e-6) - at(-1e-6)) / 2e-6;
            assert!((f64::from(db[c]) - measured).abs() < 1e-5, "{c}");
            // A bias moves its channel's values all at once.
            let column: f32 = dz.iter().skip(c).step_by(channels).sum();
            assert!((column - db[c]).abs() < 1e-5, "{c}");
        }
        assert!(shifted_gelu_gradient(&z, &bias, &dy, false).0.is_none());
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
