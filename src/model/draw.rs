//! Initial weights: which tensor is drawn with which spread.
//!
//! Draws are uniform throughout. Only the variance matters to training, and a uniform draw needs
//! no transcendental function, so every platform draws the same bits.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

use super::parameters::{self, declared};
use super::role::{Declare, Declared, Role};
use crate::random;

/// Draws every tensor that is wanted, by its path, and does not start constant.
pub(super) fn draw<M: Module + Declare>(
    module: M,
    seed: u64,
    device: &Device,
    wanted: &dyn Fn(&str) -> bool,
) -> M {
    let device = device.clone().without_autodiff();
    let mut declared = declared(&module).into_iter();
    parameters::replace(module, |path, shape| {
        let declared = declared.next()?;
        if !wanted(path) {
            return None;
        }
        let deviation = deviation(&declared, shape)?;
        let elements = shape.iter().product();
        let mut values = uniform(seed, path, elements, deviation);
        if declared.starts_as_identity {
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
fn deviation(declared: &Declared, shape: &[usize]) -> Option<f64> {
    match (declared.role, shape) {
        // As in Dosovitskiy et al. 2021 and timm.
        (Role::Position | Role::ClassToken | Role::DistillationToken | Role::RegisterToken, _) => {
            Some(0.02)
        }
        // LeCun et al. 1998: pixels have variance 1 already.
        (Role::Embedding, [fan_in, ..]) => Some((1.0 / *fan_in as f64).sqrt()),
        // Glorot & Bengio 2010, eq. 16, with q, k and v as the three layers they are.
        (Role::Matrix, [fan_in, fan_out]) => {
            Some((2.0 / (fan_in + fan_out / declared.split) as f64).sqrt())
        }
        // He et al. 2015, eq. 14: by fan-out, for ReLU.
        (Role::FirstConvolution | Role::Convolution, [channels_out, _, height, width]) => {
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

/// `elements` values of mean 0 and the given standard deviation, from seed and name.
pub(super) fn uniform(seed: u64, name: &str, elements: usize, deviation: f64) -> Vec<f32> {
    let mut numbers = random::numbers(random::split_mix(seed) ^ random::hash(name.bytes()));
    let bound = deviation * 3.0_f64.sqrt();
    (0..elements)
        .map(|_| ((2.0 * numbers.next_unit() - 1.0) * bound) as f32)
        .collect()
}
