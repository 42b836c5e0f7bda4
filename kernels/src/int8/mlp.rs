//! The MLP branch with products of eight bits: x + GELU(norm(x)·W₁ + b₁)·W₂ + b₂.

use rayon::prelude::*;

use super::kernel::PANEL;
use super::layer::{Layer, block};
use super::matrix::Rows;
use crate::mlp::Weights;
use crate::scalar::gelu_short;
use crate::scratch::{Scratch, output};
use crate::vector;

/// The branch's weights as the kernels read them.
///
/// The norm's γ and β are not folded into the first layer: its codes are then those of the weight
/// itself, whoever made them.
#[derive(Debug)]
pub struct Packed {
    gamma: Vec<f32>,
    beta: Vec<f32>,
    layers: [Layer; 2],
}

impl Packed {
    /// Of the branch's weights.
    pub fn new(weights: &Weights) -> Self {
        Self {
            gamma: weights.gamma.to_vec(),
            beta: weights.beta.to_vec(),
            layers: [
                Layer::new(weights.weight1, weights.bias1),
                Layer::new(weights.weight2, weights.bias2),
            ],
        }
    }
}

/// The branch's output, for inference.
pub fn infer(x: &[f32], packed: &Packed) -> Vec<f32> {
    let [first, second] = &packed.layers;
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
                norm_rows(x, [&packed.gamma, &packed.beta], line.get(width), rows);
                let activated = activated.get::<f32>(count * hidden);
                first.product(
                    rows,
                    c,
                    #[inline(always)]
                    |r, columns, values| {
                        let target = &mut activated[r * hidden..][columns];
                        if let Ok(target) = <&mut [f32; PANEL]>::try_from(&mut *target) {
                            for (target, &x) in target.iter_mut().zip(values) {
                                *target = gelu_short(x);
                            }
                        } else {
                            for (target, &x) in target.iter_mut().zip(values) {
                                *target = gelu_short(x);
                            }
                        }
                    },
                );
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

/// γ·x̂ + β of each row as codes.
pub(super) fn norm_rows(x: &[f32], [gamma, beta]: [&[f32]; 2], line: &mut [f32], rows: &mut Rows) {
    for (r, x) in x.chunks_exact(line.len()).enumerate() {
        vector::standardise(x, line);
        vector::scale_shift(line, gamma, beta);
        rows.set(r, line);
    }
}

/// target = values + x; of as many as x has.
#[inline(always)]
pub(super) fn add(values: &[f32; PANEL], x: &[f32], target: &mut [f32]) {
    if let (Ok(x), Ok(target)) = (
        <&[f32; PANEL]>::try_from(x),
        <&mut [f32; PANEL]>::try_from(&mut *target),
    ) {
        for i in 0..PANEL {
            target[i] = values[i] + x[i];
        }
        return;
    }
    for ((target, &x), &value) in target.iter_mut().zip(x).zip(values) {
        *target = value + x;
    }
}
