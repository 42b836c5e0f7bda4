//! The operations that a step spends its time in: one file an operation.
//!
//! Each file holds the operation as mathematics, composed of Burn's own tensor functions, which
//! runs and differentiates on every backend. On the processor, Burn's flex backend, the same
//! function takes the kernels of [`cpu`] instead, with a gradient written by hand: they keep what
//! they need in the nearest cache, store a fraction of what the composed form stores, and give the
//! same bits on any number of threads.

pub mod adamw;
pub mod attention;
pub mod batch_norm;
pub mod branch;
pub mod conv;
#[cfg(feature = "cpu")]
pub mod cpu;
pub mod embedding;
pub mod flat;
pub mod gather;
pub mod gelu;
pub mod layer_scale;
pub mod linear;
pub mod mlp;
pub mod muon;
pub mod norm;
pub mod pool;
pub mod profile;
pub mod resample;

#[cfg(feature = "cpu")]
use std::{
    any::{Any, TypeId},
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, MutexGuard, PoisonError},
};

use burn::tensor::{Device, FloatDType, Tensor};
use serde::{Deserialize, Serialize};

/// What the operands of matrix products are rounded to; sums, norms, softmax, and the weights that
/// an optimizer updates stay in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 24 bits; on CUDA Burn may take TF32, 11 bits.
    #[default]
    F32,
    /// 8 bits, with the range of f32.
    Bf16,
}

/// The precision that a recipe or a flag asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionChoice {
    /// bf16 for training where the device multiplies it faster than f32, else f32.
    #[default]
    Auto,
    /// [`Precision::F32`].
    F32,
    /// [`Precision::Bf16`].
    Bf16,
}

impl PrecisionChoice {
    /// What it comes to in training on `device`; `None` where the device lacks what was asked for.
    pub fn for_training(self, device: &Device) -> Option<Precision> {
        match self {
            Self::Auto if prefers_bf16(device) => Some(Precision::Bf16),
            Self::Auto | Self::F32 => Some(Precision::F32),
            Self::Bf16 => supports_bf16(device).then_some(Precision::Bf16),
        }
    }

    /// What it comes to in inference, where `Auto` is f32: the same answer everywhere.
    pub fn for_inference(self, device: &Device) -> Option<Precision> {
        match self {
            Self::Auto => Some(Precision::F32),
            other => other.for_training(device),
        }
    }
}

impl From<Precision> for PrecisionChoice {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

impl std::fmt::Display for PrecisionChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

impl std::str::FromStr for PrecisionChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(format!(
                "{text:?} is no precision: expected auto, f32 or bf16"
            )),
        }
    }
}

/// A linear map: y = x·`weight` + `bias`.
#[derive(Debug, Clone)]
pub struct Affine {
    /// `[inputs, outputs]`.
    pub weight: Tensor<2>,
    /// `[outputs]`.
    pub bias: Tensor<1>,
}

/// The learned part of a layer norm.
#[derive(Debug, Clone)]
pub struct Scale {
    /// γ, `[D]`.
    pub gamma: Tensor<1>,
    /// β, `[D]`.
    pub beta: Tensor<1>,
}

/// Added to the variance, as in timm and in the original Vision Transformer.
pub const EPSILON: f64 = 1e-6;

/// Weights packed for the kernels, kept from their second use on.
///
/// A single inference gains nothing from keeping: it packs every layer into the memory that the one
/// before has freed, which is in the cache and needs no clearing by the kernel.
///
/// Only the processor's kernels pack; elsewhere it stays empty. What is kept holds on to the
/// weights it was made of, so it can never belong to others.
#[derive(Default)]
pub struct Prepared {
    #[cfg(feature = "cpu")]
    packed: std::sync::Mutex<HashMap<(usize, TypeId), Kept>>,
}

/// The weights that were packed once, and what became of them when they were packed again.
#[cfg(feature = "cpu")]
type Kept = (Vec<cpu::tape::Values>, Option<Arc<dyn Any + Send + Sync>>);

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").finish_non_exhaustive()
    }
}

