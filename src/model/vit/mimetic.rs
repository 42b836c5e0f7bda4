//! Mimetic initialisation (Trockman & Kolter 2023, "Mimetic Initialization of Self-Attention
//! Layers"): attention starts like that of a trained ViT.
//!
//! In trained ViTs W_Q·W_Kᵀ of a head looks like the identity and W_V·W_proj like its negative. So
//! they start as random matrices around these, factorised by their singular values:
//!
//! ```text
//! W_Q·W_Kᵀ    ≈ 0.7·Z + 0.7·I   the nearest of rank d, for each head
//! W_V·W_proj  = 0.4·Z − 0.4·I   all heads together
//! ```
//!
//! with entries of variance 1/D in Z, a matrix of its own for each product, uniform like all draws
//! here. Nothing but sums, products, quotients and square roots in a fixed order stand between the
//! seed and the weights: the same bits everywhere.

use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

use super::attention::Attention;
use crate::model::jacobi::{Factors, factorise};
use crate::model::{draw, parameters};

/// Of W_Q·W_Kᵀ: how much is random, and how much identity.
const QUERY_KEY: [f64; 2] = [0.7, 0.7];

/// The same of W_V·W_proj.
const VALUE_PROJECTION: [f64; 2] = [0.4, -0.4];

/// Draws the weights of one block's attention that are wanted, by their paths, from the seed and the block's name.
pub(super) fn draw(
    attention: &mut Attention,
    seed: u64,
    block: &str,
    device: &Device,
    wanted: &dyn Fn(&str) -> bool,
) {
    let is_wanted =
        ["qkv", "projection"].map(|of| wanted(&format!("{block}.attention.{of}.weight")));
    if is_wanted == [false; 2] {
        return;
    }
    let device = device.clone().without_autodiff();
    let (qkv, projection) = (&mut attention.qkv.weight, &mut attention.projection.weight);
    let width = projection.lazy_shape().as_slice()[0];
    let drawn = draw_block(seed, block, width, attention.num_heads);
    let weights = [qkv, projection].into_iter().zip(drawn).zip(is_wanted);
    for ((weight, values), _) in weights.filter(|(_, is_wanted)| *is_wanted) {
        *weight = parameters::replace(weight.clone(), |_, _| {
            Some(Tensor::from_floats(values.as_slice(), &device))
        });
    }
}

/// The joint weight of queries, keys and values of one block, row-major `[D, 3·D]`, and that of its
/// projection, `[D, D]`.
fn draw_block(seed: u64, block: &str, width: usize, heads: usize) -> [Vec<f32>; 2] {
    let head_dim = width / heads;
    let mut products: Vec<Factors> = (0..=heads)
        .into_par_iter()
        .map(|head| match head == heads {
            true => value_projection(seed, block, width),
            false => {
                let path = format!("{block}.query_key.{head}");
                factorise(&around_identity(seed, &path, width, QUERY_KEY), head_dim)
            }
        })
        .collect();
    let Factors {
        left: values,
        right: projection,
    } = products.pop().expect("that of values is the last");
    let queries = products.iter().flat_map(|head| &head.left);
    let keys = products.iter().flat_map(|head| &head.right);
    let columns: Vec<&Vec<f32>> = queries.chain(keys).chain(&values).collect();
    let joint = (0..width).flat_map(|row| columns.iter().map(move |column| column[row]));
    [joint.collect(), projection.concat()]
}

/// W_V as columns, W_proj as rows.
fn value_projection(seed: u64, block: &str, width: usize) -> Factors {
    let path = format!("{block}.value_projection");
    let matrix = around_identity(seed, &path, width, VALUE_PROJECTION);
    factorise(&matrix, width)
}

