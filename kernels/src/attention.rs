//! The attention branch on the processor: x + keep·(heads(norm(x)·Wqkv + b)·Wp + bp).
//!
//! Scores exist for `QUERIES` queries at a time and one head, so that memory grows with the
//! number of tokens and not with its square; the gradient computes them again (Dao et al. 2022,
//! without the tiling over keys, for a row of scores fits the cache).

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;

use crate::gradient::{Gradient, gradients};
use crate::keep::Keep;
use crate::kernel::PANEL;
use crate::linear::{self, Folded, Packed};
use crate::matrix::{Panels, Rows, product, product_into};
use crate::operand::Operand;
use crate::query_key::QueryKey;
use crate::scratch::{BLOCK, Scratch, block, output};
use crate::{convert, vector};

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
    #[inline(never)]
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

/// How tokens and heads lie, and what queries and keys go through.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'q> {
    /// B.
    pub batch: usize,
    /// N.
    pub tokens: usize,
    /// Q: the first Q tokens of each picture are queries; the result has rows for them only.
    pub queries: usize,
    /// h.
    pub heads: usize,
    /// D.
    pub width: usize,
    /// Added to the variance of the branch's norm.
    pub epsilon: f32,
    /// Before queries and keys meet.
    pub query_key: QueryKey<'q>,
}

impl Shape<'_> {
    fn head_dim(&self) -> usize {
        self.width / self.heads
    }

    /// Whether there are too few pictures for each thread to take whole ones.
    pub(crate) fn is_spread(&self) -> bool {
        self.batch < 2 * rayon::current_num_threads()
    }

    fn scale(&self) -> f32 {
        (self.head_dim() as f32).powf(-0.5)
    }

    /// The mask of one picture's head.
    pub(crate) fn mask<'a>(&self, mask: Option<Mask<'a>>, item: usize) -> Option<&'a [bool]> {
        let mask = mask?;
        let (picture, head) = (item / self.heads, item % self.heads);
        let heads = if mask.by_head { self.heads } else { 1 };
        let at =
            if mask.by_picture { picture * heads } else { 0 } + if mask.by_head { head } else { 0 };
        let size = self.tokens * self.tokens;
        Some(&mask.allowed[at * size..][..size])
    }

    /// The rows of the queries, from the rows of all tokens.
    fn query_rows<'a>(&self, x: &'a [f32]) -> Cow<'a, [f32]> {
        if self.queries == self.tokens {
            return x.into();
        }
        let pictures = x.chunks(self.tokens * self.width);
        let rows = pictures.map(|picture| &picture[..self.queries * self.width]);
        rows.collect::<Vec<_>>().concat().into()
    }

    /// Rows of all tokens, zero where a token is no query, from the rows of the queries.
    fn among_all<'a>(&self, rows: &'a [f32]) -> Cow<'a, [f32]> {
        if self.queries == self.tokens {
            return rows.into();
        }
        let zeros = vec![0.0; (self.tokens - self.queries) * self.width];
        let pictures = rows.chunks(self.queries * self.width);
        let all = pictures.flat_map(|rows| [rows, &zeros]);
        all.collect::<Vec<_>>().concat().into()
    }
}

/// What the gradient needs.
#[derive(Debug)]
pub struct Saved<E> {
    /// Queries, keys and values as the layer gives them, `[B·N, 3·D]`.
    pub qkv: Vec<E>,
    /// The heads' answers, `[B, h, Q, d]`.
    pub mixed: Vec<E>,
    /// Largest score of each query, and Σ e^(score − largest), `[B, h, Q]`.
    pub normalisers: Vec<[f32; 2]>,
}

