//! Numbers to codes of eight bits.

use crate::dispatch::vectorised;

/// Codes of activations go from 0 to this.
pub(super) const ACTIVATION_MAX: i32 = 127;

/// Codes of weights go from −`WEIGHT_MAX` to this: the sum of four products then fits the sixteen bits
/// in which AVX2 adds them up, 4·127·64 < 2¹⁵, and it is a fifth faster than with sums of two.
pub const WEIGHT_MAX: i8 = 64;

/// Codes of a weight: value = code·scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Codes {
    /// In the weight's own order, from −[`WEIGHT_MAX`] to that.
    pub codes: Vec<i8>,
    /// One for each output, above 0; NaN where a weight of the output is infinite or NaN.
    pub scales: Vec<f32>,
}

impl Codes {
    /// Of a weight `[inputs, outputs]`.
    pub fn of_columns(weight: &[f32], outputs: usize) -> Self {
        let mut largest = vec![0.0; outputs];
        for row in weight.chunks_exact(outputs.max(1)) {
            for (largest, &x) in largest.iter_mut().zip(row) {
                *largest = larger(*largest, x);
            }
        }
        let scales: Vec<f32> = largest.into_iter().map(scale_of).collect();
        let rows = weight.chunks_exact(outputs.max(1));
        let codes = rows.flat_map(|row| row.iter().zip(&scales).map(|(&x, &scale)| code(x, scale)));
        Self {
            codes: codes.collect(),
            scales,
        }
    }

    /// Of a weight `[outputs, …]`.
    pub fn of_rows(weight: &[f32], outputs: usize) -> Self {
        let inputs = weight.len().checked_div(outputs).unwrap_or(0).max(1);
        let mut codes = Vec::with_capacity(weight.len());
        let mut scales = Vec::with_capacity(outputs);
        for row in weight.chunks_exact(inputs) {
            let scale = scale_of(row.iter().copied().fold(0.0, larger));
            codes.extend(row.iter().map(|&x| code(x, scale)));
            scales.push(scale);
        }
        Self { codes, scales }
    }
}

/// The larger of a size so far and the size of a number; NaN once one was.
fn larger(largest: f32, x: f32) -> f32 {
    if x.abs() > largest || x.is_nan() {
        x.abs()
    } else {
        largest
    }
}

/// The scale of an output whose largest weight has this size.
///
/// Code·scale is exact but for subnormal numbers, so that codes of what was read back from codes are
/// those codes again: the largest is a power of two, and the others have seven bits beside the
/// scale's sixteen.
fn scale_of(largest: f32) -> f32 {
    let scale = largest / f32::from(WEIGHT_MAX);
    if !scale.is_finite() {
        return f32::NAN;
    }
    // Of nothing but zeros, or as good as.
    if scale < f32::MIN_POSITIVE {
        return 1.0;
    }
    f32::from_bits((scale.to_bits() + 0xff) & !0xff)
}

fn code(x: f32, scale: f32) -> i8 {
    // Of a NaN it is 0.
    (x / scale).round_ties_even() as i8
}

/// How a row's codes stand for its numbers: x = (code − zero)·scale.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Row {
    pub(super) scale: f32,
    pub(super) zero: i32,
}

