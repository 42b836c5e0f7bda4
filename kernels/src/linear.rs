//! A linear layer, alone or with the layer norm before it folded in.

use std::marker::PhantomData;

use rayon::prelude::*;

use crate::gradient::gradients;
use crate::kernel::PANEL;
use crate::matrix::{Buffer, Panels, Rows, product, product_into};
use crate::operand::Operand;
use crate::scratch::{Scratch, block, output};
use crate::vector;

/// A linear layer as the kernels read it.
#[derive(Debug)]
pub struct Packed<E> {
    /// Its weight.
    pub(crate) panels: Panels,
    /// Its bias.
    pub(crate) bias: Vec<f32>,
    types: PhantomData<E>,
}

impl<E: Operand> Packed<E> {
    /// Of a plain layer.
    #[inline(never)]
    pub fn new(weight: &[f32], bias: &[f32]) -> Self {
        Self {
            panels: panels::<E>(weight, bias.len()),
            bias: bias.to_vec(),
            types: PhantomData,
        }
    }

    /// Of a layer with the norm before it folded in.
    pub(crate) fn folded(folded: &Folded, bias: &[f32]) -> Self {
        Self {
            panels: folded.panels::<E>(),
            bias: folded.bias(bias),
            types: PhantomData,
        }
    }
}

/// y = x·W + b; of no rows, and of rows without inputs, whose number nobody can tell, nothing.
#[inline(never)]
pub fn forward<E: Operand>(x: &[f32], layer: &Packed<E>) -> Vec<f32> {
    let outputs = layer.bias.len();
    let inputs = layer.panels.depth();
    if x.is_empty() || outputs == 0 {
        return Vec::new();
    }
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

/// Gradients of x, W and b of [`forward`]; that of x is empty unless `with_dx`.
#[inline(never)]
pub fn backward<E: Operand>(
    x: &[f32],
    weight: &[f32],
    dy: &[f32],
    outputs: usize,
    with_dx: bool,
) -> [Vec<f32>; 3] {
    if weight.is_empty() || dy.is_empty() {
        let mut db = vec![0.0; outputs];
        for dy in dy.chunks_exact(outputs.max(1)) {
            vector::add_scaled(&mut db, dy, 1.0);
        }
        let dx = vec![0.0; if with_dx { x.len() } else { 0 }];
        return [dx, vec![0.0; weight.len()], db];
    }
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

/// A layer norm's scale and shift moved into the linear layer after it:
/// (γ·x̂ + β)·W + b = x̂·(γ·W) + (β·W + b).
pub(crate) struct Folded<'a> {
    gamma: &'a [f32],
    beta: &'a [f32],
    weight: &'a [f32],
    outputs: usize,
}

impl<'a> Folded<'a> {
    /// Of a norm and a layer.
    pub(crate) fn new(gamma: &'a [f32], beta: &'a [f32], weight: &'a [f32]) -> Self {
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
    pub(crate) fn panels<E: Operand>(&self) -> Panels {
        let mut panels = Panels::default();
        panels.fill::<E>(self.gamma.len(), self.outputs, |i, t| {
            vector::scaled(self.row(i), self.gamma[i], t);
        });
        panels
    }

    /// (γ·W)ᵀ.
    pub(crate) fn panels_transposed<E: Operand>(&self) -> Panels {
        let mut panels = Panels::default();
        panels.fill_transposed::<E>(self.outputs, self.gamma.len(), |i, t| {
            vector::scaled(self.row(i), self.gamma[i], t);
        });
        panels
    }

    /// β·W + b.
    pub(crate) fn bias(&self, bias: &[f32]) -> Vec<f32> {
        let mut sum = bias.to_vec();
        for (i, &beta) in self.beta.iter().enumerate() {
            vector::add_scaled(&mut sum, self.row(i), beta);
        }
        sum
    }

    /// From the gradients of γ·W and of the whole bias to those of γ, β and W.
    pub(crate) fn gradients(&self, mut folded: Vec<f32>, bias: &[f32]) -> [Vec<f32>; 3] {
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

/// Inputs of a layer of this weight; one without outputs has no weight that could tell.
fn inputs(weight: &[f32], outputs: usize) -> usize {
    weight.len().checked_div(outputs).unwrap_or(0)
}

/// W, row by row.
pub(crate) fn panels<E: Operand>(weight: &[f32], outputs: usize) -> Panels {
    let mut panels = Panels::default();
    panels.fill::<E>(inputs(weight, outputs), outputs, |i, t| {
        E::from_f32(&weight[i * outputs..][..outputs], t);
    });
    panels
}

/// Wᵀ.
pub(crate) fn panels_transposed<E: Operand>(weight: &[f32], outputs: usize) -> Panels {
    let mut panels = Panels::default();
    panels.fill_transposed::<E>(outputs, inputs(weight, outputs), |i, t| {
        E::from_f32(&weight[i * outputs..][..outputs], t);
    });
    panels
}

/// dx = dy + the gradient that reaches x through a layer norm and the layer after it: `outputs`
/// holds the gradient of the layer's output, `panels` the layer's folded weight, transposed.
pub(crate) fn normed_input_gradient<E: Operand>(
    outputs: &Rows,
    panels: &Panels,
    scratch: &mut Buffer,
    [x, dy]: [&[f32]; 2],
    epsilon: f32,
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
        vector::standardise_gradient(&x[at.clone()], epsilon, g, &dy[at], dx);
    }
}

/// Operations a second that products reach here, of operands that are packed already and stay in
/// the cache: the best of several.
#[inline(never)]
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
