//! Operands of a matrix product as the kernels read them, and the way there.
//!
//! The left operand is rows; the right one is panels of [`PANEL`] columns. Both are filled row by
//! row by a closure, which converts, normalises or gathers as it goes: that work then happens in
//! the nearest cache and costs no pass of its own. A source that lies the other way round is
//! transposed on the way.

use bytemuck::{Pod, Zeroable, cast_slice, cast_slice_mut};

use crate::convert;
use crate::kernel::PANEL;
use crate::operand::Operand;

/// A cache line: what vector loads want their data aligned to.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; 16]);

// SAFETY: an array of integers, of exactly the size of its alignment, so without padding.
#[allow(unsafe_code)]
unsafe impl Zeroable for Line {}
// SAFETY: as above; every bit pattern is a value.
#[allow(unsafe_code)]
unsafe impl Pod for Line {}

/// Memory aligned to cache lines that is used again and again; it grows and never shrinks.
#[derive(Debug, Default, Clone)]
pub(crate) struct Buffer(Vec<Line>);

impl Buffer {
    /// `len` values of what was there before.
    pub(crate) fn get<E: Pod>(&mut self, len: usize) -> &mut [E] {
        let lines = (len * size_of::<E>()).div_ceil(size_of::<Line>());
        if self.0.len() < lines {
            self.0.resize(lines, Line::zeroed());
        }
        &mut cast_slice_mut(&mut self.0[..lines])[..len]
    }

    pub(crate) fn as_slice<E: Pod>(&self, len: usize) -> &[E] {
        &cast_slice(&self.0)[..len]
    }
}

/// Rows of a left operand, padded as its kernel wants them.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    values: Buffer,
    narrow: Buffer,
    rows: usize,
    stride: usize,
}

impl Rows {
    /// Takes `rows` rows of `k` values; `fill(row, target)` writes each.
    pub(crate) fn fill<E: Operand>(
        &mut self,
        rows: usize,
        k: usize,
        mut fill: impl FnMut(usize, &mut [E]),
    ) {
        let stride = k.next_multiple_of(E::K_STEP);
        self.rows = rows;
        self.stride = stride;
        let padded = rows.next_multiple_of(E::ROW_STEP);
        let values = self.values.get::<E>(padded * stride);
        for (row, target) in values.chunks_exact_mut(stride).take(rows).enumerate() {
            let (target, padding) = target.split_at_mut(k);
            fill(row, target);
            padding.fill(E::zeroed());
        }
    }

    /// Makes room for `rows` rows of `k` values, to be written by columns; returns it with the
    /// distance between two rows.
    pub(crate) fn room<E: Operand>(&mut self, rows: usize, k: usize) -> (&mut [E], usize) {
        self.fill::<E>(rows, k, |_, _| {});
        let padded = rows.next_multiple_of(E::ROW_STEP);
        (self.values.get(padded * self.stride), self.stride)
    }

    /// Takes `rows` rows of `k` values from a source that holds them as `k` rows of `rows`:
    /// `fill(i, target)` writes the i-th value of every row.
    pub(crate) fn fill_transposed<E: Operand>(
        &mut self,
        rows: usize,
        k: usize,
        mut fill: impl FnMut(usize, &mut [E]),
    ) {
        let stride = k.next_multiple_of(E::K_STEP);
        self.rows = rows;
        self.stride = stride;
        let padded = rows.next_multiple_of(E::ROW_STEP);
        let words = stride / E::INTERLEAVE;
        let values = self.values.get::<u32>(padded * words);
        // Sixteen words of k at a time: a transposed block of 16 by 16.
        let width = rows.next_multiple_of(16);
        let depth = 16 * E::INTERLEAVE;
        for first in (0..stride).step_by(depth) {
            let depth = depth.min(stride - first);
            let narrow = self.narrow.get::<u32>(depth / E::INTERLEAVE * width * 2);
            let (words_of_block, source) = narrow.split_at_mut(depth / E::INTERLEAVE * width);
            let source: &mut [E] = cast_slice_mut(source);
            for (i, line) in source.chunks_exact_mut(width).take(depth).enumerate() {
                if first + i < k {
                    fill(first + i, &mut line[..rows]);
                    line[rows..].fill(E::zeroed());
                } else {
                    line.fill(E::zeroed());
                }
            }
            let block: &[u32] = if E::INTERLEAVE == 1 {
                cast_slice(source)
            } else {
                let pairs = source.chunks_exact(width * E::INTERLEAVE);
                for (line, pair) in words_of_block.chunks_exact_mut(width).zip(pairs) {
                    let bits: &[u16] = cast_slice(pair);
                    let (low, high) = bits.split_at(width);
                    convert::pairs(low, high, line);
                }
                words_of_block
            };
            let target = &mut values[first / E::INTERLEAVE..];
            convert::transpose(block, width, depth / E::INTERLEAVE, rows, target, words);
        }
    }

