//! Weights of a quarter of the size: matrices and convolutions in eight bits, with a scale for each
//! output; what is small or sees pixels in 16 or 32 bits.

use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

use super::codes::{SCALE, lie};
use super::error::CheckpointError;
use super::file::{serialize, write_file};
use super::float16::encoded;
use super::host::host_tensors;
use super::meta::WeightsMeta;
use crate::model::parameters::declared;
use crate::model::{Model, Role};
use crate::ops::Int8Weight;

/// [`save_weights`](super::save_weights) with matrices and convolutions in eight bits, a scale for each
/// of their outputs, and the rest as [`save_half`](super::save_half) has it.
///
/// The first layer and the head are not among them: they are small, and see what nothing has rounded.
/// Neither is a tensor with a value that is infinite or NaN.
///
/// # Errors
///
/// As for [`save_weights`](super::save_weights).
pub fn save_int8(path: &Path, model: &Model, meta: &WeightsMeta) -> Result<(), CheckpointError> {
    let mut tensors = Vec::new();
    for (tensor, declared) in host_tensors(model).into_iter().zip(declared(model)) {
        let (name, shape, values) = tensor;
        let narrow = matches!(declared.role, Role::Matrix | Role::Convolution)
            .then(|| lie(&shape))
            .flatten()
            .map(|(lie, outputs)| Int8Weight::new(&values, outputs, lie))
            .filter(|weight| weight.scales.iter().all(|scale| scale.is_finite()));
        match narrow {
            Some(Int8Weight { codes, scales }) => {
                let codes = codes.iter().map(|code| code.cast_unsigned()).collect();
                let bytes = scales.iter().flat_map(|scale| scale.to_le_bytes());
                let bytes: Vec<u8> = bytes.collect();
                let of_scales = (
                    format!("{name}{SCALE}"),
                    vec![scales.len()],
                    Dtype::F32,
                    bytes,
                );
                tensors.push((name, shape, Dtype::I8, codes));
                tensors.push(of_scales);
            }
            None => {
                let (dtype, bytes) = encoded(&shape, &values);
                tensors.push((name, shape, dtype, bytes));
            }
        }
    }
    let views = tensors.iter().map(|(name, shape, dtype, bytes)| {
        let view = TensorView::new(*dtype, shape.clone(), bytes);
        (name.clone(), view.expect("the shape counts the values"))
    });
    write_file(path, &serialize(path, views.collect(), meta)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;
    use crate::checkpoint::tests::{load, message, meta, saved};
    use crate::checkpoint::{SHIPPED, TensorFile, save_weights};

    #[test]
    fn a_quarter_of_a_file_reads_back_and_is_written_the_same_again() {
        let (folder, _, model) = saved();
        let [path, again] = ["int8", "again"].map(|name| folder.path().join(name));
        save_int8(&path, &model, &meta()).unwrap();
        let read = load(&path).unwrap();
        assert!(read.is_int8 && read.meta == meta());
        let pairs = host_tensors(&model)
            .into_iter()
            .zip(host_tensors(&read.model));
        for ((name, shape, values), (_, _, read)) in pairs {
            let narrow = ["qkv", "projection", "fc1", "fc2"].iter().any(|layer| {
                name.contains("blocks.0.") && name.ends_with(&format!("{layer}.weight"))
            });
            let largest = |j: usize, width: usize| {
                let column = values.iter().skip(j).step_by(width);
                column.fold(0.0_f32, |most, x| most.max(x.abs()))
            };
            for (i, (value, read)) in values.iter().zip(read).enumerate() {
                let most = match narrow {
                    true => largest(i % shape[1], shape[1]) / 127.5,
                    false => value.abs() / 2048.0 + 3e-8,
                };
                assert!((value - read).abs() <= most, "{name} {i}: {value} {read}");
            }
        }
        save_int8(&again, &read.model, &meta()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), fs::read(&again).unwrap());
        // Whole again, and no longer of eight bits.
        save_weights(&again, &read.model, &meta()).unwrap();
        let whole = load(&again).unwrap();
        assert!(!whole.is_int8);
        assert_eq!(host_tensors(&whole.model), host_tensors(&read.model));
    }

    #[test]
    fn shipped_weights_shrink_to_a_quarter() {
        let folder = tempfile::tempdir().unwrap();
        for shipped in SHIPPED {
            let file = shipped.file();
            let checkpoint = crate::checkpoint::load(&file, &burn::tensor::Device::flex()).unwrap();
            let [whole, narrow] = ["whole", "narrow"].map(|name| folder.path().join(name));
            save_weights(&whole, &checkpoint.model, &checkpoint.meta).unwrap();
            save_int8(&narrow, &checkpoint.model, &checkpoint.meta).unwrap();
            let [whole, narrow] = [whole, narrow].map(|path| fs::metadata(path).unwrap().len());
            assert!(
                narrow * 100 < whole * 30,
                "{}: {narrow} of {whole}",
                shipped.name
            );
        }
    }

    /// What is said of a file whose tensors `change` has changed.
    fn refused(change: impl Fn(&mut String, &mut Vec<usize>, &mut Dtype, &mut Vec<u8>)) -> String {
        let (folder, _, model) = saved();
        let path = folder.path().join("model.safetensors");
        save_int8(&path, &model, &meta()).unwrap();
        let file = TensorFile::open(&path).unwrap();
        let tensors = file.tensors().unwrap();
        let mut all: Vec<_> = tensors
            .iter()
            .map(|(name, view)| {
                let (shape, bytes) = (view.shape().to_vec(), view.data().to_vec());
                (name.to_owned(), shape, view.dtype(), bytes)
            })
            .collect();
        for (name, shape, dtype, bytes) in &mut all {
            change(name, shape, dtype, bytes);
        }
        let views = all.iter().map(|(name, shape, dtype, bytes)| {
            let view = TensorView::new(*dtype, shape.clone(), bytes).unwrap();
            (name.clone(), view)
        });
        write_file(&path, &serialize(&path, views.collect(), &meta()).unwrap()).unwrap();
        let said = message(&path);
        let begin = "FILE does not fit its own model configuration: tensor ";
        said.strip_prefix(begin).unwrap_or(&said).to_owned()
    }

    #[test]
    fn codes_and_scales_that_nobody_writes_are_refused() {
        const NAME: &str = "Vit.blocks.0.mlp.fc1.weight";
        let scale = format!("{NAME}{SCALE}");
        let with_scale = |value: f32| {
            refused(|name, _, _, bytes| {
                if *name == scale {
                    bytes[..4].copy_from_slice(&value.to_le_bytes());
                }
            })
        };
        for value in [0.0, -1.5, -0.0] {
            let said =
                format!("{scale} holds {value}, expected numbers above 0 and at most 5.3169117e36");
            assert_eq!(with_scale(value), said);
        }
        assert!(with_scale(3e38).starts_with(&format!("{scale} holds 300")));
        for value in [f32::NAN, f32::INFINITY] {
            assert!(with_scale(value).contains(&scale), "{}", with_scale(value));
        }
        let said = refused(|name, _, _, bytes| {
            if name == NAME {
                bytes[3] = 0x80;
            }
        });
        assert_eq!(
            said,
            format!("{NAME} holds the code -128, expected −64 to 64")
        );
        let said = refused(|name, _, _, _| {
            if *name == scale {
                "scales".clone_into(name);
            }
        });
        assert_eq!(said, format!("{NAME} is I8 and {scale} is missing"));
        let said = refused(|name, shape, dtype, bytes| {
            if *name == scale {
                (*shape, *dtype, *bytes) = (vec![1], Dtype::F16, vec![0, 0]);
            }
        });
        assert_eq!(said, format!("{scale} is F16 [1], expected F32 [5]"));
        let said = refused(|name, shape, _, _| {
            if name == NAME {
                shape.reverse();
            }
        });
        assert_eq!(said, format!("{NAME} is I8 [5, 6], expected I8 [6, 5]"));
        // Scales of what needs none.
        let said = refused(|name, _, dtype, bytes| {
            if name == NAME {
                *bytes = vec![0; 4 * bytes.len()];
                *dtype = Dtype::F32;
            }
        });
        assert_eq!(said, format!("{scale} is not one of the model's"));
        let said = refused(|name, _, dtype, bytes| {
            if name == "Vit.norm.gamma" {
                *bytes = vec![1; bytes.len() / 4];
                *dtype = Dtype::I8;
            }
        });
        assert_eq!(
            said,
            "Vit.norm.gamma is I8 [6], expected two or four dimensions of that type"
        );
    }
}
