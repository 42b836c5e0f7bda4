//! Features of pictures: what the head of saved weights sees of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::{choose, inference_precision, open, open_data};
use super::data::OpenData;
use super::error::RunError;
use crate::checkpoint::{Features, FeaturesMeta, backbone_sha256};
use crate::classify::{Classifier, ClassifyError, Input, Next, StreamOptions, Wanted, stream};
use crate::data::{DataError, Skipped, SplitName};
use crate::device::Selected;
use crate::names;
use crate::ops::{InferencePrecision, Purpose};
use crate::report::features::{write_csv, write_npy};
use crate::stop::Stop;
use crate::whole_file::Unfinished;

/// Most pictures at once.
pub(super) const BATCH: usize = 64;

/// Most pixels at once, 64 pictures of 512².
pub(super) const PIXELS: usize = 1 << 24;

/// How often a wait looks whether it should end.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// The pictures that features are wanted of.
pub enum EmbedSource {
    /// Files and pipes.
    Pictures(Box<dyn Iterator<Item = Input> + Send>),
    /// A split of a data set.
    Data {
        /// The data set; default: that of the run, or the embedded sample.
        path: Option<PathBuf>,
        /// Its split. Of a run's own data it is as the run has it.
        split: SplitName,
    },
}

/// How features are made.
#[derive(Debug, Clone, Default)]
pub struct EmbedOptions {
    /// Precision of matrix products.
    pub precision: InferencePrecision,
    /// An unreadable picture of a data set is an error and not skipped.
    pub strict: bool,
    /// Requested by whoever wants it to end before it is done, which is an error that says so.
    pub stop: Stop,
}

/// What happens meanwhile.
#[derive(Debug)]
pub enum EmbedEvent<'a> {
    /// So many pictures are to come in all, where that is known.
    Total(usize),
    /// So many are decoded.
    Decoded(usize),
    /// One gives no features.
    Failed(&'a ClassifyError),
}

/// Features, and what gave none.
#[derive(Debug)]
pub struct Embedded {
    /// The features of the pictures that could be read, in the order of the inputs.
    pub features: Features,
    /// Pictures that gave none, and files that the data set's layout leaves out.
    pub skipped: Vec<Skipped>,
    /// How many of `skipped` are pictures that were asked for.
    pub failed: usize,
    /// Pictures per second.
    pub images_per_s: f64,
}

