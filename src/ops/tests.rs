//! Every operation against its composed form, against finite differences in f64, and across
//! numbers of threads.
#![allow(clippy::unwrap_used)]

use burn::tensor::{Bool, Device, Tensor, TensorData};

use super::attention::{Heads, QueryKey, RowNorm};
use super::branch::Branch;
use super::*;

mod apart;
#[cfg(gpu)]
mod by_hand;
mod query_key;

/// Numbers between −1 and 1 that depend on `seed` alone.
fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut bits = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        (bits >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// ε of most norms here.
const EPSILON: f64 = 1e-6;

fn device() -> Device {
    Device::flex().autodiff()
}

fn leaf<const R: usize>(values: &[f32], shape: [usize; R]) -> Tensor<R> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), &device()).require_grad()
}

fn host<const R: usize>(x: Tensor<R>) -> Vec<f32> {
    x.try_into_vec_as::<f32>().unwrap()
}

/// One encoder branch in f64, written as the formulas stand, on rows of one picture at a time.
#[derive(Debug, Clone, Copy)]
struct Reference {
    batch: usize,
    tokens: usize,
    width: usize,
    heads: usize,
    hidden: usize,
    /// Of the norm.
    epsilon: f64,
    /// Of the MLP.
    activation: Activation,
    /// As in [`Heads`].
    queries: Option<usize>,
}

type Inputs = Vec<Vec<f64>>;

