//! The MLP branch on the processor: x + keep·(f(norm(x)·W₁ + b₁)·W₂ + b₂), f being its activation.

use rayon::prelude::*;

use crate::activation::Activation;
use crate::gradient::gradients;
use crate::keep::Keep;
use crate::kernel::PANEL;
use crate::linear::{self, Folded, Packed};
use crate::matrix::{product, product_into};
use crate::operand::Operand;
use crate::scratch::{Scratch, block, output};
use crate::vector;

/// What the branch is, beside its weights.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// Added to the norm's variance.
    pub epsilon: f32,
    /// Between the layers.
    pub activation: Activation,
}

/// The branch's weights.
pub struct Weights<'a> {
    /// γ, `[D]`.
    pub gamma: &'a [f32],
    /// β, `[D]`.
    pub beta: &'a [f32],
    /// W₁, `[D, mlp_dim]`.
    pub weight1: &'a [f32],
    /// b₁.
    pub bias1: &'a [f32],
    /// W₂, `[mlp_dim, D]`.
    pub weight2: &'a [f32],
    /// b₂.
    pub bias2: &'a [f32],
}

impl<'a> Weights<'a> {
    /// In the order of the fields.
    pub fn new([gamma, beta, weight1, bias1, weight2, bias2]: [&'a [f32]; 6]) -> Self {
        Self {
            gamma,
            beta,
            weight1,
            bias1,
            weight2,
            bias2,
        }
    }

    /// Both layers, the norm folded into the first.
    #[inline(never)]
    pub fn packed<E: Operand>(&self) -> [Packed<E>; 2] {
        let folded = Folded::new(self.gamma, self.beta, self.weight1);
        let (first, second) = rayon::join(
            || Packed::folded(&folded, self.bias1),
            || Packed::new(self.weight2, self.bias2),
        );
        [first, second]
    }
}

/// The branch's output, and the hidden layer before its activation, which the gradient needs.
///
/// Without `save` the hidden layer never leaves the cache, and an empty one is returned.
#[inline(never)]
pub fn forward<E: Operand>(
    x: &[f32],
    [layer1, layer2]: &[Packed<E>; 2],
    form: Form,
    keep: Keep,
    save: bool,
) -> (Vec<f32>, Vec<E>) {
    let (width, hidden) = (layer2.bias.len(), layer1.bias.len());
    let Form {
        epsilon,
        activation,
    } = form;
    if x.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let rows = x.len() / width;
    let step = block::<E>(rows);
    let mut y = output::<f32>(rows * width);
    let mut z = output::<E>(if save { rows * hidden } else { 0 });
    let run = |scratch: &mut Scratch, block: usize, y: &mut [f32], z: Option<&mut [E]>| {
        let first = block * step;
        let count = y.len() / width;
        let x = &x[first * width..][..y.len()];
        let [normed, activated, _] = &mut scratch.rows;
        let [c, ..] = &mut scratch.products;
        normed.fill::<E>(count, width, |r, t| {
            vector::standardise(&x[r * width..][..width], epsilon, t);
        });
        if let Some(z) = z {
            product::<E>(normed, &layer1.panels, c, |columns, c| {
                let bias = &layer1.bias[columns.clone()];
                vector::store(c, count, bias, &mut z[columns.start..], hidden);
            });
            activated.fill::<E>(count, hidden, |r, t| {
                vector::activate(activation, &z[r * hidden..][..hidden], t);
            });
        } else {
            let (target, stride) = activated.room::<E>(count, hidden);
            product::<E>(normed, &layer1.panels, c, |columns, c| {
                let bias = &layer1.bias[columns.clone()];
                let target = &mut target[columns.start..];
                vector::store_activated(activation, c, count, bias, target, stride);
            });
        }
        product::<E>(activated, &layer2.panels, c, |columns, c| {
            let bias = &layer2.bias[columns.clone()];
            let (x, y) = (&x[columns.start..], &mut y[columns.start..]);
            vector::store_residual(c, count, bias, x, y, width, |r| keep.of(first + r));
        });
    };
    let blocks = y.par_chunks_mut(step * width);
    if save {
        blocks
            .zip(z.par_chunks_mut(step * hidden))
            .enumerate()
            .for_each_init(Scratch::lent, |scratch, (i, (y, z))| {
                run(scratch, i, y, Some(z));
            });
    } else {
        blocks
            .enumerate()
            .for_each_init(Scratch::lent, |scratch, (i, y)| run(scratch, i, y, None));
    }
    (y, z)
}

/// Gradients of x, γ, β, W₁, b₁, W₂, b₂ of [`forward`], in this order.
#[inline(never)]
pub fn backward<E: Operand>(
    x: &[f32],
    z: &[E],
    weights: &Weights,
    form: Form,
    keep: Keep,
    dy: &[f32],
) -> [Vec<f32>; 7] {
    let (width, hidden) = (weights.bias2.len(), weights.bias1.len());
    let Form {
        epsilon,
        activation,
    } = form;
    if x.is_empty() {
        let [w1, w2] = [weights.weight1, weights.weight2].map(<[f32]>::len);
        return [0, width, width, w1, hidden, w2, width].map(|len| vec![0.0; len]);
    }
    let rows = x.len() / width;
    let folded = Folded::new(weights.gamma, weights.beta, weights.weight1);
    let panels1 = folded.panels_transposed::<E>();
    let panels2 = linear::panels_transposed::<E>(weights.weight2, width);
    let mut dx = output::<f32>(rows * width);
    let [(dw2, db2), (dw1, db1)] = gradients(
        rows,
        1,
        [[hidden, width], [width, hidden]],
        &mut dx,
        |range, dx, [layer2, layer1], scratch| {
            let (first, count) = (range.start, range.len());
            let dy = &dy[first * width..][..dx.len()];
            let x = &x[first * width..][..dx.len()];
            let [upper, lower, left] = &mut scratch.rows;
            let [c, activated, ..] = &mut scratch.products;
            upper.fill::<E>(count, width, |r, t| {
                vector::scaled(&dy[r * width..][..width], keep.of(first + r), t);
            });
            let stride = hidden.next_multiple_of(PANEL);
            let dh = c.get::<f32>(count.next_multiple_of(E::ROW_STEP) * stride);
            product_into::<E>(upper, &panels2, dh, stride, false);
            let activated = activated.get::<E>(count * hidden);
            lower.fill::<E>(count, hidden, |r, dz| {
                let z = &z[(first + r) * hidden..][..hidden];
                let value = &mut activated[r * hidden..][..hidden];
                let dh = &dh[r * stride..][..hidden];
                vector::activation_gradient(activation, z, dh, dz, value);
            });
            linear::normed_input_gradient::<E>(lower, &panels1, c, [x, dy], epsilon, dx, width);
            let right = &mut scratch.panels[0];
            let activated = |r: usize, t: &mut [E]| {
                t.copy_from_slice(&activated[r * hidden..][..hidden]);
            };
            layer2.add::<E>(left, right, count, activated, |r, t| upper.copy(r, t));
            let normed = |r: usize, t: &mut [E]| {
                vector::standardise(&x[r * width..][..width], epsilon, t);
            };
            layer1.add::<E>(left, right, count, normed, |r, t| lower.copy(r, t));
        },
    );
    let [dgamma, dbeta, dw1] = folded.gradients(dw1, &db1);
    [dx, dgamma, dbeta, dw1, db1, dw2, db2]
}
