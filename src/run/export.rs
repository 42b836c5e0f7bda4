//! Weights exported to one file of ours, optionally in f16 or in eight bits, and checked against the original.

use std::ops::Range;
use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};

use super::dir::open_weights;
use super::error::RunError;
use crate::checkpoint::{self, Checkpoint, CheckpointError, TensorFile, WeightsMeta};
use crate::data::Preprocess;
use crate::device::Selected;
use crate::metrics::softmax;
use crate::ops::{InferencePrecision, Precision, Prepared, Purpose};
use crate::whole_file::Unfinished;

/// Largest difference of a probability between the weights and their copy.
const TOLERANCE: f64 = 0.01;

/// The same for a copy in eight bits.
const INT8_TOLERANCE: f64 = 0.2;

/// Number of pictures on which both must agree.
pub(crate) const PICTURES: usize = 64;

/// What an export writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// A weights file of ours, `.safetensors`.
    Safetensors,
    /// A model that other programs run, `.onnx`.
    Onnx,
}

impl ExportFormat {
    /// The one that a file's name ends in.
    ///
    /// # Errors
    ///
    /// [`RunError::ExportName`].
    pub fn of(out: &Path) -> Result<Self, RunError> {
        match out.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => Ok(Self::Safetensors),
            Some("onnx") => Ok(Self::Onnx),
            _ => Err(RunError::ExportName {
                path: out.to_owned(),
            }),
        }
    }

    pub(super) fn check(self, out: &Path) -> Result<(), RunError> {
        match Self::of(out)? == self {
            true => Ok(()),
            false => Err(RunError::ExportName {
                path: out.to_owned(),
            }),
        }
    }
}

/// How an export stores numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// All in f32.
    F32,
    /// Matrices in f16.
    F16,
    /// Matrices in eight bits.
    Int8,
}

/// An exported file.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// The weights that were copied.
    pub from: PathBuf,
    /// Sizes in bytes of the original and of the copy.
    pub bytes: (u64, u64),
    /// Largest difference of a logit.
    pub logit: f64,
    /// Largest difference of a probability, at most 0.01, or 0.2 in eight bits.
    pub probability: f64,
}

/// Writes weights to `out`, then reads them back and compares the predictions on
/// 64 pictures of coloured squares. Statistics of features are copied as they are. `weights` is a run directory, a weights file, or the
/// name of weights that are built in.
///
/// # Errors
///
/// [`RunError`]; `out` does not exist until both are known to agree.
pub fn export(
    weights: &Path,
    out: &Path,
    storage: Storage,
    device: &Selected,
) -> Result<Exported, RunError> {
    ExportFormat::Safetensors.check(out)?;
    if out.exists() {
        return Err(RunError::Exists {
            path: out.to_owned(),
        });
    }
    let from = open_weights(weights)?;
    let original = checkpoint::load(&from, &device.device)?;
    let save = match storage {
        Storage::F32 => checkpoint::save_weights,
        Storage::F16 => checkpoint::save_half,
        Storage::Int8 => checkpoint::save_int8,
    };
    let write = |source| RunError::Write {
        path: out.to_owned(),
        source,
    };
    // Removed when it is dropped, whatever goes wrong.
    let part = Unfinished::beside(out).map_err(write)?;
    let saved = save(part.path(), &original.model, &bare(&original.meta)).and_then(|()| {
        let Some(familiarity) = &original.familiarity else {
            return Ok(());
        };
        let part = TensorFile::open(part.path())?;
        checkpoint::save_meta(&part, &original.meta, Some(familiarity))
    });
    saved.map_err(|error| match error {
        CheckpointError::Write { source, .. } => write(source),
        other => other.into(),
    })?;
    let copy = checkpoint::load_weights(part.path(), &device.device)?;
    let [before, after] = [original, copy].map(|weights| {
        let choice = InferencePrecision::Auto;
        let precision = choice.on(&device.device, weights.is_int8, Purpose::Figures);
        answers(&weights, precision.unwrap_or_default(), device)
    });
    check_finite(&before, &from)?;
    let logit = difference(before.logits.iter().zip(&after.logits));
    let probability = difference(before.probabilities.iter().zip(&after.probabilities));
    // Not a number is no agreement either.
    let tolerance = match storage {
        Storage::Int8 => INT8_TOLERANCE,
        Storage::F32 | Storage::F16 => TOLERANCE,
    };
    if probability.is_nan() || probability > tolerance {
        return Err(RunError::Differs {
            path: out.to_owned(),
            difference: probability,
            tolerance,
        });
    }
    part.create(out).map_err(write)?;
    Ok(Exported {
        bytes: (from.size(), TensorFile::open(out)?.size()),
        from: from.path().to_owned(),
        logit,
        probability,
    })
}

