//! Functions of one value, for loops that are [`vectorised`](crate::dispatch::vectorised).

use half::bf16;

/// eˣ to within two units in the last place; 0 below −87.3, and at most 1.6·10³⁸.
///
/// Cephes' polynomial on [−½ ln 2, ½ ln 2]; a NaN stays one.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
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

/// max(x, 0), but NaN stays: a training that has gone astray must not look sound.
#[inline(always)]
pub(crate) fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// Φ(−|x|) and e^(−x²/2), by Abramowitz & Stegun 26.2.17.
#[inline(always)]
pub(crate) fn normal_tail(x: f32) -> (f32, f32) {
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

/// x·Φ(x), to within 5·10⁻⁷.
#[inline(always)]
pub(crate) fn gelu_of(x: f32) -> f32 {
    let (tail, _) = normal_tail(x);
    let rectified = if x < 0.0 { 0.0 } else { x };
    (-x.abs()).mul_add(tail, rectified)
}

/// [`gelu_of`] and its slope, Φ(x) + x·φ(x).
#[inline(always)]
pub(crate) fn gelu_and_slope(x: f32) -> [f32; 2] {
    let (tail, exponential) = normal_tail(x);
    let distribution = if x < 0.0 { tail } else { 1.0 - tail };
    let slope = (x * exponential).mul_add(0.398_942_3, distribution);
    let rectified = if x < 0.0 { 0.0 } else { x };
    [(-x.abs()).mul_add(tail, rectified), slope]
}

/// The slope of [`gelu_of`].
#[inline(always)]
pub(crate) fn gelu_slope(x: f32) -> f32 {
    let [_, slope] = gelu_and_slope(x);
    slope
}

/// 2·√(2/π), and that times 0.044715.
const TANH: [f32; 2] = [1.595_769, 0.071_354_82];

/// σ(−|u|), and the slope of u, for u = 2·√(2/π)·(x + 0.044715·x³): ½·(1 + tanh(u/2)) is σ(u).
#[inline(always)]
fn gelu_tanh_tail(x: f32) -> (f32, f32) {
    // Past 20 the exponential is 0, and the slope keeps to its range.
    let size = if x.abs() > 20.0 { 20.0 } else { x.abs() };
    let square = size * size;
    let exponential = exp(-size * square.mul_add(TANH[1], TANH[0]));
    let tail = exponential * reciprocal(1.0 + exponential);
    (tail, square.mul_add(3.0 * TANH[1], TANH[0]))
}

/// ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))), to within 5·10⁻⁷.
#[inline(always)]
pub(crate) fn gelu_tanh_of(x: f32) -> f32 {
    let (tail, _) = gelu_tanh_tail(x);
    let rectified = if x < 0.0 { 0.0 } else { x };
    (-x.abs()).mul_add(tail, rectified)
}

/// [`gelu_tanh_of`] and its slope, σ(u) + x·σ(u)·σ(−u)·u′.
#[inline(always)]
pub(crate) fn gelu_tanh_and_slope(x: f32) -> [f32; 2] {
    let (tail, slope) = gelu_tanh_tail(x);
    let distribution = if x < 0.0 { tail } else { 1.0 - tail };
    let slope = (x * (tail * (1.0 - tail))).mul_add(slope, distribution);
    let rectified = if x < 0.0 { 0.0 } else { x };
    [(-x.abs()).mul_add(tail, rectified), slope]
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

/// Those of [`gelu_tanh_short`].
const SHORT_TANH: [f32; 8] = [
    -1.319_304_3e-9,
    1.068_266_9e-7,
    -3.768_797_6e-6,
    7.700_42e-5,
    -1.027_132_4e-3,
    9.597_043_5e-3,
    -6.600_354e-2,
    3.985_646_4e-1,
];

/// [`gelu_of`] to within 1.4·10⁻⁴, for results that are rounded to eight bits and added up: Φ as an odd
/// polynomial about ½, by least largest error of the product, on ±4 and 0 or 1 beyond. That is a
/// fraction of the rounding of values near 1, and more than that of the small values below −2.
#[inline(always)]
pub(crate) fn gelu_short(x: f32) -> f32 {
    short(x, &SHORT)
}

/// [`gelu_tanh_of`] to within 8·10⁻⁵, as [`gelu_short`].
#[inline(always)]
pub(crate) fn gelu_tanh_short(x: f32) -> f32 {
    short(x, &SHORT_TANH)
}

#[inline(always)]
fn short(x: f32, coefficients: &[f32; 8]) -> f32 {
    let bounded = if x < -4.0 { -4.0 } else { x };
    let inner = if bounded > 4.0 { 4.0 } else { bounded };
    let square = inner * inner;
    let mut p = coefficients[0];
    for coefficient in &coefficients[1..] {
        p = p.mul_add(square, *coefficient);
    }
    bounded * p.mul_add(inner, 0.5)
}

/// Rounds to nearest, ties to even; a NaN stays one.
#[inline(always)]
pub(crate) fn round_bf16(x: f32) -> bf16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1));
    // A NaN must not be rounded into an infinity.
    let bits = if x.is_nan() {
        bits | 0x0040_0000
    } else {
        rounded
    };
    bf16::from_bits((bits >> 16) as u16)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Everything between −20 and 20, and what lies at the ends of f32.
    pub(crate) fn points() -> Vec<f32> {
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
    fn the_short_gelus_are_as_near_as_they_say() {
        for (short, of, within) in [
            (
                gelu_short as fn(f32) -> f32,
                gelu_of as fn(f32) -> f32,
                1.4e-4,
            ),
            (gelu_tanh_short, gelu_tanh_of, 8e-5),
        ] {
            for x in points() {
                let (found, exact) = (short(x), of(x));
                assert!(
                    (found - exact).abs() <= within + exact.abs() * 1e-6,
                    "{x}: {found}"
                );
            }
            assert!(short(f32::NAN).is_nan());
        }
    }

    #[test]
    fn the_gelu_with_a_tanh_is_the_formula_and_its_slope() {
        let formula = |x: f64| {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        };
        for x in points().into_iter().filter(|x| x.abs() <= 20.0) {
            let wide = f64::from(x);
            let [value, slope] = gelu_tanh_and_slope(x).map(f64::from);
            assert_eq!(value, f64::from(gelu_tanh_of(x)));
            let size = wide.abs().max(1.0);
            assert!((value - formula(wide)).abs() <= 5e-7 * size, "{x}: {value}");
            let expected = (formula(wide + 1e-5) - formula(wide - 1e-5)) / 2e-5;
            assert!((slope - expected).abs() <= 2e-6, "{x}: {slope}");
        }
        assert_eq!(gelu_tanh_and_slope(f32::MAX), [f32::MAX, 1.0]);
        assert_eq!(gelu_tanh_and_slope(f32::MIN), [0.0, 0.0]);
    }

    #[test]
    fn rounding_equals_the_librarys() {
        let mut points = points();
        points.extend([f32::INFINITY, f32::NEG_INFINITY]);
        points.extend((0..4000_u32).map(|i| f32::from_bits(0x3F80_0000 + i * 37)));
        for x in points {
            assert_eq!(round_bf16(x), bf16::from_f32(x), "{x}");
        }
        for bits in [
            0x7FC0_0000,
            0xFFC0_0000,
            0x7F80_0001,
            0x7FFF_FFFF,
            0xFFFF_FFFF,
        ] {
            assert!(round_bf16(f32::from_bits(bits)).is_nan(), "{bits:x}");
        }
    }
}
