//! The attention branch on the processor: x + keep·(heads(norm(x)·Wqkv + b)·Wp + bp).
//!
//! Scores exist for [`QUERIES`] queries at a time and one head, so that memory grows with the
//! number of tokens and not with its square; the gradient computes them again (Dao et al. 2022,
//! without the tiling over keys, for a row of scores fits the cache).

use rayon::prelude::*;

use super::kernel::PANEL;
use super::linear::{self, BLOCK, Folded, Packed, Scratch, block, output};
use super::matrix::{Operand, Panels, product, product_into};
use super::{Keep, vector};

/// Queries whose scores exist at once.
const QUERIES: usize = 64;

/// Score of a pair that the mask forbids, before it is scaled.
const FORBIDDEN: f32 = -1e30;

/// The branch's weights.
pub struct Weights<'a> {
    /// γ, `[D]`.
    pub gamma: &'a [f32],
    /// β, `[D]`.
    pub beta: &'a [f32],
    /// Wqkv, `[D, 3·D]`.
    pub qkv: &'a [f32],
    /// Its bias.
    pub qkv_bias: &'a [f32],
    /// Wp, `[D, D]`.
    pub projection: &'a [f32],
    /// Its bias.
    pub projection_bias: &'a [f32],
}

impl<'a> Weights<'a> {
    /// In the order of the fields.
    pub fn new(all: [&'a [f32]; 6]) -> Self {
        let [gamma, beta, qkv, qkv_bias, projection, projection_bias] = all;
        Self {
            gamma,
            beta,
            qkv,
            qkv_bias,
            projection,
            projection_bias,
        }
    }

    /// Both layers, the norm folded into the first.
    pub fn packed<E: Operand>(&self) -> [Packed<E>; 2] {
        let folded = Folded::new(self.gamma, self.beta, self.qkv);
        let (first, second) = rayon::join(
            || Packed::folded(&folded, self.qkv_bias),
            || Packed::new(self.projection, self.projection_bias),
        );
        [first, second]
    }
}

/// Which key each query may look at: true is yes.
#[derive(Debug, Clone, Copy)]
pub struct Mask<'a> {
    /// Row-major, `[B or 1, h or 1, N, N]`.
    pub allowed: &'a [bool],
    /// Whether each picture has its own.
    pub by_picture: bool,
    /// Whether each head has its own.
    pub by_head: bool,
}

/// How tokens and heads lie.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// B.
    pub batch: usize,
    /// N.
    pub tokens: usize,
    /// h.
    pub heads: usize,
    /// D.
    pub width: usize,
}

impl Shape {
    fn head_dim(&self) -> usize {
        self.width / self.heads
    }

    fn scale(&self) -> f32 {
        (self.head_dim() as f32).powf(-0.5)
    }

    /// The mask of one picture's head.
    fn mask<'a>(&self, mask: Option<Mask<'a>>, item: usize) -> Option<&'a [bool]> {
        let mask = mask?;
        let (picture, head) = (item / self.heads, item % self.heads);
        let heads = if mask.by_head { self.heads } else { 1 };
        let at =
            if mask.by_picture { picture * heads } else { 0 } + if mask.by_head { head } else { 0 };
        let size = self.tokens * self.tokens;
        Some(&mask.allowed[at * size..][..size])
    }
}

/// What the gradient needs.
#[derive(Debug)]
pub struct Saved<E> {
    /// Queries, keys and values, `[B·N, 3·D]`.
    pub qkv: Vec<E>,
    /// The heads' answers, `[B, h, N, d]`.
    pub mixed: Vec<E>,
    /// Largest score of each query, and Σ e^(score − largest), `[B, h, N]`.
    pub normalisers: Vec<[f32; 2]>,
}

