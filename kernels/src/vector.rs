//! Loops over slices, vectorised for whatever the processor has.
//!
//! Each is plain Rust inside [`vectorised`], which compiles it once for every instruction set. Sums
//! run in sixteen lanes, then across them: always in the same order.

use crate::activation::Activation;
use crate::dispatch::vectorised;
use crate::kernel::PANEL;
use crate::operand::Operand;
use crate::scalar::{exp, gelu_and_slope, gelu_tanh_and_slope};

/// Lanes of a sum.
const LANES: usize = 16;

/// x = factor·x.
pub(crate) fn scale(x: &mut [f32], factor: f32) {
    vectorised(
        #[inline(always)]
        || {
            for x in x.iter_mut() {
                *x *= factor;
            }
        },
    );
}

/// target = scale·source.
pub(crate) fn scaled<E: Operand>(source: &[f32], scale: f32, target: &mut [E]) {
    vectorised(
        #[inline(always)]
        || {
            for (target, &x) in target.iter_mut().zip(source) {
                *target = E::narrow(scale * x);
            }
        },
    );
}

/// sum += scale·x.
pub(crate) fn add_scaled<E: Operand>(sum: &mut [f32], x: &[E], scale: f32) {
    vectorised(
        #[inline(always)]
        || {
            for (sum, x) in sum.iter_mut().zip(x) {
                *sum += scale * x.widen();
            }
        },
    );
}

/// sum += a·b, value by value.
pub(crate) fn add_product(sum: &mut [f32], a: &[f32], b: &[f32]) {
    vectorised(
        #[inline(always)]
        || {
            for ((sum, &a), &b) in sum.iter_mut().zip(a).zip(b) {
                *sum += a * b;
            }
        },
    );
}

/// x = scale·x + shift, value by value.
pub(crate) fn scale_shift(x: &mut [f32], scale: &[f32], shift: &[f32]) {
    vectorised(
        #[inline(always)]
        || {
            for ((x, &scale), &shift) in x.iter_mut().zip(scale).zip(shift) {
                *x = scale * *x + shift;
            }
        },
    );
}

/// Σ a·b.
pub(crate) fn dot<E: Operand, F: Operand>(a: &[E], b: &[F]) -> f32 {
    vectorised(
        #[inline(always)]
        || {
            let mut lanes = [0.0_f32; LANES];
            let (whole_a, rest_a) = a.as_chunks::<LANES>();
            let (whole_b, rest_b) = b.as_chunks::<LANES>();
            for (a, b) in whole_a.iter().zip(whole_b) {
                for i in 0..LANES {
                    lanes[i] += a[i].widen() * b[i].widen();
                }
            }
            for (i, (a, b)) in rest_a.iter().zip(rest_b).enumerate() {
                lanes[i] += a.widen() * b.widen();
            }
            across(lanes)
        },
    )
}

/// Adds up the lanes, pairwise.
#[inline(always)]
fn across(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Σ f(x) over a row.
#[inline(always)]
fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for x in whole {
        for i in 0..LANES {
            lanes[i] += f(x[i]);
        }
    }
    for (i, &x) in rest.iter().enumerate() {
        lanes[i] += f(x);
    }
    across(lanes)
}

