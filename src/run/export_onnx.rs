//! Weights exported as an ONNX model, for other programs to run.

use std::path::{Path, PathBuf};

use super::dir::open_weights;
use super::error::RunError;
use super::export::{ExportFormat, answers, check_finite};
use super::info::COMMIT;
use crate::checkpoint::{self, OnnxOptions, OnnxSource, OnnxWritten, WITHOUT_FAMILIARITY};
use crate::device::Selected;
use crate::ops::Precision;

/// An exported ONNX model.
#[derive(Debug, Clone, PartialEq)]
pub struct OnnxExported {
    /// The weights that it is of.
    pub from: PathBuf,
    /// Their size in bytes.
    pub bytes_before: u64,
    /// Side of the pictures it takes, in pixels.
    pub image_size: usize,
    /// Logits that it gives.
    pub classes: usize,
    /// The file that its weights are in, where the model alone would be too large.
    pub data: Option<PathBuf>,
    /// What of the weights is not there, one sentence each.
    pub notes: Vec<String>,
    /// What was written and read back.
    pub written: OnnxWritten,
}

/// Writes weights as an ONNX model to `out`, as [`save_onnx`](checkpoint::save_onnx) does; `weights` as in
/// [`export`](super::export()).
///
/// # Errors
///
/// [`RunError`]; `out` does not exist then.
pub fn export_onnx(
    weights: &Path,
    out: &Path,
    options: OnnxOptions,
    device: &Selected,
) -> Result<OnnxExported, RunError> {
    ExportFormat::Onnx.check(out)?;
    let data = checkpoint::onnx_data(out);
    // A model that is small needs no second file, but one of that name would be taken for its own.
    for path in [out, &data] {
        if path.exists() {
            return Err(RunError::Exists {
                path: path.to_owned(),
            });
        }
    }
    let from = open_weights(weights)?;
    let original = checkpoint::load(&from, &device.device)?;
    check_finite(&answers(&original, Precision::F32, device), &from)?;
    let sha256 = from.sha256();
    let source = OnnxSource {
        version: env!("CARGO_PKG_VERSION"),
        commit: COMMIT,
        sha256: &sha256,
    };
    let left_out = original.familiarity.as_ref().map(|_| WITHOUT_FAMILIARITY);
    let written = checkpoint::save_onnx(out, &original.model, &original.meta, source, options)?;
    Ok(OnnxExported {
        bytes_before: from.size(),
        from: from.path().to_owned(),
        image_size: original.meta.model.image_size(),
        classes: original.meta.model.num_classes(),
        data: written.data_beside.then_some(data),
        notes: left_out.into_iter().map(str::to_owned).collect(),
        written,
    })
}
