//! Weights on disk: one safetensors file that carries everything inference needs.
//!
//! The model's configuration, its class names, its preprocessing and its temperature travel in
//! the file's metadata, so that nothing of it is a flag at inference. Files are written whole or
//! not at all. This module refuses to guess: a tensor that is missing, unknown, of another shape,
//! or changed since it was written is an error.

mod float16;
mod start;

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use burn::module::Module;
use burn::tensor::{AllocationProperty, DType, Device, Tensor, TensorData};
use bytes::Bytes;
use memmap2::Mmap;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::data::Preprocess;
use crate::metrics::Calibration;
use crate::model::{Model, ModelConfig, parameters};

use float16::floats;

pub use float16::save_half;

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
    /// The bytes are not the ones that were written.
    #[error(
        "{path} was changed after it was written: its bytes do not match their SHA-256; copy or train it again"
    )]
    Tampered {
        /// The file.
        path: PathBuf,
    },
    /// The weights are of another architecture than the model that is to start from them.
    #[error(
        "{path} cannot be the start of this model: {reason}; leave the architecture to the weights, or train without --init"
    )]
    Start {
        /// The file.
        path: PathBuf,
        /// The first difference.
        reason: String,
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
    /// Where the temperature comes from; `None` before `vitrine calibrate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
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
    let (checkpoint, check) = begin_to_load_weights(path, device)?;
    check.wait()?;
    Ok(checkpoint)
}

/// [`load_weights`] without the wait for the file's hash, which is nearly all of the time it takes.
///
/// Nothing that comes of the checkpoint may be shown before [`HashCheck::wait`] has succeeded.
///
/// # Errors
///
/// Every [`CheckpointError`] but `Write`; `Tampered` from the check, or from here where the change
/// has left nothing to load.
pub fn begin_to_load_weights(
    path: &Path,
    device: &Device,
) -> Result<(Checkpoint, HashCheck), CheckpointError> {
    begin_to_load(&TensorFile::open(path)?, device)
}

/// [`begin_to_load_weights`] of a file that is here already.
///
/// # Errors
///
/// As for [`begin_to_load_weights`].
pub fn begin_to_load(
    file: &TensorFile,
    device: &Device,
) -> Result<(Checkpoint, HashCheck), CheckpointError> {
    let (meta, check) = file.unchecked_meta()?;
    let loaded = build(file, meta, device);
    if loaded.is_err() {
        // A file that was changed is called that, not what the change made of it.
        check.wait()?;
    }
    Ok((loaded?, check))
}

fn build(
    file: &TensorFile,
    meta: WeightsMeta,
    device: &Device,
) -> Result<Checkpoint, CheckpointError> {
    meta.model
        .validate()
        .map_err(|e| file.mismatch(e.to_string()))?;
    meta.preprocess
        .validate()
        .map_err(|e| file.mismatch(e.to_string()))?;
    let (prepared, expected) = (meta.preprocess.image_size, meta.model.image_size());
    if prepared != expected {
        return Err(file.mismatch(format!(
            "pictures of {prepared} pixels a side for a model of {expected}"
        )));
    }
    if meta.classes.len() != meta.model.num_classes() {
        return Err(file.mismatch(format!(
            "{} class names for a head of {} classes",
            meta.classes.len(),
            meta.model.num_classes()
        )));
    }
    let model = file.fill(meta.model.init_constant(device), device)?.valid();
    Ok(Checkpoint { meta, model })
}

/// Replaces what a weights file says of itself; its tensors stay as they are.
///
/// # Errors
///
/// What [`TensorFile`] says of a missing or broken file, or [`CheckpointError::Write`]; the file
/// is then untouched.
pub fn save_meta(path: &Path, meta: &WeightsMeta) -> Result<(), CheckpointError> {
    let file = TensorFile::open(path)?;
    file.meta::<WeightsMeta>()?;
    let serialized = serialize(path, file.tensors()?.tensors(), meta)?;
    // Some systems refuse to replace a file that is mapped.
    drop(file);
    write_file(path, &serialized)
}

/// The comparison of a file with its hash, which begins at once on the process's pool.
#[derive(Debug, Clone)]
pub struct HashCheck {
    path: PathBuf,
    /// Whoever asks first, the pool or [`wait`](Self::wait), computes it, and the other one waits:
    /// a pool that is busy, or that waits for this very answer, holds nobody up.
    matches: Arc<LazyLock<bool, Comparison>>,
}

