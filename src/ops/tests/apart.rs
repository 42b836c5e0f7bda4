//! What stands by itself, outside of the branches: norms, products, embedding, flat parameters, optimizer.

use burn::tensor::Tolerance;

use super::*;
use crate::ops::product::affine;

#[test]
fn layer_norm_and_linear_equal_their_composed_form() {
    for ((rows, inputs, outputs), epsilon) in [
        ((1, 1, 1), EPSILON),
        ((5, 7, 3), EPSILON),
        ((700, 33, 65), EPSILON),
        ((5, 7, 3), 0.1),
        ((5, 7, 3), 1e-12),
    ] {
        let x = leaf(&numbers(rows * inputs, 1), [rows, inputs]);
        let scale = Scale {
            gamma: leaf(&numbers(inputs, 2), [inputs]),
            beta: leaf(&numbers(inputs, 3), [inputs]),
            epsilon,
        };
        let map = Affine {
            weight: leaf(&numbers(inputs * outputs, 4), [inputs, outputs]),
            bias: leaf(&numbers(outputs, 5), [outputs]),
        };
        let weight =
            |n| Tensor::<2>::from_data(TensorData::new(numbers(rows * n, 6), [rows, n]), &device());
        let norms = [
            norm::layer_norm(x.clone(), &scale),
            norm::composed(x.clone(), &scale),
        ];
        let [a, b] = norms.map(|y| {
            let gradients = (y.clone() * weight(inputs)).sum().backward();
            [
                host(y.inner()),
                host(x.grad(&gradients).unwrap()),
                host(scale.gamma.grad(&gradients).unwrap()),
                host(scale.beta.grad(&gradients).unwrap()),
            ]
        });
        for (a, b) in a.iter().zip(&b) {
            // A row of one value has no variance: 1/√ε amplifies what is left of rounding.
            close(a, b, if inputs == 1 { 1e-3 } else { 3e-5 }, "layer norm");
        }
        let layers = [
            affine(x.clone(), &map, Precision::F32),
            linear::linear(x.clone(), &map, Precision::F32, None),
            linear::linear(x.clone(), &map, Precision::Bf16, None),
        ];
        let [expected, exact, rounded] = layers.map(|y| {
            let gradients = (y.clone() * weight(outputs)).sum().backward();
            [
                host(y.inner()),
                host(x.grad(&gradients).unwrap()),
                host(map.weight.grad(&gradients).unwrap()),
                host(map.bias.grad(&gradients).unwrap()),
            ]
        });
        for (i, expected) in expected.iter().enumerate() {
            close(&exact[i], expected, 1e-5, "linear");
            close(&rounded[i], expected, 0.02, "linear in bf16");
        }
    }
}

#[test]
fn the_embedding_equals_its_composed_form() {
    for (batch, [channels, height, across], patch, prefix, width) in [
        (2, [3, 6, 6], [3, 3], 0, 5),
        (3, [3, 8, 12], [4, 4], 2, 40),
        (130, [3, 8, 8], [2, 2], 1, 33),
        (2, [3, 28, 28], [14, 14], 1, 40),
        (2, [3, 64, 64], [32, 32], 3, 24),
        (1, [3, 16, 16], [8, 8], 6, 80),
        (3, [1, 24, 75], [1, 75], 0, 33),
        // More patches than one block of rows.
        (1, [1, 40, 40], [2, 2], 1, 5),
        (2, [2, 6, 200], [3, 100], 1, 70),
    ] {
        let patches = (height / patch[0]) * (across / patch[1]);
        let inputs = channels * patch[0] * patch[1];
        let pixels = numbers(batch * channels * height * across, 1);
        let images = leaf(&pixels, [batch, channels, height, across]);
        let map = Affine {
            weight: leaf(&numbers(inputs * width, 2), [inputs, width]),
            bias: leaf(&numbers(width, 3), [width]),
        };
        let positions = leaf(&numbers(patches * width, 4), [patches, width]);
        let before = (prefix > 0).then(|| leaf(&numbers(prefix * width, 5), [prefix, width]));
        let rows = batch * (prefix + patches);
        let weight = TensorData::new(numbers(rows * width, 6), [rows, width]);
        let of = |composed, placed: bool, precision| {
            let places = placed.then_some(&positions);
            let before = before.as_ref();
            let y = if composed {
                embedding::composed(images.clone(), patch, &map, places, before, precision)
            } else {
                embedding::embed(images.clone(), patch, &map, places, before, precision, None)
            };
            let product = y.clone() * Tensor::from_data(weight.clone(), &device());
            let gradients = product.sum().backward();
            let all = [
                Some(images.grad(&gradients).unwrap().flatten::<1>(0, 3)),
                Some(map.weight.grad(&gradients).unwrap().flatten::<1>(0, 1)),
                map.bias.grad(&gradients),
                places.map(|of| of.grad(&gradients).unwrap().flatten::<1>(0, 1)),
                before.map(|of| of.grad(&gradients).unwrap().flatten::<1>(0, 1)),
            ];
            let mut all: Vec<_> = all.into_iter().flatten().map(host).collect();
            all.push(host(y.inner()));
            all
        };
        for placed in [true, false] {
            let expected = of(true, placed, Precision::F32);
            for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 0.02)] {
                let found = of(false, placed, precision);
                assert_eq!(found.len(), expected.len());
                for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
                    close(a, b, tolerance, &format!("embedding {i} {precision:?}"));
                }
            }
        }
    }
}