    /// Copies the first values of one row.
    pub(crate) fn copy<E: Operand>(&self, row: usize, target: &mut [E]) {
        let (values, stride) = self.get::<E>();
        convert::copy(&values[row * stride..][..target.len()], target);
    }

    /// The rows, and the distance between two of them.
    pub(crate) fn get<E: Operand>(&self) -> (&[E], usize) {
        let padded = self.rows.next_multiple_of(E::ROW_STEP);
        (self.values.as_slice(padded * self.stride), self.stride)
    }
}

/// A right operand, packed in panels.
#[derive(Debug, Default, Clone)]
pub(crate) struct Panels {
    values: Buffer,
    narrow: Buffer,
    depth: usize,
    k: usize,
    n: usize,
}

impl Panels {
    /// Takes `k` rows of `n` values; `fill(row, target)` writes each.
    pub(crate) fn fill<E: Operand>(
        &mut self,
        k: usize,
        n: usize,
        mut fill: impl FnMut(usize, &mut [E]),
    ) {
        let (padded, width) = self.shape::<E>(k, n);
        let words = padded / E::INTERLEAVE;
        let values = self.values.get::<u32>(words * width);
        let source = self.narrow.get::<E>(E::INTERLEAVE * width);
        for word in 0..words {
            for (i, line) in source.chunks_exact_mut(width).enumerate() {
                let row = word * E::INTERLEAVE + i;
                if row < k {
                    fill(row, &mut line[..n]);
                    line[n..].fill(E::zeroed());
                } else {
                    line.fill(E::zeroed());
                }
            }
            for panel in 0..width / PANEL {
                let target = &mut values[(panel * words + word) * PANEL..][..PANEL];
                if E::INTERLEAVE == 1 {
                    target.copy_from_slice(&cast_slice(source)[panel * PANEL..][..PANEL]);
                } else {
                    let bits: &[u16] = cast_slice(source);
                    let (low, high) = bits.split_at(width);
                    let at = panel * PANEL..(panel + 1) * PANEL;
                    convert::pairs(&low[at.clone()], &high[at], target);
                }
            }
        }
    }

    /// Takes `n` columns of `k` values; `fill(column, target)` writes each.
    pub(crate) fn fill_transposed<E: Operand>(
        &mut self,
        k: usize,
        n: usize,
        mut fill: impl FnMut(usize, &mut [E]),
    ) {
        let (padded, width) = self.shape::<E>(k, n);
        let words = padded / E::INTERLEAVE;
        let values = self.values.get::<u32>(words * width);
        let source = self.narrow.get::<E>(PANEL * padded);
        for (panel, target) in values.chunks_exact_mut(words * PANEL).enumerate() {
            for (i, line) in source.chunks_exact_mut(padded).enumerate() {
                let column = panel * PANEL + i;
                if column < n {
                    fill(column, &mut line[..k]);
                    line[k..].fill(E::zeroed());
                } else {
                    line.fill(E::zeroed());
                }
            }
            convert::transpose(cast_slice(source), words, PANEL, words, target, PANEL);
        }
    }

    /// Notes the shape and returns k and n padded.
    fn shape<E: Operand>(&mut self, k: usize, n: usize) -> (usize, usize) {
        self.depth = k;
        self.k = k.next_multiple_of(E::K_STEP);
        self.n = n;
        (self.k, n.next_multiple_of(PANEL))
    }

    /// k, without padding.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Columns.
    pub(crate) fn columns(&self) -> usize {
        self.n
    }

