//! What both branches of an encoder block are made of: a norm and two layers, of which the second adds to the
//! branch's input.

use super::kernel::PANEL;
use super::layer::Layer;
use super::matrix::Rows;
use crate::vector;

/// A branch's weights as the kernels read them.
///
/// The norm's γ and β are not folded into the first layer: its codes are then those of the weight
/// itself, whoever made them.
#[derive(Debug)]
pub struct Branch {
    gamma: Vec<f32>,
    beta: Vec<f32>,
    pub(super) layers: [Layer; 2],
}

impl Branch {
    /// Of the norm's γ and β and both layers.
    pub(super) fn new([gamma, beta]: [&[f32]; 2], first: Layer, second: Layer) -> Self {
        Self {
            gamma: gamma.to_vec(),
            beta: beta.to_vec(),
            layers: [first, second],
        }
    }

    /// γ·x̂ + β of each row as codes; `line` is room for one row.
    pub(super) fn norm(&self, x: &[f32], epsilon: f32, line: &mut [f32], rows: &mut Rows) {
        for (r, x) in x.chunks_exact(line.len()).enumerate() {
            vector::standardise(x, epsilon, line);
            vector::scale_shift(line, &self.gamma, &self.beta);
            rows.set(r, line);
        }
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
