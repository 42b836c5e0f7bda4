//! Where a token stands: tables of sines and of rotations, for those who do not learn theirs.

/// One row a position: sines of the first half of the frequencies, cosines of the second
/// (Vaswani et al. 2017, section 3.5, with sines and cosines gathered instead of interleaved).
///
/// # Shapes
///
/// Row-major `[positions.len(), width]`; an odd width ends in a zero.
fn sines(positions: &[f64], width: usize) -> Vec<f32> {
    let half = width / 2;
    let mut table = Vec::with_capacity(positions.len() * width);
    for position in positions {
        let angle = |i: usize| position / 10_000_f64.powf(i as f64 / half as f64);
        table.extend((0..half).map(|i| angle(i).sin() as f32));
        table.extend((0..half).map(|i| angle(i).cos() as f32));
        table.extend((2 * half..width).map(|_| 0.0));
    }
    table
}

/// Where `grid` patches along a side stand among `of`: the middles of the same picture cut into
/// fewer or more patches, in units of the latter.
fn axis(grid: usize, of: usize) -> impl Iterator<Item = f64> + Clone {
    let scale = of as f64 / grid as f64;
    (0..grid).map(move |i| (i as f64 + 0.5) * scale - 0.5)
}

/// Positions counted along the rows of a grid of `of`² patches, 0, 1, … of² − 1, at `grid`² places
/// spread evenly over it; the two are the same but for a picture of another size.
///
/// # Shapes
///
/// Row-major `[grid², width]`.
pub(crate) fn sinusoidal_1d(grid: usize, of: usize, width: usize) -> Vec<f32> {
    let positions: Vec<f64> = axis(grid, of)
        .flat_map(|y| axis(grid, of).map(move |x| y * of as f64 + x))
        .collect();
    sines(&positions, width)
}

/// Half of the width tells the row, half the column (as in MoCo v3 and MAE), at `grid`² places
/// spread evenly over a grid of `of`².
///
/// # Shapes
///
/// Row-major `[grid², width]`.
pub(crate) fn sinusoidal_2d(grid: usize, of: usize, width: usize) -> Vec<f32> {
    let half = width / 2;
    let axis: Vec<f64> = axis(grid, of).collect();
    let rows = sines(&axis, half);
    let columns = sines(&axis, width - half);
    let mut table = Vec::with_capacity(grid * grid * width);
    for y in 0..grid {
        for x in 0..grid {
            table.extend_from_slice(&rows[y * half..][..half]);
            table.extend_from_slice(&columns[x * (width - half)..][..width - half]);
        }
    }
    table
}

/// The matrix that reads a table of `from`² positions at `to`² places spread evenly over it,
/// linearly between neighbours of a row and of a column, and by the nearest beyond the borders.
///
/// # Shapes
///
/// Row-major `[to², from²]`; the numbers of a row add up to 1.
pub(crate) fn interpolation(from: usize, to: usize) -> Vec<f32> {
    let along: Vec<Vec<f64>> = axis(to, from)
        .map(|at| {
            let at = at.clamp(0.0, (from - 1) as f64);
            let weight = |i: usize| (1.0 - (at - i as f64).abs()).max(0.0);
            (0..from).map(weight).collect()
        })
        .collect();
    let mut matrix = Vec::with_capacity(to * to * from * from);
    for y in &along {
        for x in &along {
            for row in y {
                matrix.extend(x.iter().map(|column| (row * column) as f32));
            }
        }
    }
    matrix
}

/// Row and column of each patch of a grid, row by row.
pub(crate) fn places(grid: usize) -> Vec<[f64; 2]> {
    (0..grid * grid)
        .map(|i| [(i / grid) as f64, (i % grid) as f64])
        .collect()
}