/// Codes of a row, over the range of its numbers and 0. With a number that is infinite or NaN the
/// scale is NaN.
pub(super) fn quantise(x: &[f32], target: &mut [u8]) -> Row {
    const LANES: usize = 16;
    /// Adding it leaves the nearest integer in the lowest bits; half-way cases go to the even one.
    const MAGIC: f32 = 12_582_912.0;
    vectorised(
        #[inline(always)]
        || {
            let (mut low, mut high, mut odd) =
                ([0.0_f32; LANES], [0.0_f32; LANES], [0.0_f32; LANES]);
            let (whole, rest) = x.as_chunks::<LANES>();
            for x in whole {
                for i in 0..LANES {
                    low[i] = if x[i] < low[i] { x[i] } else { low[i] };
                    high[i] = if x[i] > high[i] { x[i] } else { high[i] };
                    // What is infinite or NaN makes it NaN.
                    odd[i] += x[i] * 0.0;
                }
            }
            for (i, &x) in rest.iter().enumerate() {
                low[i] = if x < low[i] { x } else { low[i] };
                high[i] = if x > high[i] { x } else { high[i] };
                odd[i] += x * 0.0;
            }
            let low = low.into_iter().fold(0.0, f32::min);
            let high = high.into_iter().fold(0.0, f32::max);
            let odd: f32 = odd.into_iter().sum();
            let range = high - low + odd;
            let scale = range / ACTIVATION_MAX as f32;
            let inverse = ACTIVATION_MAX as f32 / range;
            if !(scale >= f32::MIN_POSITIVE && inverse > 0.0) {
                target.fill(0);
                // Of nothing but zeros it is zero, else NaN.
                let scale = if scale < f32::MIN_POSITIVE {
                    0.0
                } else {
                    f32::NAN
                };
                return Row { scale, zero: 0 };
            }
            let shift = MAGIC - low * inverse;
            let zero = shift - MAGIC;
            for (target, &x) in target.iter_mut().zip(x) {
                let code =
                    (x * inverse + shift).to_bits().cast_signed() - MAGIC.to_bits().cast_signed();
                *target = code.clamp(0, ACTIVATION_MAX) as u8;
            }
            Row {
                scale,
                zero: zero as i32,
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(len: usize, seed: u32) -> Vec<f32> {
        let mut x = seed;
        let mut next = || {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    fn coded(x: &[f32]) -> (Vec<u8>, Row) {
        let mut codes = vec![255; x.len()];
        let row = quantise(x, &mut codes);
        (codes, row)
    }

    #[test]
    fn a_row_comes_back_to_within_half_a_step() {
        for (len, factor, shift) in [
            (1, 3.0, 0.0),
            (7, 1.0, 0.0),
            (50, 1e-3, 5.0),
            (200, 1e6, -1e5),
        ] {
            let x: Vec<f32> = numbers(len, 3).iter().map(|x| x * factor + shift).collect();
            let (codes, row) = coded(&x);
            assert!((0..=ACTIVATION_MAX).contains(&row.zero));
            for (&x, &code) in x.iter().zip(&codes) {
                assert!(i32::from(code) <= ACTIVATION_MAX);
                let back = (i32::from(code) - row.zero) as f32 * row.scale;
                // Zero is rounded too, which can move an end of the range by half a step more.
                assert!(
                    (back - x).abs() <= row.scale * 1.001,
                    "{x} of {len}: {back}"
                );
            }
        }
        // Zero is exact.
        let (codes, row) = coded(&[0.0, -0.3, 5.1]);
        assert_eq!(i32::from(codes[0]), row.zero);
    }

    #[test]
    fn extremes_of_a_row() {
        assert_eq!(coded(&[0.0, -0.0]), (vec![0, 0], Row::default()));
        assert_eq!(coded(&[]), (vec![], Row::default()));
        assert_eq!(coded(&[4.0; 20]).0, [127; 20]);
        assert_eq!(
            coded(&[-4.0; 3]),
            (
                vec![0; 3],
                Row {
                    scale: 4.0 / 127.0,
                    zero: 127
                }
            )
        );
        assert_eq!(coded(&[-1.0, 1.0, 0.0]).0, [0, 127, 64]);
        // As good as nothing.
        assert_eq!(coded(&[1e-40, -1e-41]).1, Row::default());
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 19, 33] {
                let mut x = numbers(34, 1);
                x[at] = bad;
                let (codes, row) = coded(&x);
                assert!(row.scale.is_nan() && codes == [0; 34], "{bad} at {at}");
            }
        }
        // Larger than any number apart.
        assert!(coded(&[f32::MAX, -f32::MAX]).1.scale.is_nan());
    }

    #[test]
    fn weights_read_back_give_the_same_codes() {
        let (inputs, outputs) = (9, 14);
        let mut weight = numbers(inputs * outputs, 5);
        for (i, x) in weight.iter_mut().enumerate() {
            // Outputs of very different sizes, one of them of zeros.
            *x *= [1e-3, 1.0, 77.7, 0.0, 1e-30, 3e37, 0.1][i % outputs % 7];
        }
        let columns = Codes::of_columns(&weight, outputs);
        for (j, &scale) in columns.scales.iter().enumerate() {
            let of_column = |values: &[f32]| -> Vec<f32> {
                values.iter().skip(j).step_by(outputs).copied().collect()
            };
            let codes: Vec<i8> = columns
                .codes
                .iter()
                .skip(j)
                .step_by(outputs)
                .copied()
                .collect();
            let rows = Codes::of_rows(&of_column(&weight), 1);
            assert_eq!((rows.codes, rows.scales), (codes.clone(), vec![scale]));
            let most = codes.iter().map(|code| code.unsigned_abs()).max();
            assert_eq!(
                most,
                Some(if j % 7 == 3 {
                    0
                } else {
                    WEIGHT_MAX.unsigned_abs()
                }),
                "{j}"
            );
            for (x, &code) in of_column(&weight).into_iter().zip(&codes) {
                assert!(
                    (x - f32::from(code) * scale).abs() <= scale * 0.501,
                    "{x} {code} {scale}"
                );
            }
        }
        let read = columns.codes.iter().enumerate();
        let read: Vec<f32> = read
            .map(|(i, &code)| f32::from(code) * columns.scales[i % outputs])
            .collect();
        assert_eq!(Codes::of_columns(&read, outputs), columns);
    }

    #[test]
    fn a_weight_that_is_no_number_makes_its_output_none() {
        for bad in [f32::NAN, f32::INFINITY] {
            let codes = Codes::of_columns(&[1.0, bad, 0.5, 1.0], 2);
            assert!(codes.scales[0] > 0.0 && codes.scales[1].is_nan());
            let codes = Codes::of_rows(&[1.0, bad, 0.5, 1.0], 2);
            assert!(codes.scales[0].is_nan() && codes.scales[1] > 0.0);
        }
    }
}