/// The branch's output, and what its gradient needs.
#[inline(never)]
pub fn forward<E: Operand>(
    x: &[f32],
    layers: &[Packed<E>; 2],
    shape: Shape,
    mask: Option<Mask>,
    keep: Keep,
) -> (Vec<f32>, Saved<E>) {
    let Shape { queries, width, .. } = shape;
    if x.is_empty() {
        let saved = Saved {
            qkv: Vec::new(),
            mixed: Vec::new(),
            normalisers: Vec::new(),
        };
        return (Vec::new(), saved);
    }
    let rows = shape.batch * queries;
    let picture = shape.tokens * width;
    let mut y = output::<f32>(rows * width);
    let mut saved = Saved {
        qkv: output::<E>(3 * x.len()),
        mixed: output::<E>(rows * width),
        normalisers: vec![[0.0; 2]; rows * shape.heads],
    };
    if shape.is_spread() {
        spread(x, layers, shape, mask, keep, &mut saved, &mut y);
        return (y, saved);
    }
    y.par_chunks_mut(queries * width)
        .zip(saved.qkv.par_chunks_mut(3 * picture))
        .zip(saved.mixed.par_chunks_mut(queries * width))
        .zip(saved.normalisers.par_chunks_mut(queries * shape.heads))
        .enumerate()
        .for_each_init(
            Scratch::lent,
            |scratch, (i, (((y, qkv), mixed), normalisers))| {
                let mask = |head| shape.mask(mask, i * shape.heads + head);
                let x = &x[i * picture..][..picture];
                let keep = Keep::new(keep.picture(i), queries);
                let steps = (qkv, mixed, normalisers);
                one_picture(scratch, x, layers, shape, mask, keep, steps, y);
            },
        );
    (y, saved)
}

/// The branch's output for inference: nothing in between leaves the cache.
#[inline(never)]
pub fn infer<E: Operand>(
    x: &[f32],
    layers: &[Packed<E>; 2],
    shape: Shape,
    mask: Option<Mask>,
    keep: Keep,
) -> Vec<f32> {
    if shape.is_spread() {
        return forward(x, layers, shape, mask, keep).0;
    }
    let Shape { queries, width, .. } = shape;
    let picture = shape.tokens * width;
    let mut y = output::<f32>(shape.batch * queries * width);
    y.par_chunks_mut(queries * width).enumerate().for_each_init(
        || {
            let qkv = vec![E::zeroed(); 3 * picture];
            let mixed = vec![E::zeroed(); queries * width];
            let normalisers = vec![[0.0; 2]; queries * shape.heads];
            (Scratch::lent(), qkv, mixed, normalisers)
        },
        |(scratch, qkv, mixed, normalisers), (i, y)| {
            let mask = |head| shape.mask(mask, i * shape.heads + head);
            let x = &x[i * picture..][..picture];
            let keep = Keep::new(keep.picture(i), queries);
            let steps = (&mut qkv[..], &mut mixed[..], &mut normalisers[..]);
            one_picture(scratch, x, layers, shape, mask, keep, steps, y);
        },
    );
    y
}

/// The branch of one picture, on one thread; `steps` takes queries, keys and values, the heads'
/// answers, and the normalisers.
#[allow(clippy::too_many_arguments)]
fn one_picture<'m, E: Operand>(
    scratch: &mut Scratch,
    x: &[f32],
    layers: &[Packed<E>; 2],
    shape: Shape,
    mask: impl Fn(usize) -> Option<&'m [bool]>,
    keep: Keep,
    (qkv, mixed, normalisers): (&mut [E], &mut [E], &mut [[f32; 2]]),
    y: &mut [f32],
) {
    let Shape { queries, width, .. } = shape;
    let one = Shape { batch: 1, ..shape };
    let parts = qkv.chunks_mut(BLOCK * 3 * width);
    for (x, qkv) in x.chunks(BLOCK * width).zip(parts) {
        normed_map(scratch, x, shape.epsilon, &layers[0], qkv);
    }
    let answers = mixed.chunks_mut(queries * one.head_dim());
    for (head, (mixed, normalisers)) in answers.zip(normalisers.chunks_mut(queries)).enumerate() {
        Head::new(qkv, one, head).answer(scratch, mask(head), 0, mixed, normalisers);
    }
    let blocks = y.chunks_mut(BLOCK * width).zip(x.chunks(BLOCK * width));
    for (block, (y, x)) in blocks.enumerate() {
        let first = block * BLOCK;
        join(scratch, x, mixed, &layers[1], one, first, keep, y);
    }
}