type Comparison = Box<dyn FnOnce() -> bool + Send>;

impl HashCheck {
    fn start(path: &Path, compare: impl FnOnce() -> bool + Send + 'static) -> Self {
        let compare: Comparison = Box::new(compare);
        let matches = Arc::new(LazyLock::new(compare));
        let shared = Arc::clone(&matches);
        rayon::spawn(move || {
            LazyLock::force(&shared);
        });
        Self {
            path: path.to_owned(),
            matches,
        }
    }

    /// Returns once the file is known to be as it was written.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Tampered`].
    pub fn wait(&self) -> Result<(), CheckpointError> {
        if **self.matches {
            return Ok(());
        }
        Err(CheckpointError::Tampered {
            path: self.path.clone(),
        })
    }
}

/// The key of our JSON in the safetensors metadata. It is the only key: a second one would make
/// the order of the header, and so the file's bytes, depend on a hash map.
const META: &str = "vitrine";

/// Format 2 hashes the whole file; format 1 hashed the tensors alone and is still read.
const FORMAT: u32 = 2;

/// Where the hash stands in the file: JSON within the header's JSON, so its quotes are escaped.
/// A name that contains these words is escaped once more and does not match.
const HASH: &[u8] = br#"\"sha256\":\""#;

/// Holds the hash's place while the file is hashed.
const NO_HASH: [u8; 64] = [b'0'; 64];

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
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect())
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        let view =
            TensorView::new(Dtype::F32, shape.clone(), bytes).expect("the shape counts the values");
        (name.clone(), view)
    });
    write_file(path, &serialize(path, views.collect(), meta)?)
}

