//! Where a token stands.

use burn::tensor::{Device, Tensor, TensorData};

/// Sinusoids over the token's place in the sequence (Vaswani et al. 2017, section 3.5): even
/// columns hold sin(pos / 10000^(2i/D)), odd ones the cosine.
///
/// # Shapes
///
/// `[1, N, D]`.
pub fn sinusoidal_1d(tokens: usize, width: usize, device: &Device) -> Tensor<3> {
    let mut values = vec![0.0; tokens * width];
    for (position, row) in values.chunks_mut(width).enumerate() {
        encode(position as f64, row);
    }
    Tensor::from_data(TensorData::new(values, [1, tokens, width]), device)
}

/// Sinusoids over row and column, half the width each (He et al. 2022, MAE, appendix A.1).
///
/// # Shapes
///
/// `[1, rows·columns, D]`; D must be even.
pub fn sinusoidal_2d(rows: usize, columns: usize, width: usize, device: &Device) -> Tensor<3> {
    let mut values = vec![0.0; rows * columns * width];
    for (index, token) in values.chunks_mut(width).enumerate() {
        let (row, column) = (index / columns, index % columns);
        let (first, second) = token.split_at_mut(width / 2);
        encode(row as f64, first);
        encode(column as f64, second);
    }
    Tensor::from_data(
        TensorData::new(values, [1, rows * columns, width]),
        device,
    )
}

fn encode(position: f64, row: &mut [f32]) {
    let width = row.len() as f64;
    for (column, value) in row.iter_mut().enumerate() {
        let pair = (column / 2 * 2) as f64;
        let angle = position / 10_000f64.powf(pair / width);
        *value = if column % 2 == 0 { angle.sin() } else { angle.cos() } as f32;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_first_position_is_zero_and_one() {
        let p = sinusoidal_1d(3, 6, &Device::flex());
        let values = p.try_into_vec_as::<f32>().unwrap();
        assert_eq!(&values[..6], [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
        assert!((values[6] - 1f32.sin()).abs() < 1e-6);
        assert!((values[9] - (1.0 / 10_000f32.powf(2.0 / 6.0)).cos()).abs() < 1e-6);
    }

    #[test]
    fn rows_and_columns_are_told_apart() {
        let p = sinusoidal_2d(2, 3, 8, &Device::flex());
        let values = p.try_into_vec_as::<f32>().unwrap();
        let token = |i: usize| &values[i * 8..(i + 1) * 8];
        // Tokens 1 and 4 share the column, 1 and 2 the row.
        assert_eq!(token(1)[4..], token(4)[4..]);
        assert_eq!(token(1)[..4], token(2)[..4]);
        assert_ne!(token(1), token(4));
    }
}