/// The branch where pictures are too few for all threads: rows, heads and queries are shared out.
fn spread<E: Operand>(
    x: &[f32],
    layers: &[Packed<E>; 2],
    shape: Shape,
    mask: Option<Mask>,
    keep: Keep,
    saved: &mut Saved<E>,
    y: &mut [f32],
) {
    let width = shape.width;
    let head_dim = shape.head_dim();
    let step = block::<E>(shape.batch * shape.tokens);
    let Saved {
        qkv,
        mixed,
        normalisers,
    } = saved;
    qkv.par_chunks_mut(step * 3 * width)
        .zip(x.par_chunks(step * width))
        .for_each_init(Scratch::lent, |scratch, (qkv, x)| {
            normed_map(scratch, x, shape.epsilon, &layers[0], qkv);
        });

    let shares = (2 * rayon::current_num_threads()).div_ceil(shape.batch * shape.heads);
    let share = shape.queries.div_ceil(shares);
    let tasks: Vec<_> = mixed
        .chunks_mut(shape.queries * head_dim)
        .zip(normalisers.chunks_mut(shape.queries))
        .enumerate()
        .flat_map(|(item, (mixed, normalisers))| {
            let answers = mixed.chunks_mut(share * head_dim);
            answers
                .zip(normalisers.chunks_mut(share))
                .enumerate()
                .map(move |(i, (mixed, normalisers))| (item, i * share, mixed, normalisers))
        })
        .collect();
    tasks.into_par_iter().for_each_init(
        Scratch::lent,
        |scratch, (item, first, mixed, normalisers)| {
            let head = Head::new(qkv, shape, item);
            head.answer(scratch, shape.mask(mask, item), first, mixed, normalisers);
        },
    );

    let x = shape.query_rows(x);
    let step = block::<E>(shape.batch * shape.queries);
    y.par_chunks_mut(step * width).enumerate().for_each_init(
        Scratch::lent,
        |scratch, (block, y)| {
            let first = block * step;
            let x = &x[first * width..][..y.len()];
            join(scratch, x, mixed, &layers[1], shape, first, keep, y);
        },
    );
}

/// norm(x)·W + b for some rows.
fn normed_map<E: Operand>(
    scratch: &mut Scratch,
    x: &[f32],
    epsilon: f32,
    layer: &Packed<E>,
    target: &mut [E],
) {
    let outputs = layer.bias.len();
    let count = target.len() / outputs;
    let width = x.len() / count;
    let [normed, ..] = &mut scratch.rows;
    normed.fill::<E>(count, width, |r, t| {
        vector::standardise(&x[r * width..][..width], epsilon, t);
    });
    let c = &mut scratch.products[0];
    product::<E>(normed, &layer.panels, c, |columns, c| {
        let bias = &layer.bias[columns.clone()];
        vector::store(c, count, bias, &mut target[columns.start..], outputs);
    });
}

/// x + keep·(heads joined·Wp + b) for the queries' rows from `first`.
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
        gather(mixed, shape, first + r, t);
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

/// Gradients of x, γ, β, Wqkv, its bias, Wp and its bias of [`forward`], and of γ and β of the queries'
/// norm and of the keys', empty where there is none; in this order.
#[inline(never)]
pub fn backward<E: Operand>(
    x: &[f32],
    saved: &Saved<E>,
    weights: &Weights,
    shape: Shape,
    mask: Option<Mask>,
    keep: Keep,
    dy: &[f32],
) -> [Vec<f32>; 11] {
    let Shape { tokens, width, .. } = shape;
    let norms = shape.query_key.lengths(shape.head_dim());
    if x.is_empty() {
        let [qkv, projection] = [weights.qkv, weights.projection].map(<[f32]>::len);
        let lengths = [
            0,
            width,
            width,
            qkv,
            3 * width,
            projection,
            width,
            norms[0],
            norms[1],
            norms[2],
            norms[3],
        ];
        return lengths.map(|len| vec![0.0; len]);
    }
    let folded = Folded::new(weights.gamma, weights.beta, weights.qkv);
    let steps = Backward {
        x,
        saved,
        shape,
        mask,
        keep,
        dy,
        map: folded.panels_transposed::<E>(),
        projection: linear::panels_transposed::<E>(weights.projection, width),
    };
    let mut dx = output::<f32>(x.len());
    let [(dw, db), (dprojection, dprojection_bias), (_, mut dnorms)] = gradients(
        shape.batch * tokens,
        tokens,
        [[width, 3 * width], [width, width], [0, norms.iter().sum()]],
        &mut dx,
        |range, dx, [map, projection, norms], scratch| {
            let pictures = range.start / tokens..range.end / tokens;
            // Apart from what the heads work in.
            let mut dqkv = std::mem::take(&mut scratch.rows[2]);
            let mut buffer = std::mem::take(&mut scratch.products[5]);
            let dmixed = buffer.get::<E>(pictures.len() * shape.queries * width);
            steps.through_projection(pictures.clone(), scratch, projection, dmixed);
            steps.through_heads(pictures.clone(), scratch, dmixed, norms, &mut dqkv);
            steps.through_map(pictures, scratch, &dqkv, map, dx);
            scratch.rows[2] = dqkv;
            scratch.products[5] = buffer;
        },
    );
    let [dgamma, dbeta, dqkv_weight] = folded.gradients(dw, &db);
    let [dquery_gamma, dquery_beta, dkey_gamma, dkey_beta] =
        norms.map(|len| dnorms.drain(..len).collect());
    [
        dx,
        dgamma,
        dbeta,
        dqkv_weight,
        db,
        dprojection,
        dprojection_bias,
        dquery_gamma,
        dquery_beta,
        dkey_gamma,
        dkey_beta,
    ]
}

