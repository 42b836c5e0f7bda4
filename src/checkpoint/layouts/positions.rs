//! A grid of positions at another size, as PyTorch's `interpolate` makes it.

use super::plan::Resampling;

/// Row-major `[from², width]` → `[to², width]`.
///
/// New point i lies at (i + ½)·from/to − ½, as the middles of patches do.
pub(super) fn resampled(
    table: &[f32],
    [from, to]: [usize; 2],
    width: usize,
    how: Resampling,
) -> Vec<f32> {
    let taps: Vec<Vec<(usize, f64)>> = (0..to).map(|i| taps(i, from, to, how)).collect();
    let mut out = Vec::with_capacity(to * to * width);
    // Columns first, so that each sum has the taps of one axis only.
    let mut narrow = vec![0.0f64; from * to * width];
    for y in 0..from {
        for (x, taps) in taps.iter().enumerate() {
            let target = &mut narrow[(y * to + x) * width..][..width];
            for &(at, share) in taps {
                let vector = &table[(y * from + at) * width..][..width];
                for (sum, &value) in target.iter_mut().zip(vector) {
                    *sum += share * f64::from(value);
                }
            }
        }
    }
    let mut sum = vec![0.0f64; to * width];
    for taps in &taps {
        sum.fill(0.0);
        for &(at, share) in taps {
            for (sum, value) in sum.iter_mut().zip(&narrow[at * to * width..][..to * width]) {
                *sum += share * value;
            }
        }
        out.extend(sum.iter().map(|&sum| sum as f32));
    }
    out
}

/// The old points that new point `i` is made of, and their shares.
fn taps(i: usize, from: usize, to: usize, how: Resampling) -> Vec<(usize, f64)> {
    let scale = from as f64 / to as f64;
    match how {
        Resampling::Sharp => {
            let at = (i as f64 + 0.5) * scale - 0.5;
            let first = at.floor();
            let tap = |offset: i64| {
                let index = first as i64 + offset;
                let share = cubic(at - index as f64, -0.75);
                (index.clamp(0, from as i64 - 1) as usize, share)
            };
            (-1..=2).map(tap).collect()
        }
        Resampling::Smoothed => {
            let stretch = scale.max(1.0);
            let middle = (i as f64 + 0.5) * scale;
            let reach = 2.0 * stretch;
            let first = ((middle - reach + 0.5) as i64).max(0);
            let end = ((middle + reach + 0.5) as i64).min(from as i64);
            let tap = |index: i64| {
                let distance = (index as f64 - middle + 0.5) / stretch;
                (index as usize, cubic(distance, -0.5))
            };
            let mut taps: Vec<(usize, f64)> = (first..end).map(tap).collect();
            let all: f64 = taps.iter().map(|tap| tap.1).sum();
            for tap in &mut taps {
                tap.1 /= all;
            }
            taps
        }
    }
}

/// Keys 1981.
fn cubic(distance: f64, a: f64) -> f64 {
    let d = distance.abs();
    if d < 1.0 {
        ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    } else if d < 2.0 {
        (((d - 5.0) * d + 8.0) * d - 4.0) * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What PyTorch 2.15 gives for 0, 1, 4, 9, …, 225 on a grid of 4 along a side, at 3 and at 5.
    #[test]
    fn it_is_what_pytorch_makes_of_it() {
        let table: Vec<f32> = (0..16).map(|i| (i * i) as f32).collect();
        for (to, how, expected) in EXPECTED {
            let found = resampled(&table, [4, *to], 1, *how);
            for (found, expected) in found.iter().zip(*expected) {
                assert!(
                    (found - expected).abs() < 1e-3,
                    "{to} {how:?}: {found}, not {expected}"
                );
            }
            assert_eq!(found.len(), to * to);
        }
    }

    #[test]
    fn the_same_grid_stays() {
        let table: Vec<f32> = (0..9 * 2).map(|i| (i as f32 * 0.7).sin()).collect();
        for how in [Resampling::Sharp, Resampling::Smoothed] {
            assert_eq!(resampled(&table, [3, 3], 2, how), table);
        }
    }

    type Expected = (usize, Resampling, &'static [f32]);
    const EXPECTED: &[Expected] = &[
        (
            3,
            Resampling::Sharp,
            &[
                1.6817, 5.1018, 12.6979, 35.6053, 54.1250, 76.8206, 136.343, 169.963, 207.758,
            ],
        ),
        (
            3,
            Resampling::Smoothed,
            &[
                1.5723, 5.8466, 13.4139, 40.1018, 58.1063, 79.4039, 131.320, 163.054, 198.082,
            ],
        ),
        (
            5,
            Resampling::Sharp,
            &[
                -1.0032, -0.8786, 0.4240, 3.5926, 6.8442, 5.8864, 9.6184, 15.6980, 23.6437,
                30.5026, 33.2103, 41.7193, 54.1250, 68.3968, 80.0327, 90.3901, 103.676, 122.408,
                143.005, 159.418, 147.311, 164.205, 187.714, 213.088, 233.109,
            ],
        ),
        (
            5,
            Resampling::Smoothed,
            &[
                -0.7206, -0.4111, 1.0385, 4.1106, 7.4706, 7.8216, 11.9549, 18.1162, 25.9002,
                33.0839, 35.4375, 44.2826, 56.2500, 69.8400, 81.7356, 89.0156, 102.572, 120.346,
                139.742, 156.349, 146.364, 163.745, 186.230, 210.338, 230.769,
            ],
        ),
    ];
}
