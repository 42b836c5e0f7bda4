//! Products over many rows: split into fixed blocks, so that the number of threads never shows.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};

use rayon::prelude::*;

use super::kernel::PANEL;
use super::matrix::{Buffer, Operand, Panels, Rows, product, product_into};
use super::vector;

/// Most rows that one task takes at a time: enough to reuse each panel, few enough for the cache.
pub const BLOCK: usize = 128;

/// Rows that one task takes at a time, where each row's result is its own: shares as equal as can
/// be, so that every thread gets as much where there are few.
pub fn block<E: Operand>(rows: usize) -> usize {
    let threads = rayon::current_num_threads();
    let tasks = rows.div_ceil(BLOCK).next_multiple_of(threads);
    rows.div_ceil(tasks).next_multiple_of(E::ROW_STEP).max(1)
}

/// Most parts that a sum over rows is split into.
const MAX_PARTS: usize = 16;

/// Fewest rows in a part: below, adding the parts up costs more than it spreads.
const MIN_PART: usize = 512;

/// Rows of a part that are taken at a time: all that is made of them stays in the cache.
const SLICE: usize = 128;

/// What a task works in; each thread has its own and uses it again and again.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Left operands.
    pub rows: [Rows; 3],
    /// Right operands that change from block to block.
    pub panels: [Panels; 4],
    /// Products.
    pub products: [Buffer; 6],
}

thread_local! {
    /// What [`Scratch::lent`] lends.
    static SCRATCH: Cell<Scratch> = Cell::default();
}

impl Scratch {
    /// This thread's own, given back when the loan ends; a second loan meanwhile is a fresh one.
    pub fn lent() -> Lent {
        Lent(SCRATCH.take())
    }
}

/// A [`Scratch`] on loan.
#[derive(Debug)]
pub struct Lent(Scratch);

impl Deref for Lent {
    type Target = Scratch;

    fn deref(&self) -> &Scratch {
        &self.0
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Scratch {
        &mut self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // A thread that is ending has no place for it any more.
        let _ = SCRATCH.try_with(|place| place.set(std::mem::take(&mut self.0)));
    }
}

/// A vector whose every value that is read will be written before; what is padding need not be.
///
/// Clearing it first would cost a pass over memory as long as many of the kernels take.
pub(super) fn output<E: Operand>(len: usize) -> Vec<E> {
    let mut values = Vec::with_capacity(len);
    // SAFETY: E is plain old data, for which every bit pattern is a value; the kernels that ask
    // for an output write all of it that anyone reads, block by block.
    #[allow(unsafe_code, clippy::uninit_vec)]
    unsafe {
        values.set_len(len);
    }
    values
}

/// A linear layer as the kernels read it.
#[derive(Debug)]
pub struct Packed<E> {
    /// Its weight.
    pub panels: Panels,
    /// Its bias.
    pub bias: Vec<f32>,
    types: PhantomData<E>,
}

impl<E: Operand> Packed<E> {
    /// Of a plain layer.
    pub fn new(weight: &[f32], bias: &[f32]) -> Self {
        Self {
            panels: panels::<E>(weight, bias.len()),
            bias: bias.to_vec(),
            types: PhantomData,
        }
    }