/// One call of [`backward`]: its steps for some pictures, from the last layer to the first.
struct Backward<'a, E> {
    x: &'a [f32],
    saved: &'a Saved<E>,
    shape: Shape<'a>,
    mask: Option<Mask<'a>>,
    keep: Keep<'a>,
    dy: &'a [f32],
    /// (γ·Wqkv)ᵀ.
    map: Panels,
    /// Wpᵀ.
    projection: Panels,
}

impl<E: Operand> Backward<'_, E> {
    /// The queries' rows of some pictures.
    fn query_rows(&self, pictures: &Range<usize>) -> Range<usize> {
        pictures.start * self.shape.queries..pictures.end * self.shape.queries
    }

    /// The gradient of the branch's result for some of its rows.
    fn dy(&self, rows: &Range<usize>) -> &[f32] {
        let width = self.shape.width;
        &self.dy[rows.start * width..rows.end * width]
    }

    /// The gradients of the heads' answers, joined, and of the projection.
    fn through_projection(
        &self,
        pictures: Range<usize>,
        scratch: &mut Scratch,
        projection: &mut Gradient,
        dmixed: &mut [E],
    ) {
        let width = self.shape.width;
        let rows = self.query_rows(&pictures);
        let dy = self.dy(&rows);
        let zeros = vec![0.0; width];
        let [upper, left, _] = &mut scratch.rows;
        let [right, ..] = &mut scratch.panels;
        upper.fill::<E>(rows.len(), width, |r, t| {
            let keep = self.keep.of(rows.start + r);
            vector::scaled(&dy[r * width..][..width], keep, t);
        });
        let c = &mut scratch.products[0];
        product::<E>(upper, &self.projection, c, |columns, c| {
            let target = &mut dmixed[columns.start..];
            vector::store(c, rows.len(), &zeros[columns.clone()], target, width);
        });
        let joined = |r: usize, t: &mut [E]| {
            gather(&self.saved.mixed, self.shape, rows.start + r, t);
        };
        projection.add::<E>(left, right, rows.len(), joined, |r, t| upper.copy(r, t));
    }

    /// The gradients of queries, keys and values as the layer gives them, and of both norms.
    fn through_heads(
        &self,
        pictures: Range<usize>,
        scratch: &mut Scratch,
        dmixed: &[E],
        norms: &mut Gradient,
        dqkv: &mut Rows,
    ) {
        let Shape {
            tokens,
            queries,
            heads,
            width,
            ..
        } = self.shape;
        let head_dim = self.shape.head_dim();
        let (target, stride) = dqkv.room::<E>(pictures.len() * tokens, 3 * width);
        let picture = 3 * tokens * width;
        let qkv = &self.saved.qkv[pictures.start * picture..pictures.end * picture];
        let items = pictures.start * heads..pictures.end * heads;
        for (i, item) in items.enumerate() {
            let at = item * queries..(item + 1) * queries;
            let answers = &self.saved.mixed[at.start * head_dim..at.end * head_dim];
            let head = Head::new(qkv, self.shape, i);
            let mask = self.shape.mask(self.mask, item);
            head.gradient(
                scratch,
                mask,
                answers,
                &self.saved.normalisers[at],
                dmixed,
                target,
                stride,
            );
            norms.add_bias(&head.before_meeting(target, stride));
        }
    }

    /// The gradients of x and of the layer that gives queries, keys and values.
    fn through_map(
        &self,
        pictures: Range<usize>,
        scratch: &mut Scratch,
        dqkv: &Rows,
        map: &mut Gradient,
        dx: &mut [f32],
    ) {
        let Shape {
            tokens,
            width,
            epsilon,
            ..
        } = self.shape;
        let (first, count) = (pictures.start * tokens, pictures.len() * tokens);
        let x = &self.x[first * width..][..count * width];
        let rows = self.query_rows(&pictures);
        let dy = self.shape.among_all(self.dy(&rows));
        let [_, left, _] = &mut scratch.rows;
        let [right, ..] = &mut scratch.panels;
        let c = &mut scratch.products[0];
        linear::normed_input_gradient::<E>(dqkv, &self.map, c, [x, &dy], epsilon, dx, width);
        let normed = |r: usize, t: &mut [E]| {
            vector::standardise(&x[r * width..][..width], epsilon, t);
        };
        map.add::<E>(left, right, count, normed, |r, t| dqkv.copy(r, t));
    }
}

