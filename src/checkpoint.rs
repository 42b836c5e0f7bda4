//! Weights on disk: one safetensors file that carries everything inference needs.
//!
//! The model's configuration, its class names, its preprocessing and its temperature travel in
//! the file's metadata, so that nothing of it is a flag at inference. Files are written whole or
//! not at all. This module refuses to guess: a tensor that is missing, unknown, of another shape,
//! or changed since it was written is an error.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use memmap2::Mmap;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::data::Preprocess;
use crate::model::{Model, ModelConfig, parameters};

/// What can go wrong with a file of tensors.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file could not be written.
    #[error("cannot write {path}: {source}; free some space or name another place with --out")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The bytes are not a whole safetensors file.
    #[error("{path} is not a whole safetensors file ({reason}); copy or train it again")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the reader stumbled over.
        reason: String,
    },
    /// The file is sound but was not written by vitrine.
    #[error(
        "{path} has no vitrine metadata: expected a file that `vitrine train` wrote, such as RUN/weights/best.safetensors"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The tensors are not the ones that were written.
    #[error(
        "{path} was changed after it was written: its tensors do not match their SHA-256; copy or train it again"
    )]
    Tampered {
        /// The file.
        path: PathBuf,
    },
    /// The tensors do not fit the model that the metadata describes.
    #[error("{path} does not fit its own model configuration: {reason}")]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// The first difference.
        reason: String,
    },
}

/// Everything about a trained model that is not a tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeightsMeta {
    /// The name under which the architecture was chosen, such as `vit-w1`.
    pub name: String,
    /// The architecture.
    pub model: ModelConfig,
    /// Class names, in the order of the logits.
    pub classes: Vec<String>,
    /// How a picture becomes the model's input.
    pub preprocess: Preprocess,
    /// Divides the logits before softmax (Guo et al. 2017); 1 changes nothing.
    pub temperature: f32,
    /// Epochs behind these weights.
    pub epoch: usize,
    /// Top-1 on the validation split, a fraction; `None` where there was none.
    pub val_top1: Option<f64>,
}

/// A model ready for inference.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// What the file says about it.
    pub meta: WeightsMeta,
    /// The model, without autodiff.
    pub model: Model,
}

/// A named tensor on the host.
pub type HostTensor = (String, Vec<usize>, Vec<f32>);

/// Every float tensor of a model, copied to the host.
pub fn host_tensors(model: &Model) -> Vec<HostTensor> {
    let valid = model.valid();
    let shapes = parameters::shapes(&valid);
    let values = parameters::values(&valid);
    shapes
        .into_iter()
        .zip(values)
        .map(|((path, shape), (_, value))| (path, shape, host(value)))
        .collect()
}

/// Copies a flat tensor to the host.
pub fn host(tensor: Tensor<1>) -> Vec<f32> {
    tensor
        .try_into_vec_as::<f32>()
        .expect("a float tensor reads back as f32")
}

/// Writes a model's weights for inference; returns once they are on disk.
///
/// # Errors
///
/// [`CheckpointError::Write`] with the system's reason; the file that was there before, if any,
/// is then untouched.
pub fn save_weights(path: &Path, model: &Model, meta: &WeightsMeta) -> Result<(), CheckpointError> {
    write_tensors(path, &host_tensors(model), meta)
}

/// Reads weights and builds their model on `device`.
///
/// # Errors
///
/// Every [`CheckpointError`] but `Write`.
pub fn load_weights(path: &Path, device: &Device) -> Result<Checkpoint, CheckpointError> {
    let file = TensorFile::open(path)?;
    let meta: WeightsMeta = file.meta()?;
    meta.model
        .validate()
        .map_err(|e| file.mismatch(e.to_string()))?;
    if meta.classes.len() != meta.model.num_classes() {
        return Err(file.mismatch(format!(
            "{} class names for a head of {} classes",
            meta.classes.len(),
            meta.model.num_classes()
        )));
    }
    let model = file.fill(meta.model.init_constant(device).valid(), device)?;
    Ok(Checkpoint { meta, model })
}

/// The key of our JSON in the safetensors metadata. It is the only key: a second one would make
/// the order of the header, and so the file's bytes, depend on a hash map.
const META: &str = "vitrine";

#[derive(Serialize, Deserialize)]
struct Envelope<M> {
    format: u32,
    sha256: String,
    #[serde(flatten)]
    meta: M,
}

/// Writes named tensors and a JSON of `meta` as one safetensors file: a temporary file in the
/// same folder, synced, then renamed.
///
/// # Errors
///
/// [`CheckpointError::Write`].
pub fn write_tensors<M: Serialize>(
    path: &Path,
    tensors: &[HostTensor],
    meta: &M,
) -> Result<(), CheckpointError> {
    let write = |source| CheckpointError::Write {
        path: path.to_owned(),
        source,
    };
    let mut sorted: Vec<&HostTensor> = tensors.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let bytes: Vec<Vec<u8>> = sorted
        .iter()
        .map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect())
        .collect();
    let envelope = Envelope {
        format: 1,
        sha256: digest(bytes.iter().map(Vec::as_slice)),
        meta,
    };
    let json = serde_json::to_string(&envelope).expect("metadata is plain data");
    let views = sorted.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        let view =
            TensorView::new(Dtype::F32, shape.clone(), bytes).expect("the shape counts the values");
        (name.as_str(), view)
    });
    let metadata = HashMap::from([(META.to_owned(), json)]);
    let serialized = safetensors::serialize(views, Some(metadata))
        .map_err(|e| write(std::io::Error::other(e.to_string())))?;
    write_atomically(path, &serialized).map_err(write)
}

