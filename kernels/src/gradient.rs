//! Gradients of linear layers: sums over rows, in parts that the number of rows alone decides.

use std::ops::Range;

use crate::kernel::PANEL;
use crate::matrix::{Panels, Rows, product_into};
use crate::operand::Operand;
use crate::scratch::{Scratch, output};
use crate::vector;

/// Most parts that a sum over rows is split into.
const MAX_PARTS: usize = 16;

/// Fewest rows in a part: below, adding the parts up costs more than it spreads.
const MIN_PART: usize = 512;

/// Rows of a part that are taken at a time: all that is made of them stays in the cache.
const SLICE: usize = 128;

/// The gradients of a linear layer's weight `[m, n]` and bias `[n]`, as its rows come in.
#[derive(Debug)]
pub(crate) struct Gradient {
    /// With rows and columns padded as the kernels want them; empty before the first rows.
    weight: Vec<f32>,
    bias: Vec<f32>,
    m: usize,
}

impl Gradient {
    fn new([m, n]: [usize; 2]) -> Self {
        Self {
            weight: Vec::new(),
            bias: vec![0.0; n],
            m,
        }
    }

    /// Adds leftᵀ·right over `count` rows, and the sum of right: `left` gives the rows of the
    /// layer's input, `right` those of its output's gradient.
    pub(crate) fn add<E: Operand>(
        &mut self,
        rows: &mut Rows,
        panels: &mut Panels,
        count: usize,
        left: impl FnMut(usize, &mut [E]),
        mut right: impl FnMut(usize, &mut [E]),
    ) {
        let n = self.bias.len();
        rows.fill_transposed::<E>(self.m, count, left);
        panels.fill::<E>(count, n, |i, t| {
            right(i, t);
            vector::add_scaled(&mut self.bias, t, 1.0);
        });
        let stride = n.next_multiple_of(PANEL);
        let begun = !self.weight.is_empty();
        if !begun {
            self.weight = output(self.m.next_multiple_of(E::ROW_STEP) * stride);
        }
        product_into::<E>(rows, panels, &mut self.weight, stride, begun);
    }

    /// Adds to the bias alone, which is all that a layer without inputs has.
    pub(crate) fn add_bias(&mut self, x: &[f32]) {
        vector::add_scaled(&mut self.bias, x, 1.0);
    }

    fn merge(mut self, other: &Self) -> Self {
        // Not the rows of padding, which not every kernel writes.
        let written = self.m * self.bias.len().next_multiple_of(PANEL);
        vector::add_scaled(&mut self.weight[..written], &other.weight[..written], 1.0);
        vector::add_scaled(&mut self.bias, &other.bias, 1.0);
        self
    }

    /// Weight and bias without padding.
    fn finish(mut self) -> (Vec<f32>, Vec<f32>) {
        let n = self.bias.len();
        let stride = n.next_multiple_of(PANEL);
        // No rows at all.
        self.weight
            .resize(self.weight.len().max(self.m * stride), 0.0);
        if stride > n {
            for row in 0..self.m {
                self.weight
                    .copy_within(row * stride..row * stride + n, row * n);
            }
        }
        self.weight.truncate(self.m * n);
        (self.weight, self.bias)
    }
}

/// The gradients of L layers of the given shapes `[m, n]`, summed over rows, and whatever is
/// computed row by row beside them: `run` takes some rows, their share of `out`, and the gradients
/// that the rows are to be added to.
///
/// `unit` rows are never parted. The rows are split into parts by their number alone, and the parts
/// are added up as a tree.
pub(crate) fn gradients<T, const L: usize>(
    rows: usize,
    unit: usize,
    shapes: [[usize; 2]; L],
    out: &mut [T],
    run: impl Fn(Range<usize>, &mut [T], &mut [Gradient; L], &mut Scratch) + Sync,
) -> [(Vec<f32>, Vec<f32>); L]
where
    T: Send,
{
    let units = rows / unit;
    let parts = (rows / MIN_PART).clamp(1, MAX_PARTS).min(units.max(1));
    let tree = Tree {
        starts: (0..=parts)
            .map(|part| units * part / parts * unit)
            .collect(),
        slice: (SLICE / unit).max(1) * unit,
        width: out.len() / rows.max(1),
        shapes,
        run,
    };
    tree.sum(0..parts, out).map(Gradient::finish)
}

/// One call of [`gradients`].
struct Tree<R, const L: usize> {
    /// First row of each part, and the end.
    starts: Vec<usize>,
    /// Rows taken at a time.
    slice: usize,
    /// Values of `out` a row.
    width: usize,
    shapes: [[usize; 2]; L],
    run: R,
}

impl<R, const L: usize> Tree<R, L> {
    fn sum<T: Send>(&self, parts: Range<usize>, out: &mut [T]) -> [Gradient; L]
    where
        R: Fn(Range<usize>, &mut [T], &mut [Gradient; L], &mut Scratch) + Sync,
    {
        let begin = self.starts[parts.start];
        if parts.len() == 1 {
            return self.part(begin..self.starts[parts.end], out);
        }
        let middle = parts.start + parts.len() / 2;
        let (lower, upper) = out.split_at_mut((self.starts[middle] - begin) * self.width);
        let (sums, others) = rayon::join(
            || self.sum(parts.start..middle, lower),
            || self.sum(middle..parts.end, upper),
        );
        let mut others = others.iter();
        sums.map(|sum| match others.next() {
            Some(other) => sum.merge(other),
            None => sum,
        })
    }

    fn part<T>(&self, rows: Range<usize>, mut out: &mut [T]) -> [Gradient; L]
    where
        R: Fn(Range<usize>, &mut [T], &mut [Gradient; L], &mut Scratch),
    {
        let mut sums = self.shapes.map(Gradient::new);
        let mut scratch = Scratch::lent();
        for first in rows.clone().step_by(self.slice) {
            let slice = first..(first + self.slice).min(rows.end);
            let share;
            (share, out) = out.split_at_mut(slice.len() * self.width);
            (self.run)(slice, share, &mut sums, &mut scratch);
        }
        sums
    }
}