    /// The `i`-th panel.
    pub(crate) fn panel<E: Operand>(&self, i: usize) -> &[E] {
        let all = self.values.as_slice((i + 1) * self.k * PANEL);
        &all[i * self.k * PANEL..]
    }
}

/// The product of rows and panels, panel by panel: `take(columns, product)` gets the product's rows for each panel, which may be written over.
pub(crate) fn product<E: Operand>(
    rows: &Rows,
    panels: &Panels,
    scratch: &mut Buffer,
    mut take: impl FnMut(std::ops::Range<usize>, &mut [f32]),
) {
    let (a, lda) = rows.get::<E>();
    let padded = rows.rows.next_multiple_of(E::ROW_STEP);
    let c = scratch.get::<f32>(padded * PANEL);
    for panel in 0..panels.columns().div_ceil(PANEL) {
        E::panel(a, lda, rows.rows, panels.panel(panel), c, PANEL, false);
        let end = ((panel + 1) * PANEL).min(panels.columns());
        take(panel * PANEL..end, c);
    }
}

/// C (+)= rows·panels, whole: C has rows of `ldc` values, n padded to [`PANEL`], and as many of
/// them as the rows have when padded.
pub(crate) fn product_into<E: Operand>(
    rows: &Rows,
    panels: &Panels,
    c: &mut [f32],
    ldc: usize,
    accumulate: bool,
) {
    let (a, lda) = rows.get::<E>();
    for panel in 0..panels.columns().div_ceil(PANEL) {
        let c = &mut c[panel * PANEL..];
        E::panel(a, lda, rows.rows, panels.panel(panel), c, ldc, accumulate);
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    fn numbers(len: usize, seed: u32) -> Vec<f32> {
        let mut x = seed;
        let mut next = || {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    fn products<E: Operand>(tolerance: f64) {
        for (m, k, n) in [
            (1, 1, 1),
            (3, 5, 7),
            (16, 31, 33),
            (33, 47, 65),
            (70, 130, 31),
        ] {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let mut want = vec![0.0; m * n];
            for (i, want) in want.iter_mut().enumerate() {
                *want = (0..k)
                    .map(|l| f64::from(a[i / n * k + l]) * f64::from(b[l * n + i % n]))
                    .sum();
            }
            let column = |x: &[f32], width: usize, i: usize| -> Vec<f32> {
                x.iter().skip(i).step_by(width).copied().collect()
            };
            // Filled again and again, so that what an earlier fill left behind would show.
            let (mut rows, mut panels) = (Rows::default(), Panels::default());
            for (transpose_a, transpose_b) in
                [(false, false), (true, false), (false, true), (true, true)]
            {
                if transpose_a {
                    rows.fill_transposed::<E>(m, k, |i, t| E::from_f32(&column(&a, k, i), t));
                } else {
                    rows.fill::<E>(m, k, |r, t| E::from_f32(&a[r * k..][..k], t));
                }
                if transpose_b {
                    panels.fill_transposed::<E>(k, n, |j, t| E::from_f32(&column(&b, n, j), t));
                } else {
                    panels.fill::<E>(k, n, |r, t| E::from_f32(&b[r * n..][..n], t));
                }
                let mut found = vec![0.0; m * n];
                product::<E>(&rows, &panels, &mut Buffer::default(), |columns, c| {
                    for r in 0..m {
                        for (i, j) in columns.clone().enumerate() {
                            found[r * n + j] = c[r * PANEL + i];
                        }
                    }
                });
                let stride = n.next_multiple_of(PANEL);
                let mut whole = vec![0.0; m.next_multiple_of(E::ROW_STEP) * stride];
                product_into::<E>(&rows, &panels, &mut whole, stride, false);
                for i in 0..m * n {
                    let error = (f64::from(found[i]) - want[i]).abs();
                    assert!(
                        error < tolerance,
                        "{m} {k} {n} at {i}: {}, not {}",
                        found[i],
                        want[i]
                    );
                    assert_eq!(whole[i / n * stride + i % n], found[i]);
                }
            }
        }
    }

    #[test]
    fn products_of_any_shape_either_way_round() {
        products::<f32>(1e-4);
        products::<bf16>(0.15);
    }
}
