//! What matrix products are rounded to, and what each device makes of it.

use burn::tensor::{DType, Device, FloatDType, Tensor};
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
    /// Weights and activations as whole numbers of eight bits, in inference on the processor: a scale
    /// for each output of a weight and for each token or pixel. The first layer, the head and
    /// attention itself stay as they are.
    Int8,
}

/// The precision of a training that a recipe or a flag names.
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
    /// The precision of training on `device`; `None` if the device lacks the one that was named.
    pub fn for_training(self, device: &Device) -> Option<Precision> {
        match self {
            Self::Auto if prefers_bf16(device) => Some(Precision::Bf16),
            Self::Auto | Self::F32 => Some(Precision::F32),
            Self::Bf16 => supports_bf16(device).then_some(Precision::Bf16),
        }
    }
}

/// The precision of inference that a flag names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InferencePrecision {
    /// Int8 for weights that were saved so; else as the purpose wants it.
    #[default]
    Auto,
    /// [`Precision::F32`].
    F32,
    /// [`Precision::Bf16`].
    Bf16,
    /// [`Precision::Int8`].
    Int8,
}

/// What an inference is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Figures that are to be the same on every machine: `Auto` is f32.
    Figures,
    /// Answers: `Auto` is bf16 where the device multiplies it faster than f32.
    Answers,
}

impl InferencePrecision {
    /// The precision of inference on `device`, with weights that were saved in eight bits or not;
    /// `None` if the device lacks the one that was named.
    pub fn on(self, device: &Device, is_int8: bool, purpose: Purpose) -> Option<Precision> {
        match self {
            Self::Auto if is_int8 && has_int8(device) => Some(Precision::Int8),
            Self::Auto if purpose == Purpose::Answers && prefers_bf16(device) => {
                Some(Precision::Bf16)
            }
            Self::Auto | Self::F32 => Some(Precision::F32),
            Self::Bf16 => supports_bf16(device).then_some(Precision::Bf16),
            Self::Int8 => has_int8(device).then_some(Precision::Int8),
        }
    }
}

impl std::fmt::Display for InferencePrecision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        })
    }
}

impl std::str::FromStr for InferencePrecision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "int8" => Ok(Self::Int8),
            _ => Err(format!(
                "{text:?} is not a precision: expected auto, f32, bf16 or int8"
            )),
        }
    }
}

impl From<Precision> for PrecisionChoice {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::Bf16 => Self::Bf16,
            // No training is of eight bits.
            Precision::F32 | Precision::Int8 => Self::F32,
        }
    }
}

impl From<PrecisionChoice> for InferencePrecision {
    fn from(choice: PrecisionChoice) -> Self {
        match choice {
            PrecisionChoice::Auto => Self::Auto,
            PrecisionChoice::F32 => Self::F32,
            PrecisionChoice::Bf16 => Self::Bf16,
        }
    }
}

impl std::fmt::Display for PrecisionChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        InferencePrecision::from(*self).fmt(f)
    }
}

impl std::str::FromStr for PrecisionChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(InferencePrecision::Auto) => Ok(Self::Auto),
            Ok(InferencePrecision::F32) => Ok(Self::F32),
            Ok(InferencePrecision::Bf16) => Ok(Self::Bf16),
            Ok(InferencePrecision::Int8) => {
                Err("int8 is for classify, eval and export: expected auto, f32 or bf16".into())
            }
            Err(_) => Err(format!(
                "{text:?} is not a precision: expected auto, f32 or bf16"
            )),
        }
    }
}

/// The type of a tensor's values.
pub(super) fn float<const R: usize>(x: &Tensor<R>) -> FloatDType {
    match x.dtype() {
        DType::BF16 => FloatDType::BF16,
        _ => FloatDType::F32,
    }
}

/// Checks the environment variable that asks for a lesser instruction set than the processor has.
///
/// # Errors
///
/// A message that names it, what it holds and what it may hold.
pub(crate) fn check_instructions() -> Result<(), String> {
    #[cfg(feature = "cpu")]
    vitrine_kernels::Instructions::asked()?;
    Ok(())
}

/// The instruction set that products on the processor use; `None` without our kernels.
pub(crate) fn instructions() -> Option<String> {
    #[cfg(feature = "cpu")]
    return Some(vitrine_kernels::instructions().to_string());
    #[cfg(not(feature = "cpu"))]
    None
}

/// Whether products in bf16 are faster than in f32 on `device`.
fn prefers_bf16(device: &Device) -> bool {
    #[cfg(feature = "cpu")]
    if *device == Device::flex() {
        return vitrine_kernels::has_bf16();
    }
    // Nobody has measured it on a GPU yet: on an H100 it had not compiled its kernels in three minutes.
    let _ = device;
    false
}

/// Whether there are kernels of eight bits for the device.
fn has_int8(device: &Device) -> bool {
    #[cfg(feature = "cpu")]
    if *device == Device::flex() {
        return true;
    }
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

/// Floating-point operations a second that matrix products reach here, in one precision: the
/// machine's limit, as far as our kernels know it. `None` on a device without kernels of ours.
pub(crate) fn product_limit(device: &Device, precision: Precision) -> Option<f64> {
    #[cfg(feature = "cpu")]
    if *device == Device::flex() {
        return match precision {
            Precision::F32 => Some(vitrine_kernels::linear::limit::<f32>()),
            Precision::Bf16 => Some(vitrine_kernels::linear::limit::<half::bf16>()),
            Precision::Int8 => None,
        };
    }
    let _ = (device, precision);
    None
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;

    #[test]
    fn a_choice_means_what_device_weights_and_purpose_make_of_it() {
        let cpu = Device::flex();
        let fast = match prefers_bf16(&cpu) {
            true => Precision::Bf16,
            false => Precision::F32,
        };
        for (choice, is_int8, figures, answers) in [
            ("auto", false, Precision::F32, fast),
            ("auto", true, Precision::Int8, Precision::Int8),
            ("f32", true, Precision::F32, Precision::F32),
            ("bf16", true, Precision::Bf16, Precision::Bf16),
            ("int8", false, Precision::Int8, Precision::Int8),
        ] {
            let parsed = choice.parse::<InferencePrecision>();
            assert_eq!(
                parsed.as_ref().map(ToString::to_string),
                Ok(choice.to_owned())
            );
            let choice = parsed.unwrap_or_default();
            assert_eq!(choice.on(&cpu, is_int8, Purpose::Figures), Some(figures));
            assert_eq!(choice.on(&cpu, is_int8, Purpose::Answers), Some(answers));
        }
        let refused = "int4".parse::<InferencePrecision>();
        let said = "\"int4\" is not a precision: expected auto, f32, bf16 or int8";
        assert_eq!(refused, Err(said.to_owned()));
        // No training is of eight bits.
        let refused = "int8".parse::<PrecisionChoice>();
        let said = "int8 is for classify, eval and export: expected auto, f32 or bf16";
        assert_eq!(refused, Err(said.to_owned()));
    }
}
