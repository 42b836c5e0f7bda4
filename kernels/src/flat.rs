//! Passes over flat parameters on the processor, in fixed blocks.

use rayon::prelude::*;

use crate::vector;

/// Values that one task takes at a time.
pub(crate) const BLOCK: usize = 16_384;

/// Σ x².
pub fn square_sum(x: &[f32]) -> f64 {
    let blocks: Vec<f32> = x.par_chunks(BLOCK).map(|x| vector::dot(x, x)).collect();
    blocks.into_iter().map(f64::from).sum()
}

/// x = x·a + y·b.
pub fn combine(x: &mut [f32], a: f64, y: &[f32], b: f64) {
    x.par_chunks_mut(BLOCK)
        .zip(y.par_chunks(BLOCK))
        .for_each(|(x, y)| {
            vector::scale(x, a as f32);
            vector::add_scaled(x, y, b as f32);
        });
}
