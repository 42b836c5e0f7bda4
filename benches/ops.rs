//! Each operation of [`vitrine::ops`] on the processor, forward and backward, at the shapes of W1:
//! 128 pictures of 64 tokens, width 192, 3 heads, MLP 384.
//!
//! `cargo bench --bench ops -- attention` runs those that match; without a word all of them, in a
//! few minutes. `RAYON_NUM_THREADS` sets the threads. "Forward" keeps no history, as in inference;
//! "backward" is the gradient alone, of the inputs and of every weight.

use burn::tensor::{Device, Tensor, TensorData};
use divan::Bencher;
use vitrine::ops::branch::Branch;
use vitrine::ops::{Affine, Precision, Prepared, Scale};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 128;
const TOKENS: usize = 64;
const ROWS: usize = BATCH * TOKENS;
const WIDTH: usize = 192;
const HEADS: usize = 3;
const MLP_DIM: usize = 384;
const CLASSES: usize = 10;
const IMAGE_SIZE: usize = 32;
const PATCH_SIZE: usize = 4;

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

fn main() {
    vitrine::device::keep_freed_pages();
    // One call a sample: the longest takes a second and holds what its gradient will need.
    divan::Divan::default()
        .sample_count(20)
        .sample_size(1)
        .config_with_args()
        .main();
}

fn forward<const R: usize>(bencher: Bencher, operation: impl Fn() -> Tensor<R>) {
    bencher.bench_local(operation);
}

fn backward<const R: usize>(bencher: Bencher, operation: impl Fn() -> Tensor<R>) {
    bencher
        .with_inputs(operation)
        .bench_local_values(|y| y.backward());
}

fn inference() -> Device {
    Device::flex()
}

fn training() -> Device {
    Device::flex().autodiff()
}

/// Numbers between −`size` and `size`.
fn numbers<const R: usize>(shape: [usize; R], size: f32, device: &Device) -> Tensor<R> {
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|i: usize| ((i * 2_654_435_761) % 1_000) as f32 / 500.0 - 1.0)
        .map(|x| x * size)
        .collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// [`numbers`] whose gradient is asked for in training.
fn leaf<const R: usize>(shape: [usize; R], size: f32, device: &Device) -> Tensor<R> {
    let x = numbers(shape, size, device);
    if device.is_autodiff() {
        x.require_grad()
    } else {
        x
    }
}

/// Weights of the size that training starts from, so that a softmax is neither flat nor one-hot.
fn affine(inputs: usize, outputs: usize, device: &Device) -> Affine {
    Affine {
        weight: leaf([inputs, outputs], 0.1, device),
        bias: leaf([outputs], 0.1, device),
    }
}

fn scale(device: &Device) -> Scale {
    Scale {
        gamma: leaf([WIDTH], 1.0, device),
        beta: leaf([WIDTH], 0.1, device),
        epsilon: 1e-6,
    }
}

/// All of a branch, and no layer scale.
fn branch<'a>(
    norm: &Scale,
    first: &Affine,
    second: &Affine,
    precision: Precision,
    prepared: Option<&'a Prepared>,
) -> Branch<'a> {
    Branch {
        norm: norm.clone(),
        first: first.clone(),
        second: second.clone(),
        keep: None,
        precision,
        prepared,
    }
}

/// Where inference keeps packed weights; training packs anew, as they change.
fn prepared(device: &Device) -> Option<Prepared> {
    (!device.is_autodiff()).then(Prepared::default)
}

/// The same rows at every number of tokens, so that only the part that is quadratic in them grows;
/// 64 is W1.
mod attention {
    use super::*;
    use vitrine::ops::attention::{Heads, QueryKey, add_attention};

    const COUNTS: [usize; 4] = [TOKENS, 256, 1024, 4096];

    fn operation(tokens: usize, precision: Precision, device: &Device) -> impl Fn() -> Tensor<2> {
        let x = leaf([ROWS, WIDTH], 1.0, device);
        let heads = Heads {
            batch: ROWS / tokens,
            heads: HEADS,
            queries: None,
        };
        let norm = scale(device);
        let qkv = affine(WIDTH, 3 * WIDTH, device);
        let projection = affine(WIDTH, WIDTH, device);
        let prepared = prepared(device);
        move || {
            let branch = branch(&norm, &qkv, &projection, precision, prepared.as_ref());
            add_attention(x.clone(), &branch, heads, &QueryKey::default(), None)
        }
    }

    #[divan::bench(args = PRECISIONS, consts = COUNTS)]
    fn forward<const N: usize>(bencher: Bencher, precision: Precision) {
        super::forward(bencher, operation(N, precision, &inference()));
    }

    #[divan::bench(args = PRECISIONS, consts = COUNTS)]
    fn backward<const N: usize>(bencher: Bencher, precision: Precision) {
        super::backward(bencher, operation(N, precision, &training()));
    }
}

mod mlp {
    use super::*;
    use vitrine::ops::Activation;
    use vitrine::ops::mlp::add_mlp;

    fn operation(precision: Precision, device: &Device) -> impl Fn() -> Tensor<2> {
        let x = leaf([ROWS, WIDTH], 1.0, device);
        let norm = scale(device);
        let fc1 = affine(WIDTH, MLP_DIM, device);
        let fc2 = affine(MLP_DIM, WIDTH, device);
        let prepared = prepared(device);
        move || {
            let branch = branch(&norm, &fc1, &fc2, precision, prepared.as_ref());
            add_mlp(x.clone(), &branch, Activation::Gelu)
        }
    }

