//! Initial weights: which tensor is drawn with which spread.
//!
//! Draws are uniform throughout. Only the variance matters to training, and a uniform draw needs
//! no transcendental function, so every platform draws the same bits.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::airbench::starts_as_identity;
use super::parameters;

/// Draws every tensor that does not start constant.
pub(super) fn draw<M: Module>(model: M, seed: u64, device: &Device) -> M {
    let device = device.clone().without_autodiff();
    parameters::replace(model, |path, shape| {
        let deviation = deviation(path, shape)?;
        let elements = shape.iter().product();
        let mut values = uniform(seed, path, elements, deviation);
        if starts_as_identity(path) {
            set_identity(&mut values, shape);
        }
        Some(Tensor::from_data(
            TensorData::new(values, [elements]),
            &device,
        ))
    })
}

/// Standard deviation of the draw; `None` keeps the constant that the tensor was made with: γ = 1,
/// β = 0, biases 0, and a head of zeros, whose first loss is exactly ln K.
fn deviation(path: &str, shape: &[usize]) -> Option<f64> {
    let (parent, field) = path.rsplit_once('.').unwrap_or(("", path));
    match (field, shape) {
        // As in Dosovitskiy et al. 2021 and timm.
        ("position_embedding" | "class_token" | "distillation_token" | "register_tokens", _) => {
            Some(0.02)
        }
        ("weight", [fan_in, fan_out]) => match parent.rsplit('.').next() {
            Some("head" | "distillation_head") => None,
            // Glorot & Bengio 2010, eq. 16, with q, k and v as the three layers they are.
            Some("qkv") => Some((2.0 / (*fan_in + fan_out / 3) as f64).sqrt()),
            // LeCun et al. 1998: pixels have variance 1 already.
            Some("projection") if parent.contains("patch_embedding") => {
                Some((1.0 / *fan_in as f64).sqrt())
            }
            _ => Some((2.0 / (fan_in + fan_out) as f64).sqrt()),
        },
        // He et al. 2015, eq. 14: by fan-out, for ReLU.
        ("weight", [channels_out, _, height, width]) => {
            Some((2.0 / (channels_out * height * width) as f64).sqrt())
        }
        _ => None,
    }
}

/// Makes the first filters of a convolution `[D, C, k, k]` pass one channel each through.
fn set_identity(values: &mut [f32], shape: &[usize]) {
    let (channels, area) = (shape[1], shape[2] * shape[3]);
    let filters = values.chunks_exact_mut(channels * area);
    for (channel, filter) in filters.take(channels).enumerate() {
        filter.fill(0.0);
        filter[channel * area + area / 2] = 1.0;
    }
}

/// `elements` values of mean 0 and the given standard deviation, from seed and path.
pub(super) fn uniform(seed: u64, path: &str, elements: usize, deviation: f64) -> Vec<f32> {
    let mut generator = Xoshiro256PlusPlus::seed_from_u64(mix(seed) ^ hash(path));
    let bound = deviation * 3.0_f64.sqrt();
    (0..elements)
        .map(|_| ((2.0 * unit(generator.next_u64()) - 1.0) * bound) as f32)
        .collect()
}

/// From 0 to 1, exclusive, by the upper 53 bits.
pub(super) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// SplitMix64's output function: a bijection that scatters neighbouring seeds.
pub(super) fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// FNV-1a: stable across releases of Rust, which the standard hasher does not promise.
fn hash(path: &str) -> u64 {
    path.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}
