//! The MLP branch with products of eight bits: x + f(norm(x)·W₁ + b₁)·W₂ + b₂, f being its activation.

use rayon::prelude::*;

use super::branch::{Branch, add};
use super::kernel::PANEL;
use super::layer::{Layer, block};
use super::matrix::Rows;
use crate::activation::Activation;
use crate::matrix::Buffer;
use crate::mlp::{Form, Weights};
use crate::scalar::{gelu_short, gelu_tanh_short};
use crate::scratch::{Scratch, output};

/// The branch's weights as the kernels read them.
pub fn pack(weights: &Weights) -> Branch {
    Branch::new(
        [weights.gamma, weights.beta],
        Layer::new(weights.weight1, weights.bias1),
        Layer::new(weights.weight2, weights.bias2),
    )
}

/// The branch's output, for inference.
pub fn infer(x: &[f32], branch: &Branch, form: Form) -> Vec<f32> {
    let [first, second] = &branch.layers;
    let (width, hidden) = (second.outputs(), first.outputs());
    if x.is_empty() {
        return Vec::new();
    }
    let mut y = output::<f32>(x.len());
    let step = block(x.len() / width) * width;
    y.par_chunks_mut(step)
        .zip(x.par_chunks(step))
        .for_each_init(
            || (Scratch::lent(), Rows::default()),
            |(scratch, rows), (y, x)| {
                let [c, line, activated, ..] = &mut scratch.products;
                let count = x.len() / width;
                first.room(rows, count);
                branch.norm(x, form.epsilon, line.get(width), rows);
                let activated = activated.get::<f32>(count * hidden);
                match form.activation {
                    Activation::Gelu => hidden_of(first, rows, c, activated, gelu_short),
                    Activation::GeluTanh => hidden_of(first, rows, c, activated, gelu_tanh_short),
                }
                second.room(rows, count);
                for (r, row) in activated.chunks_exact(hidden).enumerate() {
                    rows.set(r, row);
                }
                second.product(
                    rows,
                    c,
                    #[inline(always)]
                    |r, columns, values| {
                        let at = r * width + columns.start..r * width + columns.end;
                        let (y, x) = (&mut y[at.clone()], &x[at]);
                        add(values, x, y);
                    },
                );
            },
        );
    y
}

/// f of a layer's rows.
#[inline(always)]
fn hidden_of(
    layer: &Layer,
    rows: &Rows,
    scratch: &mut Buffer,
    activated: &mut [f32],
    f: impl Fn(f32) -> f32,
) {
    let hidden = layer.outputs();
    layer.product(
        rows,
        scratch,
        #[inline(always)]
        |r, columns, values| {
            let target = &mut activated[r * hidden..][columns];
            // A whole panel's width is known to the compiler.
            if let Ok(target) = <&mut [f32; PANEL]>::try_from(&mut *target) {
                for (target, &x) in target.iter_mut().zip(values) {
                    *target = f(x);
                }
            } else {
                for (target, &x) in target.iter_mut().zip(values) {
                    *target = f(x);
                }
            }
        },
    );
}
