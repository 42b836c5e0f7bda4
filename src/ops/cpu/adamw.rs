//! AdamW on the processor: one pass over the parameter, its gradient and both moments.

use rayon::prelude::*;

use super::vector;
use crate::ops::adamw::Step;

/// Values that one task takes at a time.
const BLOCK: usize = 16_384;

/// Moves the parameter and both moments one step on.
pub fn step(
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
