//! Some rows of a matrix on the processor.

use rayon::prelude::*;

use crate::scratch::output;

/// Rows that one task copies: some 100 kB of tokens.
const BLOCK: usize = 128;

/// The rows of `x`, each of `width` values, that `rows` names.
pub fn forward(x: &[f32], width: usize, rows: &[usize]) -> Vec<f32> {
    let mut y = output::<f32>(rows.len() * width);
    y.par_chunks_mut(BLOCK * width)
        .zip(rows.par_chunks(BLOCK))
        .for_each(|(y, rows)| {
            for (y, &row) in y.chunks_exact_mut(width).zip(rows) {
                y.copy_from_slice(&x[row * width..][..width]);
            }
        });
    y
}

/// The gradient of the `of` rows of x: that of its copy where it has one, else zero.
pub fn backward(dy: &[f32], of: usize, width: usize, rows: &[usize]) -> Vec<f32> {
    let mut copies = vec![None; of];
    for (copy, &row) in rows.iter().enumerate() {
        copies[row] = Some(copy);
    }
    let mut dx = output::<f32>(of * width);
    dx.par_chunks_mut(BLOCK * width)
        .zip(copies.par_chunks(BLOCK))
        .for_each(|(dx, copies)| {
            for (dx, copy) in dx.chunks_exact_mut(width).zip(copies) {
                match copy {
                    Some(copy) => dx.copy_from_slice(&dy[copy * width..][..width]),
                    None => dx.fill(0.0),
                }
            }
        });
    dx
}
