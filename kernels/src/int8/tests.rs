//! Operations of eight bits against those of f32: near them, whole, and each row's result its own.

use super::{attention, conv, mlp};
use crate::activation::Activation;
use crate::attention::{Mask, Shape};
use crate::conv as wide_conv;
use crate::keep::Keep;
use crate::map::{Map, Window};
use crate::mlp::Form;
use crate::query_key::QueryKey;
use crate::tail::Tail;

fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut x = seed;
    let mut next = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// The largest difference, as a share of the largest number expected.
#[track_caller]
fn off(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let most = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let pairs = found.iter().zip(expected);
    pairs.fold(0.0, |off: f32, (a, b)| {
        // A NaN stays.
        if (a - b).abs() <= off {
            off
        } else {
            (a - b).abs() / most
        }
    })
}

fn with_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.expect("a thread pool").install(f)
}

/// Same bits on any number of threads, and for each picture whatever is beside it.
#[track_caller]
fn same_bits(
    pictures: usize,
    x: &[f32],
    infer: impl Fn(&[f32], usize) -> Vec<f32> + Sync,
) -> Vec<f32> {
    let [one, two, five] = [1, 2, 5].map(|threads| with_threads(threads, || infer(x, pictures)));
    assert!(one == two && one == five);
    let alone: Vec<f32> = x
        .chunks(x.len() / pictures)
        .flat_map(|x| with_threads(3, || infer(x, 1)))
        .collect();
    assert_eq!(one, alone);
    one
}

/// Weights of a branch.
struct Branch([Vec<f32>; 6]);

impl Branch {
    fn new(width: usize, between: [usize; 2]) -> Self {
        let scaled = |len, seed, by: f32| numbers(len, seed).iter().map(|x| x * by).collect();
        let by = (width as f32).powf(-0.5);
        Self([
            numbers(width, 1).iter().map(|x| x + 1.5).collect(),
            numbers(width, 2),
            scaled(width * between[0], 3, 2.0 * by),
            numbers(between[0], 4),
            scaled(between[1] * width, 5, by),
            numbers(width, 6),
        ])
    }

    fn get(&self) -> [&[f32]; 6] {
        self.0.each_ref().map(Vec::as_slice)
    }
}

/// Both activations, and an ε that shows.
const FORMS: [Form; 2] = [
    Form {
        epsilon: 1e-6,
        activation: Activation::Gelu,
    },
    Form {
        epsilon: 0.3,
        activation: Activation::GeluTanh,
    },
];

#[test]
fn an_mlp_is_near_that_of_f32() {
    for (pictures, tokens, width, hidden) in [(1, 1, 3, 5), (3, 7, 13, 70), (2, 150, 40, 64)] {
        let branch = Branch::new(width, [hidden, hidden]);
        let weights = crate::mlp::Weights::new(branch.get());
        let packed = mlp::pack(&weights);
        let x = numbers(pictures * tokens * width, 7);
        for form in FORMS {
            let y = same_bits(pictures, &x, |x, _| mlp::infer(x, &packed, form));
            let keep = Keep::new(None, 1);
            let (wide, _) = crate::mlp::forward(&x, &weights.packed::<f32>(), form, keep, false);
            let off = off(&y, &wide);
            assert!(off < 0.03, "{off} of {pictures} {tokens} {width} {hidden}");
        }
    }
    // Both activations are so near each other that eight bits hide which it was, but for the bits.
    let branch = Branch::new(12, [40, 40]);
    let packed = mlp::pack(&crate::mlp::Weights::new(branch.get()));
    let x = numbers(60, 9);
    let [exact, approximate] = FORMS.map(|form| {
        let epsilon = 1e-6;
        mlp::infer(&x, &packed, Form { epsilon, ..form })
    });
    assert_ne!(exact, approximate);
    let branch = Branch::new(4, [6, 6]);
    let packed = mlp::pack(&crate::mlp::Weights::new(branch.get()));
    assert!(mlp::infer(&[], &packed, FORMS[0]).is_empty());
}

#[test]
fn attention_is_near_that_of_f32() {
    for (batch, tokens, queries, heads, width) in [
        (1, 1, 1, 1, 4),
        (3, 9, 9, 2, 12),
        (2, 70, 1, 3, 48),
        (9, 33, 33, 3, 36),
        (2, 21, 21, 3, 192),
        (1, 21, 2, 1, 80),
        (2, 21, 21, 5, 440),
    ] {
        let branch = Branch::new(width, [3 * width, width]);
        let weights = crate::attention::Weights::new(branch.get());
        let packed = attention::pack(&weights);
        let x = numbers(batch * tokens * width, 8);
        let shape = |batch| Shape {
            batch,
            tokens,
            queries,
            heads,
            width,
            epsilon: 0.3,
            query_key: QueryKey::default(),
        };
        let y = same_bits(batch, &x, |x, batch| {
            attention::infer(x, &packed, shape(batch), None)
        });
        let layers = weights.packed::<f32>();
        let keep = Keep::new(None, 1);
        let wide = crate::attention::infer(&x, &layers, shape(batch), None, keep);
        let off = off(&y, &wide);
        assert!(
            off < 0.03,
            "{off} of {batch} {tokens} {queries} {heads} {width}"
        );
        // Each picture and head with a mask of its own.
        let allowed: Vec<bool> = (0..batch * heads * tokens * tokens)
            .map(|i| i % 3 != 1)
            .collect();
        let mask = Mask {
            allowed: &allowed,
            by_picture: true,
            by_head: true,
        };
        let y = attention::infer(&x, &packed, shape(batch), Some(mask));
        let wide = crate::attention::infer(&x, &layers, shape(batch), Some(mask), keep);
        assert!(self::off(&y, &wide) < 0.03);
        assert!(attention::infer(&[], &packed, shape(0), None).is_empty());
    }
}