/// What weights say of themselves in a file without statistics of features.
fn bare(meta: &WeightsMeta) -> WeightsMeta {
    let mut meta = meta.clone();
    if let Some(calibration) = &mut meta.calibration {
        calibration.familiarity = None;
    }
    meta
}

/// That weights have given numbers.
pub(super) fn check_finite(answers: &Answers, from: &TensorFile) -> Result<(), RunError> {
    match answers.logits.iter().all(|logit| logit.is_finite()) {
        true => Ok(()),
        false => Err(RunError::NotFinite {
            path: from.path().to_owned(),
        }),
    }
}

pub(super) struct Answers {
    logits: Vec<f64>,
    probabilities: Vec<f64>,
}

/// What weights answer to the pictures of the comparison.
pub(super) fn answers(weights: &Checkpoint, precision: Precision, device: &Selected) -> Answers {
    let Checkpoint { meta, model, .. } = weights;
    let size = meta.preprocess.image_size;
    let prepared = Prepared::default();
    // As many at once as stay small in memory, whatever their size.
    let step = ((1 << 24) / size.pow(2)).clamp(1, PICTURES);
    let mut logits = Vec::new();
    for first in (0..PICTURES).step_by(step) {
        let pictures = first..(first + step).min(PICTURES);
        let shape = [pictures.len(), 3, size, size];
        let images = TensorData::new(squares(&meta.preprocess, pictures), shape);
        let answers = model
            .infer(
                Tensor::from_data(images, &device.device),
                precision,
                &prepared,
            )
            .div_scalar(meta.temperature)
            .try_into_vec_as::<f32>();
        logits.extend(answers.expect("logits read back as f32"));
    }
    let rows = logits.chunks(meta.classes.len());
    Answers {
        probabilities: rows.flat_map(softmax).collect(),
        logits: logits.into_iter().map(f64::from).collect(),
    }
}

/// The largest difference; NaN where one is.
fn difference<'a>(pairs: impl Iterator<Item = (&'a f64, &'a f64)>) -> f64 {
    pairs.fold(0.0, |largest: f64, (a, b)| {
        let difference = (a - b).abs();
        match largest.is_nan() || difference.is_nan() {
            true => f64::NAN,
            false => largest.max(difference),
        }
    })
}

/// Pictures of random colours in squares of 1, 2, 4 and 8 pixels, normalised: details and areas.
pub(super) fn squares(preprocess: &Preprocess, pictures: Range<usize>) -> Vec<f32> {
    let size = preprocess.image_size;
    let mut values = Vec::with_capacity(pictures.len() * 3 * size * size);
    for picture in pictures {
        let side = 1 << (picture % 4);
        for channel in 0..3 {
            for y in 0..size {
                for x in 0..size {
                    let square = ((picture * 3 + channel) * size + y / side) * size + x / side;
                    // Knuth's multiplicative hash; its upper bits are the random ones.
                    let value = (square as u32).wrapping_mul(2_654_435_761) >> 24;
                    let value = value as f32 / 255.0;
                    values.push((value - preprocess.mean[channel]) / preprocess.std[channel]);
                }
            }
        }
    }
    values
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::checkpoint::SHIPPED;
    use crate::device::{DeviceChoice, select};

    /// The bounds that the guides state for `classify --precision`.
    #[test]
    fn shipped_weights_answer_nearly_the_same_in_every_precision() {
        let cpu = select("cpu".parse::<DeviceChoice>().unwrap()).unwrap();
        for shipped in SHIPPED {
            let weights = checkpoint::load(&shipped.file(), &cpu.device).unwrap();
            let wide = answers(&weights, Precision::F32, &cpu);
            for (precision, most) in [(Precision::Bf16, 0.03), (Precision::Int8, 0.1)] {
                let narrow = answers(&weights, precision, &cpu);
                let off = difference(wide.probabilities.iter().zip(&narrow.probabilities));
                assert!(
                    off > 0.0 && off <= most,
                    "{} {precision:?}: {off}",
                    shipped.name
                );
            }
        }
    }

    #[test]
    fn the_largest_difference_counts_and_nan_does_not_hide() {
        let of = |a: &[f64], b: &[f64]| difference(a.iter().zip(b));
        assert_eq!(of(&[1.0, 2.0, 3.0], &[1.0, 2.5, 2.75]), 0.5);
        assert!(of(&[f64::NAN, 2.0], &[1.0, 3.0]).is_nan());
        assert!(of(&[1.0, 2.0], &[1.0, f64::NAN]).is_nan());
    }
}