/// Computes the features of pictures with `weights`: a run directory, a weights file, or the name of weights that are
/// built in. Pictures are read, decoded and forgotten batch by batch; what grows with their number is the features
/// alone.
///
/// # Errors
///
/// [`RunError`]: there are no whole weights, no picture can be read, the data has no such split, or the device cannot
/// compute in the precision.
pub fn embed(
    weights: &Path,
    source: EmbedSource,
    options: &EmbedOptions,
    device: &Selected,
    observe: &mut dyn FnMut(EmbedEvent<'_>),
) -> Result<Embedded, RunError> {
    let began = Instant::now();
    let (file, run) = open(weights)?;
    let classifier = Classifier::of_backbone(&file, &device.device)?;
    let is_int8 = classifier.is_int8();
    let precision = inference_precision(options.precision, device, is_int8, Purpose::Figures)?;
    let classifier = Arc::new(classifier.with_precision(precision));
    let meta = classifier.meta();
    let mut about = FeaturesMeta {
        width: classifier.width(),
        model: meta.name.clone(),
        backbone: backbone_sha256(&file, meta, classifier.model())?,
        ..FeaturesMeta::default()
    };
    let mut skipped = Vec::new();
    let (inputs, labels) = match source {
        EmbedSource::Pictures(inputs) => (inputs, None),
        EmbedSource::Data { path, split } => {
            let run = run.as_ref();
            let mut data = OpenData::default();
            let dataset = open_data(path.as_deref(), run, options.strict, &mut data)?;
            let chosen = choose(&dataset, Some(split), run, path.is_some())?;
            skipped.extend(dataset.skipped.iter().cloned());
            skipped.extend(chosen.left_out);
            (about.classes, about.split) = (chosen.classes, Some(split.to_string()));
            about.data = Some(dataset.origin.clone());
            observe(EmbedEvent::Total(chosen.samples.len()));
            let labels: Vec<usize> = chosen.samples.iter().map(|sample| sample.label).collect();
            let inputs = chosen.samples.into_iter().map(move |sample| Input::Sample {
                dataset: Arc::clone(&dataset),
                sample,
            });
            let inputs: Box<dyn Iterator<Item = Input> + Send> = Box::new(inputs);
            (inputs, Some(labels))
        }
    };
    let stream_options = StreamOptions {
        batch_size: (PIXELS / classifier.image_size().pow(2)).clamp(1, BATCH),
        wanted: Wanted::Features,
    };
    let mut answers = stream(&classifier, inputs, stream_options)?;
    let mut values = Vec::new();
    let (mut count, mut failed) = (0, 0);
    let mut known = labels.as_ref().map(|_| Vec::new());
    loop {
        if options.stop.is_requested() {
            return Err(DataError::Stopped.into());
        }
        let part = match answers.wait(LOOK)? {
            Next::Answers(part) => part,
            Next::NotYet => Vec::new(),
            Next::End => break,
        };
        for answer in part {
            let name = names::text(&answer.filename);
            match answer.outcome {
                Ok(found) => {
                    values.extend_from_slice(&found.features);
                    about.names.push(name);
                    known
                        .iter_mut()
                        .zip(&labels)
                        .for_each(|(known, labels)| known.push(labels[count]));
                }
                Err(error) if options.strict => {
                    return Err(DataError::Strict {
                        name,
                        reason: error.reason(),
                        others: 0,
                    }
                    .into());
                }
                Err(error) => {
                    observe(EmbedEvent::Failed(&error));
                    failed += 1;
                    skipped.push(Skipped {
                        name,
                        reason: error.reason(),
                    });
                }
            }
            count += 1;
        }
        observe(EmbedEvent::Decoded(answers.decoded()));
    }
    if values.is_empty() {
        return Err(RunError::NoFeatures { total: count });
    }
    let images_per_s = about.names.len() as f64 / began.elapsed().as_secs_f64().max(1e-9);
    Ok(Embedded {
        features: Features {
            about,
            labels: known,
            values,
        },
        skipped,
        failed,
        images_per_s,
    })
}

/// The files that features are written to: `out`, and for NumPy a table of the names beside it.
///
/// # Errors
///
/// [`RunError::NotFeatures`] by the name, [`RunError::Exists`] for what is there already.
pub fn feature_files(out: &Path) -> Result<Vec<PathBuf>, RunError> {
    let extension = out.extension().and_then(|extension| extension.to_str());
    let files = match extension {
        Some("safetensors" | "csv") => vec![out.to_owned()],
        Some("npy") => vec![out.to_owned(), out.with_extension("csv")],
        _ => {
            return Err(RunError::NotFeatures {
                path: out.to_owned(),
            });
        }
    };
    match files.iter().find(|path| path.exists()) {
        Some(path) => Err(RunError::Exists { path: path.clone() }),
        None => Ok(files),
    }
}

/// Writes features in the format of the name, `.safetensors`, `.npy` or `.csv`, and returns the files. Each is there
/// whole or not at all.
///
/// # Errors
///
/// As for [`feature_files`], and [`RunError::Write`].
pub fn save_features(features: &Features, out: &Path) -> Result<Vec<PathBuf>, RunError> {
    let files = feature_files(out)?;
    let bytes = match files.as_slice() {
        [only] if only.extension().is_some_and(|end| end == "safetensors") => {
            Some(features.to_safetensors(only)?)
        }
        _ => None,
    };
    let mut parts = Vec::new();
    for path in &files {
        let is_csv = path.extension().is_some_and(|end| end == "csv");
        let write = || {
            let mut part = Unfinished::beside(path)?;
            part.write_with(|file| match &bytes {
                Some(bytes) => std::io::Write::write_all(file, bytes),
                None if is_csv => write_csv(file, features, files.len() == 1),
                None => write_npy(file, features),
            })?;
            Ok(part)
        };
        parts.push(write().map_err(cannot_write(path))?);
    }
    for (part, path) in parts.into_iter().zip(&files) {
        part.create(path).map_err(cannot_write(path))?;
    }
    Ok(files)
}

fn cannot_write(path: &Path) -> impl FnOnce(std::io::Error) -> RunError {
    let path = path.to_owned();
    |source| RunError::Write { path, source }
}
