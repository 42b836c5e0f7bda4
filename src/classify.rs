//! Weights and a picture in, labels and probabilities out.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use serde::Serialize;
use thiserror::Error;

use crate::checkpoint::{self, Checkpoint, CheckpointError, HashCheck, TensorFile};
use crate::data::{DecodeLimits, RawPicture, decode};
use crate::metrics::{self, Calibration};
use crate::names::{shown, visible};
use crate::ops::{Precision, Prepared};

/// Why a picture cannot be classified.
#[derive(Debug, Error)]
pub enum ClassifyError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}", path = shown(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The bytes are not a picture.
    #[error("{path}: {reason}", path = shown(path), reason = visible(reason))]
    Decode {
        /// The file.
        path: PathBuf,
        /// The decoder's reason.
        reason: String,
    },
}

/// One class and its probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    /// Class name.
    pub label: String,
    /// Its probability, 0 to 1.
    pub score: f32,
    /// Its index among the classes.
    #[serde(skip)]
    pub index: usize,
}

/// A loaded model that classifies pictures.
#[derive(Debug)]
pub struct Classifier {
    checkpoint: Checkpoint,
    check: HashCheck,
    prepared: Prepared,
    device: Device,
}

impl Classifier {
    /// Loads weights onto `device`; their hash is computed while pictures are prepared and
    /// classified.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`].
    pub fn load(weights: &Path, device: &Device) -> Result<Self, CheckpointError> {
        Self::of(&TensorFile::open(weights)?, device)
    }

    /// [`load`](Self::load) from a file that is open already.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`].
    pub fn of(file: &TensorFile, device: &Device) -> Result<Self, CheckpointError> {
        let (checkpoint, check) = checkpoint::begin_to_load(file, device)?;
        Ok(Self {
            checkpoint,
            check,
            prepared: Prepared::default(),
            device: device.clone(),
        })
    }

    /// Waits until the weights' hash is computed.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Tampered`].
    pub fn verify(&self) -> Result<(), CheckpointError> {
        self.check.wait()
    }

    /// Class names, in the order of the logits.
    pub fn classes(&self) -> &[String] {
        &self.checkpoint.meta.classes
    }

    /// The calibration saved with the weights; `None` where there is none.
    pub fn calibration(&self) -> Option<&Calibration> {
        self.checkpoint.meta.calibration.as_ref()
    }

    /// Reads, decodes and preprocesses one file as in training.
    ///
    /// # Shapes
    ///
    /// Returns `[3, S, S]`, normalised, row-major.
    ///
    /// # Errors
    ///
    /// [`ClassifyError`], which names the file.
    pub fn prepare(&self, path: &Path) -> Result<Vec<f32>, ClassifyError> {
        let bytes = std::fs::read(path).map_err(|source| ClassifyError::Read {
            path: path.to_owned(),
            source,
        })?;
        self.prepare_bytes(path, &bytes)
    }

    /// [`prepare`](Self::prepare) for bytes in memory; `path` is for error messages.
    ///
    /// # Errors
    ///
    /// [`ClassifyError::Decode`].
    pub fn prepare_bytes(&self, path: &Path, bytes: &[u8]) -> Result<Vec<f32>, ClassifyError> {
        let raw = RawPicture::Encoded(bytes.into());
        let picture =
            decode(&raw, &DecodeLimits::default()).map_err(|e| ClassifyError::Decode {
                path: path.to_owned(),
                reason: e.to_string(),
            })?;
        let preprocess = &self.checkpoint.meta.preprocess;
        let resized = preprocess.resize(&picture);
        let mut values = vec![0.0; 3 * preprocess.image_size * preprocess.image_size];
        preprocess.normalise_into(resized.as_raw(), &mut values);
        Ok(values)
    }

    /// For each prepared picture, every class with its probability, most probable first.
    ///
    /// # Errors
    ///
    /// As [`verify`](Self::verify): changed weights give no answer.
    pub fn classify(&self, pictures: &[Vec<f32>]) -> Result<Vec<Vec<Prediction>>, CheckpointError> {
        if pictures.is_empty() {
            self.verify()?;
            return Ok(Vec::new());
        }
        let size = self.checkpoint.meta.preprocess.image_size;
        let shape = [pictures.len(), 3, size, size];
        let images = Tensor::from_data(TensorData::new(pictures.concat(), shape), &self.device);
        let logits = self
            .checkpoint
            .model
            .infer(images, Precision::F32, &self.prepared)
            .div_scalar(self.checkpoint.meta.temperature)
            .try_into_vec_as::<f32>()
            .expect("logits read back as f32");
        self.verify()?;
        let classes = &self.checkpoint.meta.classes;
        let predictions = logits
            .chunks(classes.len())
            .map(|row| {
                let probabilities = metrics::softmax(row);
                let mut predictions: Vec<Prediction> = probabilities
                    .into_iter()
                    .enumerate()
                    .map(|(index, score)| Prediction {
                        label: classes[index].clone(),
                        score: score as f32,
                        index,
                    })
                    .collect();
                predictions.sort_by(|a, b| b.score.total_cmp(&a.score));
                predictions
            })
            .collect();
        Ok(predictions)
    }
}