/// The branch's output, and what its gradient needs.
pub fn forward<E: Operand>(
    x: &[f32],
    layers: &[Packed<E>; 2],
    shape: Shape,
    mask: Option<Mask>,
    keep: Keep,
) -> (Vec<f32>, Saved<E>) {
    let width = shape.width;
    let rows = shape.batch * shape.tokens;
    let head_dim = shape.head_dim();
    let step = block::<E>(rows);
    let mut qkv = output::<E>(rows * 3 * width);
    qkv.par_chunks_mut(step * 3 * width)
        .zip(x.par_chunks(step * width))
        .for_each_init(Scratch::lent, |scratch, (qkv, x)| {
            let scratch = &mut **scratch;
            normed_map(scratch, x, &layers[0], qkv);
        });

    let mut mixed = output::<E>(rows * width);
    let mut normalisers = vec![[0.0; 2]; rows * shape.heads];
    // One task a head; where those are few, its queries are shared out.
    let shares = (2 * rayon::current_num_threads()).div_ceil(shape.batch * shape.heads);
    let queries = shape.tokens.div_ceil(shares);
    let tasks: Vec<_> = mixed
        .chunks_mut(shape.tokens * head_dim)
        .zip(normalisers.chunks_mut(shape.tokens))
        .enumerate()
        .flat_map(|(item, (mixed, normalisers))| {
            let answers = mixed.chunks_mut(queries * head_dim);
            answers
                .zip(normalisers.chunks_mut(queries))
                .enumerate()
                .map(move |(i, (mixed, normalisers))| (item, i * queries, mixed, normalisers))
        })
        .collect();
    tasks.into_par_iter().for_each_init(
        Scratch::lent,
        |scratch, (item, first, mixed, normalisers)| {
            let scratch = &mut **scratch;
            let head = Head::new(&qkv, shape, item);
            head.answer(scratch, shape.mask(mask, item), first, mixed, normalisers);
        },
    );

    let mut y = output::<f32>(rows * width);
    y.par_chunks_mut(step * width).enumerate().for_each_init(
        Scratch::lent,
        |scratch, (block, y)| {
            let scratch = &mut **scratch;
            let first = block * step;
            let x = &x[first * width..][..y.len()];
            join(scratch, x, &mixed, &layers[1], shape, first, keep, y);
        },
    );
    let saved = Saved {
        qkv,
        mixed,
        normalisers,
    };
    (y, saved)
}

/// The branch's output where no gradient is wanted: where there are pictures enough for all
/// threads, one at a time, so that nothing in between leaves the cache.
pub fn infer<E: Operand>(
    x: &[f32],
    layers: &[Packed<E>; 2],
    shape: Shape,
    mask: Option<Mask>,
    keep: Keep,
) -> Vec<f32> {
    if shape.batch < 2 * rayon::current_num_threads() {
        return forward(x, layers, shape, mask, keep).0;
    }
    let Shape {
        tokens,
        heads,
        width,
        ..
    } = shape;
    let picture = tokens * width;
    let one = Shape { batch: 1, ..shape };
    let mut y = output::<f32>(x.len());
    y.par_chunks_mut(picture)
        .zip(x.par_chunks(picture))
        .enumerate()
        .for_each_init(
            || {
                let qkv = vec![E::zeroed(); 3 * picture];
                let mixed = vec![E::zeroed(); picture];
                (Scratch::lent(), qkv, mixed, vec![[0.0; 2]; tokens])
            },
            |(scratch, qkv, mixed, normalisers), (i, (y, x))| {
                let parts = qkv.chunks_mut(BLOCK * 3 * width);
                for (x, qkv) in x.chunks(BLOCK * width).zip(parts) {
                    normed_map(scratch, x, &layers[0], qkv);
                }
                for (h, mixed) in mixed.chunks_mut(picture / heads).enumerate() {
                    let mask = shape.mask(mask, i * heads + h);
                    Head::new(qkv, one, h).answer(scratch, mask, 0, mixed, normalisers);
                }
                let kept = Keep::new(keep.picture(i), tokens);
                let blocks = y.chunks_mut(BLOCK * width).zip(x.chunks(BLOCK * width));
                for (block, (y, x)) in blocks.enumerate() {
                    let first = block * BLOCK;
                    join(scratch, x, mixed, &layers[1], one, first, kept, y);
                }
            },
        );
    y
}

/// norm(x)·W + b for some rows.
fn normed_map<E: Operand>(scratch: &mut Scratch, x: &[f32], layer: &Packed<E>, target: &mut [E]) {
    let outputs = layer.bias.len();
    let count = target.len() / outputs;
    let width = x.len() / count;
    let [normed, ..] = &mut scratch.rows;
    normed.fill::<E>(count, width, |r, t| {
        vector::standardise(&x[r * width..][..width], t);
    });
    let c = &mut scratch.products[0];
    product::<E>(normed, &layer.panels, c, |columns, c| {
        let bias = &layer.bias[columns.clone()];
        vector::store(c, count, bias, &mut target[columns.start..], outputs);
    });
}

