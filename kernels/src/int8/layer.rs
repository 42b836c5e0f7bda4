//! A layer as the kernels read it, and its product with rows.

use std::ops::Range;

use super::kernel::{self, PANEL, kernel};
use super::matrix::{Panels, Rows};
use super::quantise::{Codes, Row};
use crate::dispatch::vectorised;
use crate::matrix::Buffer;

/// A linear layer or a convolution with weights of eight bits.
#[derive(Debug)]
pub struct Layer {
    panels: Panels,
    inputs: usize,
    outputs: usize,
    /// Of each output, padded to whole panels.
    scales: Vec<f32>,
    /// The sum of each output's codes.
    sums: Vec<i32>,
    bias: Vec<f32>,
}

impl Layer {
    /// Most inputs: the sum of as many products of codes fits 32 bits, and so do parts of it.
    pub const MOST_INPUTS: usize = 1 << 17;

    /// Of a weight `[inputs, outputs]`.
    pub fn new(weight: &[f32], bias: &[f32]) -> Self {
        let outputs = bias.len();
        let Codes { codes, scales } = Codes::of_columns(weight, outputs);
        let inputs = codes.len().checked_div(outputs).unwrap_or(0);
        Self::of(inputs, scales, bias, |i, j| codes[i * outputs + j])
    }

    /// Of codes; `code(i, j)` belongs to input i and output j.
    pub(super) fn of(
        inputs: usize,
        mut scales: Vec<f32>,
        bias: &[f32],
        code: impl Fn(usize, usize) -> i8,
    ) -> Self {
        assert!(inputs <= Self::MOST_INPUTS, "inputs");
        let outputs = scales.len();
        let padded = outputs.next_multiple_of(PANEL);
        let mut sums = vec![0; padded];
        for i in 0..inputs {
            for (j, sum) in sums.iter_mut().enumerate().take(outputs) {
                *sum += i32::from(code(i, j));
            }
        }
        let mut bias = bias.to_vec();
        bias.resize(padded, 0.0);
        scales.resize(padded, 0.0);
        Self {
            panels: Panels::new(kernel(), [inputs, outputs], code),
            inputs,
            outputs,
            scales,
            sums,
            bias,
        }
    }

    /// Its inputs.
    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Its outputs.
    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Room for `count` rows of its inputs.
    pub(super) fn room(&self, rows: &mut Rows, count: usize) {
        rows.room(self.panels.kernel, count, self.inputs);
    }

    /// x·W + b, panel by panel: `take(row, columns, values)` gets the values of some of a row's
    /// columns, of which there are fewer than values in the last panel. It must be
    /// `#[inline(always)]`, so as to be compiled for the processor's vectors.
    #[inline(always)]
    pub(super) fn product(
        &self,
        rows: &Rows,
        scratch: &mut Buffer,
        mut take: impl FnMut(usize, Range<usize>, &[f32; PANEL]),
    ) {
        let (codes, stride, meanings) = rows.get();
        let kernel = self.panels.kernel;
        let padded = meanings.len().next_multiple_of(kernel.row_step());
        let c = scratch.get::<i32>(padded * PANEL);
        let of_panels = chunks(&self.scales)
            .zip(chunks(&self.sums))
            .zip(chunks(&self.bias));
        for (i, (panel, ((scales, sums), bias))) in self.panels.iter().zip(of_panels).enumerate() {
            kernel::panel(kernel, codes, stride, meanings.len(), panel, c);
            let columns = i * PANEL..((i + 1) * PANEL).min(self.outputs);
            vectorised(
                #[inline(always)]
                || {
                    let rows = chunks(&*c).zip(meanings).enumerate();
                    for (row, (c, &Row { scale, zero })) in rows {
                        let mut values = [0.0; PANEL];
                        for j in 0..PANEL {
                            let sum = (c[j] - zero * sums[j]) as f32;
                            values[j] = sum.mul_add(scale * scales[j], bias[j]);
                        }
                        take(row, columns.clone(), &values);
                    }
                },
            );
        }
    }
}

fn chunks<T>(values: &[T]) -> impl Iterator<Item = &[T; PANEL]> {
    values.as_chunks::<PANEL>().0.iter()
}

/// Rows that one task takes at a time, few enough for the nearest caches: shares as equal as can be,
/// so that every thread gets as much where there are few.
pub(super) fn block(rows: usize) -> usize {
    const MOST: usize = 64;
    let threads = rayon::current_num_threads();
    let tasks = rows.div_ceil(MOST).max(1).next_multiple_of(threads);
    rows.div_ceil(tasks)
        .next_multiple_of(kernel().row_step())
        .max(1)
}
