//! Models exported as ONNX answer in another engine, rten, as they do here: every family, every option of the
//! Vision Transformer, any batch.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used)]

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use tempfile::TempDir;
use vitrine::checkpoint::{OnnxOptions, OnnxSource, OnnxWritten, WeightsMeta, save_onnx};
use vitrine::data::{Preprocess, Resize};
use vitrine::model::{
    AirbenchConfig, Init, Model, ModelConfig, Pooling, Position, ResnetConfig, ResnetStem,
    ResnetVariant, Stem, VitConfig, parameters,
};
use vitrine::ops::{Activation, Precision, Prepared};

const CLASSES: usize = 5;
const PICTURES: usize = 64;

/// Largest difference of a logit, of the largest logit.
const TOLERANCE: f32 = 1e-4;

/// Numbers from 0 to below 1, of a seed.
fn numbers(seed: &str) -> impl Iterator<Item = f32> {
    // FNV-1a, then xorshift.
    let mut state = seed.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32
    })
}

/// A model of which no tensor is as it starts: norms have scales of both signs, statistics, biases and tokens are
/// anything.
fn random(config: &ModelConfig) -> Model {
    config.validate().unwrap();
    let device = Device::flex();
    parameters::replace(config.init_constant(&device), |path, shape| {
        let count = shape.iter().product();
        let inputs = match *shape {
            [inputs, _] => inputs,
            [_, channels, side, _] => channels * side * side,
            _ => 4,
        };
        let at = |x: f32| match path.rsplit('.').next().unwrap() {
            "running_var" => 0.3 + x,
            "gamma" | "query_norm" | "key_norm" => 2.5 * x - 0.5,
            "position_embedding" | "class_token" | "distillation_token" | "register_tokens" => {
                2.0 * x - 1.0
            }
            _ => (2.0 * x - 1.0) * 2.0 / (inputs as f32).sqrt(),
        };
        let values: Vec<f32> = numbers(path).take(count).map(at).collect();
        Some(Tensor::from_data(TensorData::new(values, [count]), &device))
    })
}

fn meta(model: &ModelConfig) -> WeightsMeta {
    WeightsMeta {
        name: model.name().to_owned(),
        model: model.clone(),
        classes: (0..CLASSES).map(|i| format!("class {i}")).collect(),
        preprocess: Preprocess {
            image_size: model.image_size(),
            resize: Resize::Crop,
            mean: [0.5, 0.4, 0.3],
            std: [0.2, 0.25, 0.3],
            ..Preprocess::default()
        },
        temperature: 1.7,
        epoch: 3,
        val_top1: None,
        calibration: None,
    }
}

const SOURCE: OnnxSource<'_> = OnnxSource {
    version: "1.2.3",
    commit: "abc",
    sha256: "def",
};

/// Its model, and what was written into `folder`.
fn exported(config: &ModelConfig, options: OnnxOptions, out: &Path) -> (Model, OnnxWritten) {
    let model = random(config);
    let written = save_onnx(out, &model, &meta(config), SOURCE, options).unwrap();
    assert_eq!(written.bytes, std::fs::metadata(out).unwrap().len());
    (model, written)
}

/// Logits and probabilities, picture by picture.
type Answers = [Vec<f32>; 2];

/// What rten answers to pictures of this shape, `batch` at a time; `value` makes its tensors.
fn of_rten<T: Clone>(
    out: &Path,
    pictures: &[T],
    shape: [usize; 3],
    batch: usize,
    value: impl Fn([usize; 4], Vec<T>) -> rten::Value,
) -> Answers {
    let engine = rten::Model::load_file(out).unwrap();
    let length: usize = shape.iter().product();
    let outputs = ["logits", "probabilities"].map(|name| engine.node_id(name).unwrap());
    let [input] = engine.input_ids() else {
        panic!("one input")
    };
    let mut answers = Answers::default();
    for pictures in pictures.chunks(batch * length) {
        let count = pictures.len() / length;
        let value = value([count, shape[0], shape[1], shape[2]], pictures.to_vec());
        let inputs = vec![(*input, value.into())];
        let outputs = engine.run_n(inputs, outputs, None).unwrap();
        for (all, output) in answers.iter_mut().zip(outputs) {
            let (shape, values) = output.into_shape_vec::<f32, 2>().unwrap();
            assert_eq!(shape, [count, CLASSES]);
            all.extend(values);
        }
    }
    answers
}