/// x + keep·(heads joined·Wp + b) for the rows from `first`.
#[allow(clippy::too_many_arguments)]
fn join<E: Operand>(
    scratch: &mut Scratch,
    x: &[f32],
    mixed: &[E],
    layer: &Packed<E>,
    shape: Shape,
    first: usize,
    keep: Keep,
    y: &mut [f32],
) {
    let width = shape.width;
    let count = y.len() / width;
    let [joined, ..] = &mut scratch.rows;
    joined.fill::<E>(count, width, |r, t| {
        gather(mixed, shape, first + r, 0, 1, t);
    });
    let c = &mut scratch.products[0];
    product::<E>(joined, &layer.panels, c, |columns, c| {
        vector::store_residual(
            c,
            count,
            &layer.bias[columns.clone()],
            &x[columns.start..],
            &mut y[columns.start..],
            width,
            |r| keep.of(first + r),
        );
    });
}

/// Gradients of x, γ, β, Wqkv, its bias, Wp and its bias of [`forward`], in this order.
pub fn backward<E: Operand>(
    x: &[f32],
    saved: &Saved<E>,
    weights: &Weights,
    shape: Shape,
    mask: Option<Mask>,
    keep: Keep,
    dy: &[f32],
) -> [Vec<f32>; 7] {
    let Shape {
        batch,
        tokens,
        width,
        ..
    } = shape;
    let rows = batch * tokens;
    let head_dim = shape.head_dim();
    let Saved {
        qkv,
        mixed,
        normalisers,
    } = saved;

    let step = block::<E>(rows);
    let panels = linear::panels_transposed::<E>(weights.projection, width);
    let zeros = vec![0.0; width];
    let mut dmixed = output::<E>(rows * width);
    dmixed
        .par_chunks_mut(step * width)
        .enumerate()
        .for_each_init(Scratch::lent, |scratch, (block, dmixed)| {
            let scratch = &mut **scratch;
            let first = block * step;
            let count = dmixed.len() / width;
            let [upper, ..] = &mut scratch.rows;
            upper.fill::<E>(count, width, |r, t| {
                vector::scaled(&dy[(first + r) * width..][..width], keep.of(first + r), t);
            });
            product::<E>(upper, &panels, &mut scratch.products[0], |columns, c| {
                let target = &mut dmixed[columns.start..];
                vector::store(c, count, &zeros[columns.clone()], target, width);
            });
        });
    let (dprojection, dprojection_bias) = linear::weight_gradient::<E>(
        rows,
        width,
        width,
        |r, t| gather(mixed, shape, r, 0, 1, t),
        |r, t| vector::scaled(&dy[r * width..][..width], keep.of(r), t),
    );

    // Of one head: its queries, then its keys, then its values.
    let mut dqkv = output::<E>(rows * 3 * width);
    dqkv.par_chunks_mut(3 * tokens * head_dim)
        .enumerate()
        .for_each_init(Scratch::lent, |scratch, (item, dqkv)| {
            let scratch = &mut **scratch;
            let head = Head::new(qkv, shape, item);
            let mixed = &mixed[item * tokens * head_dim..][..tokens * head_dim];
            let normalisers = &normalisers[item * tokens..][..tokens];
            let mask = shape.mask(mask, item);
            head.gradient(scratch, mask, mixed, normalisers, &dmixed, dqkv);
        });
    drop(dmixed);
    let dqkv_row = |row: usize, t: &mut [E]| {
        for (part, t) in t.chunks_exact_mut(width).enumerate() {
            gather(&dqkv, shape, row, part, 3, t);
        }
    };

    let folded = Folded::new(weights.gamma, weights.beta, weights.qkv);
    let panels = folded.panels_transposed::<E>();
    let mut dx = output::<f32>(rows * width);
    dx.par_chunks_mut(step * width).enumerate().for_each_init(
        Scratch::lent,
        |scratch, (block, dx)| {
            let scratch = &mut **scratch;
            let first = block * step;
            let count = dx.len() / width;
            let at = first * width..first * width + dx.len();
            let [outputs, ..] = &mut scratch.rows;
            outputs.fill::<E>(count, 3 * width, |r, t| dqkv_row(first + r, t));
            let c = &mut scratch.products[0];
            let (x, dy) = (&x[at.clone()], &dy[at]);
            linear::normed_input_gradient::<E>(outputs, &panels, c, x, dy, dx, width);
        },
    );
    let (dw, db) = linear::weight_gradient::<E>(
        rows,
        width,
        3 * width,
        |r, t| vector::standardise(&x[r * width..][..width], t),
        dqkv_row,
    );
    let [dgamma, dbeta, dqkv_weight] = folded.gradients(dw, &db);
    [
        dx,
        dgamma,
        dbeta,
        dqkv_weight,
        db,
        dprojection,
        dprojection_bias,
    ]
}