#[test]
fn a_convolution_is_near_that_of_f32() {
    for (kernel, stride, padding, channels, filters) in [
        (3, 1, 1, 9, 5),
        (3, 2, 1, 16, 33),
        (1, 2, 0, 8, 40),
        (2, 1, 0, 12, 70),
    ] {
        let window = Window {
            kernel,
            stride,
            padding,
        };
        let map = |batch| Map::new([batch, 11, 9, channels]);
        let output = map(3).windows(window, filters);
        let x = numbers(map(3).values(), 1);
        let weight = numbers(filters * channels * kernel * kernel, 2);
        let other = numbers(output.values(), 3);
        let positive =
            |seed| -> Vec<f32> { numbers(filters, seed).iter().map(|x| x + 1.5).collect() };
        let (gamma, beta, mean, variance) = (
            positive(4),
            numbers(filters, 5),
            numbers(filters, 6),
            positive(7),
        );
        let norm = wide_conv::Norm {
            gamma: &gamma,
            beta: &beta,
            mean: &mean,
            variance: &variance,
            epsilon: 1e-5,
        };
        for tail in [
            Tail::Plain,
            Tail::Relu,
            Tail::Gelu,
            Tail::AddRelu(()),
            Tail::AddGelu(()),
            Tail::ReluAdd(()),
        ] {
            let packed = conv::Packed::new(window, channels, &weight, Some(&norm));
            // Every picture has the same other map, so that it may stand alone.
            let picture = output.values() / 3;
            let others = other[..picture].repeat(3);
            let y = same_bits(3, &x, |x, batch| {
                let tail = tail.map(|()| &others[..batch * picture]);
                conv::infer(&packed, (x, map(batch)), tail)
            });
            let wide = wide_conv::Packed::<f32>::folded(window, channels, &weight, &norm);
            let wide = wide_conv::forward(&wide, (&x, map(3)), tail.map(|()| &others[..]));
            let off = off(&y, &wide);
            assert!(
                off < 0.03,
                "{off} of {kernel} {stride} {channels} {filters} {tail:?}"
            );
        }
        let packed = conv::Packed::new(window, channels, &weight, None);
        let y = conv::infer(&packed, (&x, map(3)), Tail::Plain);
        let wide = wide_conv::Packed::<f32>::new(window, channels, &weight, None);
        assert!(off(&y, &wide_conv::forward(&wide, (&x, map(3)), Tail::Plain)) < 0.03);
        assert!(conv::infer(&packed, (&[], map(0)), Tail::Plain).is_empty());
    }
}

#[test]
fn what_is_no_number_stays_none_and_in_its_row() {
    for bad in [f32::NAN, f32::INFINITY] {
        let (width, tokens) = (12, 5);
        let branch = Branch::new(width, [20, 20]);
        let packed = mlp::pack(&crate::mlp::Weights::new(branch.get()));
        let mut x = numbers(tokens * width, 3);
        x[2 * width + 7] = bad;
        for (row, y) in mlp::infer(&x, &packed, FORMS[0]).chunks(width).enumerate() {
            assert_eq!(y.iter().all(|y| y.is_finite()), row != 2);
            assert!(row != 2 || !y.iter().any(|y| y.is_finite()));
        }
        let branch = Branch::new(width, [3 * width, width]);
        let packed = attention::pack(&crate::attention::Weights::new(branch.get()));
        let shape = Shape {
            batch: 2,
            tokens,
            queries: tokens,
            heads: 3,
            width,
            epsilon: 0.3,
            query_key: QueryKey::default(),
        };
        let x = [x, numbers(tokens * width, 4)].concat();
        let y = attention::infer(&x, &packed, shape, None);
        let (first, second) = y.split_at(tokens * width);
        assert!(!first.iter().any(|y| y.is_finite()) && second.iter().all(|y| y.is_finite()));
        // A weight that is no number spoils its output alone.
        let window = Window {
            kernel: 1,
            stride: 1,
            padding: 0,
        };
        let mut weight = numbers(3 * 8, 5);
        weight[11] = bad;
        let packed = conv::Packed::new(window, 8, &weight, None);
        let map = Map::new([1, 2, 2, 8]);
        for y in conv::infer(&packed, (&numbers(32, 6), map), Tail::Plain).chunks(3) {
            assert!(y[0].is_finite() && !y[1].is_finite() && y[2].is_finite());
        }
    }
}