/// What the model itself answers.
fn of_ours(model: &Model, temperature: f32, pixels: &[f32], side: usize) -> Answers {
    let shape = [pixels.len() / (3 * side * side), 3, side, side];
    let images = Tensor::from_data(TensorData::new(pixels.to_vec(), shape), &Device::flex());
    let logits = model.infer(images, Precision::F32, &Prepared::default());
    let logits = logits.try_into_vec_as::<f32>().unwrap();
    let softmax = |row: &[f32]| {
        let exponentials = row.iter().map(|x| f64::from(x / temperature).exp());
        let sum: f64 = exponentials.clone().sum();
        exponentials.map(|x| (x / sum) as f32).collect::<Vec<_>>()
    };
    let probabilities = logits.chunks(CLASSES).flat_map(softmax).collect();
    [logits, probabilities]
}

fn largest(values: impl Iterator<Item = f32>) -> f32 {
    values.fold(0.0, |most, x| most.max(x.abs()))
}

/// Largest difference of a logit of the largest one, and of a probability.
fn difference(a: &Answers, b: &Answers) -> [f32; 2] {
    let [logits, probabilities] = [0, 1].map(|i| {
        assert_eq!(a[i].len(), b[i].len());
        let pairs = a[i].iter().zip(&b[i]);
        largest(pairs.map(|(a, b)| if (a - b).is_nan() { f32::MAX } else { a - b }))
    });
    [logits / largest(a[0].iter().copied()), probabilities]
}

/// Exports a model with random weights, has rten run it on 64 pictures, one at a time and seven at a time, and
/// compares.
fn check(name: &str, config: &ModelConfig) {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("model.onnx");
    let (model, _) = exported(config, OnnxOptions::default(), &out);
    let side = config.image_size();
    let pixels = numbers("pictures").take(PICTURES * 3 * side * side);
    let pixels: Vec<f32> = pixels.map(|x| 4.0 * x - 2.0).collect();
    let ours = of_ours(&model, 1.7, &pixels, side);
    // Pictures that are answered alike would compare nothing.
    let first = &ours[0][..CLASSES];
    let apart = ours[0].chunks(CLASSES).map(|row| (row[0] - first[0]).abs());
    assert!(
        largest(apart) > 1e-2 * largest(ours[0].iter().copied()),
        "{name}"
    );
    for batch in [1, 7] {
        let value = |shape, values| rten::Value::from_shape(shape, values).unwrap();
        let theirs = of_rten(&out, &pixels, [3, side, side], batch, value);
        let [logits, probabilities] = difference(&ours, &theirs);
        assert!(logits <= TOLERANCE, "{name}, batch {batch}: {logits}");
        assert!(
            probabilities <= 1e-4,
            "{name}, batch {batch}: {probabilities}"
        );
    }
}

fn plain() -> VitConfig {
    VitConfig {
        image_size: 12,
        patch_size: 4,
        embed_dim: 24,
        depth: 2,
        num_heads: 3,
        mlp_dim: 40,
        num_classes: CLASSES,
        pooling: Pooling::ClassToken,
        position: Position::Learned,
        stem: Stem::Linear,
        stem_depth: 0,
        registers: 0,
        drop_path: 0.1,
        distillation_token: false,
        init: Init::Xavier,
        layer_scale: 0.0,
        qk_norm: false,
        qk_norm_bias: false,
        norm_epsilon: 1e-6,
        norm_after_pooling: false,
        activation: Activation::Gelu,
    }
}