/// One token's row of all heads, out of `[B, h, Q, d]`.
pub(crate) fn gather<E: Operand>(values: &[E], shape: Shape, row: usize, target: &mut [E]) {
    let head_dim = shape.head_dim();
    let (picture, token) = (row / shape.queries, row % shape.queries);
    for (head, target) in target.chunks_exact_mut(head_dim).enumerate() {
        let item = (picture * shape.heads + head) * shape.queries + token;
        convert::copy(&values[item * head_dim..][..head_dim], target);
    }
}

/// One head of one picture.
pub(crate) struct Head<'a, E> {
    qkv: &'a [E],
    shape: Shape<'a>,
    picture: usize,
    head: usize,
}

impl<'a, E: Operand> Head<'a, E> {
    pub(crate) fn new(qkv: &'a [E], shape: Shape<'a>, item: usize) -> Self {
        Self {
            qkv,
            shape,
            picture: item / shape.heads,
            head: item % shape.heads,
        }
    }

    /// A token's query (0), key (1) or value (2), as the layer gives it.
    fn part(&self, part: usize, token: usize) -> &'a [E] {
        let Shape { tokens, width, .. } = self.shape;
        let head_dim = self.shape.head_dim();
        let row = self.picture * tokens + token;
        &self.qkv[(3 * row + part) * width + self.head * head_dim..][..head_dim]
    }

    /// Writes what becomes of [`part`](Self::part) before queries and keys meet.
    fn rows(&self, part: usize) -> impl FnMut(usize, &mut [E]) {
        let query_key = self.shape.query_key;
        let changes = query_key.changes(part);
        let room = if changes {
            2 * self.shape.head_dim()
        } else {
            0
        };
        let mut scratch = vec![0.0; room];
        move |token, target| {
            let x = self.part(part, token);
            if changes {
                query_key.forward(part, token, x, &mut scratch, target);
            } else {
                convert::copy(x, target);
            }
        }
    }

    /// Where the gradient of [`part`](Self::part) is in rows of `stride` values.
    fn place(&self, stride: usize, part: usize, token: usize) -> Range<usize> {
        let Shape { tokens, width, .. } = self.shape;
        let row = self.picture * tokens + token;
        let first = row * stride + part * width + self.head * self.shape.head_dim();
        first..first + self.shape.head_dim()
    }

    /// Turns the gradients of queries and keys as they meet into those of [`part`](Self::part), and
    /// returns those of both norms' γ and β, one after the other.
    fn before_meeting(&self, dqkv: &mut [E], stride: usize) -> Vec<f32> {
        let (head_dim, query_key) = (self.shape.head_dim(), self.shape.query_key);
        if !query_key.changes(0) {
            return Vec::new();
        }
        let mut scratch = vec![0.0; 4 * head_dim];
        let mut dnorms = vec![0.0; query_key.lengths(head_dim).iter().sum()];
        let size = dnorms.len() / 2;
        for part in 0..2 {
            let dnorm = &mut dnorms[part * size..][..size];
            for token in 0..self.shape.tokens {
                let x = self.part(part, token);
                let gradient = &mut dqkv[self.place(stride, part, token)];
                query_key.backward(part, token, x, &mut scratch, gradient, dnorm);
            }
        }
        dnorms
    }

    /// Queries, keys or values as the right operand of a product over the head's width.
    fn across(&self, part: usize, panels: &mut Panels) {
        let shape = self.shape;
        panels.fill_transposed::<E>(shape.head_dim(), shape.tokens, self.rows(part));
    }

    /// Queries, keys or values of some tokens as the right operand of a product over tokens.
    fn down(&self, part: usize, first: usize, count: usize, panels: &mut Panels) {
        let mut rows = self.rows(part);
        panels.fill::<E>(count, self.shape.head_dim(), |token, t| {
            rows(first + token, t)
        });
    }

    /// softmax(QKᵀ/√d)·V for the queries from `begin` that `mixed` has room for.
    pub(crate) fn answer(
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
        let mut query = self.rows(0);
        for first in (0..all).step_by(QUERIES) {
            let count = QUERIES.min(all - first);
            queries.fill::<E>(count, head_dim, |i, t| query(begin + first + i, t));
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

    /// Gradients of queries and keys as they meet and of values into rows of `stride` values that lie
    /// as those of `qkv` do, given the gradient of the answers of all heads, `[B·Q, D]`.
    #[allow(clippy::too_many_arguments)]
    fn gradient(
        &self,
        scratch: &mut Scratch,
        mask: Option<&[bool]>,
        mixed: &[E],
        normalisers: &[[f32; 2]],
        dmixed: &[E],
        dqkv: &mut [E],
        dqkv_stride: usize,
    ) {
        let Shape {
            tokens,
            queries,
            width,
            ..
        } = self.shape;
        let head_dim = self.shape.head_dim();
        let scale = self.shape.scale();
        let stride = tokens.next_multiple_of(PANEL);
        let narrow = head_dim.next_multiple_of(PANEL);
        let answer = |token: usize| {
            let row = self.picture * queries + token;
            &dmixed[row * width + self.head * head_dim..][..head_dim]
        };
        let [left, transposed, _] = &mut scratch.rows;
        let [keys, values, keys_down, block] = &mut scratch.panels;
        let [scores, dweights, dkeys, dvalues, answers, _] = &mut scratch.products;
        self.across(1, keys);
        self.across(2, values);
        self.down(1, 0, tokens, keys_down);
        let padded = tokens.next_multiple_of(E::ROW_STEP);
        let dkeys = dkeys.get::<f32>(padded * narrow);
        let dvalues = dvalues.get::<f32>(padded * narrow);
        let mut query = self.rows(0);
        for first in (0..queries).step_by(QUERIES) {
            let count = QUERIES.min(queries - first);
            let rows = count.next_multiple_of(E::ROW_STEP);
            let scores = scores.get::<f32>(rows * stride);
            let dweights = dweights.get::<f32>(rows * stride);
            left.fill::<E>(count, head_dim, |i, t| query(first + i, t));
            product_into::<E>(left, keys, scores, stride, false);
            forbid(scores, stride, mask, first, count, tokens);
            for i in 0..count {
                let row = &mut scores[i * stride..][..tokens];
                vector::softmax_again(row, scale, normalisers[first + i]);
            }
            left.fill::<E>(count, head_dim, |i, t| convert::copy(answer(first + i), t));
            product_into::<E>(left, values, dweights, stride, false);

            transposed.fill_transposed::<E>(tokens, count, |i, t| {
                E::from_f32(&scores[i * stride..][..tokens], t);
            });
            block.fill::<E>(count, head_dim, |i, t| convert::copy(answer(first + i), t));
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
                convert::copy(&dscores[i * dscores_stride..][..tokens], t);
            });
            self.down(0, first, count, block);
            product_into::<E>(transposed, block, dkeys, narrow, first > 0);
            product::<E>(left, keys_down, answers, |columns, c| {
                for (i, c) in c.chunks_exact(PANEL).take(count).enumerate() {
                    let query = &mut dqkv[self.place(dqkv_stride, 0, first + i)];
                    let target = &mut query[columns.clone()];
                    E::from_f32(&c[..columns.len()], target);
                }
            });
        }
        for token in queries..tokens {
            dqkv[self.place(dqkv_stride, 0, token)].fill(E::zeroed());
        }
        for token in 0..tokens {
            for (part, values) in [(1, &*dkeys), (2, &*dvalues)] {
                let target = &mut dqkv[self.place(dqkv_stride, part, token)];
                E::from_f32(&values[token * narrow..][..head_dim], target);
            }
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
