//! A loaded model and what it answers.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use serde::Serialize;

use super::error::ClassifyError;
use super::neighbours::{Nearest, Neighbours};
use crate::checkpoint::{self, Checkpoint, CheckpointError, HashCheck, TensorFile, WeightsMeta};
use crate::data::{self, Dataset, DecodeLimits, RawPicture, Sample};
use crate::metrics::{self, Calibration, Familiarity, FamiliarityLimit};
use crate::model::Model;
use crate::names;
use crate::ops::{InferencePrecision, Precision, Prepared, Purpose};

/// One class and its probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    /// Its index among the classes.
    pub index: usize,
    /// Class name.
    pub label: String,
    /// Its probability, 0 to 1.
    pub prob: f32,
}

/// What is wanted of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Their most probable classes.
    Answers {
        /// How many.
        top_k: usize,
    },
    /// What the head sees of them. The weights need no head.
    Features,
}

/// What was found of one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its most probable classes, best first; none where only features are wanted.
    pub predictions: Vec<Prediction>,
    /// What the head sees, `[D]`; empty where nobody wants it.
    pub features: Vec<f32>,
    /// The pictures that it is most like, where [some are known](Classifier::with_neighbours).
    pub nearest: Option<Nearest>,
    /// How far its features are from those of the nearest class, as a multiple of the distance within which 95 % of
    /// the validation pictures are; `None` for weights that [cannot say](Classifier::recognises_unknown), and where only
    /// features are wanted.
    pub distance: Option<f32>,
}

impl Found {
    /// Whether the picture is unlike anything that the weights learned; `None` as for `distance`.
    pub fn is_unknown(&self) -> Option<bool> {
        // What is no number is not like anything either.
        self.distance
            .map(|distance| distance.is_nan() || distance > 1.0)
    }
}