#[test]
fn vits_of_every_option_answer_the_same() {
    let mean = || VitConfig {
        pooling: Pooling::Mean,
        ..plain()
    };
    let all = [
        ("class token", plain()),
        ("mean", mean()),
        (
            "one block",
            VitConfig {
                depth: 1,
                ..plain()
            },
        ),
        (
            "registers",
            VitConfig {
                registers: 3,
                ..plain()
            },
        ),
        (
            "mean, registers",
            VitConfig {
                registers: 2,
                ..mean()
            },
        ),
        (
            "two heads",
            VitConfig {
                distillation_token: true,
                ..plain()
            },
        ),
        (
            "two heads, mean",
            VitConfig {
                distillation_token: true,
                registers: 1,
                ..mean()
            },
        ),
        (
            "sines",
            VitConfig {
                position: Position::Sinusoidal1d,
                ..plain()
            },
        ),
        (
            "sines of both axes",
            VitConfig {
                position: Position::Sinusoidal2d,
                registers: 1,
                ..mean()
            },
        ),
        (
            "rotation",
            VitConfig {
                position: Position::Rope2d,
                ..plain()
            },
        ),
        (
            "rotation, mean",
            VitConfig {
                position: Position::Rope2d,
                registers: 2,
                ..mean()
            },
        ),
        (
            "rotation, no prefix",
            VitConfig {
                position: Position::Rope2d,
                ..mean()
            },
        ),
        (
            "no position",
            VitConfig {
                position: Position::None,
                ..plain()
            },
        ),
        (
            "no position, no prefix",
            VitConfig {
                position: Position::None,
                ..mean()
            },
        ),
        (
            "convolutions",
            VitConfig {
                stem: Stem::Convolutional,
                ..plain()
            },
        ),
        (
            "more convolutions",
            VitConfig {
                stem: Stem::Convolutional,
                stem_depth: 2,
                ..mean()
            },
        ),
        (
            "layer scale",
            VitConfig {
                layer_scale: 0.1,
                ..plain()
            },
        ),
        (
            "norm of queries and keys",
            VitConfig {
                qk_norm: true,
                ..plain()
            },
        ),
        (
            "norm of queries and keys, mean",
            VitConfig {
                qk_norm: true,
                position: Position::Rope2d,
                ..mean()
            },
        ),
        (
            "tanh",
            VitConfig {
                activation: Activation::GeluTanh,
                ..mean()
            },
        ),
        (
            "large epsilon",
            VitConfig {
                norm_epsilon: 0.1,
                qk_norm: true,
                ..plain()
            },
        ),
        (
            "norm with shift of queries and keys",
            VitConfig {
                qk_norm: true,
                qk_norm_bias: true,
                ..plain()
            },
        ),
        (
            "norm after pooling",
            VitConfig {
                norm_after_pooling: true,
                registers: 1,
                ..mean()
            },
        ),
        (
            "norm after pooling, two heads",
            VitConfig {
                norm_after_pooling: true,
                distillation_token: true,
                ..mean()
            },
        ),
        (
            "class token and mean",
            VitConfig {
                pooling: Pooling::ClassTokenAndMean,
                registers: 1,
                ..plain()
            },
        ),
        (
            "class token and mean, two heads",
            VitConfig {
                pooling: Pooling::ClassTokenAndMean,
                distillation_token: true,
                ..plain()
            },
        ),
        (
            "everything",
            VitConfig {
                image_size: 16,
                position: Position::Rope2d,
                stem: Stem::Convolutional,
                stem_depth: 1,
                registers: 2,
                distillation_token: true,
                layer_scale: 0.5,
                qk_norm: true,
                ..plain()
            },
        ),
    ];
    for (name, config) in all {
        check(name, &ModelConfig::Vit(config));
    }
}

