//! The attention branch with products of eight bits on both sides of attention itself:
//! x + heads(norm(x)·Wqkv + b)·Wp + bp.

use half::bf16;
use rayon::prelude::*;

use super::branch::{Branch, add};
use super::layer::{Layer, block};
use super::matrix::Rows;
use crate::attention::{Head, Mask, Shape, Weights, gather};
use crate::kernel::has_bf16;
use crate::operand::Operand;
use crate::scratch::{Scratch, output};

/// The branch's weights as the kernels read them.
pub fn pack(weights: &Weights) -> Branch {
    Branch::new(
        [weights.gamma, weights.beta],
        Layer::new(weights.qkv, weights.qkv_bias),
        Layer::new(weights.projection, weights.projection_bias),
    )
}

/// The branch's output, for inference.
pub fn infer(x: &[f32], branch: &Branch, shape: Shape, mask: Option<Mask>) -> Vec<f32> {
    if has_bf16() {
        of_type::<bf16>(x, branch, shape, mask)
    } else {
        of_type::<f32>(x, branch, shape, mask)
    }
}

/// The branch; queries, keys, values and the heads' answers are of type E.
fn of_type<E: Operand>(x: &[f32], branch: &Branch, shape: Shape, mask: Option<Mask>) -> Vec<f32> {
    if x.is_empty() || shape.queries == 0 {
        return Vec::new();
    }
    let (rows, picture) = (shape.queries * shape.width, shape.tokens * shape.width);
    let mut y = output::<f32>(shape.batch * rows);
    // Threads without a picture of their own take part in that of another.
    y.par_chunks_mut(rows)
        .zip(x.par_chunks(picture))
        .enumerate()
        .for_each(|(i, (y, x))| {
            let mask = |head| shape.mask(mask, i * shape.heads + head);
            let one = Shape { batch: 1, ..shape };
            let shares = if shape.is_spread() {
                heads_shares(shape)
            } else {
                1
            };
            one_picture::<E>(x, branch, one, mask, shares, y);
        });
    y
}

/// Parts of each head's queries, where there are too few pictures and heads for all threads.
fn heads_shares(shape: Shape) -> usize {
    (2 * rayon::current_num_threads()).div_ceil(shape.batch * shape.heads)
}

fn one_picture<'m, E: Operand>(
    x: &[f32],
    branch: &Branch,
    shape: Shape,
    mask: impl Fn(usize) -> Option<&'m [bool]> + Sync,
    shares: usize,
    y: &mut [f32],
) {
    let Shape {
        tokens,
        queries,
        width,
        ..
    } = shape;
    let [first, second] = &branch.layers;
    let mut qkv = output::<E>(3 * x.len());
    let step = block(tokens);
    qkv.par_chunks_mut(step * 3 * width)
        .zip(x.par_chunks(step * width))
        .for_each_init(
            || (Scratch::lent(), Rows::default()),
            |(scratch, rows), (qkv, x)| {
                let [c, line, ..] = &mut scratch.products;
                first.room(rows, x.len() / width);
                branch.norm(x, shape.epsilon, line.get(width), rows);
                first.product(
                    rows,
                    c,
                    #[inline(always)]
                    |r, columns, values| {
                        let target = &mut qkv[r * 3 * width..][columns];
                        for (target, &x) in target.iter_mut().zip(values) {
                            *target = E::narrow(x);
                        }
                    },
                );
            },
        );

    let head_dim = width / shape.heads;
    let mut mixed = output::<E>(queries * width);
    let share = queries.div_ceil(shares);
    let tasks: Vec<_> = mixed
        .chunks_mut(queries * head_dim)
        .enumerate()
        .flat_map(|(head, mixed)| {
            let parts = mixed.chunks_mut(share * head_dim).enumerate();
            parts.map(move |(i, mixed)| (head, i * share, mixed))
        })
        .collect();
    tasks
        .into_par_iter()
        .for_each_init(Scratch::lent, |scratch, (head, begin, mixed)| {
            // Nobody asks for them again.
            let mut normalisers = vec![[0.0; 2]; mixed.len() / head_dim];
            Head::new(&qkv, shape, head).answer(
                scratch,
                mask(head),
                begin,
                mixed,
                &mut normalisers,
            );
        });

    let step = block(queries);
    y.par_chunks_mut(step * width).enumerate().for_each_init(
        || (Scratch::lent(), Rows::default(), vec![E::zeroed(); width]),
        |(scratch, rows, joined), (i, y)| {
            let [c, line, ..] = &mut scratch.products;
            let (begin, count) = (i * step, y.len() / width);
            let x = &x[begin * width..][..y.len()];
            let line = line.get::<f32>(width);
            second.room(rows, count);
            for r in 0..count {
                gather(&mixed, shape, begin + r, joined);
                E::to_f32(joined, line);
                rows.set(r, line);
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
}