/// random·Z + identity·I, as rows.
fn around_identity(
    seed: u64,
    path: &str,
    width: usize,
    [random, identity]: [f64; 2],
) -> Vec<Vec<f32>> {
    let deviation = random / (width as f64).sqrt();
    let values = draw::uniform(seed, path, width * width, deviation);
    let mut rows: Vec<Vec<f32>> = values.chunks_exact(width).map(<[f32]>::to_vec).collect();
    for (i, row) in rows.iter_mut().enumerate() {
        row[i] += identity as f32;
    }
    rows
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::jacobi::dot;
    use crate::model::{Init, ModelConfig};

    const WIDTH: usize = 36;
    const HEADS: usize = 3;
    const HEAD_DIM: usize = WIDTH / HEADS;

    /// Weights of queries, keys, values, `[D, D]`, and of the projection of a block.
    fn weights(init: Init, seed: u64) -> [Vec<f32>; 4] {
        let mut config = ModelConfig::preset("vit-micro", 8, None, 3).unwrap();
        let ModelConfig::Vit(vit) = &mut config else {
            unreachable!()
        };
        (vit.embed_dim, vit.num_heads, vit.init) = (WIDTH, HEADS, init);
        let model = config.init(seed, &Device::flex().autodiff());
        let find = |end: &str| {
            let mut all = parameters::values(&model).into_iter();
            let (_, tensor) = all.find(|(path, _)| path.ends_with(end)).unwrap();
            tensor.try_into_vec_as::<f32>().unwrap()
        };
        let qkv = find("blocks.1.attention.qkv.weight");
        let part = |i: usize| {
            qkv.chunks_exact(3 * WIDTH)
                .flat_map(|row| row[i * WIDTH..][..WIDTH].to_vec())
                .collect()
        };
        [
            part(0),
            part(1),
            part(2),
            find("blocks.1.attention.projection.weight"),
        ]
    }

    /// Σ over the columns `of` a of a·bᵀ.
    fn product(a: &[f32], b: &[f32], of: std::ops::Range<usize>) -> Vec<f32> {
        let columns = &of;
        (0..WIDTH * WIDTH)
            .map(|i| {
                let (a, b) = (&a[i / WIDTH * WIDTH..], &b[i % WIDTH * WIDTH..]);
                columns.clone().map(|c| a[c] * b[c]).sum()
            })
            .collect()
    }

    fn transposed(a: &[f32]) -> Vec<f32> {
        (0..a.len())
            .map(|i| a[i % WIDTH * WIDTH + i / WIDTH])
            .collect()
    }

    /// The cosine between a matrix and the identity.
    fn likeness(matrix: &[f32]) -> f32 {
        let trace: f32 = matrix.iter().step_by(WIDTH + 1).sum();
        trace / (dot(matrix, matrix) * WIDTH as f32).sqrt()
    }

    #[test]
    fn queries_look_for_themselves_and_values_are_taken_away() {
        // A product of rank d is at most this like the identity.
        let most = (HEAD_DIM as f32 / WIDTH as f32).sqrt();
        for (init, query_key, value_projection) in
            [(Init::Mimetic, 0.6 * most, -0.65), (Init::Xavier, 0.0, 0.0)]
        {
            let [queries, keys, values, projection] = weights(init, 5);
            for head in 0..HEADS {
                let of = head * HEAD_DIM..(head + 1) * HEAD_DIM;
                let found = likeness(&product(&queries, &keys, of));
                assert!((found - query_key).abs() < 0.17, "{init:?} {head}: {found}");
            }
            let found = likeness(&product(&values, &transposed(&projection), 0..WIDTH));
            assert!((found - value_projection).abs() < 0.1, "{init:?}: {found}");
        }
    }

    #[test]
    fn values_times_projection_is_the_matrix_that_was_drawn() {
        let [_, _, values, projection] = weights(Init::Mimetic, 5);
        let found = product(&values, &transposed(&projection), 0..WIDTH);
        let drawn = around_identity(5, "Vit.blocks.1.value_projection", WIDTH, VALUE_PROJECTION);
        for (found, drawn) in found.iter().zip(drawn.concat()) {
            assert!((found - drawn).abs() < 1e-4, "{found}, not {drawn}");
        }
    }

    #[test]
    fn depends_on_the_seed_alone() {
        assert_eq!(weights(Init::Mimetic, 5), weights(Init::Mimetic, 5));
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let one = one.unwrap().install(|| weights(Init::Mimetic, 5));
        assert_eq!(one, weights(Init::Mimetic, 5));
        assert_ne!(one[0], weights(Init::Mimetic, 6)[0]);
    }
}