    #[divan::bench(args = PRECISIONS)]
    fn forward(bencher: Bencher, precision: Precision) {
        super::forward(bencher, operation(precision, &inference()));
    }

    #[divan::bench(args = PRECISIONS)]
    fn backward(bencher: Bencher, precision: Precision) {
        super::backward(bencher, operation(precision, &training()));
    }
}

/// In f32 whatever the precision of products.
mod layer_norm {
    use super::*;
    use vitrine::ops::norm::layer_norm;

    fn operation(device: &Device) -> impl Fn() -> Tensor<2> {
        let x = leaf([ROWS, WIDTH], 1.0, device);
        let scale = scale(device);
        move || layer_norm(x.clone(), &scale)
    }

    #[divan::bench]
    fn forward(bencher: Bencher) {
        super::forward(bencher, operation(&inference()));
    }

    #[divan::bench]
    fn backward(bencher: Bencher) {
        super::backward(bencher, operation(&training()));
    }
}

/// What W1 has of layer norm outside its blocks, in f32 too.
mod mean_of_normed {
    use super::*;
    use vitrine::ops::norm::mean_of_normed;

    fn operation(device: &Device) -> impl Fn() -> Tensor<2> {
        let x = leaf([ROWS, WIDTH], 1.0, device);
        let scale = scale(device);
        move || mean_of_normed(x.clone(), BATCH, 0, &scale)
    }

    #[divan::bench]
    fn forward(bencher: Bencher) {
        super::forward(bencher, operation(&inference()));
    }

    #[divan::bench]
    fn backward(bencher: Bencher) {
        super::backward(bencher, operation(&training()));
    }
}

mod embedding {
    use super::*;
    use vitrine::ops::embedding::embed;

    fn operation(precision: Precision, device: &Device) -> impl Fn() -> Tensor<2> {
        // Pixels need no gradient.
        let images = numbers([BATCH, 3, IMAGE_SIZE, IMAGE_SIZE], 1.0, device);
        let projection = affine(3 * PATCH_SIZE * PATCH_SIZE, WIDTH, device);
        let positions = leaf([TOKENS, WIDTH], 0.1, device);
        let prepared = prepared(device);
        move || {
            let (images, positions) = (images.clone(), Some(&positions));
            let prepared = prepared.as_ref();
            embed(
                images,
                [PATCH_SIZE; 2],
                &projection,
                positions,
                None,
                precision,
                prepared,
            )
        }
    }

    #[divan::bench(args = PRECISIONS)]
    fn forward(bencher: Bencher, precision: Precision) {
        super::forward(bencher, operation(precision, &inference()));
    }

    #[divan::bench(args = PRECISIONS)]
    fn backward(bencher: Bencher, precision: Precision) {
        super::backward(bencher, operation(precision, &training()));
    }
}

/// The head, W1's only linear layer by itself.
mod linear {
    use super::*;
    use vitrine::ops::linear::linear;

    fn operation(precision: Precision, device: &Device) -> impl Fn() -> Tensor<2> {
        let x = leaf([BATCH, WIDTH], 1.0, device);
        let map = affine(WIDTH, CLASSES, device);
        let prepared = prepared(device);
        move || linear(x.clone(), &map, precision, prepared.as_ref())
    }

    #[divan::bench(args = PRECISIONS)]
    fn forward(bencher: Bencher, precision: Precision) {
        super::forward(bencher, operation(precision, &inference()));
    }

    #[divan::bench(args = PRECISIONS)]
    fn backward(bencher: Bencher, precision: Precision) {
        super::backward(bencher, operation(precision, &training()));
    }
}

mod adamw {
    use super::*;
    use vitrine::model::{ModelConfig, parameters};
    use vitrine::ops::adamw::{Step, adamw};

    /// The tenth update of every parameter of W1, one after another; in f32, and with no gradient
    /// of its own.
    #[divan::bench]
    fn update(bencher: Bencher) {
        let config = ModelConfig::preset("vit-w1", IMAGE_SIZE, None, CLASSES).expect("a preset");
        let shapes = parameters::shapes(&config.init_constant(&inference()));
        let step = Step {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.99,
            correction1: 1.0 - 0.9_f64.powi(10),
            correction2: 1.0 - 0.99_f64.powi(10),
            epsilon: 1e-8,
            decay: 0.05,
        };
        bencher
            // Tensors of its own for each call, which then changes them in place as training does.
            .with_inputs(|| -> Vec<[Tensor<1>; 4]> {
                let state = |(_, shape): &(String, Vec<usize>)| {
                    let count = [shape.iter().product()];
                    let new = |size| numbers(count, size, &inference());
                    [new(0.1), new(1e-2), new(1e-2), new(1e-2).square()]
                };
                shapes.iter().map(state).collect()
            })
            .bench_local_values(|parameters| -> Vec<[Tensor<1>; 3]> {
                parameters
                    .into_iter()
                    .map(|[value, gradient, first, second]| {
                        adamw(value, gradient, first, second, &step)
                    })
                    .collect()
            });
    }
}
