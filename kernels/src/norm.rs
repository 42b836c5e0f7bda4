//! Layer norm on the processor.

use rayon::prelude::*;

use crate::scratch::{BLOCK, output};
use crate::vector;

/// γ·x̂ + β.
pub fn forward(x: &[f32], gamma: &[f32], beta: &[f32], epsilon: f32) -> Vec<f32> {
    let width = gamma.len();
    let mut y = output::<f32>(x.len());
    y.par_chunks_mut(BLOCK * width)
        .zip(x.par_chunks(BLOCK * width))
        .for_each(|(y, x)| {
            for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                vector::standardise(x, epsilon, y);
                vector::scale_shift(y, gamma, beta);
            }
        });
    y
}

/// Gradients of x, γ and β of [`forward`].
pub fn backward(x: &[f32], gamma: &[f32], epsilon: f32, dy: &[f32]) -> [Vec<f32>; 3] {
    let width = gamma.len();
    let zeros = vec![0.0; width];
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
                vector::standardise(x, epsilon, &mut line);
                vector::add_product(&mut sums[0], &line, dy);
                vector::add_scaled(&mut sums[1], dy, 1.0);
                line.fill(0.0);
                vector::add_product(&mut line, dy, gamma);
                vector::standardise_gradient(x, epsilon, &line, &zeros, dx);
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

/// The mean over each picture's tokens, but for its first `prefix`, of γ·x̂ + β.
pub fn mean_forward(
    x: &[f32],
    batch: usize,
    prefix: usize,
    gamma: &[f32],
    beta: &[f32],
    epsilon: f32,
) -> Vec<f32> {
    let width = gamma.len();
    let mut y = vec![0.0; batch * width];
    if x.is_empty() {
        return y;
    }
    y.par_chunks_mut(width)
        .zip(x.par_chunks(x.len() / batch))
        .for_each_init(
            || vec![0.0; width],
            |line, (y, x)| {
                mean_standardised(x, prefix, epsilon, line, y);
                vector::scale_shift(y, gamma, beta);
            },
        );
    y
}

/// The mean of x̂ over one picture's tokens.
fn mean_standardised(x: &[f32], prefix: usize, epsilon: f32, line: &mut [f32], mean: &mut [f32]) {
    let width = line.len();
    let share = 1.0 / (x.len() / width - prefix) as f32;
    mean.fill(0.0);
    for x in x.chunks_exact(width).skip(prefix) {
        vector::standardise(x, epsilon, line);
        vector::add_scaled(mean, line, share);
    }
}

/// Gradients of x, γ and β of [`mean_forward`].
pub fn mean_backward(
    x: &[f32],
    batch: usize,
    prefix: usize,
    gamma: &[f32],
    epsilon: f32,
    dy: &[f32],
) -> [Vec<f32>; 3] {
    let width = gamma.len();
    if x.is_empty() {
        return [Vec::new(), vec![0.0; width], vec![0.0; width]];
    }
    let picture = x.len() / batch;
    let share = 1.0 / (picture / width - prefix) as f32;
    let zeros = vec![0.0; width];
    let mut dx = output::<f32>(x.len());
    let products: Vec<Vec<f32>> = dx
        .par_chunks_mut(picture)
        .zip(x.par_chunks(picture))
        .zip(dy.par_chunks(width))
        .map(|((dx, x), dy)| {
            let (mut line, mut mean) = (vec![0.0; width], vec![0.0; width]);
            mean_standardised(x, prefix, epsilon, &mut line, &mut mean);
            let mut product = vec![0.0; width];
            vector::add_product(&mut product, &mean, dy);
            line.fill(0.0);
            vector::add_product(&mut line, dy, gamma);
            vector::scale(&mut line, share);
            dx[..prefix * width].fill(0.0);
            for (dx, x) in dx
                .chunks_exact_mut(width)
                .zip(x.chunks_exact(width))
                .skip(prefix)
            {
                vector::standardise_gradient(x, epsilon, &line, &zeros, dx);
            }
            product
        })
        .collect();
    let mut dgamma = vec![0.0; width];
    let mut dbeta = vec![0.0; width];
    for (product, dy) in products.iter().zip(dy.chunks_exact(width)) {
        vector::add_scaled(&mut dgamma, product, 1.0);
        vector::add_scaled(&mut dbeta, dy, 1.0);
    }
    [dx, dgamma, dbeta]
}

/// The mean over each picture's tokens, but for its first `prefix`.
pub fn token_mean(x: &[f32], batch: usize, prefix: usize, width: usize) -> Vec<f32> {
    let mut y = vec![0.0; batch * width];
    if x.is_empty() {
        return y;
    }
    let picture = x.len() / batch;
    let share = 1.0 / (picture / width - prefix) as f32;
    y.par_chunks_mut(width)
        .zip(x.par_chunks(picture))
        .for_each(|(y, x)| {
            for x in x.chunks_exact(width).skip(prefix) {
                vector::add_scaled(y, x, share);
            }
        });
    y
}

/// The gradient of x, of `len` values, of [`token_mean`].
pub fn token_mean_gradient(
    len: usize,
    batch: usize,
    prefix: usize,
    width: usize,
    dy: &[f32],
) -> Vec<f32> {
    let mut dx = output::<f32>(len);
    if len == 0 {
        return dx;
    }
    let picture = len / batch;
    let share = 1.0 / (picture / width - prefix) as f32;
    dx.par_chunks_mut(picture)
        .zip(dy.par_chunks(width))
        .for_each(|(dx, dy)| {
            let (before, patches) = dx.split_at_mut(prefix * width);
            before.fill(0.0);
            for dx in patches.chunks_exact_mut(width) {
                vector::scaled(dy, share, dx);
            }
        });
    dx
}
