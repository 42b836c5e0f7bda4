//! Every operation writes all of its result, and none at all where there are no rows.
//!
//! Here `output` is full of what is not a number, so a value that nobody wrote is one. What the values are is
//! tested where there is something to hold them against: vitrine's `ops`.

use half::bf16;

use crate::activation::Activation;
use crate::attention::{self, Mask, Shape};
use crate::batch_norm::{self, Statistics};
use crate::conv::{self, Norm};
use crate::keep::Keep;
use crate::linear;
use crate::map::{Map, Window};
use crate::muon::{self, Matrices};
use crate::operand::Operand;
use crate::query_key::{QueryKey, RowNorm};
use crate::tail::Tail;
use crate::{embedding, gather, mlp, norm, pool};

/// Of all norms here.
const EPSILON: f32 = 1e-6;

/// Numbers between −1 and 1, none of them zero.
fn numbers<E: Operand>(len: usize) -> Vec<E> {
    (0..len)
        .map(|i| E::narrow(((i * 7919 + 13) % 211) as f32 / 105.5 - 0.997))
        .collect()
}

/// As many as expected, and each a number.
#[track_caller]
fn whole<E: Operand>(found: &[E], len: usize) {
    assert_eq!(found.len(), len);
    let bad = found.iter().position(|value| !value.widen().is_finite());
    assert_eq!(bad, None, "of {len}");
}

/// Gradients of nothing are zero.
#[track_caller]
fn zero(found: &[f32], len: usize) {
    assert_eq!(found, vec![0.0; len]);
}

fn linear_of<E: Operand>(rows: usize, inputs: usize, outputs: usize) {
    let [x, dy] = [rows * inputs, rows * outputs].map(numbers::<f32>);
    let (weight, bias) = (numbers::<f32>(inputs * outputs), numbers::<f32>(outputs));
    let layer = linear::Packed::<E>::new(&weight, &bias);
    whole(&linear::forward(&x, &layer), rows * outputs);
    for with_dx in [true, false] {
        let [dx, dw, db] = linear::backward::<E>(&x, &weight, &dy, outputs, with_dx);
        whole(&dx, if with_dx { x.len() } else { 0 });
        whole(&dw, weight.len());
        whole(&db, outputs);
        if rows == 0 {
            zero(&dw, weight.len());
            zero(&db, outputs);
        }
    }
}

fn mlp_of<E: Operand>(pictures: usize, tokens: usize, width: usize, hidden: usize) {
    let x = numbers::<f32>(pictures * tokens * width);
    let [gamma, beta, bias2] = [(); 3].map(|()| numbers::<f32>(width));
    let [weight1, weight2] = [(); 2].map(|()| numbers::<f32>(width * hidden));
    let bias1 = numbers::<f32>(hidden);
    let all = [&gamma, &beta, &weight1, &bias1, &weight2, &bias2].map(|v| v.as_slice());
    let weights = mlp::Weights::new(all);
    let layers = weights.packed::<E>();
    let share = vec![0.5; pictures];
    let keep = Keep::new(Some(&share), tokens);
    for activation in [Activation::Gelu, Activation::GeluTanh] {
        let form = mlp::Form {
            epsilon: EPSILON,
            activation,
        };
        let (y, z) = mlp::forward(&x, &layers, form, keep, true);
        whole(&y, x.len());
        whole(&z, pictures * tokens * hidden);
        whole(&mlp::forward(&x, &layers, form, keep, false).0, x.len());
        let gradients = mlp::backward(&x, &z, &weights, form, keep, &x);
        whole(&gradients[0], x.len());
        for (gradient, of) in gradients[1..].iter().zip(all) {
            whole(gradient, of.len());
            if pictures == 0 {
                zero(gradient, of.len());
            }
        }
    }
}

