//! Weights on disk: one safetensors file that carries everything inference needs.
//!
//! The model's configuration, its class names, its preprocessing and its temperature travel in
//! the file's metadata, so that nothing of it is a flag at inference. Files are written whole or
//! not at all. This module refuses to guess: a tensor that is missing, unknown, of another shape,
//! or changed since it was written is an error.

mod file;
mod float16;
mod shipped;
mod start;

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::data::Preprocess;
use crate::metrics::Calibration;
use crate::model::{Model, ModelConfig, parameters};

use file::{serialize, write_file};

pub use file::{HashCheck, TEMPORARY, TensorFile, write_atomically, write_tensors};
pub use float16::save_half;
pub use shipped::{SHIPPED, Shipped};

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
    #[error("cannot write {path}: {source}")]
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
    #[error("{path} cannot be the start of this model: {reason}")]
    Start {
        /// The file.
        path: PathBuf,
        /// The first difference.
        reason: String,
    },
    /// Other weights have taken the place of those that were read.
    #[error(
        "{path} has been written anew meanwhile: wait until the training that writes it is over, then try again"
    )]
    Replaced {
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
    load(&TensorFile::open(path)?, device)
}

/// [`load_weights`] of a file that is open.
///
/// # Errors
///
/// As for [`load_weights`].
pub fn load(file: &TensorFile, device: &Device) -> Result<Checkpoint, CheckpointError> {
    let (checkpoint, check) = begin_to_load(file, device)?;
    check.wait()?;
    Ok(checkpoint)
}

/// [`load`] without the wait for the file's hash, which is nearly all of the time it takes.
///
/// Nothing that comes of the checkpoint may be shown before [`HashCheck::wait`] has succeeded.
///
/// # Errors
///
/// Every [`CheckpointError`] but `Write`; `Tampered` from the check, or from here where the change
/// has left nothing to load.
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
    check(file, &meta)?;
    let model = file.fill(meta.model.init_constant(device), device)?.valid();
    Ok(Checkpoint { meta, model })
}

/// What a weights file says of itself, checked, for whoever needs no tensors yet.
///
/// # Errors
///
/// What [`TensorFile`] says of a broken file, and [`CheckpointError::Mismatch`].
pub fn meta(file: &TensorFile) -> Result<WeightsMeta, CheckpointError> {
    let meta = file.meta()?;
    check(file, &meta)?;
    Ok(meta)
}

fn check(file: &TensorFile, meta: &WeightsMeta) -> Result<(), CheckpointError> {
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
    if !(meta.temperature.is_finite() && meta.temperature > 0.0) {
        return Err(file.mismatch(format!(
            "a temperature of {}, expected one above 0",
            meta.temperature
        )));
    }
    Ok(())
}

/// Replaces what a weights file says of itself, which must still be `known`; its tensors stay as
/// they are.
///
/// # Errors
///
/// What [`TensorFile`] says of a missing or broken file, [`CheckpointError::Replaced`] or
/// [`CheckpointError::Write`]; the file is then untouched.
pub fn save_meta(
    path: &Path,
    known: &WeightsMeta,
    meta: &WeightsMeta,
) -> Result<(), CheckpointError> {
    let file = TensorFile::open(path)?;
    if file.meta::<WeightsMeta>()? != *known {
        return Err(CheckpointError::Replaced {
            path: path.to_owned(),
        });
    }
    let serialized = serialize(path, file.tensors()?.tensors(), meta)?;
    // Some systems refuse to replace a file that is mapped.
    drop(file);
    write_file(path, &serialized)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests;