/// Mean, and 1/√(variance + ε).
#[inline(always)]
fn moments(x: &[f32], epsilon: f32) -> (f32, f32) {
    let scale = 1.0 / x.len() as f32;
    let mean = sum(x, |x| x) * scale;
    let variance = sum(x, |x| (x - mean) * (x - mean)) * scale;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

/// x̂ = (x − mean) / √(variance + ε): a layer norm without its scale and shift.
pub(crate) fn standardise<E: Operand>(x: &[f32], epsilon: f32, target: &mut [E]) {
    vectorised(
        #[inline(always)]
        || {
            let (mean, scale) = moments(x, epsilon);
            for (target, &x) in target.iter_mut().zip(x) {
                *target = E::narrow((x - mean) * scale);
            }
        },
    );
}

/// target = base + the gradient of x̂ = standardise(x), given the gradient `g` of x̂.
///
/// dx = (g − mean(g) − x̂·mean(g·x̂)) / √(variance + ε) (Ba et al. 2016, by the chain rule).
pub(crate) fn standardise_gradient(
    x: &[f32],
    epsilon: f32,
    g: &[f32],
    base: &[f32],
    target: &mut [f32],
) {
    vectorised(
        #[inline(always)]
        || {
            let (mean, scale) = moments(x, epsilon);
            let share = 1.0 / x.len() as f32;
            let mean_g = sum(g, |g| g) * share;
            let mut lanes = [0.0_f32; LANES];
            let (whole_x, rest_x) = x.as_chunks::<LANES>();
            let (whole_g, rest_g) = g.as_chunks::<LANES>();
            for (x, g) in whole_x.iter().zip(whole_g) {
                for i in 0..LANES {
                    lanes[i] += g[i] * ((x[i] - mean) * scale);
                }
            }
            for (i, (x, g)) in rest_x.iter().zip(rest_g).enumerate() {
                lanes[i] += g * ((x - mean) * scale);
            }
            let mean_gx = across(lanes) * share;
            for (((target, &base), &x), &g) in target.iter_mut().zip(base).zip(x).zip(g) {
                *target = base + (g - mean_g - (x - mean) * scale * mean_gx) * scale;
            }
        },
    );
}

/// Turns a row of scores into e^(scale·(score − max)) and returns the maximum and the sum, so that
/// the softmax is the row divided by the sum. The largest becomes 1 exactly, however large it was.
pub(crate) fn softmax_unscaled(row: &mut [f32], scale: f32) -> (f32, f32) {
    vectorised(
        #[inline(always)]
        || {
            // The largest before scaling, for the scale is positive.
            let mut lanes = [f32::NEG_INFINITY; LANES];
            let (whole, rest) = row.as_chunks_mut::<LANES>();
            for x in whole.iter() {
                for i in 0..LANES {
                    lanes[i] = if x[i] > lanes[i] { x[i] } else { lanes[i] };
                }
            }
            for (lane, &x) in lanes.iter_mut().zip(rest.iter()) {
                *lane = if x > *lane { x } else { *lane };
            }
            let mut width = LANES / 2;
            while width > 0 {
                for i in 0..width {
                    let (a, b) = (lanes[i], lanes[i + width]);
                    lanes[i] = if b > a { b } else { a };
                }
                width /= 2;
            }
            let max = lanes[0];
            // Nothing but NaN has no maximum; 0 lets it through.
            let max = if max == f32::NEG_INFINITY { 0.0 } else { max };
            let mut sums = [0.0_f32; LANES];
            for x in whole.iter_mut() {
                for i in 0..LANES {
                    x[i] = exp((x[i] - max) * scale);
                    sums[i] += x[i];
                }
            }
            for (i, x) in rest.iter_mut().enumerate() {
                *x = exp((*x - max) * scale);
                sums[i] += *x;
            }
            (max, across(sums))
        },
    )
}

/// Turns a row of scores into its softmax, given what [`softmax_unscaled`] returned for it.
pub(crate) fn softmax_again(row: &mut [f32], scale: f32, [max, sum]: [f32; 2]) {
    let factor = 1.0 / sum;
    vectorised(
        #[inline(always)]
        || {
            for x in row.iter_mut() {
                *x = exp((*x - max) * scale) * factor;
            }
        },
    );
}

/// The gradient of the scores: target = p·(dp − mean)·scale.
pub(crate) fn softmax_gradient<E: Operand>(
    p: &[f32],
    dp: &[f32],
    mean: f32,
    scale: f32,
    target: &mut [E],
) {
    vectorised(
        #[inline(always)]
        || {
            for ((target, &p), &dp) in target.iter_mut().zip(p).zip(dp) {
                *target = E::narrow(p * (dp - mean) * scale);
            }
        },
    );
}

/// The activation of each value.
pub(crate) fn activate<E: Operand, F: Operand>(activation: Activation, x: &[E], target: &mut [F]) {
    match activation {
        Activation::Gelu => map(x, target, F::gelu),
        Activation::GeluTanh => map(x, target, F::gelu_tanh),
    }
}

/// target = f(x), value by value.
#[inline(always)]
fn map<E: Operand, F: Operand>(x: &[E], target: &mut [F], f: impl Fn(f32) -> f32) {
    vectorised(
        #[inline(always)]
        || {
            for (target, x) in target.iter_mut().zip(x) {
                *target = F::narrow(f(x.widen()));
            }
        },
    );
}

/// The gradient of [`activate`], g times the slope, into `target`, and its value into `value`, the
/// value to the last places in both types: its exponential is at hand here.
pub(crate) fn activation_gradient<E: Operand>(
    activation: Activation,
    x: &[E],
    g: &[f32],
    target: &mut [E],
    value: &mut [E],
) {
    match activation {
        Activation::Gelu => gradient(x, g, target, value, gelu_and_slope),
        Activation::GeluTanh => gradient(x, g, target, value, gelu_tanh_and_slope),
    }
}

/// g times the slope into `target`, and the value into `value`, from a function that gives value and
/// slope.
#[inline(always)]
fn gradient<E: Operand>(
    x: &[E],
    g: &[f32],
    target: &mut [E],
    value: &mut [E],
    f: impl Fn(f32) -> [f32; 2],
) {
    vectorised(
        #[inline(always)]
        || {
            let outputs = target.iter_mut().zip(value.iter_mut());
            for (((target, value), x), &g) in outputs.zip(x).zip(g) {
                let [of_x, slope] = f(x.widen());
                *target = E::narrow(g * slope);
                *value = E::narrow(of_x);
            }
        },
    );
}

/// Rows of a panel's product, plus the bias, into columns of a matrix.
pub(crate) fn store<E: Operand>(
    product: &[f32],
    rows: usize,
    bias: &[f32],
    target: &mut [E],
    stride: usize,
) {
    vectorised(
        #[inline(always)]
        || {
            for (r, product) in product.chunks_exact(PANEL).take(rows).enumerate() {
                let target = &mut target[r * stride..][..bias.len()];
                each(target, product, bias, |x, bias| E::narrow(x + bias));
            }
        },
    );
}

/// The activation of the rows of a panel's product, plus the bias, into columns of a matrix.
pub(crate) fn store_activated<E: Operand>(
    activation: Activation,
    product: &[f32],
    rows: usize,
    bias: &[f32],
    target: &mut [E],
    stride: usize,
) {
    match activation {
        Activation::Gelu => store_mapped(product, rows, bias, target, stride, E::gelu),
        Activation::GeluTanh => store_mapped(product, rows, bias, target, stride, E::gelu_tanh),
    }
}

/// f of the rows of a panel's product, plus the bias, into columns of a matrix.
#[inline(always)]
fn store_mapped<E: Operand>(
    product: &[f32],
    rows: usize,
    bias: &[f32],
    target: &mut [E],
    stride: usize,
    f: impl Fn(f32) -> f32,
) {
    vectorised(
        #[inline(always)]
        || {
            for (r, product) in product.chunks_exact(PANEL).take(rows).enumerate() {
                let target = &mut target[r * stride..][..bias.len()];
                each(
                    target,
                    product,
                    bias,
                    #[inline(always)]
                    |x, bias| {
                        // As if it had been stored in between, which training does.
                        E::narrow(f(E::narrow(x + bias).widen()))
                    },
                );
            }
        },
    );
}

/// target = f(a, b), value by value; a whole panel's width is known to the compiler.
#[inline(always)]
fn each<E: Operand>(target: &mut [E], a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> E) {
    if let (Ok(target), Ok(a), Ok(b)) = (
        <&mut [E; PANEL]>::try_from(&mut *target),
        <&[f32; PANEL]>::try_from(a),
        <&[f32; PANEL]>::try_from(b),
    ) {
        for i in 0..PANEL {
            target[i] = f(a[i], b[i]);
        }
        return;
    }
    for ((target, &a), &b) in target.iter_mut().zip(a).zip(b) {
        *target = f(a, b);
    }
}

/// x + keep·(product + bias) into columns of a matrix; x and it have the same stride, and
/// `keep(row)` says how much of each row is kept.
pub(crate) fn store_residual(
    product: &[f32],
    rows: usize,
    bias: &[f32],
    x: &[f32],
    target: &mut [f32],
    stride: usize,
    keep: impl Fn(usize) -> f32,
) {
    vectorised(
        #[inline(always)]
        || {
            for (r, product) in product.chunks_exact(PANEL).take(rows).enumerate() {
                let keep = keep(r);
                let target = &mut target[r * stride..][..bias.len()];
                let x = &x[r * stride..][..bias.len()];
                each(target, product, bias, |product, bias| {
                    keep * (product + bias)
                });
                for (target, &x) in target.iter_mut().zip(x) {
                    *target += x;
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scalar::tests::points;

    #[test]
    fn activations_and_their_gradients_pass_a_nan_and_stay_finite() {
        for activation in [Activation::Gelu, Activation::GeluTanh] {
            let x = points();
            let ones = vec![1.0; x.len()];
            let mut value = vec![0.0; x.len()];
            let (mut slope, mut again) = (value.clone(), value.clone());
            activate(activation, &x, &mut value);
            activation_gradient(activation, &x, &ones, &mut slope, &mut again);
            assert_eq!(value, again);
            for ((&x, &value), &slope) in x.iter().zip(&value).zip(&slope) {
                assert!(
                    (x.min(0.0) - 1e-3..=x.max(0.0)).contains(&value) || value == x,
                    "{activation:?} of {x}: {value}"
                );
                assert!(
                    (-0.13..=1.13).contains(&slope),
                    "{activation:?} at {x}: {slope}"
                );
            }
            let mut nan = [0.0];
            activate(activation, &[f32::NAN], &mut nan);
            assert!(nan[0].is_nan());
            let mut slope = [0.0];
            activation_gradient(activation, &[f32::NAN], &[1.0], &mut slope, &mut nan);
            assert!(nan[0].is_nan() && slope[0].is_nan());
        }
    }

    #[test]
    fn a_row_of_scores_becomes_a_softmax() {
        for len in [1, 15, 16, 50] {
            let scores: Vec<f32> = (0..len)
                .map(|i| ((i * 7) % 13) as f32 * 30.0 - 200.0)
                .collect();
            let mut row = scores.clone();
            let (max, sum) = softmax_unscaled(&mut row, 0.25);
            let mut again = scores.clone();
            softmax_again(&mut again, 0.25, [max, sum]);
            let exact: Vec<f64> = scores
                .iter()
                .map(|&s| (f64::from(s) * 0.25).exp())
                .collect();
            let total: f64 = exact.iter().sum();
            for i in 0..len {
                let expected = exact[i] / total;
                assert!((f64::from(row[i] / sum) - expected).abs() < 1e-6);
                assert!((f64::from(again[i]) - expected).abs() < 1e-6);
            }
        }
    }
}
