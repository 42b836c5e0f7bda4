//! Weights of timm, transformers and torchvision, as those libraries save them, against what the
//! libraries themselves answer. `tests/support/foreign/make_fixtures.py` wrote the fixtures.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use vitrine::checkpoint::{self, Checkpoint, Layout, TensorFile, write_layout};
use vitrine::model::Pass;
use vitrine::ops::Precision;
use vitrine::run::open_weights;

use support::Place;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/foreign")
}

fn open(path: &Path) -> Result<TensorFile, String> {
    open_weights(path).map_err(|error| error.to_string())
}

fn load(file: &TensorFile) -> Checkpoint {
    let (checkpoint, check) = checkpoint::begin_to_load_backbone(file, &Device::flex()).unwrap();
    check.wait().unwrap();
    checkpoint
}

/// A tensor of `expected.safetensors`.
fn expected(folder: &Path, name: &str) -> (Vec<usize>, Vec<f32>) {
    let bytes = fs::read(folder.join("expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor(name).unwrap();
    let numbers = view.data().chunks_exact(4);
    let numbers = numbers.map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    (view.shape().to_vec(), numbers.collect())
}

/// The largest difference from the library's answer, over its largest value.
fn difference(folder: &Path, weights: &Checkpoint) -> f32 {
    let (shape, pixels) = expected(folder, "images");
    let shape: [usize; 4] = shape.try_into().unwrap();
    let images = Tensor::<4>::from_data(TensorData::new(pixels, shape), &Device::flex());
    let mut pass = Pass::inference(Precision::F32);
    let answer = match weights.meta.classes.is_empty() {
        true => weights.model.features(images, &mut pass),
        false => weights.model.forward(images, &mut pass),
    };
    let (shape, expected) = expected(folder, "answer");
    assert_eq!(answer.dims().to_vec(), shape, "{}", folder.display());
    let largest = expected
        .iter()
        .fold(0f32, |most, value| most.max(value.abs()));
    let answer: Vec<f32> = answer.into_data().iter::<f32>().collect();
    let off = answer.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    off.fold(0f32, f32::max) / largest
}

/// Names of the tensors of all files of a folder.
fn tensors(folder: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("model") && name.ends_with(".safetensors") {
            let bytes = fs::read(&path).unwrap();
            let file = SafeTensors::deserialize(&bytes).unwrap();
            names.extend(file.names().into_iter().map(str::to_owned));
        }
    }
    names
}

#[test]
fn every_architecture_answers_as_its_own_library() {
    let mut seen = BTreeMap::new();
    for entry in fs::read_dir(fixtures()).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let file = open(&folder).unwrap_or_else(|error| panic!("{name}: {error}"));
        let off = difference(&folder, &load(&file));
        assert!(off <= 1e-5, "{name}: {off:e}");
        // No tensor is dropped without a word.
        let origin = file.origin().unwrap();
        let taken = origin.taken.iter().flat_map(|taken| &taken.theirs);
        let left = origin.left_out.iter().map(|(name, _)| name);
        let told: BTreeSet<String> = taken.chain(left).cloned().collect();
        assert_eq!(told, tensors(&folder), "{name}");
        let layout = name.split('-').next().unwrap();
        assert_eq!(origin.layout, layout);
        *seen.entry(layout.to_owned()).or_insert(0) += 1;
    }
    assert!(seen["timm"] >= 17 && seen["transformers"] >= 15 && seen["torchvision"] == 1);
}

