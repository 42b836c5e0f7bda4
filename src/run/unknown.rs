//! Pictures that show none of a model's classes, told from those that it knows.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::answer::inference_precision;
use super::embed::{BATCH, LOOK, PIXELS};
use super::error::RunError;
use crate::checkpoint::TensorFile;
use crate::classify::{Classifier, Input, Next, StreamOptions, Wanted, stream};
use crate::data::{DataError, Dataset, Skipped, picture_files};
use crate::device::Selected;
use crate::metrics::Separation;
use crate::names;
use crate::ops::{InferencePrecision, Purpose};
use crate::stop::Stop;

/// How well weights recognise pictures that show none of their classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnknownReport {
    /// Where these pictures are.
    pub data: String,
    /// The figures.
    #[serde(flatten)]
    pub separation: Separation,
}

impl UnknownReport {
    /// Compares the distances of a split's pictures with those of pictures at `path`, all as multiples of the threshold.
    pub(super) fn new(path: &Path, known: &[f32], unknown: &[f32]) -> Self {
        Self {
            data: names::text(path),
            separation: Separation::of(known, unknown, 1.0),
        }
    }
}

/// Weights that recognise pictures unlike anything they learned.
pub(super) struct Recogniser {
    classifier: Arc<Classifier>,
}

/// What came of pictures: a distance each, as a multiple of the threshold, or why there is none.
pub(super) struct Distances {
    pub found: Vec<f32>,
    pub skipped: Vec<Skipped>,
}

impl Recogniser {
    /// Loads weights, named `weights` by whoever wants them.
    ///
    /// # Errors
    ///
    /// [`RunError::NoFamiliarity`] where they lack the statistics.
    pub(super) fn open(
        file: &TensorFile,
        weights: &Path,
        precision: InferencePrecision,
        device: &Selected,
    ) -> Result<Self, RunError> {
        let classifier = Classifier::of(file, &device.device)?;
        classifier.verify()?;
        if !classifier.recognises_unknown() {
            return Err(RunError::NoFamiliarity {
                path: weights.to_owned(),
            });
        }
        let is_int8 = classifier.is_int8();
        let precision = inference_precision(precision, device, is_int8, Purpose::Figures)?;
        Ok(Self {
            classifier: Arc::new(classifier.with_precision(precision)),
        })
    }

    /// How far pictures with these features `[n, D]` are.
    pub(super) fn distances_of(&self, features: &[f32]) -> Vec<f32> {
        let distances = self.classifier.distances(features);
        distances.expect("weights without statistics were refused")
    }

    /// How far the pictures at `path` are: those of a folder, whatever folders they are in, or all of a data set.
    ///
    /// # Errors
    ///
    /// [`RunError`]: there are none that can be read.
    pub(super) fn distances(
        &self,
        path: &Path,
        strict: bool,
        stop: &Stop,
    ) -> Result<Distances, RunError> {
        let classifier = &self.classifier;
        let (inputs, mut skipped) = inputs(path)?;
        let total = inputs.len();
        let options = StreamOptions {
            batch_size: (PIXELS / classifier.image_size().pow(2)).clamp(1, BATCH),
            wanted: Wanted::Answers { top_k: 1 },
        };
        let mut answers = stream(classifier, inputs.into_iter(), options)?;
        let mut distances = Vec::new();
        loop {
            if stop.is_requested() {
                return Err(DataError::Stopped.into());
            }
            let part = match answers.wait(LOOK)? {
                Next::Answers(part) => part,
                Next::NotYet => continue,
                Next::End => break,
            };
            for answer in part {
                let name = names::text(&answer.filename);
                match answer.outcome {
                    Ok(found) => distances.extend(found.distance),
                    Err(error) if strict => {
                        return Err(DataError::Strict {
                            name,
                            reason: error.reason(),
                            others: 0,
                        }
                        .into());
                    }
                    Err(error) => skipped.push(Skipped {
                        name,
                        reason: error.reason(),
                    }),
                }
            }
        }
        match distances.is_empty() {
            true => Err(RunError::NoneReadable {
                path: path.to_owned(),
                total,
                first: skipped.first().map(Skipped::to_string).unwrap_or_default(),
            }),
            false => Ok(Distances {
                found: distances,
                skipped,
            }),
        }
    }
}

/// The pictures at a path, and what is left out there.
fn inputs(path: &Path) -> Result<(Vec<Input>, Vec<Skipped>), RunError> {
    if path.is_dir() {
        let found = picture_files(path)?;
        if !found.paths.is_empty() {
            let files = found.paths.into_iter().map(Input::File);
            return Ok((files.collect(), found.left_out));
        }
    }
    let dataset = Arc::new(Dataset::open(path)?);
    let samples = dataset.samples().map(|(_, sample)| Input::Sample {
        dataset: Arc::clone(&dataset),
        sample: sample.clone(),
    });
    Ok((samples.collect(), dataset.skipped.clone()))
}
