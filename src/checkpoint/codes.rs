//! Tensors of eight bits.
//!
//! A tensor `X` of type I8 holds codes from −64 to 64, and `X.scale`, F32, one number above 0 for
//! each output, which is the last dimension of a matrix and the first of a convolution: a value is its
//! code times the scale of its output.

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::ops::{Int8Weight, Outputs};

/// Ends the name of a tensor's scales.
pub(super) const SCALE: &str = ".scale";

/// Where a weight's outputs lie, and their number; `None` for what is neither a matrix nor a
/// convolution.
pub(super) fn lie(shape: &[usize]) -> Option<(Outputs, usize)> {
    match *shape {
        [_, outputs] => Some((Outputs::Last, outputs)),
        [outputs, _, _, _] => Some((Outputs::First, outputs)),
        _ => None,
    }
}

/// Whether a tensor of this name holds the scales of another.
pub(super) fn is_scale(tensors: &SafeTensors<'_>, name: &str) -> bool {
    let of = name.strip_suffix(SCALE);
    let of = of.and_then(|of| tensors.tensor(of).ok());
    of.is_some_and(|of| of.dtype() == Dtype::I8)
}

/// The values of a tensor of eight bits.
///
/// # Errors
///
/// What of its codes or scales is not as expected.
pub(super) fn widened(
    tensors: &SafeTensors<'_>,
    name: &str,
    view: &TensorView<'_>,
) -> Result<Vec<f32>, String> {
    let Some((lie, outputs)) = lie(view.shape()) else {
        return Err(format!(
            "tensor {name} is I8 {:?}, expected two or four dimensions of that type",
            view.shape()
        ));
    };
    let of_scales = tensors
        .tensor(&format!("{name}{SCALE}"))
        .map_err(|_| format!("tensor {name} is I8 and {name}{SCALE} is missing"))?;
    if of_scales.dtype() != Dtype::F32 || of_scales.shape() != [outputs] {
        return Err(format!(
            "tensor {name}{SCALE} is {:?} {:?}, expected F32 [{outputs}]",
            of_scales.dtype(),
            of_scales.shape()
        ));
    }
    let (scales, _) = of_scales.data().as_chunks::<4>();
    let scales: Vec<f32> = scales.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let most = f32::MAX / f32::from(Int8Weight::MAX);
    if let Some(scale) = scales
        .iter()
        .find(|&&scale| !(scale > 0.0 && scale <= most))
    {
        return Err(format!(
            "tensor {name}{SCALE} holds {scale}, expected numbers above 0 and at most {most:e}"
        ));
    }
    let codes: Vec<i8> = view.data().iter().map(|code| code.cast_signed()).collect();
    let known = -Int8Weight::MAX..=Int8Weight::MAX;
    if let Some(code) = codes.iter().find(|code| !known.contains(code)) {
        return Err(format!(
            "tensor {name} holds the code {code}, expected −{0} to {0}",
            Int8Weight::MAX
        ));
    }
    Ok(Int8Weight { codes, scales }.values(lie))
}