#[test]
fn the_mean_of_norms_equals_its_composed_form() {
    for (batch, tokens, prefix, width, epsilon) in [
        (1, 1, 0, 3, EPSILON),
        (5, 7, 2, 33, EPSILON),
        (5, 7, 2, 33, 0.1),
    ] {
        let x = leaf(&numbers(batch * tokens * width, 1), [batch * tokens, width]);
        let scale = Scale {
            gamma: leaf(&numbers(width, 2), [width]),
            beta: leaf(&numbers(width, 3), [width]),
            epsilon,
        };
        let weight = TensorData::new(numbers(batch * width, 6), [batch, width]);
        let both = [
            norm::mean_of_normed(x.clone(), batch, prefix, &scale),
            norm::composed_mean(x.clone(), batch, prefix, &scale),
        ];
        let [a, b] = both.map(|y| {
            let product = y.clone() * Tensor::from_data(weight.clone(), &device());
            let gradients = product.sum().backward();
            [
                host(y.inner()),
                host(x.grad(&gradients).unwrap()),
                host(scale.gamma.grad(&gradients).unwrap()),
                host(scale.beta.grad(&gradients).unwrap()),
            ]
        });
        for (a, b) in a.iter().zip(&b) {
            close(a, b, 3e-5, "mean of norms");
        }
    }
}

#[test]
fn the_norm_of_means_equals_its_composed_form() {
    for (batch, tokens, prefix, width) in [(1, 1, 0, 3), (5, 7, 2, 33), (3, 9, 0, 16)] {
        let x = leaf(&numbers(batch * tokens * width, 1), [batch * tokens, width]);
        let scale = Scale {
            gamma: leaf(&numbers(width, 2), [width]),
            beta: leaf(&numbers(width, 3), [width]),
            epsilon: 0.01,
        };
        let weight = TensorData::new(numbers(batch * width, 6), [batch, width]);
        let mean = norm::composed_token_mean(x.clone(), batch, prefix);
        let both = [
            norm::norm_of_mean(x.clone(), batch, prefix, &scale),
            norm::composed(mean, &scale),
        ];
        let [a, b] = both.map(|y| {
            let product = y.clone() * Tensor::from_data(weight.clone(), &device());
            let gradients = product.sum().backward();
            [
                host(y.inner()),
                host(x.grad(&gradients).unwrap()),
                host(scale.gamma.grad(&gradients).unwrap()),
                host(scale.beta.grad(&gradients).unwrap()),
            ]
        });
        for (a, b) in a.iter().zip(&b) {
            close(a, b, 3e-5, "norm of means");
        }
    }
}

#[test]
fn passes_over_flat_parameters() {
    let values = numbers(50_001, 1);
    let tensor = |values: &[f32]| Tensor::<1>::from_floats(values, &Device::flex());
    let expected: f64 = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    let found = flat::square_sum([tensor(&values)].iter());
    assert!(
        (found / expected - 1.0).abs() < 1e-6,
        "{found}, not {expected}"
    );
    let other = numbers(50_001, 2);
    let blended = host(flat::blend(tensor(&values), &tensor(&other), 0.9));
    for i in [0, 1, 16_384, 50_000] {
        let expected = 0.9 * values[i] + 0.1 * other[i];
        assert!((blended[i] - expected).abs() < 1e-6);
    }
}

#[test]
fn adamw_equals_its_composed_form() {
    let step = adamw::Step {
        lr: 0.01,
        beta1: 0.9,
        beta2: 0.99,
        correction1: 0.19,
        correction2: 0.0199,
        epsilon: 1e-8,
        decay: 0.05,
    };
    let inputs = || {
        [1, 2, 3, 4].map(|seed| {
            let values = numbers(40_001, seed);
            let values: Vec<f32> = values
                .iter()
                .map(|v| if seed == 4 { v.abs() } else { *v })
                .collect();
            Tensor::<1>::from_floats(values.as_slice(), &Device::flex())
        })
    };
    let [value, gradient, first, second] = inputs();
    let kept = value.clone();
    let found = adamw::adamw(value, gradient, first, second, &step);
    let [value, gradient, first, second] = inputs();
    kept.into_data().assert_eq(&value.to_data(), true);
    let expected = adamw::composed(value, gradient, first, second, &step);
    for (a, b) in found.into_iter().zip(expected) {
        a.into_data()
            .assert_approx_eq(&b.into_data(), Tolerance::<f32>::absolute(1e-6));
    }
}
