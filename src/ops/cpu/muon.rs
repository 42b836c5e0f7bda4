//! Muon's direction on the processor: the three products of a Newton–Schulz step, by the kernels
//! that everything else multiplies with.

use rayon::prelude::*;

use super::kernel::PANEL;
use super::linear::{Scratch, block, panels, panels_transposed};
use super::matrix::{Operand, Panels, product};
use super::vector;
use crate::ops::muon::{COEFFICIENTS, Matrices, STEPS, TINY};

/// The direction of one parameter, whose momentum moves on; see
/// [`directions`](crate::ops::muon::directions).
pub fn direction<E: Operand>(
    gradient: &[f32],
    momentum: &mut [f32],
    matrices: Matrices,
    mu: f64,
) -> Vec<f32> {
    let Matrices {
        rows,
        columns,
        parts,
    } = matrices;
    vector::scale(momentum, mu as f32);
    vector::add_scaled(momentum, gradient, 1.0);
    let mut ahead = gradient.to_vec();
    vector::add_scaled(&mut ahead, momentum, mu as f32);
    let width = parts * columns;
    let line = |row: usize, part: usize| row * width + part * columns..;
    let orthogonal: Vec<Vec<f32>> = (0..parts)
        .into_par_iter()
        .map(|part| {
            let mut x: Vec<f32> = (0..rows)
                .flat_map(|row| &ahead[line(row, part)][..columns])
                .copied()
                .collect();
            if rows <= columns {
                orthogonalise::<E>(&mut x, columns);
                return x;
            }
            let mut turned = transposed(&x, columns);
            orthogonalise::<E>(&mut turned, rows);
            transposed(&turned, rows)
        })
        .collect();
    for (part, x) in orthogonal.iter().enumerate() {
        for (row, x) in x.chunks_exact(columns).enumerate() {
            ahead[line(row, part)][..columns].copy_from_slice(x);
        }
    }
    ahead
}

/// Five Newton–Schulz steps on `x`, of rows of `n` values and no more rows than that.
fn orthogonalise<E: Operand>(x: &mut [f32], n: usize) {
    let m = x.len() / n;
    let [a, b, c] = COEFFICIENTS;
    let norm = vector::dot(x, x).sqrt() + TINY;
    vector::scale(x, 1.0 / norm);
    let (mut gram, mut polynomial) = (vec![0.0; m * m], vec![0.0; m * m]);
    for _ in 0..STEPS {
        multiply::<E>(x, &panels_transposed::<E>(x, n), [0.0, 1.0], &mut gram);
        polynomial.copy_from_slice(&gram);
        multiply::<E>(&gram, &panels::<E>(&gram, m), [b, c], &mut polynomial);
        multiply::<E>(&polynomial, &panels::<E>(x, n), [a, 1.0], x);
    }
}

/// y = keep·y + scale·a·b.
fn multiply<E: Operand>(a: &[f32], b: &Panels, [keep, scale]: [f32; 2], y: &mut [f32]) {
    let (k, n) = (b.depth(), b.columns());
    let step = block::<E>(a.len() / k);
    y.par_chunks_mut(step * n)
        .zip(a.par_chunks(step * k))
        .for_each_init(Scratch::lent, |scratch, (y, a)| {
            let scratch = &mut **scratch;
            scratch.rows[0].fill::<E>(a.len() / k, k, |r, t| E::from_f32(&a[r * k..][..k], t));
            let c = &mut scratch.products[0];
            product::<E>(&scratch.rows[0], b, c, |columns, c| {
                vector::vectorised(|| {
                    for (y, c) in y.chunks_exact_mut(n).zip(c.chunks_exact(PANEL)) {
                        for (y, c) in y[columns.clone()].iter_mut().zip(c) {
                            *y = keep * *y + scale * c;
                        }
                    }
                });
            });
        });
}

/// The transpose of rows of `columns` values.
fn transposed(x: &[f32], columns: usize) -> Vec<f32> {
    let rows = x.len() / columns;
    let mut turned = Vec::with_capacity(x.len());
    for column in 0..columns {
        turned.extend((0..rows).map(|row| x[row * columns + column]));
    }
    turned
}
