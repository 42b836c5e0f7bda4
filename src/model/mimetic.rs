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

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use super::{init, parameters};

/// Of W_Q·W_Kᵀ: how much is random, and how much identity.
const QUERY_KEY: [f64; 2] = [0.7, 0.7];

/// The same of W_V·W_proj.
const VALUE_PROJECTION: [f64; 2] = [0.4, -0.4];

/// Draws the weights of attention, of `heads` heads, and leaves everything else.
pub(super) fn draw<M: Module>(model: M, heads: usize, seed: u64, device: &Device) -> M {
    let device = device.clone().without_autodiff();
    // One factorisation gives both a block's values and its projection, which comes after them.
    let mut projection = Vec::new();
    parameters::replace(model, |path, shape| {
        let (attention, layer) = path.rsplit_once(".attention.")?;
        let values = match layer {
            "qkv.weight" => {
                let values;
                [values, projection] = draw_block(seed, attention, shape[0], heads);
                values
            }
            "projection.weight" => std::mem::take(&mut projection),
            _ => return None,
        };
        let elements = values.len();
        Some(Tensor::from_data(
            TensorData::new(values, [elements]),
            &device,
        ))
    })
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
    let values = init::uniform(seed, path, width * width, deviation);
    let mut rows: Vec<Vec<f32>> = values.chunks_exact(width).map(<[f32]>::to_vec).collect();
    for (i, row) in rows.iter_mut().enumerate() {
        row[i] += identity as f32;
    }
    rows
}

/// Σ over i of leftᵢ·rightᵢᵀ, the largest first: √σ of each singular value on either side.
#[derive(Debug)]
struct Factors {
    left: Vec<Vec<f32>>,
    right: Vec<Vec<f32>>,
}

/// The nearest matrix of rank `rank`, factorised.
///
/// One-sided Jacobi (Hestenes 1958): pairs of columns are turned until all are orthogonal, which
/// makes them U·Σ. Slower than the textbooks' first choice, but a page shorter.
fn factorise(matrix: &[Vec<f32>], rank: usize) -> Factors {
    /// Cosine between two columns that passes for 0.
    const ORTHOGONAL: f32 = 1e-4;
    /// More sweeps than any matrix needs: they converge quadratically.
    const SWEEPS: usize = 30;
    let width = matrix.len();
    let mut columns: Vec<Vec<f32>> = (0..width)
        .map(|column| matrix.iter().map(|row| row[column]).collect())
        .collect();
    for _ in 0..SWEEPS {
        let mut turned = false;
        let mut squares: Vec<f32> = columns.iter().map(|x| dot(x, x)).collect();
        for p in 0..width {
            for q in p + 1..width {
                let (upper, lower) = columns.split_at_mut(q);
                let (x, y) = (&mut upper[p], &mut lower[0]);
                let product = dot(x, y);
                if product.abs() <= ORTHOGONAL * (squares[p] * squares[q]).sqrt() {
                    continue;
                }
                turned = true;
                let zeta = (squares[q] - squares[p]) / (2.0 * product);
                let tangent = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
                let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
                let sine = cosine * tangent;
                for (x, y) in x.iter_mut().zip(y.iter_mut()) {
                    (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
                }
                squares[p] -= tangent * product;
                squares[q] += tangent * product;
            }
        }
        if !turned {
            break;
        }
    }
    let mut all: Vec<(f32, Vec<f32>)> = columns
        .into_iter()
        .map(|column| (dot(&column, &column).sqrt(), column))
        .collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut factors = Factors {
        left: Vec::new(),
        right: Vec::new(),
    };
    for (value, mut left) in all.into_iter().take(rank) {
        // A random matrix has no singular value of 0; one of nearly 0 must not become a NaN.
        let value = value.max(f32::MIN_POSITIVE);
        let root = value.sqrt();
        left.iter_mut().for_each(|x| *x /= root);
        // Mᵀ·u = σ·v.
        let mut right = vec![0.0; width];
        for (row, &x) in matrix.iter().zip(&left) {
            for (right, &value) in right.iter_mut().zip(row) {
                *right += value * x;
            }
        }
        right.iter_mut().for_each(|x| *x /= value);
        factors.left.push(left);
        factors.right.push(right);
    }
    factors
}

/// Σ a·b in sixteen lanes, so that it is fast, in one order on every processor.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let (whole_a, rest_a) = a.as_chunks::<16>();
    let (whole_b, rest_b) = b.as_chunks::<16>();
    for (a, b) in whole_a.iter().zip(whole_b) {
        for i in 0..16 {
            lanes[i] += a[i] * b[i];
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(rest_a.iter().zip(rest_b)) {
        *lane += a * b;
    }
    lanes.iter().sum()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
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
    fn factors_are_the_singular_vectors_in_order() {
        let matrix = around_identity(3, "m", 23, [0.7, 0.7]);
        let Factors { left, right } = factorise(&matrix, 23);
        let mut previous = f32::INFINITY;
        for i in 0..23 {
            let value = dot(&left[i], &left[i]);
            assert!(value <= previous * 1.0001);
            previous = value;
            // Both sides carry √σ, and are orthogonal to all others of theirs.
            assert!((dot(&right[i], &right[i]) / value - 1.0).abs() < 1e-2);
            for j in 0..i {
                let scale = (value * dot(&left[j], &left[j])).sqrt();
                assert!(dot(&left[i], &left[j]).abs() < 1e-3 * scale);
                assert!(dot(&right[i], &right[j]).abs() < 1e-2 * scale);
            }
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
