//! Loops over slices, vectorised for whatever the processor has.
//!
//! Each is plain Rust inside [`vectorised`], which compiles it once for every instruction set. Sums
//! run in sixteen lanes, then across them: always in the same order.

use super::kernel::PANEL;
use super::matrix::Operand;
use crate::ops::EPSILON;
use crate::ops::adamw::Step;

/// Lanes of a sum.
const LANES: usize = 16;

/// Runs `f` compiled for this processor's vectors, if it is inlined (`#[inline(always)]`).
///
/// `f` is called by reference: a closure that is consumed may be called through a shim of the
/// compiler's own, which knows of no instruction set and keeps the closure's body to itself.
#[inline(always)]
pub fn vectorised<R>(f: impl FnMut() -> R) -> R {
    struct Call<F>(F);
    impl<R, F: FnMut() -> R> pulp::NullaryFnOnce for Call<F> {
        type Output = R;

        #[inline(always)]
        fn call(mut self) -> R {
            (self.0)()
        }
    }
    pulp::Arch::new().dispatch(Call(f))
}

/// x = factor·x.
pub fn scale(x: &mut [f32], factor: f32) {
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
pub fn scaled<E: Operand>(source: &[f32], scale: f32, target: &mut [E]) {
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
pub fn add_scaled<E: Operand>(sum: &mut [f32], x: &[E], scale: f32) {
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
pub fn add_product(sum: &mut [f32], a: &[f32], b: &[f32]) {
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
pub fn scale_shift(x: &mut [f32], scale: &[f32], shift: &[f32]) {
    vectorised(
        #[inline(always)]
        || {
            for ((x, &scale), &shift) in x.iter_mut().zip(scale).zip(shift) {
                *x = scale * *x + shift;
            }
        },
    );
}

/// One step of AdamW.
pub fn adamw(
    value: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    step: &Step,
) {
    let [beta1, beta2, epsilon] = [step.beta1, step.beta2, step.epsilon].map(|x| x as f32);
    let [fresh1, fresh2] = [1.0 - step.beta1, 1.0 - step.beta2].map(|x| x as f32);
    let root_scale = (1.0 / step.correction2.sqrt()) as f32;
    let rate = (step.lr / step.correction1) as f32;
    let kept = (1.0 - step.lr * step.decay) as f32;
    vectorised(
        #[inline(always)]
        || {
            let moments = first.iter_mut().zip(second.iter_mut());
            for ((value, &g), (m, v)) in value.iter_mut().zip(gradient).zip(moments) {
                *m = *m * beta1 + g * fresh1;
                *v = *v * beta2 + g * g * fresh2;
                *value = *value * kept - *m / (v.sqrt() * root_scale + epsilon) * rate;
            }
        },
    );
}

/// Σ a·b.
pub fn dot<E: Operand, F: Operand>(a: &[E], b: &[F]) -> f32 {
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
fn moments(x: &[f32]) -> (f32, f32) {
    let scale = 1.0 / x.len() as f32;
    let mean = sum(x, |x| x) * scale;
    let variance = sum(x, |x| (x - mean) * (x - mean)) * scale;
    (mean, 1.0 / (variance + EPSILON as f32).sqrt())
}

/// x̂ = (x − mean) / √(variance + ε): a layer norm without its scale and shift.
pub fn standardise<E: Operand>(x: &[f32], target: &mut [E]) {
    vectorised(
        #[inline(always)]
        || {
            let (mean, scale) = moments(x);
            for (target, &x) in target.iter_mut().zip(x) {
                *target = E::narrow((x - mean) * scale);
            }
        },
    );
}

/// target = base + the gradient of x̂ = standardise(x), given the gradient `g` of x̂.
///
/// dx = (g − mean(g) − x̂·mean(g·x̂)) / √(variance + ε) (Ba et al. 2016, by the chain rule).
pub fn standardise_gradient(x: &[f32], g: &[f32], base: &[f32], target: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || {
            let (mean, scale) = moments(x);
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

/// eˣ to within two units in the last place; 0 below −87.3, and at most 1.6·10³⁸.
///
/// Cephes' polynomial on [−½ ln 2, ½ ln 2]; a NaN stays one.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Adding it leaves the nearest integer, plus 127, in the lowest bits.
    const MAGIC: f32 = 12_582_912.0 + 127.0;
    let low = x < -87.3;
    let x = if x > 88.0 { 88.0 } else { x };
    let x = if low { -87.3 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = n.mul_add(2.121_944_4e-4, n.mul_add(-0.693_359_4, x));
    let mut p = 1.987_569_1e-4_f32.mul_add(r, 1.398_199_9e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_5e-1);
    p = p.mul_add(r, 5e-1);
    p = p.mul_add(r * r, r) + 1.0;
    let power = f32::from_bits(shifted.to_bits() << 23);
    if low { 0.0 } else { p * power }
}

/// 1/x for x from 1 to 10³⁰, to the last place or two.
///
/// A NaN, whose bits are past the constant, stays one. A division takes as long as all the rest of a GELU; this is a guess from the exponent's bits and
/// three steps of Newton's, which each square the error.
#[inline(always)]
fn reciprocal(x: f32) -> f32 {
    let mut y = f32::from_bits(0x7EF3_11C7_u32.wrapping_sub(x.to_bits()));
    for _ in 0..3 {
        y *= (-x).mul_add(y, 2.0);
    }
    y
}

/// Turns a row of scores into e^(scale·(score − max)) and returns the maximum and the sum, so that
/// the softmax is the row divided by the sum. The largest becomes 1 exactly, however large it was.
pub fn softmax_unscaled(row: &mut [f32], scale: f32) -> (f32, f32) {
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
pub fn softmax_again(row: &mut [f32], scale: f32, [max, sum]: [f32; 2]) {
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
pub fn softmax_gradient<E: Operand>(
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

/// Φ(−|x|) and e^(−x²/2), as [`gelu`](crate::ops::gelu::gelu) has them.
#[inline(always)]
fn normal_tail(x: f32) -> (f32, f32) {
    // Past 20 both are 0, and the reciprocal keeps to its range.
    let size = if x.abs() > 20.0 { 20.0 } else { x.abs() };
    let t = reciprocal(size.mul_add(0.231_641_9, 1.0));
    let exponential = exp(size * size * -0.5);
    let mut tail = t.mul_add(0.530_702_7, -0.726_576);
    tail = tail.mul_add(t, 0.710_706_9);
    tail = tail.mul_add(t, -0.142_248_37);
    tail = tail.mul_add(t, 0.127_414_8);
    (tail * t * exponential, exponential)
}

/// x·Φ(x) of one value, for loops that are [`vectorised`].
#[inline(always)]
pub fn gelu_of(x: f32) -> f32 {
    let (tail, _) = normal_tail(x);
    let rectified = if x < 0.0 { 0.0 } else { x };
    (-x.abs()).mul_add(tail, rectified)
}

/// Coefficients of [`gelu_short`], from the highest power of x² down.
const SHORT: [f32; 8] = [
    -6.299_001_3e-10,
    6.101_894_5e-8,
    -2.535_384e-6,
    5.980_962_3e-5,
    -8.962_042e-4,
    9.076_393e-3,
    -6.510_518_5e-2,
    3.981_976e-1,
];

/// [`gelu_of`] to within 1.4·10⁻⁴, for results that are rounded to eight bits and added up: Φ as an odd
/// polynomial about ½, by least largest error of the product, on ±4 and 0 or 1 beyond. That is a
/// fraction of the rounding of values near 1, and more than that of the small values below −2.
#[inline(always)]
pub fn gelu_short(x: f32) -> f32 {
    let bounded = if x < -4.0 { -4.0 } else { x };
    let inner = if bounded > 4.0 { 4.0 } else { bounded };
    let square = inner * inner;
    let mut p = SHORT[0];
    for coefficient in &SHORT[1..] {
        p = p.mul_add(square, *coefficient);
    }
    bounded * p.mul_add(inner, 0.5)
}

/// Its slope, Φ(x) + x·φ(x).
#[inline(always)]
pub fn gelu_slope(x: f32) -> f32 {
    let (tail, exponential) = normal_tail(x);
    let distribution = if x < 0.0 { tail } else { 1.0 - tail };
    (x * exponential).mul_add(0.398_942_3, distribution)
}

/// x·Φ(x).
pub fn gelu<E: Operand, F: Operand>(x: &[E], target: &mut [F]) {
    vectorised(
        #[inline(always)]
        || {
            for (target, x) in target.iter_mut().zip(x) {
                *target = F::narrow(F::gelu(x.widen()));
            }
        },
    );
}

/// The gradient of [`gelu`], g·(Φ(x) + x·φ(x)), into `target`, and its value into `value`, both from
/// [`gelu_of`]: its exponential is at hand here.
pub fn gelu_gradient<E: Operand>(x: &[E], g: &[f32], target: &mut [E], value: &mut [E]) {
    vectorised(
        #[inline(always)]
        || {
            let outputs = target.iter_mut().zip(value.iter_mut());
            for (((target, value), x), &g) in outputs.zip(x).zip(g) {
                let x = x.widen();
                let (tail, exponential) = normal_tail(x);
                let distribution = if x < 0.0 { tail } else { 1.0 - tail };
                let slope = (x * exponential).mul_add(0.398_942_3, distribution);
                let rectified = if x < 0.0 { 0.0 } else { x };
                *target = E::narrow(g * slope);
                *value = E::narrow((-x.abs()).mul_add(tail, rectified));
            }
        },
    );
}

/// Rows of a panel's product, plus the bias, into columns of a matrix.
pub fn store<E: Operand>(
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

/// [`gelu`] of the rows of a panel's product, plus the bias, into columns of a matrix.
pub fn store_gelu<E: Operand>(
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
                each(
                    target,
                    product,
                    bias,
                    #[inline(always)]
                    |x, bias| {
                        // As if it had been stored in between, which training does.
                        E::narrow(E::gelu(E::narrow(x + bias).widen()))
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
pub fn store_residual(
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
pub(super) mod tests {
    use super::*;

    /// Everything between −20 and 20, and what lies at the ends of f32.
    pub(in super::super) fn points() -> Vec<f32> {
        let mut points: Vec<f32> = (-20_000..=20_000).map(|i| i as f32 / 1000.0).collect();
        points.extend([
            0.0, -0.0, 1e-40, -1e-40, 1e-20, 88.0, -87.3, -104.0, 1e30, -1e30,
        ]);
        points.extend([f32::MAX, f32::MIN, f32::MIN_POSITIVE]);
        points
    }

    #[test]
    fn exponentials_are_exact_to_the_last_places() {
        for x in points() {
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            match x {
                x if x < -87.3 => assert_eq!(found, 0.0, "{x}"),
                x if x > 88.0 => assert!(found > 1e38, "{x}"),
                _ => assert!((found / expected - 1.0).abs() < 3e-7, "{x}: {found}"),
            }
        }
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn reciprocals_are_exact_to_the_last_places() {
        for i in 0..100_000 {
            let x = 1.0 + i as f32 * 1e-3;
            assert!((reciprocal(x) * x - 1.0).abs() < 3e-7, "{x}");
        }
    }

    #[test]
    fn the_short_gelu_is_as_near_as_it_says() {
        for x in points() {
            let (found, exact) = (gelu_short(x), gelu_of(x));
            assert!(
                (found - exact).abs() <= 1.4e-4 + exact.abs() * 1e-6,
                "{x}: {found}"
            );
        }
        assert!(gelu_short(f32::NAN).is_nan());
    }

    #[test]
    fn gelu_and_its_gradient_pass_a_nan_and_stay_finite() {
        let x = points();
        let ones = vec![1.0; x.len()];
        let mut value = vec![0.0; x.len()];
        let (mut slope, mut again) = (value.clone(), value.clone());
        gelu(&x, &mut value);
        gelu_gradient(&x, &ones, &mut slope, &mut again);
        assert_eq!(value, again);
        for ((&x, &value), &slope) in x.iter().zip(&value).zip(&slope) {
            assert!(
                (x.min(0.0) - 1e-3..=x.max(0.0)).contains(&value) || value == x,
                "{x}: {value}"
            );
            assert!((-0.13..=1.13).contains(&slope), "{x}: {slope}");
        }
        let mut nan = [0.0];
        gelu(&[f32::NAN], &mut nan);
        assert!(nan[0].is_nan());
        let mut slope = [0.0];
        gelu_gradient(&[f32::NAN], &[1.0], &mut slope, &mut nan);
        assert!(nan[0].is_nan() && slope[0].is_nan());
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