fn attention_of<E: Operand>(batch: usize, tokens: usize, queries: usize, normed: Option<bool>) {
    let (heads, width) = (2, 12);
    let [gamma, beta, projection_bias] = [(); 3].map(|()| numbers::<f32>(width));
    let (qkv, qkv_bias) = (numbers::<f32>(3 * width * width), numbers::<f32>(3 * width));
    let projection = numbers::<f32>(width * width);
    let all = [
        &gamma,
        &beta,
        &qkv,
        &qkv_bias,
        &projection,
        &projection_bias,
    ]
    .map(|v| v.as_slice());
    let weights = attention::Weights::new(all);
    let layers = weights.packed::<E>();
    let head = numbers::<f32>(width / heads);
    let turns = numbers::<f32>(tokens * width / heads);
    let query_key = match normed {
        Some(shifted) => QueryKey {
            norm: Some(
                [RowNorm {
                    gamma: &head,
                    beta: shifted.then_some(&head),
                    epsilon: EPSILON,
                }; 2],
            ),
            rotation: Some(&turns),
        },
        None => QueryKey::default(),
    };
    let shape = Shape {
        batch,
        tokens,
        queries,
        heads,
        width,
        epsilon: EPSILON,
        query_key,
    };
    let allowed: Vec<bool> = (0..tokens * tokens)
        .map(|i| i % tokens <= i / tokens)
        .collect();
    let mask = Mask {
        allowed: &allowed,
        by_picture: false,
        by_head: false,
    };
    let x = numbers::<f32>(batch * tokens * width);
    let dy = numbers::<f32>(batch * queries * width);
    for mask in [None, Some(mask)] {
        let keep = Keep::new(None, queries);
        let (y, saved) = attention::forward(&x, &layers, shape, mask, keep);
        whole(&y, dy.len());
        whole(&saved.qkv, 3 * x.len());
        whole(&saved.mixed, dy.len());
        whole(&attention::infer(&x, &layers, shape, mask, keep), dy.len());
        let gradients = attention::backward(&x, &saved, &weights, shape, mask, keep, &dy);
        whole(&gradients[0], x.len());
        let gamma = normed.map_or(0, |_| head.len());
        let beta = if normed == Some(true) { gamma } else { 0 };
        let norms = [gamma, beta, gamma, beta];
        let lengths = all.map(<[f32]>::len).into_iter().chain(norms);
        for (gradient, len) in gradients[1..].iter().zip(lengths) {
            whole(gradient, len);
            if batch == 0 {
                zero(gradient, len);
            }
        }
    }
}

fn embedding_of<E: Operand>(batch: usize, prefix: usize, side: usize) {
    let shape = embedding::Shape {
        batch,
        channels: 3,
        height: side,
        width: side,
        patch: [4, 2],
        prefix,
        embed_dim: 17,
    };
    let patches = (side / 4) * (side / 2);
    let tokens = prefix + patches;
    let images = numbers::<f32>(batch * 3 * side * side);
    let (weight, bias) = (numbers::<f32>(24 * 17), numbers::<f32>(17));
    let projection = linear::Packed::<E>::new(&weight, &bias);
    let positions = numbers::<f32>(patches * 17);
    let first = numbers::<f32>(prefix * 17);
    for positions in [None, Some(&positions[..])] {
        let y = embedding::forward(&images, shape, &projection, positions, &first);
        whole(&y, batch * tokens * 17);
    }
    let dy = numbers::<f32>(batch * tokens * 17);
    let [dimages, dweight, dbias, dpositions, dprefix] =
        embedding::backward::<E>(&images, shape, &weight, &dy, [true, true]);
    whole(&dimages, images.len());
    whole(&dweight, weight.len());
    whole(&dbias, bias.len());
    whole(&dpositions, positions.len());
    whole(&dprefix, first.len());
}

fn conv_of<E: Operand>(window: Window, batch: usize, channels: usize, filters: usize) {
    let input = Map::new([batch, 9, 7, channels]);
    let out = input.windows(window, filters);
    let x = numbers::<E>(input.values());
    let weight = numbers::<f32>(filters * channels * window.kernel * window.kernel);
    let of = numbers::<f32>(filters);
    let variance = vec![1.5; filters];
    let norm = Norm {
        gamma: &of,
        beta: &of,
        mean: &of,
        variance: &variance,
        epsilon: 1e-5,
    };
    let dy = numbers::<E>(out.values());
    let tails = [
        Tail::Plain,
        Tail::Relu,
        Tail::Gelu,
        Tail::AddRelu(&dy[..]),
        Tail::AddGelu(&dy),
        Tail::ReluAdd(&dy),
    ];
    for tail in tails {
        for packed in [
            conv::Packed::<E>::new(window, channels, &weight, Some(&of)),
            conv::Packed::<E>::folded(window, channels, &weight, &norm),
        ] {
            whole(&conv::forward(&packed, (&x, input), tail), out.values());
        }
        let statistics = Statistics::of(&dy, filters);
        whole(&statistics.mean, filters);
        whole(&statistics.variance, filters);
        let affine = [&of[..], &of];
        let y = batch_norm::forward(&dy, &statistics, affine, 1e-5, tail);
        whole(&y, dy.len());
        let gradients = batch_norm::backward(&dy, &statistics, affine, 1e-5, tail, &dy);
        whole(&gradients.z, dy.len());
        whole(&gradients.gamma, filters);
        whole(&gradients.beta, filters);
        if let Some(added) = gradients.added {
            whole(&added, dy.len());
        }
    }
    let dx = conv::input_gradient(window, (&dy, out), &weight, input);
    whole::<E>(&dx, x.len());
    let dw = conv::weight_gradient(window, (&x, input), (&dy, out));
    whole(&dw, weight.len());
    if batch == 0 {
        zero(&dw, weight.len());
    }
}

fn pool_of<E: Operand>(window: Window, batch: usize, channels: usize) {
    let input = Map::new([batch, 9, 7, channels]);
    let out = input.windows(window, channels);
    let x = numbers::<E>(input.values());
    let y = pool::forward(window, (&x, input));
    whole(&y, out.values());
    whole(&pool::backward(window, (&x, input), &y, &y), x.len());
}

