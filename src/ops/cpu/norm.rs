//! Layer norm on the processor.

use rayon::prelude::*;

use super::linear::{BLOCK, output};
use super::vector;

/// γ·x̂ + β.
pub fn forward(x: &[f32], gamma: &[f32], beta: &[f32]) -> Vec<f32> {
    let width = gamma.len();
    let mut y = output::<f32>(x.len());
    y.par_chunks_mut(BLOCK * width)
        .zip(x.par_chunks(BLOCK * width))
        .for_each(|(y, x)| {
            for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                vector::standardise(x, y);
                vector::scale_shift(y, gamma, beta);
            }
        });
    y
}

/// Gradients of x, γ and β of [`forward`].
pub fn backward(x: &[f32], gamma: &[f32], dy: &[f32]) -> [Vec<f32>; 3] {
    let width = gamma.len();
    let mut dx = output::<f32>(x.len());
    let blocks: Vec<[Vec<f32>; 2]> = dx
        .par_chunks_mut(BLOCK * width)
        .zip(x.par_chunks(BLOCK * width))
        .zip(dy.par_chunks(BLOCK * width))
        .map(|((dx, x), dy)| {
            let mut sums = [vec![0.0; width], vec![0.0; width]];
            let mut line = vec![0.0; width];
            for ((dx, x), dy) in dx
                .chunks_exact_mut(width)
                .zip(x.chunks_exact(width))
                .zip(dy.chunks_exact(width))
            {
                vector::standardise(x, &mut line);
                vector::add_product(&mut sums[0], &line, dy);
                vector::add_scaled(&mut sums[1], dy, 1.0);
                line.fill(0.0);
                vector::add_product(&mut line, dy, gamma);
                dx.fill(0.0);
                vector::add_standardise_gradient(x, &line, dx);
            }
            sums
        })
        .collect();
    let mut dgamma = vec![0.0; width];
    let mut dbeta = vec![0.0; width];
    for [gamma, beta] in &blocks {
        vector::add_scaled(&mut dgamma, gamma, 1.0);
        vector::add_scaled(&mut dbeta, beta, 1.0);
    }
    [dx, dgamma, dbeta]
}
