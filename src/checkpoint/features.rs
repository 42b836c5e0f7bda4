//! A file of features: what a model's head sees of pictures, with their names and labels.

use std::collections::HashSet;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::codes::SCALE;
use super::error::CheckpointError;
use super::file::{TensorFile, digits, serialize};
use super::meta::WeightsMeta;
use crate::model::Model;
use crate::model::parameters::declared;

/// Name of the tensor of features, `[N, D]`.
const FEATURES: &str = "features";
/// Name of the tensor of labels, `[N]`, where they are known.
const LABELS: &str = "labels";

/// Features of N pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// What they are of.
    pub about: FeaturesMeta,
    /// Indices into the classes, `[N]`; `None` where nobody knows them.
    pub labels: Option<Vec<usize>>,
    /// `[N, D]`, row by row.
    pub values: Vec<f32>,
}

/// Everything about features that is not a number.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FeaturesMeta {
    /// D, features of a picture.
    pub width: usize,
    /// The name of the weights' architecture.
    pub model: String,
    /// Of the weights: [`backbone_sha256`].
    pub backbone: String,
    /// Names of the pictures, `[N]`.
    pub names: Vec<String>,
    /// Class names, which the labels count; empty where no label is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// The data set, where the pictures are of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Its split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
}

impl Features {
    /// The features of each picture.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks(self.about.width.max(1))
    }

    /// The bytes of a safetensors file: `features` F32 `[N, D]`, `labels` I64 `[N]` where they are known, and the
    /// rest in its metadata.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Write`], which names `path`.
    pub fn to_safetensors(&self, path: &Path) -> Result<Vec<u8>, CheckpointError> {
        let n = self.about.names.len();
        let values: Vec<u8> = self.values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let labels = self.labels.as_ref().map(|labels| -> Vec<u8> {
            let wide = labels.iter().map(|&label| label as i64);
            wide.flat_map(i64::to_le_bytes).collect()
        });
        let view = |dtype, shape, bytes| {
            TensorView::new(dtype, shape, bytes).expect("the shape counts the values")
        };
        let shape = vec![n, self.about.width];
        let mut tensors = vec![(FEATURES.to_owned(), view(Dtype::F32, shape, &values))];
        if let Some(labels) = &labels {
            tensors.push((LABELS.to_owned(), view(Dtype::I64, vec![n], labels)));
        }
        serialize(path, tensors, &self.about)
    }

    /// Reads a file of [`to_safetensors`](Self::to_safetensors).
    ///
    /// # Errors
    ///
    /// What [`TensorFile`] says of a broken file; [`CheckpointError::Corrupt`] where it is no file of features, or
    /// where names, labels and features are not of the same pictures.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let file = TensorFile::open(path)?;
        let about: FeaturesMeta = file.meta()?;
        let n = about.names.len();
        let wrong = |reason: String| Err(file.corrupt(reason));
        let values = file.values_of(FEATURES, &[n, about.width])?;
        if about.width == 0 || n == 0 {
            return wrong(format!("features of {n} pictures, {} of each", about.width));
        }
        let tensors = file.tensors()?;
        let labels = match tensors.tensor(LABELS) {
            Err(_) => None,
            Ok(view) if view.dtype() == Dtype::I64 && view.shape() == [n] => {
                let (bytes, _) = view.data().as_chunks::<8>();
                let labels = bytes
                    .iter()
                    .map(|b| usize::try_from(i64::from_le_bytes(*b)));
                let labels: Result<Vec<usize>, _> = labels.collect();
                match labels {
                    Ok(labels) if labels.iter().all(|&l| l < about.classes.len()) => Some(labels),
                    _ => {
                        let classes = about.classes.len();
                        return wrong(format!("a label is no index into its {classes} classes"));
                    }
                }
            }
            Ok(view) => {
                let found = format!("{:?} {:?}", view.dtype(), view.shape());
                return wrong(format!("tensor labels is {found}, expected I64 [{n}]"));
            }
        };
        Ok(Self {
            about,
            labels,
            values,
        })
    }
}