/// One token's row of all heads, out of `[B, h, parts, N, d]`.
fn gather<E: Operand>(
    values: &[E],
    shape: Shape,
    row: usize,
    part: usize,
    parts: usize,
    target: &mut [E],
) {
    let head_dim = shape.head_dim();
    let (picture, token) = (row / shape.tokens, row % shape.tokens);
    for (head, target) in target.chunks_exact_mut(head_dim).enumerate() {
        let item = ((picture * shape.heads + head) * parts + part) * shape.tokens + token;
        vector::copy(&values[item * head_dim..][..head_dim], target);
    }
}

/// One head of one picture.
struct Head<'a, E> {
    qkv: &'a [E],
    shape: Shape,
    picture: usize,
    head: usize,
}

impl<'a, E: Operand> Head<'a, E> {
    fn new(qkv: &'a [E], shape: Shape, item: usize) -> Self {
        Self {
            qkv,
            shape,
            picture: item / shape.heads,
            head: item % shape.heads,
        }
    }

    /// A token's query (0), key (1) or value (2).
    fn part(&self, part: usize, token: usize) -> &'a [E] {
        let Shape { tokens, width, .. } = self.shape;
        let head_dim = self.shape.head_dim();
        let row = self.picture * tokens + token;
        &self.qkv[(3 * row + part) * width + self.head * head_dim..][..head_dim]
    }

    /// Queries, keys or values as the right operand of a product over the head's width.
    fn across(&self, part: usize, panels: &mut Panels) {
        panels.fill_transposed::<E>(self.shape.head_dim(), self.shape.tokens, |token, t| {
            vector::copy(self.part(part, token), t);
        });
    }

    /// Queries, keys or values of some tokens as the right operand of a product over tokens.
    fn down(&self, part: usize, first: usize, count: usize, panels: &mut Panels) {
        panels.fill::<E>(count, self.shape.head_dim(), |token, t| {
            vector::copy(self.part(part, first + token), t);
        });
    }

    /// softmax(QKᵀ/√d)·V for the queries from `begin` that `mixed` has room for.
    fn answer(
        &self,
        scratch: &mut Scratch,
        mask: Option<&[bool]>,
        begin: usize,
        mixed: &mut [E],
        normalisers: &mut [[f32; 2]],
    ) {
        let tokens = self.shape.tokens;
        let head_dim = self.shape.head_dim();
        let scale = self.shape.scale();
        let stride = tokens.next_multiple_of(PANEL);
        let [queries, weights, _] = &mut scratch.rows;
        let [keys, values, ..] = &mut scratch.panels;
        let [scores, answers, ..] = &mut scratch.products;
        self.across(1, keys);
        self.down(2, 0, tokens, values);
        let all = normalisers.len();
        for first in (0..all).step_by(QUERIES) {
            let count = QUERIES.min(all - first);
            queries.fill::<E>(count, head_dim, |i, t| {
                vector::copy(self.part(0, begin + first + i), t);
            });
            let scores = scores.get::<f32>(count.next_multiple_of(E::ROW_STEP) * stride);
            product_into::<E>(queries, keys, scores, stride, false);
            forbid(scores, stride, mask, begin + first, count, tokens);
            let mut sums = [0.0; QUERIES];
            weights.fill::<E>(count, tokens, |i, t| {
                let row = &mut scores[i * stride..][..tokens];
                let (max, sum) = vector::softmax_unscaled(row, scale);
                sums[i] = sum;
                normalisers[first + i] = [max, sum];
                E::from_f32(row, t);
            });
            product::<E>(weights, values, answers, |columns, c| {
                for (i, c) in c.chunks_exact(PANEL).take(count).enumerate() {
                    let target = &mut mixed[(first + i) * head_dim..][columns.clone()];
                    vector::scaled(&c[..columns.len()], 1.0 / sums[i], target);
                }
            });
        }
    }

    /// Gradients of queries, keys and values, `[3, N, d]`, given the gradient of the answers of
    /// all heads, `[B·N, D]`.
    fn gradient(
        &self,
        scratch: &mut Scratch,
        mask: Option<&[bool]>,
        mixed: &[E],
        normalisers: &[[f32; 2]],
        dmixed: &[E],
        dqkv: &mut [E],
    ) {
        let Shape { tokens, width, .. } = self.shape;
        let head_dim = self.shape.head_dim();
        let scale = self.shape.scale();
        let stride = tokens.next_multiple_of(PANEL);
        let narrow = head_dim.next_multiple_of(PANEL);
        let answer = |token: usize| {
            let row = self.picture * tokens + token;
            &dmixed[row * width + self.head * head_dim..][..head_dim]
        };
        let [left, transposed, _] = &mut scratch.rows;
        let [keys, values, keys_down, block] = &mut scratch.panels;
        let [scores, dweights, dkeys, dvalues, answers] = &mut scratch.products;
        self.across(1, keys);
        self.across(2, values);
        self.down(1, 0, tokens, keys_down);
        let padded = tokens.next_multiple_of(E::ROW_STEP);
        let dkeys = dkeys.get::<f32>(padded * narrow);
        let dvalues = dvalues.get::<f32>(padded * narrow);
        let (dq, rest) = dqkv.split_at_mut(tokens * head_dim);
        let (dk, dv) = rest.split_at_mut(tokens * head_dim);
        for first in (0..tokens).step_by(QUERIES) {
            let count = QUERIES.min(tokens - first);
            let rows = count.next_multiple_of(E::ROW_STEP);
            let scores = scores.get::<f32>(rows * stride);
            let dweights = dweights.get::<f32>(rows * stride);
            left.fill::<E>(count, head_dim, |i, t| {
                vector::copy(self.part(0, first + i), t);
            });
            product_into::<E>(left, keys, scores, stride, false);
            forbid(scores, stride, mask, first, count, tokens);
            for i in 0..count {
                let row = &mut scores[i * stride..][..tokens];
                vector::softmax_again(row, scale, normalisers[first + i]);
            }
            left.fill::<E>(count, head_dim, |i, t| vector::copy(answer(first + i), t));
            product_into::<E>(left, values, dweights, stride, false);

            transposed.fill_transposed::<E>(tokens, count, |i, t| {
                E::from_f32(&scores[i * stride..][..tokens], t);
            });
            block.fill::<E>(count, head_dim, |i, t| vector::copy(answer(first + i), t));
            product_into::<E>(transposed, block, dvalues, narrow, first > 0);

            left.fill::<E>(count, tokens, |i, t| {
                let token = first + i;
                let mean = vector::dot(answer(token), &mixed[token * head_dim..][..head_dim]);
                let p = &scores[i * stride..][..tokens];
                let dp = &dweights[i * stride..][..tokens];
                vector::softmax_gradient(p, dp, mean, scale, t);
            });
            let (dscores, dscores_stride) = left.get::<E>();
            transposed.fill_transposed::<E>(tokens, count, |i, t| {
                vector::copy(&dscores[i * dscores_stride..][..tokens], t);
            });
            self.down(0, first, count, block);
            product_into::<E>(transposed, block, dkeys, narrow, first > 0);
            product::<E>(left, keys_down, answers, |columns, c| {
                for (i, c) in c.chunks_exact(PANEL).take(count).enumerate() {
                    let target = &mut dq[(first + i) * head_dim..][columns.clone()];
                    E::from_f32(&c[..columns.len()], target);
                }
            });
        }
        for token in 0..tokens {
            let at = token * head_dim..(token + 1) * head_dim;
            E::from_f32(&dkeys[token * narrow..][..head_dim], &mut dk[at.clone()]);
            E::from_f32(&dvalues[token * narrow..][..head_dim], &mut dv[at]);
        }
    }
}

/// Overwrites the scores of the pairs that the mask forbids.
fn forbid(
    scores: &mut [f32],
    stride: usize,
    mask: Option<&[bool]>,
    first: usize,
    count: usize,
    tokens: usize,
) {
    let Some(mask) = mask else { return };
    for i in 0..count {
        let allowed = &mask[(first + i) * tokens..][..tokens];
        for (score, &allowed) in scores[i * stride..].iter_mut().zip(allowed) {
            if !allowed {
                *score = FORBIDDEN;
            }
        }
    }
}
