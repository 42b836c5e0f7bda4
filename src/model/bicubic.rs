//! Learned positions for another grid of tokens, once and for all; what a training reads between
//! the places of its own grid is [`interpolation`](super::position::interpolation).

/// A square grid of vectors at another size, by bicubic interpolation.
///
/// Keys 1981 with a = −½, which reproduces straight lines; past the border the grid is continued in
/// a straight line, so that a ramp stays one up to its ends. Points are the middles of patches, as
/// the pictures are the same whatever the grid: new point i lies at (i + ½)·old/new − ½. A grid that
/// shrinks is not smoothed before.
///
/// # Shapes
///
/// `table`: row-major `[old², width]` → `[new², width]`.
///
/// # Panics
///
/// Where the table does not have that many values.
pub fn resample(table: &[f32], old: usize, new: usize, width: usize) -> Vec<f32> {
    assert_eq!(table.len(), old * old * width, "the grid counts the values");
    let weights = weights(old, new);
    let mut resampled = Vec::with_capacity(new * new * width);
    for row in &weights {
        for column in &weights {
            let mut sum = vec![0.0f64; width];
            for &(y, wy) in row {
                for &(x, wx) in column {
                    let vector = &table[(y * old + x) * width..][..width];
                    for (sum, &value) in sum.iter_mut().zip(vector) {
                        *sum += wy * wx * f64::from(value);
                    }
                }
            }
            resampled.extend(sum.into_iter().map(|value| value as f32));
        }
    }
    resampled
}

/// For each new point along one side, the old ones that it is made of and their shares.
fn weights(old: usize, new: usize) -> Vec<Vec<(usize, f64)>> {
    (0..new)
        .map(|i| {
            let at = (i as f64 + 0.5) * old as f64 / new as f64 - 0.5;
            let first = at.floor();
            let mut shares = vec![0.0; old];
            for tap in -1..=2 {
                let share = keys(at - first - f64::from(tap));
                let index = first as i64 + i64::from(tap);
                // The line through the two points at a border, taken at this index.
                let (inner, outer, steps) = match index {
                    i if i < 0 => (1, 0, -i),
                    i if i >= old as i64 => (old.saturating_sub(2), old - 1, i - old as i64 + 1),
                    i => (i as usize, i as usize, 0),
                };
                let steps = steps as f64;
                shares[outer] += share * (1.0 + steps);
                shares[inner.min(old - 1)] -= share * steps;
            }
            let all = shares.into_iter().enumerate();
            all.filter(|&(_, share)| share != 0.0).collect()
        })
        .collect()
}

/// Keys' kernel with a = −½.
fn keys(distance: f64) -> f64 {
    let d = distance.abs();
    if d <= 1.0 {
        (1.5 * d - 2.5) * d * d + 1.0
    } else if d < 2.0 {
        ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_grid_keeps_every_bit() {
        let table: Vec<f32> = (0..5 * 5 * 3).map(|i| (i as f32 * 0.7).sin()).collect();
        assert_eq!(resample(&table, 5, 5, 3), table);
    }

    #[test]
    fn a_ramp_stays_a_ramp_up_to_its_ends() {
        let ramp = |grid: usize| -> Vec<f32> {
            let middle = |i: usize| (i as f32 + 0.5) / grid as f32;
            let points = (0..grid).flat_map(|y| (0..grid).map(move |x| (y, x)));
            points
                .flat_map(|(y, x)| [3.0 * middle(x) - 1.0, 2.0 * middle(y) + middle(x)])
                .collect()
        };
        for (old, new) in [(4, 7), (7, 4), (2, 5), (3, 12)] {
            for (got, want) in resample(&ramp(old), old, new, 2).iter().zip(ramp(new)) {
                assert!(
                    (got - want).abs() < 1e-5,
                    "{old} to {new}: {got}, not {want}"
                );
            }
        }
    }

    #[test]
    fn a_single_point_is_everywhere() {
        assert_eq!(resample(&[0.5, -2.0], 1, 2, 2), [0.5, -2.0].repeat(4));
    }

    #[test]
    fn between_two_points_the_kernel_is_worked_out_by_hand() {
        // The new point 3 of 8 lies at 1.25 of 4: shares −0.0703125, 0.8671875, 0.2265625 and
        // −0.0234375.
        let table: Vec<f32> = (0..16).map(|i| [0.0, 1.0, 0.0, 0.0][i % 4]).collect();
        assert!((resample(&table, 4, 8, 1)[3] - 0.867_187_5).abs() < 1e-6);
    }
}