#[cfg(feature = "cpu")]
impl Prepared {
    /// What `pack` makes of the weights, from `prepared` where it is known already.
    fn packed<P: Any + Send + Sync, const N: usize>(
        prepared: Option<&Self>,
        weights: [&cpu::tape::Values; N],
        pack: impl FnOnce([&[f32]; N]) -> P,
    ) -> Arc<P> {
        let slices = || weights.map(cpu::tape::Values::get::<f32>);
        let Some(prepared) = prepared else {
            return Arc::new(pack(slices()));
        };
        // One weight may be packed in two ways: alone, and with others beside it.
        let key = (slices()[0].as_ptr().addr(), TypeId::of::<(P, [(); N])>());
        let place = |of: &cpu::tape::Values| of.get::<f32>().as_ptr().addr();
        let same =
            |kept: &[cpu::tape::Values]| weights.into_iter().map(place).eq(kept.iter().map(place));
        let again = match prepared.lock().entry(key) {
            Entry::Vacant(entry) => {
                entry.insert((weights.map(Clone::clone).to_vec(), None));
                false
            }
            // The same weight with another bias.
            Entry::Occupied(mut entry) if !same(&entry.get().0) => {
                entry.insert((weights.map(Clone::clone).to_vec(), None));
                false
            }
            Entry::Occupied(entry) => match &entry.get().1 {
                Some(packed) => {
                    return Arc::clone(packed)
                        .downcast()
                        .expect("the key holds the type");
                }
                None => true,
            },
        };
        // Not under the lock: packing runs on the pool, and a thread of the pool that waits there may
        // take up another inference, which would wait for the lock that it holds itself.
        let packed = Arc::new(pack(slices()));
        if again && let Some((_, kept)) = prepared.lock().get_mut(&key) {
            let packed: Arc<dyn Any + Send + Sync> = Arc::<P>::clone(&packed);
            *kept = Some(packed);
        }
        packed
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(usize, TypeId), Kept>> {
        self.packed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `x` lives on the processor, where the kernels of `cpu` are.
#[cfg(feature = "cpu")]
pub(crate) fn on_cpu<const R: usize>(x: &Tensor<R>) -> bool {
    x.device() == Device::flex()
}

/// x·w + b with operands of the given precision, composed.
fn affine(x: Tensor<2>, map: &Affine, precision: Precision) -> Tensor<2> {
    product(x, map.weight.clone(), precision) + map.bias.clone().unsqueeze::<2>()
}

/// a·b with operands of the given precision, composed.
fn product<const R: usize>(a: Tensor<R>, b: Tensor<R>, precision: Precision) -> Tensor<R> {
    match precision {
        Precision::F32 => a.matmul(b),
        Precision::Bf16 => {
            let narrow = |x: Tensor<R>| x.cast(FloatDType::BF16);
            narrow(a).matmul(narrow(b)).cast(FloatDType::F32)
        }
    }
}

/// Scales each picture's rows by its number: drop path.
///
/// # Shapes
///
/// `x` `[B·N, D]`, `keep` B numbers → `[B·N, D]`.
fn scale_pictures(x: Tensor<2>, keep: Option<&[f32]>) -> Tensor<2> {
    let Some(keep) = keep else { return x };
    let [rows, width] = x.dims();
    let keep = Tensor::<1>::from_floats(keep, &x.device()).reshape([keep.len(), 1, 1]);
    let [batch, ..] = keep.dims();
    (x.reshape([batch, rows / batch, width]) * keep).reshape([rows, width])
}

/// Whether products in bf16 are faster than in f32 on `device`.
fn prefers_bf16(device: &Device) -> bool {
    #[cfg(feature = "cpu")]
    if *device == Device::flex() {
        return cpu::has_bf16();
    }
    // Nobody has measured it on a GPU yet: on an H100 it had not compiled its kernels in three minutes.
    let _ = device;
    false
}

/// Whether the device can multiply bf16 at all.
fn supports_bf16(device: &Device) -> bool {
    #[cfg(feature = "cpu")]
    if *device == Device::flex() {
        return true;
    }
    device.supports_dtype(FloatDType::BF16)
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