    /// Of a layer with the norm before it folded in.
    pub fn folded(folded: &Folded, bias: &[f32]) -> Self {
        Self {
            panels: folded.panels::<E>(),
            bias: folded.bias(bias),
            types: PhantomData,
        }
    }
}

/// y = x·W + b.
pub fn forward<E: Operand>(x: &[f32], layer: &Packed<E>) -> Vec<f32> {
    let outputs = layer.bias.len();
    let inputs = layer.panels.depth();
    let rows = x.len() / inputs;
    let step = block::<E>(rows);
    let mut y = output::<f32>(rows * outputs);
    y.par_chunks_mut(step * outputs).enumerate().for_each_init(
        Scratch::lent,
        |scratch, (block, y)| {
            let scratch = &mut **scratch;
            let first = block * step;
            let count = y.len() / outputs;
            scratch.rows[0].fill::<E>(count, inputs, |r, t| {
                E::from_f32(&x[(first + r) * inputs..][..inputs], t);
            });
            let c = &mut scratch.products[0];
            product::<E>(&scratch.rows[0], &layer.panels, c, |columns, c| {
                vector::store(
                    c,
                    count,
                    &layer.bias[columns.clone()],
                    &mut y[columns.start..],
                    outputs,
                );
            });
        },
    );
    y
}

/// Gradients of x, W and b of [`forward`]; that of x only where it is asked for.
pub fn backward<E: Operand>(
    x: &[f32],
    weight: &[f32],
    dy: &[f32],
    outputs: usize,
    with_dx: bool,
) -> [Vec<f32>; 3] {
    let inputs = weight.len() / outputs;
    let rows = dy.len() / outputs;
    let panels = with_dx.then(|| panels_transposed::<E>(weight, outputs));
    let zeros = vec![0.0; inputs];
    let mut dx = output::<f32>(if with_dx { rows * inputs } else { 0 });
    let [(dw, db)] = gradients(
        rows,
        1,
        [[inputs, outputs]],
        &mut dx,
        |range, dx, [gradient], scratch| {
            let [upper, left, _] = &mut scratch.rows;
            let count = range.len();
            upper.fill::<E>(count, outputs, |r, t| {
                E::from_f32(&dy[(range.start + r) * outputs..][..outputs], t);
            });
            if let Some(panels) = &panels {
                product::<E>(upper, panels, &mut scratch.products[0], |columns, c| {
                    let target = &mut dx[columns.start..];
                    vector::store(c, count, &zeros[columns.clone()], target, inputs);
                });
            }
            let x = |r: usize, t: &mut [E]| {
                E::from_f32(&x[(range.start + r) * inputs..][..inputs], t);
            };
            let right = &mut scratch.panels[0];
            gradient.add::<E>(left, right, count, x, |r, t| upper.copy(r, t));
        },
    );
    [dx, dw, db]
}

/// The gradients of a linear layer's weight `[m, n]` and bias `[n]`, as its rows come in.
#[derive(Debug)]
pub struct Gradient {
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
    pub fn add<E: Operand>(
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
    pub fn add_bias(&mut self, x: &[f32]) {
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
pub fn gradients<T, const L: usize>(
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

/// A layer norm's scale and shift moved into the linear layer after it:
/// (γ·x̂ + β)·W + b = x̂·(γ·W) + (β·W + b).
pub struct Folded<'a> {
    gamma: &'a [f32],
    beta: &'a [f32],
    weight: &'a [f32],
    outputs: usize,
}

impl<'a> Folded<'a> {
    /// Of a norm and a layer.
    pub fn new(gamma: &'a [f32], beta: &'a [f32], weight: &'a [f32]) -> Self {
        Self {
            gamma,
            beta,
            weight,
            outputs: weight.len() / gamma.len(),
        }
    }

    fn row(&self, i: usize) -> &'a [f32] {
        &self.weight[i * self.outputs..][..self.outputs]
    }

    /// γ·W.
    pub fn panels<E: Operand>(&self) -> Panels {
        let mut panels = Panels::default();
        panels.fill::<E>(self.gamma.len(), self.outputs, |i, t| {
            vector::scaled(self.row(i), self.gamma[i], t);
        });
        panels
    }

    /// (γ·W)ᵀ.
    pub fn panels_transposed<E: Operand>(&self) -> Panels {
        let mut panels = Panels::default();
        panels.fill_transposed::<E>(self.outputs, self.gamma.len(), |i, t| {
            vector::scaled(self.row(i), self.gamma[i], t);
        });
        panels
    }

    /// β·W + b.
    pub fn bias(&self, bias: &[f32]) -> Vec<f32> {
        let mut sum = bias.to_vec();
        for (i, &beta) in self.beta.iter().enumerate() {
            vector::add_scaled(&mut sum, self.row(i), beta);
        }
        sum
    }

    /// From the gradients of γ·W and of the whole bias to those of γ, β and W.
    pub fn gradients(&self, mut folded: Vec<f32>, bias: &[f32]) -> [Vec<f32>; 3] {
        let mut gamma = Vec::with_capacity(self.gamma.len());
        let mut beta = Vec::with_capacity(self.gamma.len());
        for (i, row) in folded.chunks_exact_mut(self.outputs).enumerate() {
            gamma.push(vector::dot(self.row(i), row));
            beta.push(vector::dot(self.row(i), bias));
            let (scale, shift) = (self.gamma[i], self.beta[i]);
            for (d, &bias) in row.iter_mut().zip(bias) {
                *d = scale * *d + shift * bias;
            }
        }
        [gamma, beta, folded]
    }
}

/// W, row by row.
pub fn panels<E: Operand>(weight: &[f32], outputs: usize) -> Panels {
    let mut panels = Panels::default();
    panels.fill::<E>(weight.len() / outputs, outputs, |i, t| {
        E::from_f32(&weight[i * outputs..][..outputs], t);
    });
    panels
}

/// Wᵀ.
pub fn panels_transposed<E: Operand>(weight: &[f32], outputs: usize) -> Panels {
    let mut panels = Panels::default();
    panels.fill_transposed::<E>(outputs, weight.len() / outputs, |i, t| {
        E::from_f32(&weight[i * outputs..][..outputs], t);
    });
    panels
}

/// dx = dy + the gradient that reaches x through a layer norm and the layer after it: `outputs`
/// holds the gradient of the layer's output, `panels` the layer's folded weight, transposed.
pub fn normed_input_gradient<E: Operand>(
    outputs: &Rows,
    panels: &Panels,
    scratch: &mut Buffer,
    x: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    width: usize,
) {
    let count = dx.len() / width;
    let stride = width.next_multiple_of(PANEL);
    let normed = scratch.get::<f32>(count.next_multiple_of(E::ROW_STEP) * stride);
    product_into::<E>(outputs, panels, normed, stride, false);
    for (r, dx) in dx.chunks_exact_mut(width).enumerate() {
        let at = r * width..(r + 1) * width;
        let g = &normed[r * stride..][..width];
        vector::standardise_gradient(&x[at.clone()], g, &dy[at], dx);
    }
}

/// Operations a second that products reach here, of operands that are packed already and stay in
/// the cache: the best of several.
pub fn limit<E: Operand>() -> f64 {
    const SIDE: usize = 256;
    const TIMES: usize = 20;
    let began = std::time::Instant::now();
    let mut best = 0.0_f64;
    while began.elapsed().as_secs_f64() < 0.3 {
        let start = std::time::Instant::now();
        rayon::broadcast(|_| {
            let mut scratch = Scratch::lent();
            let scratch = &mut *scratch;
            let (rows, panels) = (&mut scratch.rows[0], &mut scratch.panels[0]);
            rows.fill::<E>(SIDE, SIDE, |_, t| t.fill(E::narrow(0.5)));
            panels.fill::<E>(SIDE, SIDE, |_, t| t.fill(E::narrow(0.25)));
            for _ in 0..TIMES {
                product::<E>(rows, panels, &mut scratch.products[0], |_, _| {});
            }
        });
        let products = (TIMES * rayon::current_num_threads()) as f64;
        let operations = 2.0 * (SIDE * SIDE * SIDE) as f64 * products;
        best = best.max(operations / start.elapsed().as_secs_f64());
    }
    best
}
