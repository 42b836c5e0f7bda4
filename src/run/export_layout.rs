//! Weights exported as another project saves its own, and checked against the original.

use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};

use super::dir::open_weights;
use super::error::RunError;
use super::export::{PICTURES, squares};
use crate::checkpoint::{self, Checkpoint, Layout, begin_to_load_backbone, open_foreign};
use crate::device::Selected;
use crate::model::Pass;
use crate::ops::Precision;
use crate::whole_file::UnfinishedFolder;

/// Largest difference of a logit that rounding explains, over the largest logit.
const TOLERANCE: f64 = 1e-4;

/// A folder as another project writes it.
#[derive(Debug, Clone, PartialEq)]
pub struct LayoutExported {
    /// The weights that were written.
    pub from: PathBuf,
    /// Bytes of the tensors.
    pub bytes: u64,
    /// Largest difference of a logit, over the largest logit, once the folder was read back.
    pub difference: f64,
    /// What is not the same there, one sentence each.
    pub notes: Vec<String>,
}

/// Writes weights into a new folder `out` as `layout` has them, reads them back and compares both on
/// the pictures of [`export`](super::export()). `weights` as there.
///
/// # Errors
///
/// [`RunError`]: the project has no such model, or the copy answers otherwise; `out` does not exist
/// until both are known to agree.
pub fn export_layout(
    weights: &Path,
    out: &Path,
    layout: Layout,
    device: &Selected,
) -> Result<LayoutExported, RunError> {
    if out.exists() {
        return Err(RunError::Exists {
            path: out.to_owned(),
        });
    }
    let write = |source| RunError::Write {
        path: out.to_owned(),
        source,
    };
    let from = open_weights(weights)?;
    let (original, check) = begin_to_load_backbone(&from, &device.device)?;
    check.wait()?;
    // Removed when it is dropped, whatever goes wrong.
    let part = UnfinishedFolder::beside(out).map_err(write)?;
    let notes = checkpoint::write_layout(&original, layout, part.path())?;
    let copy = open_foreign(part.path())?;
    let bytes = copy.size();
    let (copy, check) = begin_to_load_backbone(&copy, &device.device)?;
    check.wait()?;
    let [before, after] = [&original, &copy].map(|weights| answers(weights, device));
    if before.iter().any(|value| !value.is_finite()) {
        return Err(RunError::NotFinite {
            path: from.path().to_owned(),
        });
    }
    let largest = before
        .iter()
        .fold(0f32, |most, value| most.max(value.abs()));
    let off = before.iter().zip(&after).map(|(a, b)| (a - b).abs());
    let difference = f64::from(off.fold(0f32, |most, off| if off <= most { most } else { off }));
    let difference = difference / f64::from(largest.max(f32::MIN_POSITIVE));
    if difference.is_nan() || difference > TOLERANCE {
        return Err(RunError::Differs {
            path: out.to_owned(),
            difference,
            tolerance: TOLERANCE,
        });
    }
    part.create(out).map_err(write)?;
    Ok(LayoutExported {
        from: from.path().to_owned(),
        bytes,
        difference,
        notes,
    })
}

/// Logits over the temperature, or features where there is no classifier, of the pictures of the
/// comparison.
fn answers(weights: &Checkpoint, device: &Selected) -> Vec<f32> {
    let Checkpoint { meta, model, .. } = weights;
    let size = meta.preprocess.image_size;
    let step = ((1 << 22) / size.pow(2)).clamp(1, PICTURES);
    let mut all = Vec::new();
    for first in (0..PICTURES).step_by(step) {
        let pictures = first..(first + step).min(PICTURES);
        let shape = [pictures.len(), 3, size, size];
        let images = TensorData::new(squares(&meta.preprocess, pictures), shape);
        let images = Tensor::from_data(images, &device.device);
        let mut pass = Pass::inference(Precision::F32);
        let answer = match meta.classes.is_empty() {
            true => model.features(images, &mut pass),
            false => model
                .forward(images, &mut pass)
                .div_scalar(meta.temperature),
        };
        let answer = answer.try_into_vec_as::<f32>();
        all.extend(answer.expect("logits read back as f32"));
    }
    all
}
