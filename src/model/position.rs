//! Where a token stands: tables of sines, for those who do not learn theirs.

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

/// Positions counted along the rows: 0, 1, … grid² − 1.
///
/// # Shapes
///
/// Row-major `[grid², width]`.
pub fn sinusoidal_1d(grid: usize, width: usize) -> Vec<f32> {
    let positions: Vec<f64> = (0..grid * grid).map(|i| i as f64).collect();
    sines(&positions, width)
}

/// Half of the width tells the row, half the column (as in MoCo v3 and MAE).
///
/// # Shapes
///
/// Row-major `[grid², width]`.
pub fn sinusoidal_2d(grid: usize, width: usize) -> Vec<f32> {
    let half = width / 2;
    let axis: Vec<f64> = (0..grid).map(|i| i as f64).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_position_is_sine_zero_cosine_one() {
        let table = sinusoidal_1d(3, 5);
        assert_eq!(table.len(), 9 * 5);
        assert_eq!(table[..5], [0.0, 0.0, 1.0, 1.0, 0.0]);
        let second = &table[5..10];
        assert!((second[0] - 1f32.sin()).abs() < 1e-6);
        assert!((second[1] - 0.01f32.sin()).abs() < 1e-6);
        assert!((second[2] - 1f32.cos()).abs() < 1e-6);
    }

    #[test]
    fn two_dimensional_rows_share_a_half() {
        let (grid, width) = (3, 8);
        let table = sinusoidal_2d(grid, width);
        let at = |y: usize, x: usize| &table[(y * grid + x) * width..][..width];
        assert_eq!(at(1, 0)[..4], at(1, 2)[..4]);
        assert_eq!(at(0, 2)[4..], at(2, 2)[4..]);
        assert_ne!(at(0, 1), at(1, 0));
    }
}
