//! From a model and what its weights file says of it to a file in ONNX.

use std::path::Path;

use serde::Serialize;

use super::build::{Builder, Value};
use super::file::write;
use super::format::{Attribute, Kind, Onnx, Port};
use super::{convolutional, vit};
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::host::host_tensors;
use crate::checkpoint::meta::WeightsMeta;
use crate::data::Preprocess;
use crate::metrics::Calibration;
use crate::model::{Model, ModelConfig};

/// What of an ONNX model can be chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OnnxOptions {
    /// Matrices, convolutions and tables are stored in f16, and computed with in f32.
    pub half: bool,
    /// The input is pictures of whole numbers from 0 to 255, `pixels` `[batch, H, W, 3]`, which the model
    /// normalises itself; else it is `pixel_values` `[batch, 3, H, W]`, normalised.
    pub include_preprocessing: bool,
}

/// Where an ONNX model comes from, for its metadata.
#[derive(Debug, Clone, Copy)]
pub struct OnnxSource<'a> {
    /// Of this program.
    pub version: &'a str,
    /// Of this program.
    pub commit: &'a str,
    /// Of the weights file.
    pub sha256: &'a str,
}

/// A file that was written and read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnnxWritten {
    /// Bytes of the file, and of the one beside it.
    pub bytes: u64,
    /// Whether the weights are in a file of their own, `OUT.onnx.data`.
    pub data_beside: bool,
    /// Tensors in it.
    pub tensors: usize,
    /// Operations in it.
    pub nodes: usize,
}

/// Most bytes of a message: protobuf's limit of 2 GiB.
const MOST_BYTES: usize = (1 << 31) - 1;

/// Writes a model as ONNX, opset 17, and compares what is there with what was to be written.
///
/// Any number of pictures goes in; `logits` and `probabilities`, `[batch, K]`, come out, the latter at the
/// temperature of the weights. Classes, preprocessing, temperature and calibration, but for what it says of features, stand in its metadata. A model
/// of more than 2 GiB keeps its weights in a second file, `OUT.onnx.data`, which has to stay beside it.
///
/// # Errors
///
/// [`CheckpointError::Write`], also where one of the files is there already, and
/// [`CheckpointError::NotAsWritten`]; then neither file is there.
///
/// # Panics
///
/// Where the model is not that of `meta`.
pub fn save_onnx(
    out: &Path,
    model: &Model,
    meta: &WeightsMeta,
    source: OnnxSource<'_>,
    options: OnnxOptions,
) -> Result<OnnxWritten, CheckpointError> {
    let onnx = onnx(model, meta, source, options);
    let [data_beside, bytes] = write(out, &onnx, MOST_BYTES)?;
    Ok(OnnxWritten {
        bytes,
        data_beside: data_beside > 0,
        tensors: onnx.constants.len(),
        nodes: onnx.nodes.len(),
    })
}

/// The whole model.
fn onnx(
    model: &Model,
    meta: &WeightsMeta,
    source: OnnxSource<'_>,
    options: OnnxOptions,
) -> Onnx<'static> {
    let size = meta.preprocess.image_size;
    let port = |name: &str, kind, shape: &[usize]| Port {
        name: name.to_owned(),
        kind,
        shape: shape.to_vec(),
    };
    let input = match options.include_preprocessing {
        true => port("pixels", Kind::U8, &[size, size, 3]),
        false => port("pixel_values", Kind::F32, &[3, size, size]),
    };
    let (mut builder, input) = Builder::new(host_tensors(model), options.half, input);
    let b = &mut builder;
    let images = match options.include_preprocessing {
        true => b.within("preprocessing", |b| normalised(b, &meta.preprocess, input)),
        false => input,
    };
    let logits = match &meta.model {
        ModelConfig::Vit(config) => vit::vit(b, config, images),
        ModelConfig::Resnet(config) => convolutional::resnet(b, config, images),
        ModelConfig::Airbench(config) => convolutional::airbench(b, config, images),
    };
    let probabilities = b.within("probabilities", |b| {
        let tempered = match meta.temperature {
            1.0 => logits,
            temperature => {
                let temperature = b.number(temperature);
                b.node("Div", &[logits, temperature], &[])
            }
        };
        b.node("Softmax", &[tempered], &[("axis", Attribute::Int(-1))])
    });
    let classes = meta.model.num_classes();
    let outputs = vec![
        (port("logits", Kind::F32, &[classes]), logits),
        (port("probabilities", Kind::F32, &[classes]), probabilities),
    ];
    let metadata = metadata(meta, source, options);
    builder.finish(
        outputs,
        meta.name.clone(),
        source.version.to_owned(),
        metadata,
    )
}

/// Pictures of whole numbers from 0 to 255 as the model takes them, which is what
/// [`Preprocess`] does with pictures of the model's size.
fn normalised(b: &mut Builder, preprocess: &Preprocess, pixels: Value) -> Value {
    let channels = b.transpose(pixels, &[0, 3, 1, 2]);
    let numbers = b.node(
        "Cast",
        &[channels],
        &[("to", Attribute::Int(Kind::F32 as i64))],
    );
    let per_channel = |of: &dyn Fn(f64, f64) -> f64| -> Vec<f32> {
        let pairs = preprocess.mean.iter().zip(preprocess.std);
        pairs
            .map(|(&mean, std)| of(f64::from(mean), f64::from(std)) as f32)
            .collect()
    };
    let factor = per_channel(&|_, std| 1.0 / (255.0 * std));
    let shift = per_channel(&|mean, std| -mean / std);
    let factor = b.table("preprocessing.factor", vec![3, 1, 1], &factor);
    let shift = b.table("preprocessing.shift", vec![3, 1, 1], &shift);
    let scaled = b.mul(numbers, factor);
    b.add(scaled, shift)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("metadata is plain data")
}

