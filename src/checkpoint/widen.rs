//! A tensor's numbers as f32, whatever it is stored as.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};

/// A tensor's values; `None` where it is of another type than F32, F16 and BF16.
pub(super) fn floats(view: &TensorView<'_>) -> Option<Vec<f32>> {
    fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 2]> {
        bytes.chunks_exact(2).map(|b| [b[0], b[1]])
    }
    let bytes = view.data();
    Some(match view.dtype() {
        Dtype::F32 => bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
        // A slice at a time, for which processors have an instruction.
        Dtype::F16 => words(bytes)
            .map(f16::from_le_bytes)
            .collect::<Vec<_>>()
            .to_f32_vec(),
        Dtype::BF16 => words(bytes)
            .map(bf16::from_le_bytes)
            .collect::<Vec<_>>()
            .to_f32_vec(),
        _ => return None,
    })
}