/// Writes a file whole or not at all.
///
/// # Errors
///
/// The system's; a file that was there before is then untouched.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Temporary files are private; what we leave behind is as readable as any other file.
        file.as_file()
            .set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// How the names of unfinished files begin; a killed process may leave one behind.
pub const TEMPORARY: &str = ".vitrine-";

/// Hash of the tensors alone: the header is covered by the reader's own checks.
fn digest<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// A mapped safetensors file.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    map: Mmap,
}

impl TensorFile {
    /// Maps a file.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Read`].
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let read = |source| CheckpointError::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(read)?;
        if file.metadata().map_err(read)?.is_dir() {
            return Err(read(std::io::Error::other(
                "it is a directory; expected a .safetensors file",
            )));
        }
        // SAFETY: the map is read-only, and our own writers never change a file in place, they
        // rename a new one over it. A foreign process that truncates the file while it is mapped
        // could still fault us; mapping is worth that, as it makes a cold start cheap.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file) }.map_err(read)?;
        Ok(Self {
            path: path.to_owned(),
            map,
        })
    }

    fn corrupt(&self, reason: impl ToString) -> CheckpointError {
        CheckpointError::Corrupt {
            path: self.path.clone(),
            reason: reason.to_string(),
        }
    }

    fn mismatch(&self, reason: String) -> CheckpointError {
        CheckpointError::Mismatch {
            path: self.path.clone(),
            reason,
        }
    }

    fn tensors(&self) -> Result<SafeTensors<'_>, CheckpointError> {
        SafeTensors::deserialize(&self.map).map_err(|e| self.corrupt(e))
    }

    /// The metadata that [`write_tensors`] wrote, once the tensors match their hash.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Foreign` or `Tampered`.
    pub fn meta<M: DeserializeOwned>(&self) -> Result<M, CheckpointError> {
        let (header_bytes, header) =
            SafeTensors::read_metadata(&self.map).map_err(|e| self.corrupt(e))?;
        let tensors = self.tensors()?;
        let json = header
            .metadata()
            .as_ref()
            .and_then(|m| m.get(META))
            .ok_or_else(|| CheckpointError::Foreign {
                path: self.path.clone(),
            })?;
        let envelope: Envelope<M> =
            serde_json::from_str(json).map_err(|e| self.corrupt(format!("metadata: {e}")))?;
        drop(tensors);
        let data = self.map.get(8 + header_bytes..).unwrap_or_default();
        if digest(std::iter::once(data)) != envelope.sha256 {
            return Err(CheckpointError::Tampered {
                path: self.path.clone(),
            });
        }
        Ok(envelope.meta)
    }

    /// One tensor's values, or `None` where the file has none of that name.
    ///
    /// # Errors
    ///
    /// `Corrupt`.
    pub fn values(&self, name: &str) -> Result<Option<Vec<f32>>, CheckpointError> {
        let tensors = self.tensors()?;
        let Ok(view) = tensors.tensor(name) else {
            return Ok(None);
        };
        Ok(Some(floats(&view)))
    }

    /// The model with every tensor taken from this file.
    ///
    /// # Errors
    ///
    /// `Corrupt`, or `Mismatch` where a tensor is missing, unknown or of another shape.
    pub fn fill(&self, model: Model, device: &Device) -> Result<Model, CheckpointError> {
        self.fill_from(model, device, "")
    }

    /// [`fill`](Self::fill) from the tensors whose names begin with `prefix`.
    ///
    /// # Errors
    ///
    /// As for [`fill`](Self::fill).
    pub fn fill_from(
        &self,
        model: Model,
        device: &Device,
        prefix: &str,
    ) -> Result<Model, CheckpointError> {
        let tensors = self.tensors()?;
        let expected = parameters::shapes(&model);
        for (path, shape) in &expected {
            let name = format!("{prefix}{path}");
            let Ok(view) = tensors.tensor(&name) else {
                return Err(self.mismatch(format!("tensor {name} is missing")));
            };
            if view.shape() != shape.as_slice() || view.dtype() != Dtype::F32 {
                return Err(self.mismatch(format!(
                    "tensor {name} is {:?} {:?}, expected F32 {shape:?}",
                    view.dtype(),
                    view.shape()
                )));
            }
        }
        if prefix.is_empty() && tensors.len() != expected.len() {
            return Err(self.mismatch(format!(
                "{} tensors, expected {}",
                tensors.len(),
                expected.len()
            )));
        }
        Ok(parameters::replace(model, |path, _| {
            let view = tensors.tensor(&format!("{prefix}{path}")).ok()?;
            Some(Tensor::from_floats(floats(&view).as_slice(), device))
        }))
    }
}

fn floats(view: &TensorView<'_>) -> Vec<f32> {
    view.data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}
