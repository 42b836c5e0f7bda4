//! Initial weights, drawn on the host.

use burn::module::Param;
use burn::nn::{BatchNorm, BatchNormConfig, LayerNorm, LayerNormConfig, Linear};
use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Draws the tensors of a model, each from the seed and its own path.
#[derive(Debug, Clone)]
pub struct Init {
    seed: Option<u64>,
    path: String,
    device: Device,
}

impl Init {
    /// Random weights from `seed`.
    pub fn random(seed: u64, device: &Device) -> Self {
        Self {
            seed: Some(seed),
            path: String::new(),
            device: device.clone(),
        }
    }

    /// Zeros everywhere, for weights that come from a file.
    pub fn zeros(device: &Device) -> Self {
        Self {
            seed: None,
            path: String::new(),
            device: device.clone(),
        }
    }

    /// Where the weights will live.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The same for a part called `name`.
    pub fn part(&self, name: &str) -> Self {
        Self {
            path: format!("{}.{name}", self.path),
            ..self.clone()
        }
    }

    /// A constant tensor.
    pub fn constant<const D: usize>(&self, shape: [usize; D], value: f32) -> Param<Tensor<D>> {
        let value = if self.seed.is_some() { value } else { 0.0 };
        Param::from_tensor(Tensor::full(shape, value, &self.device))
    }

    /// Normal numbers cut off at two deviations, as timm's `trunc_normal_` draws them.
    pub fn truncated_normal<const D: usize>(&self, shape: [usize; D], std: f32) -> Param<Tensor<D>> {
        self.draw(shape, |rng| {
            loop {
                let x = normal(rng);
                if x.abs() <= 2.0 {
                    return x * std;
                }
            }
        })
    }

    /// He et al. 2015, eq. 14: normal with variance 2 / fan-in.
    pub fn kaiming_normal<const D: usize>(&self, shape: [usize; D], fan_in: usize) -> Param<Tensor<D>> {
        let std = (2.0 / fan_in as f32).sqrt();
        self.draw(shape, |rng| normal(rng) * std)
    }

    /// Glorot & Bengio 2010, eq. 16: uniform within ±√(6 / (fan-in + fan-out)).
    pub fn xavier_uniform(&self, shape: [usize; 2]) -> Param<Tensor<2>> {
        let limit = (6.0 / (shape[0] + shape[1]) as f32).sqrt();
        self.draw(shape, |rng| (rng.random::<f32>() * 2.0 - 1.0) * limit)
    }

    fn draw<const D: usize>(
        &self,
        shape: [usize; D],
        mut next: impl FnMut(&mut Xoshiro256PlusPlus) -> f32,
    ) -> Param<Tensor<D>> {
        let Some(seed) = self.seed else {
            return Param::from_tensor(Tensor::zeros(shape, &self.device));
        };
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ fnv1a(&self.path));
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| next(&mut rng)).collect();
        Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), &self.device))
    }

    /// A linear layer `[inputs, outputs]` with Glorot weights and a zero bias.
    pub fn linear(&self, inputs: usize, outputs: usize) -> Linear {
        Linear {
            weight: self.part("weight").xavier_uniform([inputs, outputs]),
            bias: Some(self.constant([outputs], 0.0)),
        }
    }

    /// A classification head: small weights, so that training begins at chance.
    pub fn head(&self, inputs: usize, outputs: usize) -> Linear {
        Linear {
            weight: self.part("weight").truncated_normal([inputs, outputs], 0.02),
            bias: Some(self.constant([outputs], 0.0)),
        }
    }

    /// A layer norm.
    pub fn layer_norm(&self, width: usize, epsilon: f64) -> LayerNorm {
        LayerNormConfig::new(width).with_epsilon(epsilon).init(&self.device)
    }

    /// A batch norm.
    pub fn batch_norm(&self, channels: usize) -> BatchNorm {
        BatchNormConfig::new(channels).init(&self.device)
    }
}

/// One standard normal number (Box & Muller 1958).
fn normal(rng: &mut Xoshiro256PlusPlus) -> f32 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    let angle = std::f64::consts::TAU * rng.random::<f64>();
    (radius * angle.cos()) as f32
}

/// The FNV-1a hash: short, and the same on every platform.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}