/// What of the fixtures each layout can hold, and why not the rest.
#[test]
fn what_is_written_is_read_as_the_same() {
    let mut written = BTreeMap::new();
    let mut refused = BTreeMap::new();
    for entry in fs::read_dir(fixtures()).unwrap() {
        let folder = entry.unwrap().path();
        let mut weights = load(&open(&folder).unwrap());
        let (shape, pixels) = expected(&folder, "images");
        let shape: [usize; 4] = shape.try_into().unwrap();
        let images = Tensor::<4>::from_data(TensorData::new(pixels, shape), &Device::flex());
        let answers = |weights: &Checkpoint| -> Vec<f32> {
            let mut pass = Pass::inference(Precision::F32);
            let answer = match weights.meta.classes.is_empty() {
                true => weights.model.features(images.clone(), &mut pass),
                false => weights.model.forward(images.clone(), &mut pass),
            };
            answer.into_data().iter::<f32>().collect()
        };
        let before = answers(&weights);
        // It becomes part of the classifier.
        weights.meta.temperature = 1.5;
        for layout in [Layout::Timm, Layout::Transformers] {
            let out = tempfile::tempdir().unwrap();
            let case = format!("{} as {}", folder.display(), layout.name());
            match write_layout(&weights, layout, out.path()) {
                Ok(_) => {
                    let again = load(&open(out.path()).unwrap_or_else(|e| panic!("{case}: {e}")));
                    let tempered = if weights.meta.classes.is_empty() {
                        1.0
                    } else {
                        1.5
                    };
                    for (a, b) in before.iter().zip(&answers(&again)) {
                        assert!(
                            (a / tempered - b).abs() <= 2e-6 * a.abs().max(1.0),
                            "{case}: {a} {b}"
                        );
                    }
                    assert_eq!(again.meta.classes, weights.meta.classes, "{case}");
                    let mut preprocess = weights.meta.preprocess.clone();
                    preprocess.exact = again.meta.preprocess.exact;
                    preprocess.centre = again.meta.preprocess.centre;
                    assert_eq!(again.meta.preprocess, preprocess, "{case}");
                    *written.entry(layout.name()).or_insert(0) += 1;
                }
                Err(error) => {
                    *refused.entry(error.to_string()).or_insert(0) += 1;
                }
            }
        }
    }
    assert!(written["timm"] >= 18, "{written:?} {refused:?}");
    assert!(written["transformers"] >= 14, "{written:?} {refused:?}");
    assert!(
        refused
            .keys()
            .all(|reason| reason.contains("has no model like this one: ")),
        "{refused:?}"
    );
}

#[test]
fn a_file_goes_by_the_settings_beside_it() {
    let folder = fixtures().join("transformers-ViTForImageClassification");
    let file = open(&folder.join("model.safetensors")).unwrap();
    assert!(difference(&folder, &load(&file)) <= 1e-5);
    assert_eq!(
        load(&file).meta.classes,
        ["ant", "bee", "cat", "dog", "eel"]
    );
}

/// A copy of a fixture, to be damaged.
struct Copy {
    folder: tempfile::TempDir,
}

impl Copy {
    fn of(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(fixtures().join(name)).unwrap() {
            let from = entry.unwrap().path();
            if !from.ends_with("expected.safetensors") {
                fs::copy(&from, folder.path().join(from.file_name().unwrap())).unwrap();
            }
        }
        Self { folder }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn edit(&self, file: &str, change: impl FnOnce(&mut Value)) {
        let path = self.at(file);
        let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut json);
        fs::write(&path, serde_json::to_vec(&json).unwrap()).unwrap();
    }