/// SHA-256 of what features depend on: how pictures are prepared, and every tensor of the model but its heads. Weights
/// that differ in a head, a temperature or a class name have the same.
///
/// # Errors
///
/// [`CheckpointError::Corrupt`].
pub fn backbone_sha256(
    file: &TensorFile,
    meta: &WeightsMeta,
    model: &Model,
) -> Result<String, CheckpointError> {
    let declared = declared(model);
    let backbone = declared.iter().filter(|tensor| !tensor.role.is_head());
    let backbone: HashSet<&str> = backbone.map(|tensor| tensor.path.as_str()).collect();
    let tensors = file.tensors()?;
    let mut names: Vec<&str> = tensors.names();
    names.retain(|name| backbone.contains(name.strip_suffix(SCALE).unwrap_or(name)));
    names.sort_unstable();
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(&meta.preprocess).expect("preprocessing is plain data"));
    for name in names {
        let view = tensors.tensor(name).map_err(|e| file.corrupt(e))?;
        hash.update(format!("{name} {:?}", view.dtype()));
        hash.update(view.data());
    }
    Ok(digits(&hash.finalize()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;
    use crate::checkpoint::host_tensors;
    use crate::checkpoint::tests::{meta, saved};
    use crate::checkpoint::{load_weights, save_half, save_weights};

    fn features() -> Features {
        Features {
            about: FeaturesMeta {
                width: 3,
                model: "vit".into(),
                backbone: "b".into(),
                names: vec!["a/1.png".into(), "b/2.png".into()],
                classes: vec!["a".into(), "b".into()],
                data: Some("data".into()),
                split: None,
            },
            labels: Some(vec![1, 0]),
            values: vec![0.5, -1.0, 2.0, 0.0, 1.5, -0.25],
        }
    }

    fn reopened(features: &Features) -> Result<Features, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.safetensors");
        fs::write(&path, features.to_safetensors(&path).unwrap()).unwrap();
        let read = Features::open(&path).map_err(|e| e.to_string());
        read.map_err(|e| e.replace(&path.display().to_string(), "FILE"))
    }

    #[test]
    fn features_read_back_with_and_without_labels() {
        assert_eq!(reopened(&features()), Ok(features()));
        let unlabelled = Features {
            labels: None,
            ..features()
        };
        assert_eq!(reopened(&unlabelled), Ok(unlabelled.clone()));
        assert_eq!(features().rows().nth(1), Some(&[0.0, 1.5, -0.25][..]));
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let mut bad = features();
        bad.labels = Some(vec![1, 2]);
        let said = reopened(&bad).unwrap_err();
        assert!(
            said.contains("a label is no index into its 2 classes"),
            "{said}"
        );
        let mut bad = features();
        bad.values[4] = f32::NAN;
        assert!(reopened(&bad).unwrap_err().contains("not numbers"));
        let (_folder, weights, _) = saved();
        let said = Features::open(&weights).unwrap_err().to_string();
        assert!(said.contains("(metadata: "), "{said}");
    }

    #[test]
    fn the_backbone_is_the_same_under_another_head_and_calibration_only() {
        let (folder, path, model) = saved();
        let of = |path: &Path| {
            let file = TensorFile::open(path).unwrap();
            let read = load_weights(path, &burn::tensor::Device::flex()).unwrap();
            backbone_sha256(&file, &read.meta, &read.model).unwrap()
        };
        let first = of(&path);
        let other = folder.path().join("other.safetensors");
        let tensors = host_tensors(&model);
        let head = tensors
            .iter()
            .find(|t| t.0.ends_with(".head.weight"))
            .unwrap();
        let k = meta().classes.len();
        let warmer = WeightsMeta {
            temperature: 2.0,
            ..meta()
        };
        let device = burn::tensor::Device::flex();
        let changed = load_weights(&path, &device).unwrap().model;
        let changed = changed.with_head(&vec![0.25; head.2.len()], &vec![1.0; k], &device);
        save_weights(&other, &changed, &warmer).unwrap();
        assert_eq!(of(&other), first);
        save_half(&other, &model, &meta()).unwrap();
        assert_ne!(of(&other), first);
        let mut larger = meta();
        larger.preprocess.mean = [0.75; 3];
        save_weights(&other, &model, &larger).unwrap();
        assert_ne!(of(&other), first);
    }
}