impl Reference {
    fn normed(&self, x: &[f64], gamma: &[f64], beta: &[f64]) -> Vec<f64> {
        x.chunks(self.width)
            .flat_map(|row| {
                let n = row.len() as f64;
                let mean = row.iter().sum::<f64>() / n;
                let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
                let scale = 1.0 / (variance + self.epsilon).sqrt();
                (0..row.len())
                    .map(|i| gamma[i] * (row[i] - mean) * scale + beta[i])
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    fn affine(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let outputs = bias.len();
        let inputs = weight.len() / outputs;
        x.chunks(inputs)
            .flat_map(|row| {
                (0..outputs)
                    .map(|o| {
                        bias[o]
                            + (0..inputs)
                                .map(|i| row[i] * weight[i * outputs + o])
                                .sum::<f64>()
                    })
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// x, γ, β, W₁, b₁, W₂, b₂.
    fn mlp(&self, v: &Inputs, keep: &[f32]) -> Vec<f64> {
        let mut hidden = Self::affine(&self.normed(&v[0], &v[1], &v[2]), &v[3], &v[4]);
        for z in &mut hidden {
            if self.activation == Activation::GeluTanh {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (*z + 0.044715 * z.powi(3));
                *z *= 0.5 * (1.0 + inner.tanh());
                continue;
            }
            // tanh-free and erf-free: Φ by its series and continued fraction would be long, so
            // the normal distribution comes from numerical integration (Simpson, 400 intervals).
            let n = 400;
            let h = *z / n as f64;
            let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let inner: f64 = (1..n)
                .map(|i| density(i as f64 * h) * if i % 2 == 1 { 4.0 } else { 2.0 })
                .sum();
            *z *= 0.5 + (density(0.0) + inner + density(*z)) * h / 3.0;
        }
        self.residual(&v[0], &Self::affine(&hidden, &v[5], &v[6]), keep)
    }

    /// x, γ, β, Wqkv, its bias, Wp, its bias.
    fn attention(&self, v: &Inputs, mask: Option<&[bool]>, keep: &[f32]) -> Vec<f64> {
        let qkv = Self::affine(&self.normed(&v[0], &v[1], &v[2]), &v[3], &v[4]);
        self.mixed(v, &qkv, mask, keep)
    }

    /// [`attention`](Self::attention) from queries, keys and values on.
    fn mixed(&self, v: &Inputs, qkv: &[f64], mask: Option<&[bool]>, keep: &[f32]) -> Vec<f64> {
        let (n, w) = (self.tokens, self.width);
        let d = w / self.heads;
        let mut mixed = vec![0.0; v[0].len()];
        for b in 0..self.batch {
            for h in 0..self.heads {
                let at = |part: usize, token: usize, i: usize| {
                    qkv[(b * n + token) * 3 * w + part * w + h * d + i]
                };
                for q in 0..n {
                    let scores: Vec<f64> = (0..n)
                        .map(|k| {
                            if mask.is_some_and(|m| !m[q * n + k]) {
                                return f64::NEG_INFINITY;
                            }
                            (0..d).map(|i| at(0, q, i) * at(1, k, i)).sum::<f64>()
                                / (d as f64).sqrt()
                        })
                        .collect();
                    let sum: f64 = scores.iter().map(|s| s.exp()).sum();
                    for i in 0..d {
                        mixed[(b * n + q) * w + h * d + i] =
                            (0..n).map(|k| scores[k].exp() / sum * at(2, k, i)).sum();
                    }
                }
            }
        }
        let y = self.residual(&v[0], &Self::affine(&mixed, &v[5], &v[6]), keep);
        let queries = self.queries.unwrap_or(n);
        let pictures = y.chunks(n * w);
        pictures.flat_map(|y| y[..queries * w].to_vec()).collect()
    }

    fn residual(&self, x: &[f64], branch: &[f64], keep: &[f32]) -> Vec<f64> {
        let picture = self.tokens * self.width;
        x.iter()
            .zip(branch)
            .enumerate()
            .map(|(i, (x, y))| x + f64::from(keep[i / picture]) * y)
            .collect()
    }

    fn shapes(&self, attention: bool) -> [usize; 7] {
        let w = self.width;
        let rows = self.batch * self.tokens * w;
        if attention {
            [rows, w, w, 3 * w * w, 3 * w, w * w, w]
        } else {
            [rows, w, w, w * self.hidden, self.hidden, self.hidden * w, w]
        }
    }

    fn inputs(&self, attention: bool) -> Vec<Vec<f32>> {
        let shapes = self.shapes(attention);
        (0..7)
            .map(|i| {
                // Wide layers of larger weights would make scores that bf16 cannot tell apart.
                let spread = match i {
                    0 => 2.0,
                    3 | 5 if self.width > 64 => (self.width as f32).powf(-0.5),
                    _ => 0.7,
                };
                numbers(shapes[i], 11 + i as u64)
                    .iter()
                    .map(|v| v * spread)
                    .collect()
            })
            .collect()
    }
}

/// The kernel's output and gradients of Σ weight·output.
fn run(
    reference: &Reference,
    attention: bool,
    inputs: &[Vec<f32>],
    mask: Option<&Tensor<4, Bool>>,
    keep: &[f32],
    precision: Precision,
    composed: bool,
) -> (Vec<f32>, Vec<Vec<f32>>) {
    let w = reference.width;
    let rows = reference.batch * reference.tokens;
    let middle = if attention { 3 * w } else { reference.hidden };
    let inner = if attention { w } else { reference.hidden };
    let x = leaf(&inputs[0], [rows, w]);
    let branch = Branch {
        norm: Scale {
            gamma: leaf(&inputs[1], [w]),
            beta: leaf(&inputs[2], [w]),
            epsilon: reference.epsilon,
        },
        first: Affine {
            weight: leaf(&inputs[3], [w, middle]),
            bias: leaf(&inputs[4], [middle]),
        },
        second: Affine {
            weight: leaf(&inputs[5], [inner, w]),
            bias: leaf(&inputs[6], [w]),
        },
        keep: Some(keep.to_vec()),
        precision,
        prepared: None,
    };
    let heads = Heads {
        batch: reference.batch,
        heads: reference.heads,
        queries: reference.queries,
    };
    let run = match composed {
        true => attention::composed,
        false => attention::add_attention,
    };
    let y = match (attention, composed) {
        (true, _) => run(x.clone(), &branch, heads, &QueryKey::default(), mask),
        (false, false) => mlp::add_mlp(x.clone(), &branch, reference.activation),
        (false, true) => mlp::composed(x.clone(), &branch, reference.activation),
    };
    let weight = TensorData::new(numbers(y.shape().num_elements(), 5), y.dims());
    let gradients = (y.clone() * Tensor::from_data(weight, &device()))
        .sum()
        .backward();
    let gradients = vec![
        host(x.grad(&gradients).unwrap()),
        host(branch.norm.gamma.grad(&gradients).unwrap()),
        host(branch.norm.beta.grad(&gradients).unwrap()),
        host(branch.first.weight.grad(&gradients).unwrap()),
        host(branch.first.bias.grad(&gradients).unwrap()),
        host(branch.second.weight.grad(&gradients).unwrap()),
        host(branch.second.bias.grad(&gradients).unwrap()),
    ];
    (host(y.inner()), gradients)
}

/// Whether every value is within a share of the largest that is expected.
fn close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(
            (a - b).abs() <= tolerance * largest,
            "{what} {i}: {a}, not {b}"
        );
    }
}

const SHAPES: [Reference; 4] = [
    Reference {
        batch: 2,
        tokens: 5,
        width: 12,
        heads: 3,
        hidden: 7,
        epsilon: EPSILON,
        activation: Activation::Gelu,
        queries: None,
    },
    Reference {
        batch: 1,
        tokens: 1,
        width: 2,
        heads: 1,
        hidden: 1,
        epsilon: EPSILON,
        activation: Activation::Gelu,
        queries: None,
    },
    Reference {
        batch: 3,
        tokens: 67,
        width: 40,
        heads: 2,
        hidden: 33,
        epsilon: EPSILON,
        activation: Activation::Gelu,
        queries: None,
    },
    Reference {
        batch: 9,
        tokens: 64,
        width: 64,
        heads: 1,
        hidden: 96,
        epsilon: EPSILON,
        activation: Activation::Gelu,
        queries: None,
    },
];

/// Heads of other projects' models: as wide as theirs, and any number of them.
const WIDE_HEADS: [Reference; 3] = {
    const fn of(heads: usize, head_dim: usize) -> Reference {
        Reference {
            batch: 2,
            tokens: 21,
            width: heads * head_dim,
            heads,
            hidden: 2 * heads * head_dim + 1,
            epsilon: EPSILON,
            activation: Activation::Gelu,
            queries: None,
        }
    }
    [of(3, 64), of(1, 80), of(5, 88)]
};

/// The same with another ε, which shows in a difference, and another activation.
fn foreign(shape: Reference) -> Reference {
    Reference {
        epsilon: 0.03,
        activation: Activation::GeluTanh,
        ..shape
    }
}

fn keeps(batch: usize) -> Vec<f32> {
    (0..batch).map(|i| [1.0, 0.0, 1.25][i % 3]).collect()
}

#[test]
fn branches_equal_their_composed_form() {
    let few = |queries| {
        SHAPES.map(|shape| Reference {
            queries: Some(shape.tokens.min(queries)),
            ..shape
        })
    };
    for shape in [
        &SHAPES[..],
        &few(1),
        &few(2),
        &SHAPES.map(foreign),
        &WIDE_HEADS,
        &WIDE_HEADS.map(foreign),
    ]
    .concat()
    {
        let keep = keeps(shape.batch);
        for attention in [true, false] {
            let inputs = shape.inputs(attention);
            let of = |precision, composed| {
                run(&shape, attention, &inputs, None, &keep, precision, composed)
            };
            let (expected, expected_gradients) = of(Precision::F32, true);
            for (precision, tolerance) in [(Precision::F32, 3e-5), (Precision::Bf16, 0.04)] {
                let (found, gradients) = of(precision, false);
                close(&found, &expected, tolerance, "output");
                for (i, (a, b)) in gradients.iter().zip(&expected_gradients).enumerate() {
                    close(a, b, tolerance, &format!("gradient {i} {precision:?}"));
                }
            }
        }
    }
}

#[test]
fn branch_gradients_equal_finite_differences_in_f64() {
    let shape = Reference {
        batch: 2,
        tokens: 5,
        width: 12,
        heads: 3,
        hidden: 7,
        epsilon: EPSILON,
        activation: Activation::Gelu,
        queries: None,
    };
    let keep = [1.25, 0.5];
    let mask: Vec<bool> = (0..25).map(|i| i % 5 <= i / 5).collect();
    let mask_tensor =
        Tensor::<4, Bool>::from_data(TensorData::new(mask.clone(), [1, 1, 5, 5]), &device());
    let asking = |queries| Reference { queries, ..shape };
    let foreign = foreign(shape);
    for (attention, masked, shape) in [
        (true, false, shape),
        (true, true, shape),
        (true, false, asking(Some(1))),
        (true, true, asking(Some(2))),
        (false, false, shape),
        (true, false, foreign),
        (false, false, foreign),
    ] {
        let inputs = shape.inputs(attention);
        let mask_tensor = masked.then_some(&mask_tensor);
        let (found, gradients) = run(
            &shape,
            attention,
            &inputs,
            mask_tensor,
            &keep,
            Precision::F32,
            false,
        );
        let wide: Inputs = inputs
            .iter()
            .map(|v| v.iter().map(|&x| f64::from(x)).collect())
            .collect();
        let output = |v: &Inputs| match attention {
            true => shape.attention(v, masked.then_some(&mask[..]), &keep),
            false => shape.mlp(v, &keep),
        };
        let expected: Vec<f32> = output(&wide).iter().map(|&v| v as f32).collect();
        close(&found, &expected, 1e-5, "output");
        slopes(&wide, &gradients, output);
    }
}

/// Gradients of Σ weight·output, at some places of each, against central differences.
fn slopes(at: &Inputs, gradients: &[Vec<f32>], output: impl Fn(&Inputs) -> Vec<f64>) {
    let weight = numbers(at[0].len(), 5);
    let loss = |v: &Inputs| -> f64 {
        output(v)
            .iter()
            .zip(&weight)
            .map(|(y, &w)| y * f64::from(w))
            .sum()
    };
    for (i, gradient) in gradients.iter().enumerate() {
        let step = (gradient.len() / 9).max(1);
        let largest = gradient
            .iter()
            .fold(0.0_f64, |m, &g| m.max(f64::from(g).abs()));
        for place in (0..gradient.len()).step_by(step) {
            let moved = |h: f64| {
                let mut v = at.clone();
                v[i][place] += h;
                loss(&v)
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!(
                (slope - f64::from(gradient[place])).abs() <= 1e-4 * largest,
                "input {i} at {place}: {} where the slope is {slope}",
                gradient[place]
            );
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let shape = Reference {
        batch: 21,
        tokens: 67,
        width: 40,
        heads: 2,
        hidden: 33,
        epsilon: EPSILON,
        activation: Activation::Gelu,
        queries: None,
    };
    let keep = keeps(shape.batch);
    let few = Reference {
        queries: Some(2),
        ..shape
    };
    let foreign = foreign(shape);
    for (attention, shape) in [(true, shape), (true, few), (false, shape), (false, foreign)] {
        let inputs = shape.inputs(attention);
        for precision in [Precision::F32, Precision::Bf16] {
            let on = |threads| {
                rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap()
                    .install(|| run(&shape, attention, &inputs, None, &keep, precision, false))
            };
            let one = on(1);
            // On sixteen the pictures are too few for a thread each: rows are shared out.
            assert!(one == on(2) && one == on(3) && one == on(16));
        }
    }
}

#[test]
fn inference_gives_the_bits_of_training() {
    for shape in SHAPES.into_iter().chain(SHAPES.map(foreign)) {
        let inputs = shape.inputs(false);
        let (w, h) = (shape.width, shape.hidden);
        let rows = shape.batch * shape.tokens;
        let out = |device: &Device, passes: &[Option<&Prepared>]| -> Vec<Vec<f32>> {
            let matrix = |i: usize, shape: [usize; 2]| {
                Tensor::<2>::from_data(TensorData::new(inputs[i].clone(), shape), device)
            };
            let vector = |i: usize| Tensor::<1>::from_floats(inputs[i].as_slice(), device);
            let scale = Scale {
                gamma: vector(1),
                beta: vector(2),
                epsilon: shape.epsilon,
            };
            let first = Affine {
                weight: matrix(3, [w, h]),
                bias: vector(4),
            };
            let second = Affine {
                weight: matrix(5, [h, w]),
                bias: vector(6),
            };
            let pass = |&prepared: &Option<&Prepared>| {
                let branch = Branch {
                    norm: scale.clone(),
                    first: first.clone(),
                    second: second.clone(),
                    keep: None,
                    precision: Precision::Bf16,
                    prepared,
                };
                host(mlp::add_mlp(
                    matrix(0, [rows, w]),
                    &branch,
                    shape.activation,
                ))
            };
            passes.iter().map(pass).collect()
        };
        let expected = out(&device(), &[None]);
        // Packed and dropped, packed and kept, kept.
        let kept = Prepared::default();
        for result in out(
            &Device::flex(),
            &[None, Some(&kept), Some(&kept), Some(&kept)],
        ) {
            assert_eq!(result, expected[0]);
        }
    }
}

#[test]
fn attention_in_inference_equals_its_composed_form_and_training() {
    // Pictures few and many: the kernel takes them block by block or one by one.
    for (batch, queries) in [1, 2, 9]
        .into_iter()
        .flat_map(|batch| [(batch, None), (batch, Some(2))])
    {
        let shape = Reference {
            batch,
            queries,
            ..foreign(SHAPES[2])
        };
        let inputs = shape.inputs(true);
        let w = shape.width;
        let rows = shape.batch * shape.tokens;
        let out = |device: &Device, composed: bool| {
            let matrix = |i: usize, shape: [usize; 2]| {
                Tensor::<2>::from_data(TensorData::new(inputs[i].clone(), shape), device)
            };
            let vector = |i: usize| Tensor::<1>::from_floats(inputs[i].as_slice(), device);
            let branch = Branch {
                norm: Scale {
                    gamma: vector(1),
                    beta: vector(2),
                    epsilon: shape.epsilon,
                },
                first: Affine {
                    weight: matrix(3, [w, 3 * w]),
                    bias: vector(4),
                },
                second: Affine {
                    weight: matrix(5, [w, w]),
                    bias: vector(6),
                },
                keep: None,
                precision: Precision::F32,
                prepared: None,
            };
            let heads = Heads {
                batch,
                heads: shape.heads,
                queries,
            };
            let run = match composed {
                true => attention::composed,
                false => attention::add_attention,
            };
            let x = matrix(0, [rows, w]);
            host(run(x, &branch, heads, &QueryKey::default(), None))
        };
        let found = out(&Device::flex(), false);
        assert_eq!(found, out(&device(), false), "the bits of training");
        close(&found, &out(&Device::flex(), true), 3e-5, "composed");
    }
}

#[test]
fn a_mask_that_forbids_everything_stays_finite_and_a_nan_passes() {
    // Heads whose 1/√d is a power of two, and others.
    let cases = [(12, 3), (18, 3), (16, 2)]
        .into_iter()
        .flat_map(|(width, heads)| {
            [Precision::F32, Precision::Bf16].map(|precision| {
                let shape = Reference {
                    width,
                    heads,
                    ..SHAPES[0]
                };
                (shape, precision)
            })
        });
    let nobody =
        Tensor::<4, Bool>::from_data(TensorData::new(vec![false; 25], [1, 1, 5, 5]), &device());
    for (shape, precision) in cases {
        let inputs = shape.inputs(true);
        let keep = keeps(shape.batch);
        let of = |inputs: &[Vec<f32>], composed| {
            run(
                &shape,
                true,
                inputs,
                Some(&nobody),
                &keep,
                precision,
                composed,
            )
        };
        let (found, gradients) = of(&inputs, false);
        assert!(gradients.iter().flatten().all(|v| v.is_finite()));
        close(&found, &of(&inputs, true).0, 0.02, "output");
        let mut broken = inputs.clone();
        broken[0][3] = f32::NAN;
        assert!(
            of(&broken, false).0[..shape.width]
                .iter()
                .all(|v| v.is_nan())
        );
    }
}

#[test]
fn extreme_inputs_equal_the_composed_form() {
    let shape = &SHAPES[2];
    let keep = keeps(shape.batch);
    for factor in [0.0, 1e-30, 1e-40, 50.0] {
        let mut inputs = shape.inputs(true);
        for v in &mut inputs[0] {
            *v *= factor;
        }
        if factor > 1.0 {
            // Logits in the thousands: all weight on one key.
            inputs[1].iter_mut().for_each(|v| *v *= factor);
        }
        let of = |composed| run(shape, true, &inputs, None, &keep, Precision::F32, composed).0;
        close(&of(false), &of(true), 2e-4, &format!("times {factor}"));
    }
}

#[test]
fn no_rows_are_answered_with_none_and_gradients_of_zero() {
    let zero_gradients = |y: Tensor<2>, of: &[(&Tensor<2>, &Tensor<1>)]| {
        assert_eq!(y.dims()[0], 0);
        let gradients = y.sum().backward();
        for (weight, bias) in of {
            let weight = host(weight.grad(&gradients).unwrap());
            let bias = host(bias.grad(&gradients).unwrap());
            assert!(!weight.is_empty() && !bias.is_empty());
            assert!([weight, bias].concat().iter().all(|&value| value == 0.0));
        }
    };
    for precision in [Precision::F32, Precision::Bf16] {
        let map = Affine {
            weight: leaf(&numbers(15, 2), [5, 3]),
            bias: leaf(&numbers(3, 3), [3]),
        };
        let y = linear::linear(leaf(&[], [0, 5]), &map, precision, None);
        assert_eq!(y.dims(), [0, 3]);
        zero_gradients(y, &[(&map.weight, &map.bias)]);
        for keep in [None, Some(Vec::new())] {
            let affine = |inputs: usize, outputs: usize| Affine {
                weight: leaf(&numbers(inputs * outputs, 4), [inputs, outputs]),
                bias: leaf(&numbers(outputs, 5), [outputs]),
            };
            let branch = |first, second| Branch {
                norm: Scale {
                    gamma: leaf(&numbers(4, 6), [4]),
                    beta: leaf(&numbers(4, 7), [4]),
                    epsilon: EPSILON,
                },
                first,
                second,
                keep: keep.clone(),
                precision,
                prepared: None,
            };
            let of = |branch: &Branch| {
                let Branch { first, second, .. } = branch.clone();
                [first, second]
            };
            let branch_of_mlp = branch(affine(4, 7), affine(7, 4));
            let [first, second] = of(&branch_of_mlp);
            let y = mlp::add_mlp(leaf(&[], [0, 4]), &branch_of_mlp, Activation::Gelu);
            let weights = [(&first.weight, &first.bias), (&second.weight, &second.bias)];
            zero_gradients(y, &weights);
            let branch_of_heads = branch(affine(4, 12), affine(4, 4));
            let [first, second] = of(&branch_of_heads);
            let heads = Heads {
                batch: 0,
                heads: 2,
                queries: None,
            };
            let x = leaf(&[], [0, 4]);
            let y =
                attention::add_attention(x, &branch_of_heads, heads, &QueryKey::default(), None);
            let weights = [(&first.weight, &first.bias), (&second.weight, &second.bias)];
            zero_gradients(y, &weights);
        }
    }
}