    /// Writes the tensors again as `change` has them.
    fn tensors(&self, change: impl Fn(&mut BTreeMap<String, (Vec<usize>, Vec<u8>)>)) {
        let path = self.at("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let all = file.tensors().into_iter();
        let mut all = all
            .map(|(name, view)| (name, (view.shape().to_vec(), view.data().to_vec())))
            .collect();
        change(&mut all);
        let views = all.iter().map(|(name, (shape, bytes))| {
            (
                name,
                TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
            )
        });
        fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    }

    /// The error that it is opened with, the folder's name left out.
    fn refused(&self) -> String {
        let error = open(self.folder.path()).map(|_| ()).unwrap_err();
        error.replace(&self.folder.path().display().to_string(), "FOLDER")
    }
}

const VIT: &str = "transformers-ViTForImageClassification";
const TIMM: &str = "timm-deit3_small_patch16_224";

#[test]
fn a_wrong_tensor_is_named() {
    let copy = Copy::of(VIT);
    copy.tensors(|all| drop(all.remove("vit.encoder.layer.1.layernorm_after.bias")));
    assert_eq!(
        copy.refused(),
        "FOLDER is no model that vitrine has: it has no tensor vit.encoder.layer.1.layernorm_after.bias"
    );
    let copy = Copy::of(VIT);
    copy.tensors(|all| drop(all.insert("adapter.weight".to_owned(), (vec![1], vec![0; 4]))));
    assert_eq!(
        copy.refused(),
        "FOLDER is no model that vitrine has: its tensor adapter.weight has no place here"
    );
    let copy = Copy::of(TIMM);
    copy.tensors(|all| drop(all.insert("blocks.0.norm1.bias".to_owned(), (vec![3], vec![0; 12]))));
    assert_eq!(
        copy.refused(),
        "FOLDER is no model that vitrine has: its tensor blocks.0.norm1.bias is [3], expected [12]"
    );
    let copy = Copy::of(TIMM);
    copy.tensors(|all| {
        let nan = f32::NAN.to_le_bytes();
        all.get_mut("head.bias").unwrap().1[..4].copy_from_slice(&nan);
    });
    assert_eq!(
        copy.refused(),
        "FOLDER/model.safetensors is no model that vitrine has: its tensor head.bias holds values that are not numbers"
    );
    // A bias that only some blocks have is missing in the others.
    let copy = Copy::of(VIT);
    copy.tensors(|all| {
        all.retain(|name, _| !name.contains("layer.0.attention.attention.key.bias"))
    });
    assert_eq!(
        copy.refused(),
        "FOLDER is no model that vitrine has: it has no tensor vit.encoder.layer.0.attention.attention.key.bias"
    );
    // Positions of pictures that are not square.
    let copy = Copy::of(TIMM);
    copy.tensors(|all| drop(all.insert("pos_embed".to_owned(), (vec![1, 7, 12], vec![0; 336]))));
    assert!(
        copy.refused().contains("pos_embed holds positions for"),
        "{}",
        copy.refused()
    );
}

#[test]
fn settings_that_contradict_the_tensors_are_named() {
    type Change = fn(&mut Value);
    let cases: [(&str, &str, Change, &str); 14] = [
        (
            VIT,
            "config.json",
            |j| j["hidden_size"] = json!(16),
            "hidden_size is 16: expected 12, as the tensors have it",
        ),
        (
            VIT,
            "config.json",
            |j| j["num_hidden_layers"] = json!(3),
            "num_hidden_layers is 3: expected 2, as the tensors have it",
        ),
        (
            VIT,
            "config.json",
            |j| j["num_attention_heads"] = json!("3"),
            "num_attention_heads is \"3\": expected a whole number above 0",
        ),
        (
            VIT,
            "config.json",
            |j| j["image_size"] = json!(24),
            "image_size is 24: expected 16, as the tensors have it",
        ),
        (
            VIT,
            "config.json",
            |j| j["hidden_act"] = json!("swish"),
            "hidden_act is swish: expected gelu or gelu_pytorch_tanh",
        ),
        (
            VIT,
            "config.json",
            |j| j["model_type"] = json!("swin"),
            "model_type is swin: expected vit, deit, vit_mae, dinov2, dinov2_with_registers, siglip, siglip_vision_model",
        ),
        (
            VIT,
            "config.json",
            |j| drop(j["id2label"].as_object_mut().unwrap().remove("3")),
            "the number of entries of id2label is 4: expected 5, one for each output of the classifier",
        ),
        (
            VIT,
            "preprocessor_config.json",
            |j| j["image_std"] = json!([0.5, 0.0, 0.5]),
            "image_std",
        ),
        (
            TIMM,
            "config.json",
            |j| drop(j["model_args"].as_object_mut().unwrap().remove("embed_dim")),
            "architecture is deit3_small_patch16_224: expected one of width 12, as the tensors have it",
        ),
        (
            TIMM,
            "config.json",
            |j| {
                j["architecture"] = json!("deit3_small_patch7_224");
                drop(
                    j["model_args"]
                        .as_object_mut()
                        .unwrap()
                        .remove("patch_size"),
                );
            },
            "architecture is deit3_small_patch7_224: expected one with patches of 8, as the tensors have it",
        ),
        (
            TIMM,
            "config.json",
            |j| j["architecture"] = json!("convnext_tiny"),
            "architecture is convnext_tiny: expected a plain Vision Transformer of timm",
        ),
        (
            TIMM,
            "config.json",
            |j| j["num_classes"] = json!(1000),
            "num_classes is 1000: expected 5, as the tensors have it",
        ),
        (
            TIMM,
            "config.json",
            |j| j["model_args"]["depth"] = json!(12),
            "model_args.depth is 12: expected 2, as the tensors have it",
        ),
        (
            TIMM,
            "config.json",
            |j| j["pretrained_cfg"]["input_size"] = json!([3, 16, 24]),
            "input_size",
        ),
    ];
    for (fixture, file, change, told) in cases {
        let copy = Copy::of(fixture);
        copy.edit(file, change);
        let error = copy.refused();
        assert!(error.contains(told), "{error}\ninstead of {told}");
        assert!(error.starts_with(&format!("FOLDER/{file}: ")), "{error}");
    }
    // Heads that do not divide the width.
    let copy = Copy::of(VIT);
    copy.edit("config.json", |json| json["num_attention_heads"] = json!(5));
    let error = copy.refused();
    assert!(
        error.starts_with("FOLDER describes a model that cannot be built: "),
        "{error}"
    );
}

#[test]
fn files_that_are_not_whole_or_not_safe_are_refused() {
    let copy = Copy::of(TIMM);
    let tensors = copy.at("model.safetensors");
    let whole = fs::read(&tensors).unwrap();
    for cut in [0, 7, 100, whole.len() - 1] {
        fs::write(&tensors, &whole[..cut]).unwrap();
        let error = copy.refused();
        let begins = "FOLDER/model.safetensors is not a whole safetensors file (";
        assert!(
            error.starts_with(begins) && error.ends_with("; fetch or copy it again"),
            "{error}"
        );
    }
    fs::remove_file(&tensors).unwrap();
    assert!(
        copy.refused()
            .starts_with("FOLDER holds no weights: expected model.safetensors")
    );
    fs::write(copy.at("pytorch_model.bin"), "pickle").unwrap();
    let error = copy.refused();
    assert!(
        error.starts_with("FOLDER/pytorch_model.bin is a pickle, which can run any code"),
        "{error}"
    );
    assert!(error.contains("save_file(model.state_dict()"), "{error}");

    // An index may not lead out of its folder.
    for name in [
        "../other.safetensors",
        "/etc/x.safetensors",
        "a\\b.safetensors",
        "x.bin",
        "",
    ] {
        let index = json!({ "weight_map": { "cls_token": name } });
        fs::write(copy.at("model.safetensors.index.json"), index.to_string()).unwrap();
        let error = copy.refused();
        assert!(
            error.starts_with("FOLDER/model.safetensors.index.json: weight_map is "),
            "{error}"
        );
    }
    let index = json!({ "weight_map": { "cls_token": "model-1.safetensors" } });
    fs::write(copy.at("model.safetensors.index.json"), index.to_string()).unwrap();
    assert_eq!(
        copy.refused(),
        "cannot read FOLDER/model-1.safetensors: it is not there, and model.safetensors.index.json names it: fetch or copy it too"
    );

    let copy = Copy::of(TIMM);
    fs::write(copy.at("config.json"), "{").unwrap();
    assert!(
        copy.refused()
            .starts_with("FOLDER/config.json cannot be read as a JSON object of settings: ")
    );
    fs::remove_file(copy.at("config.json")).unwrap();
    assert!(copy.refused().contains("there is no config.json beside it"));
}

/// A test of what no library writes: sizes that a file does not have, kinds that are not read.
#[test]
fn tensors_that_lie_are_refused() {
    type Change = fn(&mut BTreeMap<String, (Vec<usize>, Vec<u8>)>);
    let cases: [(&str, Change, &str); 7] = [
        (
            TIMM,
            |all| drop(all.remove("blocks.0.mlp.fc1.weight")),
            "it has no tensor blocks.0.mlp.fc1.weight",
        ),
        (
            TIMM,
            |all| drop(all.insert("head.weight".to_owned(), (vec![], vec![0; 4]))),
            "its tensor head.weight is [], expected [classes, width]",
        ),
        (
            VIT,
            |all| drop(all.insert("classifier.weight".to_owned(), (vec![], vec![0; 4]))),
            "its tensor classifier.weight is [], expected [classes, width]",
        ),
        (
            "torchvision-vit",
            |all| {
                let classes = (vec![1_000_000_000_000_000_000, 0], Vec::new());
                all.insert("heads.head.weight".to_owned(), classes);
            },
            "its tensor heads.head.weight is empty: [1000000000000000000, 0]",
        ),
        (
            TIMM,
            |all| {
                drop(all.insert(
                    "patch_embed.proj.weight".to_owned(),
                    (vec![12, 3, 0, 0], vec![]),
                ))
            },
            "its tensor patch_embed.proj.weight is empty: [12, 3, 0, 0]",
        ),
        (
            TIMM,
            |all| drop(all.insert("cls_token".to_owned(), (vec![1, 2, 12], vec![0; 96]))),
            "its tensor cls_token is [1, 2, 12], expected [1, 1, 12]",
        ),
        (
            TIMM,
            |all| drop(all.insert("x".repeat(5000), (vec![1], vec![0; 4]))),
            "(its header: a tensor's name of 5000 bytes); fetch or copy it again",
        ),
    ];
    for (fixture, change, told) in cases {
        let copy = Copy::of(fixture);
        copy.tensors(change);
        let error = copy.refused();
        assert!(error.starts_with("FOLDER"), "{error}");
        assert!(error.ends_with(told), "{error}\ninstead of {told}");
    }

    // Tokens of a type that is not read.
    let copy = Copy::of(TIMM);
    let path = copy.at("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let wide = vec![0; 2 * file.tensor("cls_token").unwrap().data().len()];
    let views: Vec<_> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| match name == "cls_token" {
            true => {
                let shape = view.shape().to_vec();
                (name, TensorView::new(Dtype::F64, shape, &wide).unwrap())
            }
            false => (name, view),
        })
        .collect();
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    assert_eq!(
        copy.refused(),
        "FOLDER is no model that vitrine has: its tensor cls_token is F64, expected F32, F16 or BF16"
    );

    // A few tensors that tell of a model of 8 GB, which no memory is taken for.
    let copy = Copy::of(TIMM);
    copy.edit("config.json", |json| {
        // A name that tells no width.
        json["architecture"] = json!("vit_giant_patch8_224");
        json["model_args"] = Value::Null;
        json["num_features"] = json!(2048);
    });
    copy.tensors(|all| {
        let tensor =
            |shape: &[usize]| (shape.to_vec(), vec![0; 4 * shape.iter().product::<usize>()]);
        all.insert(
            "patch_embed.proj.weight".to_owned(),
            tensor(&[2048, 3, 8, 8]),
        );
        for block in [0, 29] {
            let name = format!("blocks.{block}.mlp.fc1.weight");
            all.insert(name, tensor(&[8192, 1]));
        }
    });
    let error = copy.refused();
    assert!(error.contains("is no model that vitrine has: "), "{error}");
}

#[test]
fn messages_stay_short_and_obey_nobody() {
    let copy = Copy::of(TIMM);
    copy.edit("config.json", |json| {
        json["architecture"] = json!(format!("\u{1b}[31m{}", "x".repeat(100_000)));
    });
    let error = copy.refused();
    assert!(error.len() < 400 && !error.contains('\u{1b}'), "{error}");
}

#[test]
#[cfg(unix)]
fn a_pipe_is_not_waited_for() {
    let copy = Copy::of(TIMM);
    let path = copy.at("model.safetensors");
    fs::remove_file(&path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    // With an index, so that the pipe is among the files that it names.
    fs::rename(&path, copy.at("model-1.safetensors")).unwrap();
    let index = json!({ "weight_map": { "cls_token": "model-1.safetensors" } });
    fs::write(copy.at("model.safetensors.index.json"), index.to_string()).unwrap();
    let error = copy.refused();
    assert_eq!(
        error,
        "cannot read FOLDER/model-1.safetensors: it is no regular file; expected a .safetensors file"
    );
}

#[test]
fn classes_have_names() {
    let copy = Copy::of(TIMM);
    let classes = |copy: &Copy| load(&open(copy.folder.path()).unwrap()).meta.classes;
    assert_eq!(classes(&copy), ["0", "1", "2", "3", "4"]);
    copy.edit("config.json", |json| {
        json["label_names"] = json!(["n1", "n2", "n3", "n4", "n5"]);
        json["label_descriptions"] = json!({ "n1": "ant", "n2": "bee", "n5": "eel" });
    });
    assert_eq!(classes(&copy), ["ant", "bee", "n3", "n4", "eel"]);
    copy.edit("config.json", |json| {
        json["label_names"] = json!({ "0": "a", "2": "c", "1": "b", "4": "e", "3": "d" });
    });
    assert_eq!(classes(&copy), ["a", "b", "c", "d", "e"]);
    copy.edit("config.json", |json| {
        json["label_names"] = json!({ "0": "a", "7": "c" })
    });
    assert!(
        copy.refused()
            .contains("the number of entries of label_names is 2: expected 5")
    );

    // A thousand without names are ImageNet's.
    let copy = Copy::of(VIT);
    copy.tensors(|all| {
        all.insert(
            "classifier.weight".to_owned(),
            (vec![1000, 12], vec![0; 48_000]),
        );
        all.insert("classifier.bias".to_owned(), (vec![1000], vec![0; 4000]));
    });
    copy.edit("config.json", |json| {
        let labels: BTreeMap<String, String> = (0..1000)
            .map(|i| (i.to_string(), format!("LABEL_{i}")))
            .collect();
        json["id2label"] = json!(labels);
    });
    let names = classes(&copy);
    assert_eq!(names[0], "tench, Tinca tinca");
    assert_eq!(names[281], "tabby, tabby cat");
    assert_eq!(names[999], "toilet tissue, toilet paper, bathroom tissue");
}

/// A ViT that timm can build, trained for two updates.
const SMALL: &str = "--model vit-micro --set model.stem=linear --set model.depth=1 --set train.steps=2 --batch-size 4 --set data.val_fraction=0 --set data.test_fraction=0 --device cpu";

#[test]
fn a_training_that_starts_from_an_export_is_the_same_to_the_last_bit() {
    let place = Place::new();
    place.pictures("pets", &["ant", "bee"], 6);
    place.pictures("other", &["cat", "dog", "eel"], 4);
    place
        .run(&format!("train --data pets --out run {SMALL}"))
        .ok();
    let said = place.run("export run timm --layout timm --json").ok();
    assert_eq!(said.json()["layout"], "timm");
    let started = |from: &str| {
        let line = format!(
            "train --data other --init ./{from} --out from-{from} --set train.steps=3 --batch-size 4 --lr 1e-3 --set data.val_fraction=0 --set data.test_fraction=0 --device cpu"
        );
        let said = place.run(&line).ok();
        assert!(
            said.err
                .contains("tensors taken; drawn anew Vit.head.weight, Vit.head.bias; left out "),
            "{}",
            said.err
        );
        place.read(&format!("from-{from}/results.csv"))
    };
    let loss = |results: String| -> Vec<String> {
        let last = results
            .lines()
            .last()
            .unwrap()
            .split(',')
            .map(str::to_owned);
        // All but seconds and pictures a second.
        let columns = results.lines().next().unwrap().split(',').zip(last);
        let kept = columns.filter(|(name, _)| ["train/loss", "lr/pg0", "epoch"].contains(name));
        kept.map(|(_, value)| value).collect()
    };
    assert_eq!(loss(started("run")), loss(started("timm")));
    let weights = |run: &str| {
        let path = place.path(&format!("{run}/weights/last.safetensors"));
        let bytes = fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.tensors().into_iter();
        let tensors: BTreeMap<_, _> = tensors.map(|(n, v)| (n, v.data().to_vec())).collect();
        tensors
    };
    assert_eq!(weights("from-run"), weights("from-timm"));
    // What comes of it goes out again.
    let out = place.run("export from-timm out --layout transformers");
    assert_eq!(out.code, 0, "{out:?}");
    let refused = place.run("calibrate timm --data pets");
    assert_eq!(refused.code, 1);
}

#[test]
fn adapters_of_weights_of_another_project_go_out_merged() {
    let place = Place::new();
    place.pictures("pets", &["ant", "bee"], 6);
    place
        .run(&format!("train --data pets --out run {SMALL}"))
        .ok();
    place.run("export run timm --layout timm").ok();
    place
        .run("train --data pets --init ./timm --lora-rank 2 --out small --set train.steps=3 --batch-size 4 --lr 1e-2 --set data.val_fraction=0 --set data.test_fraction=0 --device cpu")
        .ok();
    place.run("export small whole.safetensors").ok();
    place.run("export small out --layout timm").ok();
    let shown = place.run("weights show small --json").ok().json();
    let of = place.run("weights show timm --json").ok().json();
    assert_eq!(shown["lora"]["base"]["sha256"], of["sha256"]);
    assert_eq!(shown["origin"], Value::Null);
    // Neither needs the weights that were adapted, and both answer as the adapters with them did.
    let answers = |weights: &str| {
        let said = place.run(&format!("classify {weights} pets --json --device cpu"));
        said.ok().json()
    };
    let adapted = answers("small");
    fs::rename(place.path("timm"), place.path("gone")).unwrap();
    assert_eq!(answers("whole.safetensors"), adapted);
    let foreign = answers("out");
    let score = |of: &Value, i: usize| of[i]["predictions"][0]["prob"].as_f64().unwrap();
    for i in 0..12 {
        let (a, b) = (score(&adapted, i), score(&foreign, i));
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
    assert_eq!(place.run("classify small pets --device cpu").code, 1);
}