/// A loaded model that classifies pictures.
#[derive(Debug)]
pub struct Classifier {
    checkpoint: Checkpoint,
    check: HashCheck,
    prepared: Prepared,
    precision: Precision,
    device: Device,
    neighbours: Option<(Neighbours, usize)>,
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
        Ok(Self::with(checkpoint::begin_to_load(file, device)?, device))
    }

    /// [`of`](Self::of) for whoever wants features: weights without a classifier will do, and then no
    /// picture has predictions.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`].
    pub fn of_backbone(file: &TensorFile, device: &Device) -> Result<Self, CheckpointError> {
        let loaded = checkpoint::begin_to_load_backbone(file, device)?;
        Ok(Self::with(loaded, device))
    }

    fn with((checkpoint, check): (Checkpoint, HashCheck), device: &Device) -> Self {
        let choice = InferencePrecision::Auto;
        let precision = choice.on(device, checkpoint.is_int8, Purpose::Figures);
        Self {
            precision: precision.unwrap_or_default(),
            checkpoint,
            check,
            prepared: Prepared::default(),
            neighbours: None,
            device: device.clone(),
        }
    }

    /// The same with products of another precision; at first it is f32, or eight bits for weights that
    /// were saved so where the device is the processor (a GPU computes with them in f32).
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The same, which also names the `count` pictures of `neighbours` that are most like each picture.
    #[must_use]
    pub fn with_neighbours(self, neighbours: Neighbours, count: usize) -> Self {
        Self {
            neighbours: Some((neighbours, count)),
            ..self
        }
    }

    /// Whether the weights are saved in eight bits.
    pub fn is_int8(&self) -> bool {
        self.checkpoint.is_int8
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

    /// Whether pictures are recognised that are unlike anything the weights learned: `vitrine calibrate` has kept
    /// statistics of features with them.
    pub fn recognises_unknown(&self) -> bool {
        self.familiarity().is_some()
    }

    fn familiarity(&self) -> Option<(&Familiarity, FamiliarityLimit)> {
        let limit = self.calibration()?.familiarity?;
        Some((self.checkpoint.familiarity.as_ref()?, limit))
    }

    /// How far rows of features are from those of the nearest class, as multiples of the distance within which 95 % of
    /// the validation pictures are (Lee et al. 2018); `None` for weights that
    /// [cannot say](Self::recognises_unknown).
    ///
    /// # Shapes
    ///
    /// `features` `[n, D]` → `[n]`.
    pub fn distances(&self, features: &[f32]) -> Option<Vec<f32>> {
        let (familiarity, limit) = self.familiarity()?;
        let distances = familiarity.distances(features).into_iter();
        Some(distances.map(|distance| limit.ratio(distance)).collect())
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
        data::one_picture(|| {
            let bytes = data::read_file(path).map_err(|source| ClassifyError::Read {
                path: path.to_owned(),
                source,
            })?;
            self.prepare_bytes(path, &bytes)
        })
    }

    /// [`prepare`](Self::prepare) for bytes in memory; `path` is for error messages.
    ///
    /// # Errors
    ///
    /// [`ClassifyError::Decode`].
    pub fn prepare_bytes(&self, path: &Path, bytes: &[u8]) -> Result<Vec<f32>, ClassifyError> {
        data::one_picture(|| self.prepare_one(path, bytes))
    }

    /// [`prepare`](Self::prepare) for a picture of a data set.
    ///
    /// # Errors
    ///
    /// [`ClassifyError`], which has the picture's name in its data set.
    pub fn prepare_sample(
        &self,
        dataset: &Dataset,
        sample: &Sample,
    ) -> Result<Vec<f32>, ClassifyError> {
        let path = names::path(&sample.name);
        data::one_picture(|| match dataset.read(sample) {
            Ok(raw) => self.prepare_raw(&path, &raw),
            Err(error) => Err(ClassifyError::Decode {
                path: path.clone(),
                reason: error.to_string(),
            }),
        })
    }

    fn prepare_one(&self, path: &Path, bytes: &[u8]) -> Result<Vec<f32>, ClassifyError> {
        self.prepare_raw(path, &RawPicture::Encoded(bytes.into()))
    }

    fn prepare_raw(&self, path: &Path, raw: &RawPicture<'_>) -> Result<Vec<f32>, ClassifyError> {
        let preprocess = &self.checkpoint.meta.preprocess;
        let resized = preprocess
            .decode(raw, &DecodeLimits::default())
            .map_err(|e| ClassifyError::Decode {
                path: path.to_owned(),
                reason: e.to_string(),
            })?;
        let mut values = vec![0.0; 3 * preprocess.image_size * preprocess.image_size];
        preprocess.normalise_into(resized.as_raw(), &mut values);
        Ok(values)
    }

    /// The weights' metadata.
    pub fn meta(&self) -> &WeightsMeta {
        &self.checkpoint.meta
    }

    /// D, the number of a picture's features.
    pub fn width(&self) -> usize {
        self.checkpoint.model.width()
    }

    /// The model.
    pub(crate) fn model(&self) -> &Model {
        &self.checkpoint.model
    }

    /// Side of the model's input, in pixels.
    pub fn image_size(&self) -> usize {
        self.checkpoint.meta.preprocess.image_size
    }

    /// For each prepared picture, every class with its probability, most probable first; `None` for a picture to
    /// which the model has no answer, because a logit is infinite or not a number.
    ///
    /// # Errors
    ///
    /// As [`verify`](Self::verify): changed weights give no answer.
    pub fn classify(
        &self,
        pictures: &[Vec<f32>],
    ) -> Result<Vec<Option<Vec<Prediction>>>, CheckpointError> {
        let top_k = self.classes().len();
        let answers = self.answers(pictures.concat(), Wanted::Answers { top_k })?;
        Ok(answers
            .into_iter()
            .map(|found| Some(found?.predictions))
            .collect())
    }

    /// What is `wanted` of pictures that lie one after the other in `values`; `None` where a logit or a feature is
    /// infinite or not a number.
    pub(super) fn answers(
        &self,
        values: Vec<f32>,
        wanted: Wanted,
    ) -> Result<Vec<Option<Found>>, CheckpointError> {
        if values.is_empty() {
            self.verify()?;
            return Ok(Vec::new());
        }
        let size = self.checkpoint.meta.preprocess.image_size;
        let shape = [values.len() / (3 * size * size), 3, size, size];
        let images = Tensor::from_data(TensorData::new(values, shape), &self.device);
        let model = &self.checkpoint.model;
        let host = |tensor: Tensor<2>| {
            let values = tensor.try_into_vec_as::<f32>();
            values.expect("floats read back as f32")
        };
        let Wanted::Answers { top_k } = wanted else {
            let features = model.infer_features(images, self.precision, &self.prepared);
            let features = host(features);
            self.verify()?;
            let rows = features.chunks(self.width());
            return Ok(rows
                .map(|row| {
                    row.iter().all(|x| x.is_finite()).then(|| Found {
                        predictions: Vec::new(),
                        features: row.to_vec(),
                        nearest: None,
                        distance: None,
                    })
                })
                .collect());
        };
        let (logits, features) = match self.neighbours.is_some() || self.recognises_unknown() {
            false => (model.infer(images, self.precision, &self.prepared), None),
            true => {
                let (logits, features) =
                    model.infer_with_features(images, self.precision, &self.prepared);
                (logits, Some(host(features)))
            }
        };
        let logits = host(logits.div_scalar(self.checkpoint.meta.temperature));
        self.verify()?;
        let classes = self.classes();
        let outputs = self.checkpoint.meta.model.num_classes();
        // What a head of zeros says is no answer.
        let top_k = top_k.min(classes.len());
        let best = |row: &[f32]| {
            if row.iter().any(|logit| !logit.is_finite()) {
                return None;
            }
            let probabilities = metrics::softmax(row).into_iter().map(|p| p as f32);
            let mut ranked: Vec<(usize, f32)> = probabilities.enumerate().collect();
            ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
            ranked.truncate(top_k);
            let named = ranked.into_iter().map(|(index, prob)| Prediction {
                index,
                label: classes[index].clone(),
                prob,
            });
            Some(Found {
                predictions: named.collect(),
                features: Vec::new(),
                nearest: None,
                distance: None,
            })
        };
        let mut found: Vec<Option<Found>> = logits.chunks(outputs).map(best).collect();
        if let (Some((neighbours, count)), Some(features)) = (&self.neighbours, &features) {
            for (found, row) in found.iter_mut().zip(features.chunks(self.width())) {
                if let Some(found) = found {
                    found.nearest = Some(neighbours.of(row, *count));
                }
            }
        }
        let distances = features.and_then(|features| self.distances(&features));
        for (found, distance) in found.iter_mut().zip(distances.into_iter().flatten()) {
            if let Some(found) = found {
                found.distance = Some(distance);
            }
        }
        Ok(found)
    }
}
