//! Operands of a matrix product as the kernels read them, and the way there.
//!
//! The left operand is rows; the right one is panels of [`PANEL`] columns. Both are filled row by
//! row by a closure, which converts, normalises or gathers as it goes: that work then happens in
//! the nearest cache and costs no pass of its own. A source that lies the other way round is
//! transposed on the way.

use bytemuck::{Pod, Zeroable, cast_slice, cast_slice_mut};
use half::bf16;

use super::kernel::{self, BF16_ROWS, BF16_STEP, PANEL};
use super::{convert, vector};

/// What a product multiplies; it always sums in f32.
pub trait Operand: Pod + Send + Sync {
    /// Values along k that lie side by side in a panel.
    const INTERLEAVE: usize;
    /// k is padded with zeros to a multiple of this.
    const K_STEP: usize;
    /// Rows are padded to a multiple of this.
    const ROW_STEP: usize;

    /// The nearest value of this type.
    fn narrow(x: f32) -> Self;

    /// The same value in f32.
    fn widen(self) -> f32;

    /// x·Φ(x), to within 1.4·10⁻⁴ where it will be rounded to eight bits.
    fn gelu(x: f32) -> f32;

    /// Converts as many values as both slices hold.
    fn from_f32(source: &[f32], target: &mut [Self]) {
        convert::narrow(source, target);
    }

    /// Converts as many values as both slices hold.
    fn to_f32(source: &[Self], target: &mut [f32]) {
        convert::widen(source, target);
    }

    /// One panel's product; see [`kernel`].
    #[allow(clippy::too_many_arguments)]
    fn panel(
        a: &[Self],
        lda: usize,
        rows: usize,
        panel: &[Self],
        c: &mut [f32],
        ldc: usize,
        accumulate: bool,
    );
}

impl Operand for f32 {
    const INTERLEAVE: usize = 1;
    const K_STEP: usize = 1;
    const ROW_STEP: usize = 1;

    #[inline(always)]
    fn narrow(x: f32) -> f32 {
        x
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn gelu(x: f32) -> f32 {
        vector::gelu_of(x)
    }

    fn panel(
        a: &[f32],
        lda: usize,
        rows: usize,
        panel: &[f32],
        c: &mut [f32],
        ldc: usize,
        accumulate: bool,
    ) {
        let kernel = kernel::f32_kernel();
        kernel::f32_panel(kernel, a, lda, rows, panel, c, ldc, accumulate);
    }
}

impl Operand for bf16 {
    const INTERLEAVE: usize = 2;
    const K_STEP: usize = BF16_STEP;
    const ROW_STEP: usize = BF16_ROWS;

    #[inline(always)]
    fn narrow(x: f32) -> bf16 {
        convert::round_bf16(x)
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn gelu(x: f32) -> f32 {
        vector::gelu_short(x)
    }

    fn panel(
        a: &[bf16],
        lda: usize,
        rows: usize,
        panel: &[bf16],
        c: &mut [f32],
        ldc: usize,
        accumulate: bool,
    ) {
        let kernel = kernel::bf16_kernel();
        kernel::bf16_panel(kernel, a, lda, rows, panel, c, ldc, accumulate);
    }
}

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
pub struct Buffer(Vec<Line>);

impl Buffer {
    /// `len` values of what was there before.
    pub fn get<E: Pod>(&mut self, len: usize) -> &mut [E] {
        let lines = (len * size_of::<E>()).div_ceil(size_of::<Line>());
        if self.0.len() < lines {
            self.0.resize(lines, Line::zeroed());
        }
        &mut cast_slice_mut(&mut self.0[..lines])[..len]
    }

    fn as_slice<E: Pod>(&self, len: usize) -> &[E] {
        &cast_slice(&self.0)[..len]
    }
}

/// Rows of a left operand, padded as its kernel wants them.
#[derive(Debug, Default)]
pub struct Rows {
    values: Buffer,
    narrow: Buffer,
    rows: usize,
    stride: usize,
}

impl Rows {
    /// Takes `rows` rows of `k` values; `fill(row, target)` writes each.
    pub fn fill<E: Operand>(
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
    pub fn room<E: Operand>(&mut self, rows: usize, k: usize) -> (&mut [E], usize) {
        self.fill::<E>(rows, k, |_, _| {});
        let padded = rows.next_multiple_of(E::ROW_STEP);
        (self.values.get(padded * self.stride), self.stride)
    }

    /// Takes `rows` rows of `k` values from a source that holds them as `k` rows of `rows`:
    /// `fill(i, target)` writes the i-th value of every row.
    pub fn fill_transposed<E: Operand>(
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
    pub fn copy<E: Operand>(&self, row: usize, target: &mut [E]) {
        let (values, stride) = self.get::<E>();
        convert::copy(&values[row * stride..][..target.len()], target);
    }

    /// The rows, and the distance between two of them.
    pub fn get<E: Operand>(&self) -> (&[E], usize) {
        let padded = self.rows.next_multiple_of(E::ROW_STEP);
        (self.values.as_slice(padded * self.stride), self.stride)
    }
}

/// A right operand, packed in panels.
#[derive(Debug, Default, Clone)]
pub struct Panels {
    values: Buffer,
    narrow: Buffer,
    depth: usize,
    k: usize,
    n: usize,
}

impl Panels {
    /// Takes `k` rows of `n` values; `fill(row, target)` writes each.
    pub fn fill<E: Operand>(&mut self, k: usize, n: usize, mut fill: impl FnMut(usize, &mut [E])) {
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
    pub fn fill_transposed<E: Operand>(
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
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Columns.
    pub fn columns(&self) -> usize {
        self.n
    }

    /// The `i`-th panel.
    pub fn panel<E: Operand>(&self, i: usize) -> &[E] {
        let all = self.values.as_slice((i + 1) * self.k * PANEL);
        &all[i * self.k * PANEL..]
    }
}

/// The product of rows and panels, panel by panel: `take(columns, product)` gets the product's rows for each panel, which may be written over.
pub fn product<E: Operand>(
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
pub fn product_into<E: Operand>(
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
