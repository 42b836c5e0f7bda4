//! Muon's direction on the processor: the three products of a Newton–Schulz step, by the kernels
//! that everything else multiplies with.

use rayon::prelude::*;

use crate::dispatch::vectorised;
use crate::kernel::PANEL;
use crate::linear::{panels, panels_transposed};
use crate::matrix::{Panels, product};
use crate::operand::Operand;
use crate::scratch::{Scratch, block};
use crate::vector;

/// Steps of the Newton–Schulz iteration.
pub const STEPS: usize = 5;

/// Coefficients of the odd polynomial x ↦ ax + bx³ + cx⁵ that each step applies to all singular
/// values: steep at zero, so that five steps lift small ones, and near 1 for large ones (Jordan et
/// al. 2024, section "Tuning the coefficients").
pub const COEFFICIENTS: [f32; 3] = [3.4445, -4.775, 2.0315];

/// Added to the norm that a matrix is divided by: a gradient of zeros stays one.
pub const TINY: f32 = 1e-7;

/// How the matrices of one parameter lie: side by side, `[rows, parts·columns]`, row-major.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matrices {
    /// Rows of each.
    pub rows: usize,
    /// Columns of each.
    pub columns: usize,
    /// How many.
    pub parts: usize,
}

/// The direction of one parameter, whose momentum m moves on: with m ← μm + g, the matrices of
/// g + μm (Nesterov) are each replaced by about UVᵀ of their singular value decomposition USVᵀ.
#[inline(never)]
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
    if gradient.is_empty() {
        return Vec::new();
    }
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
                vectorised(|| {
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