fn norm_of(batch: usize, tokens: usize, width: usize) {
    let x = numbers::<f32>(batch * tokens * width);
    let [gamma, beta] = [(); 2].map(|()| numbers::<f32>(width));
    whole(&norm::forward(&x, &gamma, &beta, EPSILON), x.len());
    let dy = numbers::<f32>(batch * width);
    let means = norm::mean_forward(&x, batch, 1, &gamma, &beta, EPSILON);
    whole(&means, batch * width);
    whole(&norm::token_mean(&x, batch, 1, width), batch * width);
    whole(
        &norm::token_mean_gradient(x.len(), batch, 1, width, &dy),
        x.len(),
    );
    for [dx, dgamma, dbeta] in [
        norm::backward(&x, &gamma, EPSILON, &x),
        norm::mean_backward(&x, batch, 1, &gamma, EPSILON, &dy),
    ] {
        whole(&dx, x.len());
        whole(&dgamma, width);
        whole(&dbeta, width);
    }
}

fn both(test: impl Fn(bool)) {
    for narrow in [false, true] {
        test(narrow);
    }
}

macro_rules! of_both {
    ($operation:ident($($argument:expr),*)) => {
        both(|narrow| match narrow {
            false => $operation::<f32>($($argument),*),
            true => $operation::<bf16>($($argument),*),
        })
    };
}

const WINDOWS: [Window; 5] = {
    const fn of(kernel: usize, stride: usize, padding: usize) -> Window {
        Window {
            kernel,
            stride,
            padding,
        }
    }
    [
        of(3, 1, 1),
        of(3, 2, 1),
        of(2, 2, 0),
        of(1, 2, 0),
        of(3, 3, 0),
    ]
};

#[test]
fn everything_of_a_result_is_written() {
    for (rows, inputs, outputs) in [(1, 1, 1), (3, 33, 5), (131, 17, 40), (1100, 7, 65)] {
        of_both!(linear_of(rows, inputs, outputs));
    }
    for (pictures, tokens, width, hidden) in [(1, 1, 2, 1), (3, 5, 12, 7), (19, 67, 40, 33)] {
        of_both!(mlp_of(pictures, tokens, width, hidden));
    }
    for (batch, tokens, queries) in [(1, 1, 1), (3, 5, 2), (40, 9, 9), (33, 70, 1)] {
        for normed in [None, Some(false), Some(true)] {
            of_both!(attention_of(batch, tokens, queries, normed));
        }
    }
    for (batch, prefix, side) in [(1, 0, 4), (3, 2, 8), (2, 1, 28)] {
        of_both!(embedding_of(batch, prefix, side));
    }
    for window in WINDOWS {
        for (batch, channels, filters) in [(1, 1, 1), (3, 5, 70), (40, 33, 17)] {
            of_both!(conv_of(window, batch, channels, filters));
            of_both!(pool_of(window, batch, channels));
        }
    }
    // Enough filters that the taps are summed in groups.
    of_both!(conv_of(WINDOWS[0], 2, 130, 150));
    for (batch, tokens, width) in [(1, 2, 1), (3, 5, 12), (19, 67, 40)] {
        norm_of(batch, tokens, width);
    }
    whole(&gather::forward(&numbers(30), 3, &[7, 0, 7]), 9);
    whole(&gather::backward(&numbers(9), 10, 3, &[7, 0, 2]), 30);
}

#[test]
fn of_no_rows_nothing_is_made() {
    for (rows, inputs, outputs) in [(0, 5, 3), (0, 0, 3), (0, 5, 0), (7, 5, 0), (0, 0, 0)] {
        of_both!(linear_of(rows, inputs, outputs));
    }
    // Rows without inputs have a bias nevertheless.
    let dy = numbers::<f32>(6);
    let [_, _, db] = linear::backward::<f32>(&[], &[], &dy, 3, true);
    assert_eq!(db, [dy[0] + dy[3], dy[1] + dy[4], dy[2] + dy[5]]);
    of_both!(mlp_of(0, 5, 12, 7));
    of_both!(attention_of(0, 5, 5, None));
    of_both!(attention_of(0, 5, 2, Some(true)));
    of_both!(embedding_of(0, 2, 8));
    of_both!(embedding_of(0, 0, 8));
    for window in WINDOWS {
        of_both!(conv_of(window, 0, 5, 7));
        of_both!(pool_of(window, 0, 5));
    }
    norm_of(0, 5, 12);
    assert!(gather::forward(&numbers(30), 3, &[]).is_empty());
    zero(&gather::backward(&[], 10, 3, &[]), 30);
    let none = Matrices {
        rows: 0,
        columns: 3,
        parts: 2,
    };
    assert!(muon::direction::<f32>(&[], &mut [], none, 0.9).is_empty());
}
