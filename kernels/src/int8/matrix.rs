//! Operands of a product of codes as the kernels read them.

use super::kernel::{INTERLEAVE, Kernel, PANEL};
use super::quantise::{Row, quantise};
use crate::matrix::Buffer;

/// Rows of a left operand, each with its scale and zero.
#[derive(Debug, Default)]
pub(super) struct Rows {
    codes: Buffer,
    rows: Vec<Row>,
    stride: usize,
    padded: usize,
    k: usize,
}

impl Rows {
    /// Makes room for `rows` rows of `k` numbers, each of which [`set`](Self::set) must write.
    pub(super) fn room(&mut self, kernel: Kernel, rows: usize, k: usize) {
        self.k = k;
        self.stride = k.next_multiple_of(kernel.k_step());
        self.padded = rows.next_multiple_of(kernel.row_step());
        self.rows.resize(rows, Row::default());
    }

    /// Takes the numbers of one row.
    pub(super) fn set(&mut self, row: usize, x: &[f32]) {
        let codes = self.codes.get::<u8>(self.padded * self.stride);
        let (codes, padding) = codes[row * self.stride..][..self.stride].split_at_mut(self.k);
        padding.fill(0);
        self.rows[row] = quantise(x, codes);
    }

    /// The codes, the distance between two rows, and what the codes stand for.
    pub(super) fn get(&self) -> (&[u8], usize, &[Row]) {
        let codes = self.codes.as_slice(self.padded * self.stride);
        (codes, self.stride, &self.rows)
    }
}

/// A right operand, packed in panels.
#[derive(Debug)]
pub(super) struct Panels {
    codes: Buffer,
    pub(super) kernel: Kernel,
    /// k, padded.
    depth: usize,
    panels: usize,
}

impl Panels {
    /// `k` rows of `n` codes; `code(i, j)` is the one in row i and column j.
    pub(super) fn new(
        kernel: Kernel,
        [k, n]: [usize; 2],
        code: impl Fn(usize, usize) -> i8,
    ) -> Self {
        let depth = k.next_multiple_of(kernel.k_step());
        let panels = n.div_ceil(PANEL);
        let mut buffer = Buffer::default();
        let codes = buffer.get::<i8>(panels * depth * PANEL);
        // Padding is zero: its products add nothing to a sum, whatever the other operand has there.
        codes.fill(0);
        for i in 0..k {
            for j in 0..n {
                let word = (j / PANEL * depth / INTERLEAVE + i / INTERLEAVE) * PANEL + j % PANEL;
                codes[word * INTERLEAVE + i % INTERLEAVE] = code(i, j);
            }
        }
        Self {
            codes: buffer,
            kernel,
            depth,
            panels,
        }
    }

    /// Each panel, from the first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[i8]> {
        let len = self.depth * PANEL;
        let codes = self.codes.as_slice::<i8>(self.panels * len);
        (0..self.panels).map(move |i| &codes[i * len..][..len])
    }
}
