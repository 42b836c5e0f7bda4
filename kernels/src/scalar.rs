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
pub(crate) fn gelu_short(x: f32) -> f32 {
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
pub(crate) fn gelu_slope(x: f32) -> f32 {
    let (tail, exponential) = normal_tail(x);
    let distribution = if x < 0.0 { tail } else { 1.0 - tail };
    (x * exponential).mul_add(0.398_942_3, distribution)
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
