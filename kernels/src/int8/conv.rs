//! Convolutions with products of eight bits: each output pixel's inputs are gathered and become a
//! row of codes.

use rayon::prelude::*;

use super::layer::Layer;
use super::matrix::Rows;
use super::quantise::Codes;
use crate::conv::{Gather, Norm};
use crate::map::{Map, Window};
use crate::scalar::{gelu_of, relu};
use crate::scratch::{Scratch, output};
use crate::tail::Tail;

/// Output pixels of one product.
const BLOCK: usize = 64;

/// A convolution's weight as the kernels read it, and its bias.
#[derive(Debug)]
pub struct Packed {
    window: Window,
    layer: Layer,
    gather: Gather,
}

impl Packed {
    /// Of a weight `[Cout, channels, k, k]`, with a norm after it folded in: its scale into those of
    /// the outputs, the rest into the bias.
    pub fn new(window: Window, channels: usize, weight: &[f32], norm: Option<&Norm>) -> Self {
        let area = window.kernel * window.kernel;
        let inputs = area * channels;
        let filters = weight.len() / inputs;
        let Codes { codes, mut scales } = Codes::of_rows(weight, filters);
        let mut bias = vec![0.0; filters];
        if let Some(norm) = norm {
            for (i, (scale, bias)) in scales.iter_mut().zip(&mut bias).enumerate() {
                let [factor, shift] = norm.folded(i);
                *scale *= factor;
                *bias = shift;
            }
        }
        // Taps, then channels, as they are gathered.
        let code = |i: usize, j: usize| codes[j * inputs + i % channels * area + i / channels];
        Self {
            window,
            layer: Layer::of(inputs, scales, &bias, code),
            gather: Gather::of(window),
        }
    }
}

/// tail(`input` ∗ weight + bias), for inference.
pub fn infer(packed: &Packed, input: (&[f32], Map), tail: Tail<&[f32]>) -> Vec<f32> {
    let Packed {
        window,
        layer,
        gather,
    } = packed;
    let filters = layer.outputs();
    let map = input.1.windows(*window, filters);
    assert_eq!(input.0.len(), input.1.values(), "input");
    let mut target = output::<f32>(map.values());
    if target.is_empty() {
        return target;
    }
    target
        .par_chunks_mut(BLOCK * filters)
        .enumerate()
        .for_each_init(
            || (Scratch::lent(), Rows::default()),
            |(scratch, rows), (block, target)| {
                let [c, line, ..] = &mut scratch.products;
                let line = line.get::<f32>(layer.inputs());
                let first = block * BLOCK;
                let count = target.len() / filters;
                layer.room(rows, count);
                for (r, pixel) in map.pixels_from(first).take(count).enumerate() {
                    gather.row(input, pixel, line);
                    rows.set(r, line);
                }
                layer.product(
                    rows,
                    c,
                    #[inline(always)]
                    |r, columns, values| {
                        let other = (first + r) * filters + columns.start;
                        let target = &mut target[r * filters..][columns];
                        let each = target.iter_mut().zip(values);
                        match tail {
                            Tail::Plain => each.for_each(|(target, &sum)| *target = sum),
                            Tail::Relu => each.for_each(|(target, &sum)| *target = relu(sum)),
                            Tail::Gelu => each.for_each(|(target, &sum)| *target = gelu_of(sum)),
                            Tail::AddRelu(map) => each
                                .zip(&map[other..])
                                .for_each(|((target, &sum), &x)| *target = relu(sum + x)),
                            Tail::AddGelu(map) => each
                                .zip(&map[other..])
                                .for_each(|((target, &sum), &x)| *target = gelu_of(sum + x)),
                            Tail::ReluAdd(map) => each
                                .zip(&map[other..])
                                .for_each(|((target, &sum), &x)| *target = relu(sum) + x),
                        }
                    },
                );
            },
        );
    target
}