/// What else whoever runs the model has to know, in words and JSON.
fn metadata(
    meta: &WeightsMeta,
    source: OnnxSource<'_>,
    options: OnnxOptions,
) -> Vec<(String, String)> {
    let mut metadata = vec![
        ("architecture", meta.name.clone()),
        ("model", json(&meta.model)),
        ("classes", json(&meta.classes)),
        ("preprocessing", json(&meta.preprocess)),
        (
            "preprocessing_included",
            options.include_preprocessing.to_string(),
        ),
        ("temperature", meta.temperature.to_string()),
    ];
    if let Some(calibration) = &meta.calibration {
        // Its limit is of features, which the graph does not give.
        let calibration = Calibration {
            familiarity: None,
            ..calibration.clone()
        };
        metadata.push(("calibration", json(&calibration)));
    }
    metadata.extend([
        ("vitrine_version", source.version.to_owned()),
        ("vitrine_commit", source.commit.to_owned()),
        ("source_sha256", source.sha256.to_owned()),
    ]);
    let metadata = metadata.into_iter();
    metadata
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::Value as Json;

    use super::*;
    use crate::checkpoint::tests::{meta, saved};
    use crate::metrics::{FamiliarityLimit, Figures};

    fn notes(meta: &WeightsMeta, options: OnnxOptions) -> (Onnx<'static>, Json) {
        let (_folder, _, model) = saved();
        let source = OnnxSource {
            version: "1.2.3",
            commit: "abc",
            sha256: "def",
        };
        let onnx = onnx(&model, meta, source, options);
        assert_eq!(onnx.fault(), None);
        let notes = onnx.metadata.iter();
        let notes = notes.map(|(key, value)| (key.clone(), Json::from(value.clone())));
        let notes = Json::Object(notes.collect());
        (onnx, notes)
    }

    #[test]
    fn metadata_says_all_that_the_weights_file_says() {
        let figures = Figures { nll: 0.5, ece: 0.1 };
        let meta = WeightsMeta {
            temperature: 0.75,
            calibration: Some(Calibration {
                data: "pets".to_owned(),
                pictures: 9,
                before: figures,
                after: figures,
                on_folds: None,
                coverage: Vec::new(),
                familiarity: Some(FamiliarityLimit {
                    threshold: 2.0,
                    share: 0.95,
                    pictures: 9,
                }),
            }),
            ..meta()
        };
        let (_, notes) = notes(&meta, OnnxOptions::default());
        let json =
            |key: &str| -> Json { serde_json::from_str(notes[key].as_str().unwrap()).unwrap() };
        assert_eq!(json("classes"), serde_json::json!(meta.classes));
        assert_eq!(
            serde_json::from_value::<ModelConfig>(json("model")).unwrap(),
            meta.model
        );
        assert_eq!(
            serde_json::from_value::<Preprocess>(json("preprocessing")).unwrap(),
            meta.preprocess
        );
        assert_eq!(json("calibration")["pictures"], 9);
        // Of features, which the graph does not give.
        assert!(json("calibration").get("familiarity").is_none());
        assert_eq!(json("temperature"), 0.75);
        assert_eq!(json("preprocessing_included"), false);
        assert_eq!(notes["architecture"], meta.name);
        assert_eq!(notes["vitrine_version"], "1.2.3");
        assert_eq!(notes["vitrine_commit"], "abc");
        assert_eq!(notes["source_sha256"], "def");
    }

    #[test]
    fn what_goes_in_and_comes_out_has_its_names() {
        let divisions = |temperature| {
            let meta = WeightsMeta {
                temperature,
                ..meta()
            };
            let (onnx, _) = notes(&meta, OnnxOptions::default());
            assert_eq!(onnx.input.name, "pixel_values");
            let size = meta.preprocess.image_size;
            assert_eq!(onnx.input.shape, [3, size, size]);
            let names: Vec<&str> = onnx.outputs.iter().map(|port| port.name.as_str()).collect();
            assert_eq!(names, ["logits", "probabilities"]);
            assert!(
                onnx.outputs
                    .iter()
                    .all(|port| port.shape == [meta.classes.len()])
            );
            onnx.nodes
                .iter()
                .filter(|node| node.name == "probabilities.Div")
                .count()
        };
        assert_eq!([divisions(1.0), divisions(1.5)], [0, 1]);
        let options = OnnxOptions {
            include_preprocessing: true,
            half: true,
        };
        let (onnx, notes) = notes(&meta(), options);
        assert_eq!(
            (onnx.input.name.as_str(), onnx.input.kind),
            ("pixels", Kind::U8)
        );
        assert_eq!(notes["preprocessing_included"], "true");
        // One that has another dimension, and norms, stay as they are.
        let half = |constant: &&super::super::format::Constant<'_>| constant.kind == Kind::F16;
        assert!(
            onnx.constants
                .iter()
                .filter(half)
                .all(|constant| constant.shape.len() > 1)
        );
        assert!(onnx.constants.iter().any(|constant| half(&constant)));
    }

    #[test]
    #[should_panic(expected = "the graph lacks")]
    fn a_tensor_without_a_place_is_no_export() {
        let mut meta = meta();
        let ModelConfig::Vit(config) = &mut meta.model else {
            unreachable!()
        };
        config.depth -= 1;
        notes(&meta, OnnxOptions::default());
    }
}