/// Rotary positions by row and column (Heo et al. 2024, section 3.2, axial frequency): a quarter of
/// the channels' frequencies, 100^(−4t/d) for t from 0 to d/4 − 1, for rows, and as many for columns.
/// Of each token d/2 cosines, then d/2 sines, for the pairs of channels i and i + d/2: rows turn the
/// first half of the pairs, columns the second. The `prefix`, which stands nowhere, is not turned.
///
/// Any list of places will do, such as those of the patches that are kept, or fractions where a
/// grid of another size covers the same picture.
///
/// # Shapes
///
/// Row-major `[prefix + places.len(), head_dim]`; `head_dim` is a multiple of 4.
pub(crate) fn rotations(places: &[[f64; 2]], prefix: usize, head_dim: usize) -> Vec<f32> {
    /// Where texts take 10,000: pictures are a few tens of patches wide.
    const BASE: f64 = 100.0;
    let quarter = head_dim / 4;
    let angle = |place: [f64; 2], i: usize| {
        let t = (i % quarter) as f64;
        place[i / quarter] * BASE.powf(-t / quarter as f64)
    };
    let mut table = Vec::with_capacity((prefix + places.len()) * head_dim);
    for _ in 0..prefix {
        table.extend((0..head_dim).map(|i| if i < head_dim / 2 { 1.0 } else { 0.0 }));
    }
    for &place in places {
        table.extend((0..head_dim / 2).map(|i| angle(place, i).cos() as f32));
        table.extend((0..head_dim / 2).map(|i| angle(place, i).sin() as f32));
    }
    table
}

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
pub(crate) fn resample(table: &[f32], old: usize, new: usize, width: usize) -> Vec<f32> {
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
    fn first_position_is_sine_zero_cosine_one() {
        let table = sinusoidal_1d(3, 3, 5);
        assert_eq!(table.len(), 9 * 5);
        assert_eq!(table[..5], [0.0, 0.0, 1.0, 1.0, 0.0]);
        let second = &table[5..10];
        assert!((second[0] - 1f32.sin()).abs() < 1e-6);
        assert!((second[1] - 0.01f32.sin()).abs() < 1e-6);
        assert!((second[2] - 1f32.cos()).abs() < 1e-6);
    }

    #[test]
    fn rotations_turn_half_the_pairs_by_row_and_half_by_column() {
        let (grid, prefix, head_dim) = (3, 2, 12);
        let table = rotations(&places(grid), prefix, head_dim);
        let token = |i: usize| &table[i * head_dim..][..head_dim];
        let still = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        for nowhere in 0..=prefix {
            assert_eq!(token(nowhere), still);
        }
        // Row 2, column 1; the second of three frequencies is 100^(−1/3).
        let here = token(prefix + 7);
        let slow = 100f64.powf(-1.0 / 3.0);
        for (i, angle) in [(0, 2.0), (1, 2.0 * slow), (3, 1.0), (4, slow)] {
            assert!(
                (f64::from(here[i]) - angle.cos()).abs() < 1e-6,
                "cosine {i}"
            );
            assert!(
                (f64::from(here[6 + i]) - angle.sin()).abs() < 1e-6,
                "sine {i}"
            );
        }
        assert_eq!(table.len(), (prefix + grid * grid) * head_dim);
    }

    #[test]
    fn two_dimensional_rows_share_a_half() {
        let (grid, width) = (3, 8);
        let table = sinusoidal_2d(grid, grid, width);
        let at = |y: usize, x: usize| &table[(y * grid + x) * width..][..width];
        assert_eq!(at(1, 0)[..4], at(1, 2)[..4]);
        assert_eq!(at(0, 2)[4..], at(2, 2)[4..]);
        assert_ne!(at(0, 1), at(1, 0));
    }

    #[test]
    fn a_smaller_picture_stands_where_it_did() {
        // The middle of four neighbours' places, whichever way positions are known.
        let table = sinusoidal_2d(2, 4, 8);
        let first = 0.5_f32;
        for (i, expected) in [(0, first.sin()), (2, first.cos()), (4, first.sin())] {
            assert!((table[i] - expected).abs() < 1e-6, "{i}: {}", table[i]);
        }
        let counted = sinusoidal_1d(2, 4, 2);
        assert!((counted[0] - 2.5_f32.sin()).abs() < 1e-6);
        assert!((counted[4] - (2.5 * 4.0 + 0.5_f32).sin()).abs() < 1e-6);
        let matrix = interpolation(4, 2);
        let places: Vec<usize> = (0..16).filter(|&i| matrix[i] > 0.0).collect();
        assert_eq!(places, [0, 1, 4, 5]);
        assert!(places.iter().all(|&i| matrix[i] == 0.25));
    }

    #[test]
    fn interpolation_keeps_what_is_linear_and_its_own_grid() {
        for (from, to) in [(4, 3), (3, 5), (1, 2), (6, 4)] {
            let matrix = interpolation(from, to);
            assert_eq!(matrix.len(), to * to * from * from);
            for (place, row) in matrix.chunks(from * from).enumerate() {
                let sum: f32 = row.iter().sum();
                assert!((sum - 1.0).abs() < 1e-6);
                let column: f32 = row
                    .iter()
                    .enumerate()
                    .map(|(i, w)| w * (i % from) as f32)
                    .sum();
                let scale = from as f32 / to as f32;
                let expected = ((place % to) as f32 + 0.5) * scale - 0.5;
                let expected = expected.clamp(0.0, (from - 1) as f32);
                assert!((column - expected).abs() < 1e-5, "{column}, not {expected}");
            }
        }
        let same = interpolation(3, 3);
        for (i, value) in same.iter().enumerate() {
            assert_eq!(*value, if i % 10 == 0 { 1.0 } else { 0.0 });
        }
    }

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