#[test]
fn convolutional_baselines_answer_the_same() {
    let resnet = |variant, image_size, width| {
        ModelConfig::Resnet(ResnetConfig {
            variant,
            image_size,
            num_classes: CLASSES,
            width,
            stem: ResnetStem::BySize,
        })
    };
    check("resnet9", &resnet(ResnetVariant::Resnet9, 19, 4));
    check("resnet18, small", &resnet(ResnetVariant::Resnet18, 17, 4));
    check(
        "resnet18, ImageNet",
        &resnet(ResnetVariant::Resnet18, 97, 3),
    );
    let airbench = AirbenchConfig {
        image_size: 21,
        num_classes: CLASSES,
        widths: [8, 12, 10],
        depth: 2,
        residual: false,
        stem_kernel: 2,
        whiten: true,
    };
    check("airbench", &ModelConfig::Airbench(airbench.clone()));
    let residual = AirbenchConfig {
        depth: 3,
        residual: true,
        stem_kernel: 3,
        whiten: false,
        ..airbench
    };
    check("airbench, residual", &ModelConfig::Airbench(residual));
}

#[test]
fn pictures_of_bytes_are_normalised_in_the_model() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("model.onnx");
    let options = OnnxOptions {
        include_preprocessing: true,
        ..OnnxOptions::default()
    };
    let config = ModelConfig::Vit(plain());
    let (model, _) = exported(&config, options, &out);
    let side = config.image_size();
    let preprocess = meta(&config).preprocess;
    let bytes = numbers("bytes").take(PICTURES * side * side * 3);
    let bytes: Vec<u8> = bytes.map(|x| (x * 256.0) as u8).collect();
    let mut pixels = Vec::new();
    for picture in bytes.chunks(side * side * 3) {
        for channel in 0..3 {
            let of_channel = picture.iter().skip(channel).step_by(3);
            let (mean, std) = (preprocess.mean[channel], preprocess.std[channel]);
            pixels.extend(of_channel.map(|&byte| (f32::from(byte) / 255.0 - mean) / std));
        }
    }
    let ours = of_ours(&model, 1.7, &pixels, side);
    for batch in [1, 7] {
        let value = |shape, values| rten::Value::from_shape(shape, values).unwrap();
        let theirs = of_rten(&out, &bytes, [side, side, 3], batch, value);
        let [logits, probabilities] = difference(&ours, &theirs);
        assert!(
            logits <= TOLERANCE && probabilities <= 1e-4,
            "{logits} {probabilities}"
        );
    }
}

#[test]
fn half_a_file_answers_nearly_the_same() {
    let folder = TempDir::new().unwrap();
    let [whole, half] = ["whole.onnx", "half.onnx"].map(|name| folder.path().join(name));
    let config = ModelConfig::Vit(VitConfig {
        embed_dim: 96,
        mlp_dim: 192,
        position: Position::Rope2d,
        stem: Stem::Convolutional,
        ..plain()
    });
    let (_, of_whole) = exported(&config, OnnxOptions::default(), &whole);
    let options = OnnxOptions {
        half: true,
        ..OnnxOptions::default()
    };
    let (model, of_half) = exported(&config, options, &half);
    assert!(
        of_half.bytes < of_whole.bytes * 6 / 10,
        "{of_half:?} {of_whole:?}"
    );
    let side = config.image_size();
    let pixels: Vec<f32> = numbers("pictures").take(9 * 3 * side * side).collect();
    let ours = of_ours(&model, 1.7, &pixels, side);
    let value = |shape, values| rten::Value::from_shape(shape, values).unwrap();
    let theirs = of_rten(&half, &pixels, [3, side, side], 9, value);
    let [logits, probabilities] = difference(&ours, &theirs);
    assert!(
        logits > 0.0 && probabilities <= 0.01,
        "{logits} {probabilities}"
    );
}

#[test]
fn the_same_weights_give_the_same_bytes() {
    let folder = TempDir::new().unwrap();
    let files = ["a.onnx", "b.onnx"].map(|name| {
        let out = folder.path().join(name);
        exported(&ModelConfig::Vit(plain()), OnnxOptions::default(), &out);
        std::fs::read(out).unwrap()
    });
    assert!(files[0] == files[1]);
}
