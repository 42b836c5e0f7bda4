//! Gradients by hand, which a GPU takes, against Burn's differentiation of the composed forms, on
//! the processor.

use burn::backend::Flex;

use super::super::precision::Precision;
use super::super::{attention, flat, norm};
use super::*;

/// A value and its gradients by `inputs`, with a weight of its own on each result.
fn value_and_gradients(y: Tensor<2>, inputs: &[&Tensor<2>], flat: &[&Tensor<1>]) -> Vec<Vec<f32>> {
    let weight = TensorData::new(numbers(y.shape().num_elements(), 9), y.dims());
    let product = y.clone() * Tensor::from_data(weight, &device());
    let gradients = product.sum().backward();
    let mut all = vec![host(y.inner())];
    all.extend(inputs.iter().map(|x| host(x.grad(&gradients).unwrap())));
    all.extend(flat.iter().map(|x| host(x.grad(&gradients).unwrap())));
    all
}

fn all_close(found: &[Vec<f32>], expected: &[Vec<f32>], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        close(found, expected, tolerance, what);
    }
}

#[test]
fn layer_norm_has_the_gradient_of_its_composed_form() {
    for [rows, width] in [[1, 5], [5, 7], [64, 33]] {
        let x = leaf(&numbers(rows * width, 1), [rows, width]);
        let scale = Scale {
            gamma: leaf(&numbers(width, 2), [width]),
            beta: leaf(&numbers(width, 3), [width]),
            epsilon: 0.01,
        };
        let [found, expected] = [
            norm::by_hand::<Flex>(x.clone(), &scale),
            norm::composed(x.clone(), &scale),
        ]
        .map(|y| value_and_gradients(y, &[&x], &[&scale.gamma, &scale.beta]));
        all_close(&found, &expected, 3e-5, "layer norm by hand");
    }
}

#[test]
fn attention_has_the_gradient_of_its_composed_form() {
    for (batch, tokens, count, head_dim) in [(1, 1, 1, 2), (3, 5, 2, 4), (2, 17, 3, 8)] {
        let width = count * head_dim;
        let rows = batch * tokens;
        let heads = Heads {
            batch,
            heads: count,
            queries: None,
        };
        let causal: Vec<bool> = (0..tokens * tokens)
            .map(|i| i % tokens <= i / tokens)
            .collect();
        let causal = TensorData::new(causal, [1, 1, tokens, tokens]);
        let causal = Tensor::<4, Bool>::from_data(causal, &device());
        let qkv = leaf(&numbers(rows * 3 * width, 4), [rows, 3 * width]);
        let parts = |i: usize| {
            let part = qkv.clone().narrow(1, i * width, width);
            part.reshape([batch, tokens, count, head_dim])
                .swap_dims(1, 2)
        };
        for mask in [None, Some(&causal)] {
            for (precision, tolerance) in [(Precision::F32, 3e-5), (Precision::Bf16, 0.03)] {
                let found = attention::by_hand::<Flex>(qkv.clone(), heads, mask, precision);
                let expected = attention::attention(parts(0), parts(1), parts(2), mask, precision);
                let expected = expected.swap_dims(1, 2).reshape([rows, width]);
                let [found, expected] =
                    [found, expected].map(|y| value_and_gradients(y, &[&qkv], &[]));
                all_close(&found, &expected, tolerance, "attention by hand");
            }
        }
    }
}

#[test]
fn the_square_sum_is_that_of_all_whatever_their_lengths() {
    let gradients: Vec<Tensor<1>> = [192, 10, 7, 192, 1, 4096, 10, 192]
        .iter()
        .enumerate()
        .map(|(seed, &len)| {
            let values = numbers(len, seed as u64 + 1);
            Tensor::from_floats(values.as_slice(), &Device::flex())
        })
        .collect();
    let values = gradients.iter().flat_map(|gradient| host(gradient.clone()));
    let expected: f64 = values.map(|value| f64::from(value).powi(2)).sum();
    let found = flat::composed_square_sum(gradients.iter().collect()).unwrap();
    let found = f64::from(host(found)[0]);
    assert!(
        (found / expected - 1.0).abs() < 1e-5,
        "{found}, not {expected}"
    );
    assert!(flat::composed_square_sum(Vec::new()).is_none());
}
