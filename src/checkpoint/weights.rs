//! Weights files: written, read, and checked against what they say of themselves.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;

use super::error::CheckpointError;
use super::familiarity;
use super::file::{HashCheck, TensorFile, write_file, write_tensors};
use super::host::{HostTensor, host_tensors};
use super::meta::WeightsMeta;
use crate::metrics::Familiarity;
use crate::model::Model;

/// A model ready for inference.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// What the file says about it.
    pub meta: WeightsMeta,
    /// The model, without autodiff.
    pub model: Model,
    /// Whether the file holds weights of eight bits; the model has them widened.
    pub is_int8: bool,
    /// Where the features of its training pictures lie, if `vitrine calibrate` has kept that.
    pub familiarity: Option<Familiarity>,
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
/// Every [`CheckpointError`] but `Write`; `Tampered` and `NotFinite` from the check, or from here
/// where the change has left nothing to load.
pub fn begin_to_load(
    file: &TensorFile,
    device: &Device,
) -> Result<(Checkpoint, HashCheck), CheckpointError> {
    let (checkpoint, check) = begin_to_load_backbone(file, device)?;
    if checkpoint.meta.classes.is_empty() {
        check.wait()?;
        return Err(CheckpointError::NoClassifier {
            path: file.path().to_owned(),
        });
    }
    Ok((checkpoint, check))
}

/// [`begin_to_load`] for whoever needs features only: weights without a classifier will do, and the
/// model's heads are then zeros.
///
/// # Errors
///
/// As for [`begin_to_load`].
pub fn begin_to_load_backbone(
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
    if let Some(lora) = file.lora() {
        return Err(CheckpointError::NeedsBase {
            path: file.path().to_owned(),
            base: lora.base.weights,
        });
    }
    let undrawn = meta.model.init_constant(device);
    let model = file
        .fill(undrawn, !meta.classes.is_empty(), device)?
        .valid();
    let is_int8 = file.is_int8()?;
    let familiarity = familiarity::read(file, &meta, model.width())?;
    Ok(Checkpoint {
        meta,
        model,
        is_int8,
        familiarity,
    })
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
    let has_no_classifier = meta.classes.is_empty() && meta.model.num_classes() == 1;
    if meta.classes.len() != meta.model.num_classes() && !has_no_classifier {
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
    if let Some(share) = meta.val_top1.filter(|share| !(0.0..=1.0).contains(share)) {
        return Err(file.mismatch(format!(
            "a val_top1 of {share:?}, expected a share from 0 to 1"
        )));
    }
    if let Some(calibration) = &meta.calibration {
        calibration
            .validate()
            .map_err(|reason| file.mismatch(reason))?;
    }
    Ok(())
}

/// Replaces what a weights file says of itself, and its statistics of features; all other tensors stay as they are, and
/// of adapters what they change.
///
/// # Errors
///
/// [`CheckpointError::NotOurs`] where another project wrote it, [`CheckpointError::Replaced`] where
/// another file has taken its place since it was read, [`CheckpointError::Corrupt`] or [`CheckpointError::Write`]; the file is then untouched.
pub fn save_meta(
    file: &TensorFile,
    meta: &WeightsMeta,
    familiarity: Option<&Familiarity>,
) -> Result<(), CheckpointError> {
    let path = file.path();
    if file.origin().is_some() {
        return Err(CheckpointError::NotOurs {
            path: path.to_owned(),
        });
    }
    let statistics = familiarity.into_iter().flat_map(familiarity::tensors);
    let statistics: Vec<HostTensor> = statistics.collect();
    let serialized = file.with_meta(meta, &statistics)?;
    file.check_current()?;
    write_file(path, &serialized)
}