/// The bytes of a file of these tensors and a JSON of `meta`, their hash in its place.
fn serialize<M: Serialize>(
    path: &Path,
    mut tensors: Vec<(String, TensorView<'_>)>,
    meta: &M,
) -> Result<Vec<u8>, CheckpointError> {
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let envelope = Envelope {
        format: FORMAT,
        sha256: String::from_utf8_lossy(&NO_HASH).into_owned(),
        meta,
    };
    let json = serde_json::to_string(&envelope).expect("metadata is plain data");
    let metadata = HashMap::from([(META.to_owned(), json)]);
    let mut serialized = safetensors::serialize(tensors, Some(metadata)).map_err(|e| {
        let source = std::io::Error::other(e.to_string());
        CheckpointError::Write {
            path: path.to_owned(),
            source,
        }
    })?;
    let place = hash_place(&serialized).expect("the metadata holds the hash's place");
    let hash = digest([serialized.as_slice()]);
    serialized[place].copy_from_slice(hash.as_bytes());
    Ok(serialized)
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    write_atomically(path, bytes).map_err(|source| CheckpointError::Write {
        path: path.to_owned(),
        source,
    })
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

fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// The bytes of a file that hold its hash.
fn hash_place(file: &[u8]) -> Option<Range<usize>> {
    let at = file.windows(HASH.len()).position(|bytes| bytes == HASH)? + HASH.len();
    let place = at..at + NO_HASH.len();
    (place.end <= file.len()).then_some(place)
}

/// A safetensors file, mapped or in the program itself.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    /// The map, which lives as long as the last tensor that lies in it.
    bytes: Bytes,
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
        // could still fault us, and one that writes into it could change a model that is loaded;
        // mapping is worth that, as it makes a cold start cheap.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file) }.map_err(read)?;
        Ok(Self {
            path: path.to_owned(),
            bytes: Bytes::from_owner(map),
        })
    }

    /// A file that is part of the program; `name` is for messages.
    pub fn embedded(name: &str, bytes: &'static [u8]) -> Self {
        Self {
            path: name.into(),
            bytes: Bytes::from_static(bytes),
        }
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
        SafeTensors::deserialize(&self.bytes).map_err(|e| self.corrupt(e))
    }

    /// The metadata that [`write_tensors`] wrote, once the file matches its hash.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Foreign` or `Tampered`.
    pub fn meta<M: DeserializeOwned>(&self) -> Result<M, CheckpointError> {
        let (meta, check) = self.unchecked_meta()?;
        check.wait()?;
        Ok(meta)
    }

    /// The metadata, while the file is compared with its hash.
    fn unchecked_meta<M: DeserializeOwned>(&self) -> Result<(M, HashCheck), CheckpointError> {
        let (header_bytes, header) =
            SafeTensors::read_metadata(&self.bytes).map_err(|e| self.corrupt(e))?;
        self.tensors()?;
        let json = header
            .metadata()
            .as_ref()
            .and_then(|m| m.get(META))
            .ok_or_else(|| CheckpointError::Foreign {
                path: self.path.clone(),
            })?;
        let envelope: Envelope<M> =
            serde_json::from_str(json).map_err(|e| self.corrupt(format!("metadata: {e}")))?;
        let Envelope {
            format,
            sha256,
            meta,
        } = envelope;
        if !(1..=FORMAT).contains(&format) {
            return Err(self.corrupt(format!(
                "format {format}, this vitrine reads up to {FORMAT}"
            )));
        }
        let bytes = self.bytes.clone();
        let check = HashCheck::start(&self.path, move || {
            let (header, data) = bytes.split_at(8 + header_bytes);
            if format == 1 {
                return digest([data]) == sha256;
            }
            hash_place(header).is_some_and(|place| {
                let (before, after) = (&header[..place.start], &header[place.end..]);
                digest([before, &NO_HASH, after, data]) == sha256
            })
        });
        Ok((meta, check))
    }

    /// SHA-256 of the whole file, as `sha256sum` prints it.
    pub fn sha256(&self) -> String {
        digest([&self.bytes[..]])
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
        let values = floats(&view);
        let unread = || self.corrupt(format!("tensor {name} is {:?}", view.dtype()));
        values.ok_or_else(unread).map(Some)
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
            let known = matches!(view.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16);
            if view.shape() != shape.as_slice() || !known {
                let found = format!("{:?}", view.dtype());
                let expected = if known { &found } else { "F32, F16 or BF16" };
                return Err(self.mismatch(format!(
                    "tensor {name} is {found} {:?}, expected {expected} {shape:?}",
                    view.shape()
                )));
            }
        }
        let unknown = tensors
            .names()
            .into_iter()
            .filter(|name| {
                name.strip_prefix(prefix)
                    .is_some_and(|path| expected.iter().all(|(known, _)| known != path))
            })
            .min();
        if let Some(name) = unknown {
            return Err(self.mismatch(format!("tensor {name} is not one of the model's")));
        }
        Ok(parameters::replace(model, |path, _| {
            let view = tensors.tensor(&format!("{prefix}{path}")).ok()?;
            Some(Tensor::from_data(self.data(&view)?, device))
        }))
    }

    /// A tensor's values, flat, if it is of a type that is read: in the map, where they lie there as this processor reads them.
    /// Whoever changes them gets a copy from Burn.
    ///
    /// A copy would cost a cold start twice: the copying, and fresh memory for the kernel to clear.
    fn data(&self, view: &TensorView<'_>) -> Option<TensorData> {
        let in_place = cfg!(target_endian = "little")
            && view.dtype() == Dtype::F32
            && view.data().as_ptr().cast::<f32>().is_aligned();
        if !in_place {
            let values = floats(view)?;
            let shape = [values.len()];
            return Some(TensorData::new(values, shape));
        }
        let shape = [view.data().len() / size_of::<f32>()];
        let bytes = self.bytes.slice_ref(view.data());
        let bytes = burn::tensor::Bytes::from_shared(bytes, AllocationProperty::Other);
        Some(TensorData::from_bytes(bytes, shape, DType::F32))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::data::Resize;
    use crate::model::{Init, Pooling, Position, Stem, VitConfig};

    /// The smallest ViT with every kind of parameter.
    pub(crate) fn tiny() -> ModelConfig {
        ModelConfig::Vit(VitConfig {
            image_size: 8,
            patch_size: 4,
            embed_dim: 6,
            depth: 1,
            num_heads: 2,
            mlp_dim: 5,
            num_classes: 3,
            pooling: Pooling::ClassToken,
            position: Position::Learned,
            stem: Stem::Linear,
            registers: 1,
            drop_path: 0.0,
            distillation_token: true,
            init: Init::Xavier,
            layer_scale: 0.0,
            qk_norm: false,
        })
    }

    pub(crate) fn meta() -> WeightsMeta {
        WeightsMeta {
            name: "tiny".to_owned(),
            model: tiny(),
            // A name that looks like the place of the hash.
            classes: ["ant", r#"","sha256":"00"#, "bee \u{1f41d}"]
                .map(str::to_owned)
                .to_vec(),
            preprocess: Preprocess {
                image_size: 8,
                resize: Resize::Pad,
                mean: [0.1, 0.2, 0.3],
                std: [0.4, 0.5, 0.6],
            },
            temperature: 1.25,
            epoch: 7,
            val_top1: Some(1.0 / 3.0),
            calibration: None,
        }
    }

    pub(crate) fn saved() -> (tempfile::TempDir, PathBuf, Model) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let model = tiny().init(3, &Device::flex());
        save_weights(&path, &model, &meta()).unwrap();
        (folder, path, model)
    }

    pub(crate) fn load(path: &Path) -> Result<Checkpoint, CheckpointError> {
        load_weights(path, &Device::flex())
    }

    pub(crate) fn message(path: &Path) -> String {
        let error = load(path).unwrap_err().to_string();
        error.replace(&path.display().to_string(), "FILE")
    }

    #[test]
    fn weights_read_back_bit_for_bit() {
        let (folder, path, model) = saved();
        let read = load(&path).unwrap();
        assert_eq!(read.meta, meta());
        assert_eq!(host_tensors(&read.model), host_tensors(&model));
        let again = folder.path().join("again.safetensors");
        save_weights(&again, &read.model, &read.meta).unwrap();
        assert_eq!(fs::read(&again).unwrap(), fs::read(&path).unwrap());
    }

    #[test]
    fn metadata_is_replaced_and_the_tensors_stay() {
        let (_folder, path, model) = saved();
        let before = fs::read(&path).unwrap();
        let classes = meta().classes;
        let logits = [2.0, 0.5, 0.1, 0.3, 0.7, -1.0];
        let (temperature, calibration) = Calibration::fit(&logits, &[0, 0], &classes, "set");
        let changed = WeightsMeta {
            temperature,
            calibration: Some(calibration),
            ..meta()
        };
        save_meta(&path, &changed).unwrap();
        let read = load(&path).unwrap();
        assert_eq!(read.meta, changed);
        assert_eq!(host_tensors(&read.model), host_tensors(&model));
        // Without a calibration the bytes are those of before there was such a thing.
        save_meta(&path, &meta()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), before);
        let mut cut = before;
        cut.pop();
        fs::write(&path, &cut).unwrap();
        assert!(save_meta(&path, &meta()).is_err());
        assert_eq!(fs::read(&path).unwrap(), cut);
    }

    #[test]
    fn a_file_within_the_program_loads_like_one_on_disk() {
        let (_folder, path, model) = saved();
        let whole = fs::read(&path).unwrap();
        let embed = |bytes: &[u8]| {
            let bytes: &'static [u8] = Box::leak(bytes.to_vec().into_boxed_slice());
            let file = TensorFile::embedded("tiny", bytes);
            let (checkpoint, check) = begin_to_load(&file, &Device::flex())?;
            check.wait()?;
            Ok::<_, CheckpointError>(checkpoint)
        };
        // Wherever the linker puts it.
        for shift in 0..4 {
            let shifted = [&[0; 4][..shift], &whole].concat();
            let bytes: &'static [u8] = Box::leak(shifted.into_boxed_slice());
            let file = TensorFile::embedded("tiny", &bytes[shift..]);
            let (checkpoint, check) = begin_to_load(&file, &Device::flex()).unwrap();
            check.wait().unwrap();
            assert_eq!(host_tensors(&checkpoint.model), host_tensors(&model));
        }
        let mut changed = whole;
        *changed.last_mut().unwrap() ^= 1;
        let error = embed(&changed).unwrap_err().to_string();
        assert!(
            error.starts_with("tiny was changed after it was written"),
            "{error}"
        );
    }

    #[test]
    fn a_truncated_file_is_refused_wherever_it_ends() {
        let (_folder, path, _) = saved();
        let whole = fs::read(&path).unwrap();
        let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        for end in [
            0,
            1,
            7,
            8,
            9,
            header / 2,
            header - 1,
            header,
            header + 1,
            (header + whole.len()) / 2,
            whole.len() - 4,
            whole.len() - 1,
        ] {
            fs::write(&path, &whole[..end]).unwrap();
            let message = message(&path);
            assert!(
                message.starts_with("FILE is not a whole safetensors file (")
                    && message.ends_with("); copy or train it again"),
                "{end} bytes: {message}"
            );
        }
        let mut longer = whole.clone();
        longer.push(0);
        fs::write(&path, &longer).unwrap();
        assert!(matches!(load(&path), Err(CheckpointError::Corrupt { .. })));
    }

    #[test]
    fn a_flipped_bit_is_noticed_wherever_it_is() {
        let (_folder, path, _) = saved();
        let whole = fs::read(&path).unwrap();
        let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        let mut bytes = whole.clone();
        for at in (0..whole.len()).step_by(3) {
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            let result = load(&path);
            bytes[at] ^= 1;
            if at < header {
                assert!(result.is_err(), "byte {at}");
            } else {
                assert!(
                    matches!(result, Err(CheckpointError::Tampered { .. })),
                    "byte {at}"
                );
            }
        }
    }

    #[test]
    fn changed_metadata_is_noticed() {
        let (_folder, path, _) = saved();
        let bytes = fs::read(&path).unwrap();
        let at = bytes.windows(3).position(|w| w == b"ant").unwrap();
        let mut changed = bytes.clone();
        changed[at..at + 3].copy_from_slice(b"cow");
        fs::write(&path, &changed).unwrap();
        assert_eq!(
            message(&path),
            "FILE was changed after it was written: its bytes do not match their SHA-256; copy or train it again"
        );
    }

    #[test]
    fn a_change_that_leaves_nothing_to_load_is_called_a_change() {
        let (_folder, path, _) = saved();
        let mut bytes = fs::read(&path).unwrap();
        let key = br#""mlp_dim\":5"#;
        let at = bytes.windows(key.len()).position(|w| w == key).unwrap();
        bytes[at + key.len() - 1] = b'6';
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(load(&path), Err(CheckpointError::Tampered { .. })));
    }

    #[test]
    fn values_lie_in_the_map_and_changing_a_tensor_leaves_the_file_alone() {
        let (_folder, path, _) = saved();
        let whole = fs::read(&path).unwrap();
        let file = TensorFile::open(&path).unwrap();
        let view = file.tensors().unwrap();
        let view = view.tensor("Vit.head.weight").unwrap();
        let data = file.data(&view).unwrap();
        assert_eq!(data.as_bytes().as_ptr(), view.data().as_ptr());

        // The only owner of a tensor may change it in place.
        let tensor = Tensor::<1>::from_data(data, &Device::flex());
        let changed = host(tensor.add_scalar(1.0));
        let expected: Vec<f32> = floats(&view).unwrap().iter().map(|x| x + 1.0).collect();
        assert_eq!(changed, expected);
        assert_eq!(fs::read(&path).unwrap(), whole);
    }

    #[test]
    fn values_that_are_not_aligned_are_copied() {
        let (_folder, path, model) = saved();
        let whole = fs::read(&path).unwrap();
        let (size, rest) = whole.split_at(8);
        let size = u64::from_le_bytes(size.try_into().unwrap());
        let (header, data) = rest.split_at(size as usize);
        let shifted = [&(size + 1).to_le_bytes()[..], header, b" ", data].concat();
        fs::write(&path, shifted).unwrap();
        let file = TensorFile::open(&path).unwrap();
        let device = Device::flex();
        let read = file.fill(tiny().init_constant(&device), &device).unwrap();
        assert_eq!(host_tensors(&read), host_tensors(&model));
    }

    /// A file as `write_tensors` makes it, after `change`.
    fn with_tensors(change: impl FnOnce(&mut Vec<HostTensor>)) -> String {
        let (_folder, path, model) = saved();
        let mut tensors = host_tensors(&model);
        change(&mut tensors);
        write_tensors(&path, &tensors, &meta()).unwrap();
        message(&path)
    }

    #[test]
    fn tensors_that_do_not_fit_are_named() {
        let start = "FILE does not fit its own model configuration: tensor ";
        assert_eq!(
            with_tensors(|t| t.retain(|(name, ..)| name != "Vit.class_token")),
            format!("{start}Vit.class_token is missing")
        );
        assert_eq!(
            with_tensors(|t| t.push(("Vit.tail".to_owned(), vec![1], vec![0.0]))),
            format!("{start}Vit.tail is not one of the model's")
        );
        assert_eq!(
            with_tensors(|t| {
                let (_, shape, _) = t.iter_mut().find(|t| t.0 == "Vit.head.weight").unwrap();
                shape.reverse();
            }),
            format!("{start}Vit.head.weight is F32 [3, 6], expected F32 [6, 3]")
        );
    }

    #[test]
    fn metadata_that_does_not_fit_is_refused() {
        let (_folder, path, model) = saved();
        let refused = |meta: &WeightsMeta| {
            save_weights(&path, &model, meta).unwrap();
            message(&path)
        };
        let mut two = meta();
        two.classes.pop();
        assert_eq!(
            refused(&two),
            "FILE does not fit its own model configuration: 2 class names for a head of 3 classes"
        );
        let mut larger = meta();
        larger.preprocess.image_size = 9;
        assert_eq!(
            refused(&larger),
            "FILE does not fit its own model configuration: pictures of 9 pixels a side for a model of 8"
        );
        let mut flat = meta();
        flat.preprocess.std[1] = 0.0;
        assert!(refused(&flat).contains("preprocess.std"));
    }

    #[test]
    fn a_foreign_file_is_refused() {
        let (_folder, path, _) = saved();
        let bytes = 1f32.to_le_bytes();
        let view = TensorView::new(Dtype::F32, vec![1], &bytes).unwrap();
        fs::write(
            &path,
            safetensors::serialize([("weight", view)], None).unwrap(),
        )
        .unwrap();
        assert_eq!(
            message(&path),
            "FILE has no vitrine metadata: expected a file that `vitrine train` wrote, such as RUN/weights/best.safetensors"
        );
        fs::remove_file(&path).unwrap();
        assert!(message(&path).starts_with("cannot read FILE: "));
        fs::create_dir(&path).unwrap();
        assert_eq!(
            message(&path),
            "cannot read FILE: it is a directory; expected a .safetensors file"
        );
    }

    #[test]
    fn the_first_format_is_still_read() {
        let (_folder, path, model) = saved();
        let mut tensors = host_tensors(&model);
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let bytes: Vec<Vec<u8>> = tensors
            .iter()
            .map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect())
            .collect();
        let envelope = Envelope {
            format: 1,
            sha256: digest(bytes.iter().map(Vec::as_slice)),
            meta: meta(),
        };
        let json = serde_json::to_string(&envelope).unwrap();
        let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
            (name.as_str(), view.unwrap())
        });
        let metadata = HashMap::from([(META.to_owned(), json)]);
        let mut file = safetensors::serialize(views, Some(metadata)).unwrap();
        fs::write(&path, &file).unwrap();
        assert_eq!(
            host_tensors(&load(&path).unwrap().model),
            host_tensors(&model)
        );
        *file.last_mut().unwrap() ^= 1;
        fs::write(&path, &file).unwrap();
        assert!(matches!(load(&path), Err(CheckpointError::Tampered { .. })));
    }

    #[test]
    fn a_newer_format_is_refused() {
        let (_folder, path, _) = saved();
        let mut bytes = fs::read(&path).unwrap();
        let key = br#""format\":2"#;
        let at = bytes.windows(key.len()).position(|w| w == key).unwrap();
        bytes[at + key.len() - 1] = b'3';
        fs::write(&path, &bytes).unwrap();
        assert_eq!(
            message(&path),
            "FILE is not a whole safetensors file (format 3, this vitrine reads up to 2); copy or train it again"
        );
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_atomically(&path, b"old").unwrap();
        write_atomically(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");

        // A folder stands where the file should go: the rename fails after all was written.
        let taken = folder.path().join("taken");
        fs::create_dir(&taken).unwrap();
        fs::write(taken.join("inside"), b"old").unwrap();
        assert!(write_atomically(&taken, b"new").is_err());
        assert_eq!(fs::read(taken.join("inside")).unwrap(), b"old");
        assert!(write_atomically(&folder.path().join("gone/file"), b"new").is_err());

        let mut left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["file", "taken"], "no temporary file is left");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_are_refused_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            header in 0u64..300,
            honest in any::<bool>(),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x.safetensors");
            let mut file = bytes;
            if honest {
                // Past the first check, the length of the header.
                let mut longer = header.min(file.len() as u64).to_le_bytes().to_vec();
                longer.append(&mut file);
                file = longer;
            }
            fs::write(&path, &file).unwrap();
            prop_assert!(load(&path).is_err());
        }

        #[test]
        fn any_damage_is_noticed(
            at in any::<prop::sample::Index>(),
            damage in proptest::collection::vec(any::<u8>(), 1..40),
        ) {
            let (_folder, path, _) = saved();
            let whole = fs::read(&path).unwrap();
            let at = at.index(whole.len());
            let mut bytes = whole.clone();
            for (byte, new) in bytes[at..].iter_mut().zip(damage) {
                *byte = new;
            }
            fs::write(&path, &bytes).unwrap();
            prop_assert_eq!(load(&path).is_ok(), bytes == whole);
        }
    }
}
