//! Passes over flat parameters on the processor, in fixed blocks.

use rayon::prelude::*;

use super::vector;
use crate::ops::adamw::Step;

/// Values that one task takes at a time.
const BLOCK: usize = 16_384;

/// Moves the parameter and both moments one step of AdamW on.
pub fn adamw(
    value: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    step: &Step,
) {
    value
        .par_chunks_mut(BLOCK)
        .zip(gradient.par_chunks(BLOCK))
        .zip(first.par_chunks_mut(BLOCK))
        .zip(second.par_chunks_mut(BLOCK))
        .for_each(|(((value, gradient), first), second)| {
            vector::adamw(value, gradient, first, second, step);
        });
}

/// Σ x².
pub fn square_sum(x: &[f32]) -> f64 {
    let blocks: Vec<f32> = x.par_chunks(BLOCK).map(|x| vector::dot(x, x)).collect();
    blocks.into_iter().map(f64::from).sum()
}

/// average = average·decay + value·(1 − decay).
pub fn blend(average: &mut [f32], value: &[f32], decay: f64) {
    average
        .par_chunks_mut(BLOCK)
        .zip(value.par_chunks(BLOCK))
        .for_each(|(average, value)| {
            vector::scale(average, decay as f32);
            vector::add_scaled(average, value, (1.0 - decay) as f32);
        });
}
