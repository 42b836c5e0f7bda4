//! Weights of half the size: tensors in 16 bits on disk, in f32 once they are read.

use std::path::Path;

use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::tensor::{Dtype, TensorView};

use super::error::CheckpointError;
use super::file::{serialize, write_file};
use super::host::host_tensors;
use super::meta::WeightsMeta;
use crate::model::Model;

/// [`save_weights`](super::save_weights) with matrices, convolutions and tables in f16, which halves
/// the file and rounds each of their values by at most 1 in 2048.
///
/// What has one dimension, biases, norms and their statistics, stays in f32: it is small, and
/// variances span more than f16 does. So does a tensor with a value beyond 65,504.
///
/// # Errors
///
/// As for [`save_weights`](super::save_weights).
pub fn save_half(path: &Path, model: &Model, meta: &WeightsMeta) -> Result<(), CheckpointError> {
    let tensors = host_tensors(model);
    let encoded = tensors
        .iter()
        .map(|(_, shape, values)| encoded(shape, values));
    let encoded: Vec<(Dtype, Vec<u8>)> = encoded.collect();
    let views = tensors.iter().zip(&encoded);
    let views = views.map(|((name, shape, _), (dtype, bytes))| {
        let view = TensorView::new(*dtype, shape.clone(), bytes);
        (name.clone(), view.expect("the shape counts the values"))
    });
    write_file(path, &serialize(path, views.collect(), meta)?)
}

/// A tensor's values as [`save_half`] writes them.
pub(super) fn encoded(shape: &[usize], values: &[f32]) -> (Dtype, Vec<u8>) {
    match halves(values) {
        Some(halves) if shape.len() > 1 => (Dtype::F16, halves),
        _ => {
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (Dtype::F32, bytes)
        }
    }
}

/// The values in f16; `None` where one of them is too large for it.
fn halves(values: &[f32]) -> Option<Vec<u8>> {
    let mut rounded = vec![f16::ZERO; values.len()];
    rounded.convert_from_f32_slice(values);
    let fit = rounded.iter().all(|half| half.is_finite());
    fit.then(|| rounded.iter().flat_map(|half| half.to_le_bytes()).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::checkpoint::tests::{load, message, meta, saved};
    use crate::checkpoint::{HostTensor, TensorFile, save_meta};

    #[test]
    fn half_a_file_reads_back_rounded() {
        let (folder, whole, model) = saved();
        let path = folder.path().join("half.safetensors");
        save_half(&path, &model, &meta()).unwrap();
        let read = load(&path).unwrap();
        assert_eq!(read.meta, meta());
        for ((name, shape, values), (_, _, read)) in
            host_tensors(&model).iter().zip(host_tensors(&read.model))
        {
            if shape.len() == 1 {
                assert_eq!(*values, read, "{name}");
                continue;
            }
            for (value, read) in values.iter().zip(read) {
                assert!(
                    (value - read).abs() <= value.abs() / 2048.0 + 3e-8,
                    "{name}"
                );
                assert_eq!(f16::from_f32(*value).to_f32(), read, "{name}");
            }
        }
        // What is in 16 bits stays so when the file is calibrated.
        let dtypes = |path: &Path| -> Vec<(String, Dtype)> {
            let file = TensorFile::open(path).unwrap();
            let mut all: Vec<_> = file
                .tensors()
                .unwrap()
                .tensors()
                .into_iter()
                .map(|(name, view)| (name, view.dtype()))
                .collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all
        };
        let before = dtypes(&path);
        assert!(before.iter().any(|(_, dtype)| *dtype == Dtype::F16));
        let colder = WeightsMeta {
            temperature: 0.5,
            ..meta()
        };
        save_meta(&TensorFile::open(&path).unwrap(), &colder, None).unwrap();
        assert_eq!(dtypes(&path), before);
        assert!(dtypes(&whole).iter().all(|(_, dtype)| *dtype == Dtype::F32));
    }

    #[test]
    fn a_tensor_that_f16_cannot_hold_stays_whole() {
        assert_eq!(halves(&[1.0, 65_504.0]).unwrap(), [0, 0x3c, 0xff, 0x7b]);
        assert!(halves(&[1.0, 70_000.0]).is_none());
    }

    /// A file whose head is written in another type.
    fn with_head(
        dtype: Dtype,
        encode: impl Fn(f32) -> Vec<u8>,
    ) -> (tempfile::TempDir, std::path::PathBuf, Vec<HostTensor>) {
        let (folder, path, model) = saved();
        let tensors = host_tensors(&model);
        let bytes: Vec<Vec<u8>> = tensors
            .iter()
            .map(|(name, _, values)| match name.as_str() {
                "Vit.class_token" => values.iter().flat_map(|&v| encode(v)).collect(),
                _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            })
            .collect();
        let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
            let dtype = match name.as_str() {
                "Vit.class_token" => dtype,
                _ => Dtype::F32,
            };
            (
                name.clone(),
                TensorView::new(dtype, shape.clone(), bytes).unwrap(),
            )
        });
        write_file(&path, &serialize(&path, views.collect(), &meta()).unwrap()).unwrap();
        (folder, path, tensors)
    }

    #[test]
    fn bf16_is_read_and_integers_are_refused() {
        let (_folder, path, tensors) =
            with_head(Dtype::BF16, |v| bf16::from_f32(v).to_le_bytes().to_vec());
        let read = host_tensors(&load(&path).unwrap().model);
        for ((name, _, values), (_, _, read)) in tensors.iter().zip(read) {
            let round = |v: &f32| match name.as_str() {
                "Vit.class_token" => bf16::from_f32(*v).to_f32(),
                _ => *v,
            };
            assert_eq!(values.iter().map(round).collect::<Vec<_>>(), read, "{name}");
        }
        let (_folder, path, _) = with_head(Dtype::I32, |v| (v as i32).to_le_bytes().to_vec());
        assert_eq!(
            message(&path),
            "FILE does not fit its own model configuration: tensor Vit.class_token is I32 [1, 6], expected F32, F16, BF16 or I8 [1, 6]"
        );
    }
}
