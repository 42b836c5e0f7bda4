//! Training as a promise: the same bits again, whatever interrupts it, and never half a file.
//!
//! `VITRINE_LONG_TESTS=10` kills a training at ten moments instead of four.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used)]

#[allow(unreachable_pub)]
#[path = "support/runs.rs"]
mod runs;
#[path = "support/signals.rs"]
mod signals;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use image::{Rgb, RgbImage};
use runs::{all_whole, assert_same, hash, left, progress, temporary_files};
use safetensors::SafeTensors;
use vitrine::checkpoint::{self, HostTensor, TensorFile, WeightsMeta, host_tensors, load_weights};
use vitrine::data::{
    Dataset, Pictures, PicturesOptions, Preprocess, Resize, Shard, SplitName, TrainLoader,
};
use vitrine::device::{Selected, select};
use vitrine::ops::Precision;
use vitrine::recipe::{Recipe, Sources};
use vitrine::report::csv::read_results;
use vitrine::run::{self, Finding, Finished, Plan, RunDir, RunError, RunEvent};
use vitrine::stop::Stop;
use vitrine::train::{Classification, Ending, Saved, TrainEvent, Trainer};

/// Settings of a ViT of 6,000 parameters on pictures of 12×12.
const VIT: &[&str] = &[
    "model.name=vit-micro",
    "model.patch_size=4",
    "model.embed_dim=16",
    "model.depth=2",
    "model.num_heads=2",
    "model.mlp_dim=24",
    "train.batch_size=9",
    "train.epochs=4",
];

/// Everything random or remembered: 5 batches an epoch, in updates of 2, 2 and 1.
const EVERYTHING: &[&str] = &[
    "train.ema=0.9",
    "train.accumulate=2",
    "model.drop_path=0.3",
    "augment.mixup=0.4",
    "augment.cutmix=1.0",
    "augment.crop_padding=2",
    "augment.flip=random",
    "augment.policy=trivialaugment",
    "augment.erasing=0.3",
];

/// A ResNet-9 of width 4, with batch norm, SGD and momentum.
const RESNET: &[&str] = &[
    "model.name=resnet9",
    "model.width=4",
    "train.batch_size=9",
    "train.epochs=3",
    "train.ema=0.8",
    "augment.crop_padding=2",
    "augment.flip=alternating",
];

/// The CNN of airbench, with a first layer that is frozen.
const AIRBENCH: &[&str] = &[
    "model.name=airbench",
    "model.widths=[4, 6, 5]",
    "train.batch_size=9",
    "train.epochs=3",
    "train.ema=0.8",
    "augment.crop_padding=2",
    "augment.flip=alternating",
];

/// Three classes of 20 noisy pictures; a class is a little brighter than the one before.
fn pictures(folder: &Path) -> PathBuf {
    let root = folder.join("set");
    for (class, name) in ["ant", "bee", "cow"].into_iter().enumerate() {
        fs::create_dir_all(root.join(name)).unwrap();
        for n in 0..20 {
            let picture = RgbImage::from_fn(12, 12, |x, y| {
                Rgb([0, 1, 2].map(|c| {
                    let noise =
                        hash((((class * 20 + n) * 12 + x as usize) * 12 + y as usize) * 3 + c);
                    (60 * class) as u8 + (noise % 128) as u8
                }))
            });
            let path = root.join(name).join(format!("{n:02}.png"));
            picture.save(path).unwrap();
        }
    }
    root
}

// ---- in this process ------------------------------------------------------------------------

fn recipe(data: &Path, settings: &[&[&str]]) -> Recipe {
    let mut set = vec![format!("data.path={:?}", data.display().to_string())];
    set.extend(settings.concat().into_iter().map(str::to_owned));
    let layers = Sources {
        recipe: None,
        set,
        values: Vec::new(),
    };
    run::resolve(&layers).unwrap()
}

fn cpu() -> Selected {
    select("cpu".parse().unwrap()).unwrap()
}

/// Trains into `root`, and asks for a stop at the first event that `stop_at` likes.
fn train(
    recipe: &Recipe,
    root: &Path,
    resume: bool,
    mut stop_at: impl FnMut(&TrainEvent) -> bool,
) -> Result<Finished, RunError> {
    let stop = Stop::default();
    let mut observe = |event: RunEvent<'_>| {
        if let RunEvent::Train(event) = &event
            && stop_at(event)
        {
            stop.request();
        }
    };
    if resume {
        let dir = RunDir::open(root).unwrap();
        run::resume(recipe.clone(), &dir, &cpu(), &stop, &mut observe)
    } else {
        let plan = Plan::new(recipe.clone())?;
        let dir = RunDir::create(Some(root), "set", "model").unwrap();
        run::train(plan, &dir, &cpu(), &stop, &mut observe)
    }
}

/// Stops at the n-th update of this session.
fn at_update(n: usize) -> impl FnMut(&TrainEvent) -> bool {
    let mut seen = 0;
    move |event| {
        seen += usize::from(matches!(event, TrainEvent::Update { .. }));
        seen == n && matches!(event, TrainEvent::Update { .. })
    }
}

/// Stops when the n-th epoch of the run is over.
fn at_epochs_end(n: usize) -> impl FnMut(&TrainEvent) -> bool {
    move |event| matches!(event, TrainEvent::Epoch { record, .. } if record.epoch == n)
}

fn never(_: &TrainEvent) -> bool {
    false
}

fn overfits(model: &[&str], lr: &str) {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let recipe = recipe(
        &data,
        &[
            model,
            &[
                "train.epochs=150",
                "train.label_smoothing=0.0",
                "train.ema=0.0",
                "schedule.warmup_epochs=5",
                lr,
                "augment.flip=none",
                "augment.crop_padding=0",
            ],
        ],
    );
    let dataset = Arc::new(Dataset::open(&data).unwrap());
    let preprocess = Preprocess {
        image_size: 12,
        resize: Resize::Squash,
        mean: [0.5; 3],
        std: [0.25; 3],
        ..Preprocess::default()
    };
    let samples: Vec<_> = dataset.given(SplitName::Train)[..].to_vec();
    let options = PicturesOptions::default();
    let all = Pictures::load(
        &dataset,
        &samples,
        &preprocess,
        &options,
        &Stop::default(),
        &|_| {},
    )
    .unwrap();
    assert_eq!(all.len(), 60);
    let loader = TrainLoader::new(
        all,
        preprocess.clone(),
        recipe.augment.clone(),
        60,
        0,
        Shard::whole(),
        1,
    );
    let trainer = Trainer {
        config: recipe.train_config(Precision::F32).unwrap(),
        train: loader,
        device: cpu().device,
        meta: WeightsMeta {
            name: "tiny".to_owned(),
            model: recipe.model_config(12, 3).unwrap(),
            classes: dataset.classes.clone(),
            preprocess,
            temperature: 1.0,
            epoch: 0,
            val_top1: None,
            calibration: None,
        },
        init: None,
        base: None,
        weights: folder.path().to_owned(),
        state: folder.path().to_owned(),
        recipe: String::new(),
        stop: Stop::default(),
    };
    let mut losses = Vec::new();
    let task = Classification::new(0.0, &cpu().device);
    let outcome = trainer
        .train(Box::new(task), None, &mut |event| {
            if let TrainEvent::Update { loss, .. } = event {
                losses.push(loss);
            }
        })
        .unwrap();
    assert_eq!(outcome.ending, Ending::Complete);
    assert_eq!(losses.len(), 150);
    assert!(
        (losses[0] - 3f64.ln()).abs() < 0.7,
        "began at {}",
        losses[0]
    );
    assert!(losses[149] < 0.02, "ended at {}", losses[149]);
}

#[test]
fn a_vit_overfits_one_batch() {
    overfits(VIT, "optimizer.lr=0.01");
}

#[test]
fn a_resnet_overfits_one_batch() {
    overfits(RESNET, "optimizer.lr=0.3");
}

#[test]
fn a_resumed_vit_equals_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(&pictures(folder.path()), &[VIT, EVERYTHING]);
    let whole = folder.path().join("whole");
    let finished = train(&recipe, &whole, false, never).unwrap();
    assert_eq!(finished.outcome.ending, Ending::Complete);
    assert_eq!(progress(&whole).update, 12);

    let run = folder.path().join("interrupted");
    let stopped = |finished: Finished, epoch, batch| {
        assert_eq!(finished.outcome.ending, Ending::Interrupted);
        let progress = progress(&run);
        assert_eq!((progress.epoch, progress.batch), (epoch, batch));
        assert!(!progress.finished);
    };
    // Within the first epoch; at the second's last update, before its validation; at the third's
    // end; within the fourth; at the last update of all.
    stopped(train(&recipe, &run, false, at_update(1)).unwrap(), 0, 2);
    stopped(train(&recipe, &run, true, at_update(5)).unwrap(), 1, 5);
    stopped(train(&recipe, &run, true, at_epochs_end(3)).unwrap(), 3, 0);
    stopped(train(&recipe, &run, true, at_update(2)).unwrap(), 3, 4);
    stopped(train(&recipe, &run, true, at_update(1)).unwrap(), 3, 5);
    let finished = train(&recipe, &run, true, never).unwrap();
    assert_eq!(finished.outcome.ending, Ending::Complete);
    assert_same(&left(&run), &left(&whole), "interrupted five times");

    // The tables of both runs show the same epochs, and so do their splits.
    let rows = |root: &Path| read_results(&root.join("results.csv")).unwrap().len();
    assert_eq!((rows(&run), rows(&whole)), (4, 4));
    for split in ["train.txt", "val.txt", "test.txt"] {
        let list = |root: &Path| fs::read_to_string(root.join("splits").join(split)).unwrap();
        assert_eq!(list(&run), list(&whole));
    }
}

/// Trains, and asks for a stop at the first event of the run that `stop_at` likes.
fn train_until(
    recipe: &Recipe,
    root: &Path,
    mut stop_at: impl FnMut(&RunEvent<'_>) -> bool,
) -> Finished {
    let stop = Stop::default();
    let mut observe = |event: RunEvent<'_>| {
        if stop_at(&event) {
            stop.request();
        }
    };
    let plan = Plan::new(recipe.clone()).unwrap();
    let dir = RunDir::create(Some(root), "set", "model").unwrap();
    run::train(plan, &dir, &cpu(), &stop, &mut observe).unwrap()
}

#[test]
fn a_training_that_is_stopped_while_it_decodes_begins_again_in_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let recipe = recipe(&data, &[VIT, &["train.epochs=2"]]);
    let [run, whole] = ["run", "whole"].map(|name| folder.path().join(name));
    let decoding = |event: &RunEvent<'_>| matches!(event, RunEvent::Decoding { .. });
    let finished = train_until(&recipe, &run, decoding);
    assert_eq!(finished.outcome.ending, Ending::Interrupted);
    assert_eq!(finished.outcome.progress.update, 0);
    assert!(!run.join("checkpoint/state.safetensors").exists());
    train(&recipe, &run, true, never).unwrap();
    train(&recipe, &whole, false, never).unwrap();
    assert_same(&left(&run), &left(&whole), "begun again");
}

#[test]
fn a_training_that_is_stopped_while_it_is_evaluated_is_evaluated_later() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let recipe = recipe(&data, &[VIT, &["train.epochs=1"]]);
    let run = folder.path().join("run");
    let testing = |event: &RunEvent<'_>| matches!(event, RunEvent::Testing);
    let finished = train_until(&recipe, &run, testing);
    assert_eq!(finished.outcome.ending, Ending::Interrupted);
    assert!(finished.outcome.progress.finished && finished.test.is_none());
    assert!(run.join("weights/best.safetensors").is_file());
    let finished = train(&recipe, &run, true, never).unwrap();
    assert_eq!(finished.outcome.ending, Ending::Complete);
    assert!(finished.test.is_some());
}

/// Stops at any moment, also within an update and within a validation.
fn survives_any_moment(settings: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let recipe = recipe(
        &data,
        &[settings, &["train.epochs=3", "train.accumulate=2"]],
    );
    let [run, whole] = ["run", "whole"].map(|name| folder.path().join(name));
    train(&recipe, &whole, false, never).unwrap();
    let mut finished = train(&recipe, &run, false, at_update(1)).unwrap();
    let mut stops = 0;
    for ms in (0..).step_by(7).map(|ms| 10 + ms % 100) {
        let stop = Stop::default();
        let (asked, dir) = (stop.clone(), RunDir::open(&run).unwrap());
        let mut began = false;
        let mut observe = |event: RunEvent<'_>| {
            if matches!(event, RunEvent::Begin(_)) && !began && stops < 12 {
                began = true;
                let asked = asked.clone();
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(ms));
                    asked.request();
                });
            }
        };
        finished = run::resume(recipe.clone(), &dir, &cpu(), &stop, &mut observe).unwrap();
        if finished.outcome.ending == Ending::Complete {
            break;
        }
        stops += 1;
    }
    assert!(finished.outcome.progress.finished);
    assert_same(
        &left(&run),
        &left(&whole),
        &format!("stopped {stops} times"),
    );
}

#[test]
fn a_vit_that_is_stopped_at_any_moment_ends_with_the_same_bits() {
    survives_any_moment(VIT);
}

#[test]
fn a_resnet_that_is_stopped_at_any_moment_ends_with_the_same_bits() {
    survives_any_moment(RESNET);
}

#[test]
fn a_resumed_resnet_equals_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(&pictures(folder.path()), &[RESNET]);
    let whole = folder.path().join("whole");
    train(&recipe, &whole, false, never).unwrap();
    let run = folder.path().join("interrupted");
    train(&recipe, &run, false, at_update(3)).unwrap();
    train(&recipe, &run, true, at_epochs_end(2)).unwrap();
    train(&recipe, &run, true, never).unwrap();
    let (run, whole) = (left(&run), left(&whole));
    assert!(
        whole.state.keys().any(|name| name.contains("running")),
        "batch norm's statistics are part of the state"
    );
    assert_same(&run, &whole, "interrupted twice");
}

/// A ResNet-9 trained for an epoch on this data, as `distillation.teacher`.
fn teacher(data: &Path, folder: &Path) -> (PathBuf, String) {
    let root = folder.join("teacher");
    train(
        &recipe(data, &[RESNET, &["train.epochs=1"]]),
        &root,
        false,
        never,
    )
    .unwrap();
    let setting = format!("distillation.teacher={:?}", root.display().to_string());
    (root, setting)
}

/// Every part of distillation: a token, soft targets, and guidance for the first half.
const DISTILLED: &[&str] = &[
    "distillation.through=token",
    "distillation.guidance=0.5",
    "distillation.guidance_until=0.5",
];

#[test]
fn a_resumed_student_equals_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let (_, setting) = teacher(&data, folder.path());
    let recipe = recipe(&data, &[VIT, EVERYTHING, DISTILLED, &[&setting]]);
    let whole = folder.path().join("whole");
    let finished = train(&recipe, &whole, false, never).unwrap();
    assert_eq!(finished.outcome.ending, Ending::Complete);
    let run = folder.path().join("interrupted");
    // While features are guided, which is for 6 of 12 updates, and after.
    train(&recipe, &run, false, at_update(1)).unwrap();
    train(&recipe, &run, true, at_update(3)).unwrap();
    let guided = left(&run).state;
    train(&recipe, &run, true, at_update(4)).unwrap();
    train(&recipe, &run, true, never).unwrap();
    let (run, whole) = (left(&run), left(&whole));
    assert!(
        guided["guide.map.weight"] != whole.state["guide.map.weight"],
        "the map is part of the state, and learned until the sixth update"
    );
    assert!(
        whole
            .state
            .contains_key("model.Vit.distillation_head.weight")
    );
    assert_same(&run, &whole, "interrupted three times");
    // What was only of use in training is not shipped.
    let shipped = SafeTensors::deserialize(&whole.best).unwrap();
    assert!(shipped.names().iter().all(|name| name.starts_with("Vit.")));
}

/// Everything that changes along a training, in 12 updates: pictures of 8×8 until the sixth, fewer
/// tokens until the eighth, mixed ones until the tenth, by Muon.
const CURRICULUM: &[&str] = &[
    "optimizer.kind=muon",
    "train.ema=0.0",
    "train.ema_epochs=0.5",
    "curriculum.start_size=8",
    "curriculum.full_size_at=0.5",
    "curriculum.token_drop=0.5",
    "curriculum.token_drop_until=0.7",
    "curriculum.mix_until=0.8",
];

#[test]
fn a_resumed_curriculum_equals_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(&pictures(folder.path()), &[VIT, EVERYTHING, CURRICULUM]);
    let whole = folder.path().join("whole");
    let mut flops = Vec::new();
    let finished = train(&recipe, &whole, false, |event| {
        if let TrainEvent::Update { flops: cost, .. } = event {
            flops.push(*cost);
        }
        false
    });
    assert_eq!(finished.unwrap().outcome.ending, Ending::Complete);
    assert_eq!(flops.len(), 12);
    assert!(flops[0] < flops[5] && flops[5] < flops[6] && flops[6] < flops[9]);
    assert!(flops[9..].iter().all(|&cost| cost == flops[11]));
    let run = folder.path().join("interrupted");
    // Within epochs and between them, in every stage.
    train(&recipe, &run, false, at_update(1)).unwrap();
    train(&recipe, &run, true, at_update(4)).unwrap();
    train(&recipe, &run, true, at_epochs_end(3)).unwrap();
    train(&recipe, &run, true, at_update(2)).unwrap();
    train(&recipe, &run, true, never).unwrap();
    assert_same(&left(&run), &left(&whole), "interrupted four times");
}

#[test]
fn a_teacher_makes_a_difference_and_must_stay_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let (root, setting) = teacher(&data, folder.path());
    let trained = |name: &str, settings: &[&str]| {
        let recipe = recipe(&data, &[VIT, &["train.epochs=1"], settings]);
        let root = folder.path().join(name);
        train(&recipe, &root, false, never).unwrap();
        left(&root).last
    };
    let alone = trained("alone", &[]);
    let soft = trained("soft", &[&setting]);
    let hard = trained("hard", &[&setting, "distillation.targets=hard"]);
    let guided = &[
        &setting,
        "distillation.weight=0.0",
        "distillation.guidance=1.0",
    ];
    let guided = trained("guided", guided);
    assert!(soft != alone && hard != alone && hard != soft && guided != alone && guided != soft);
    // A CNN may learn from a CNN.
    let twin = recipe(
        &data,
        &[
            RESNET,
            &["train.epochs=1", "distillation.guidance=1.0", &setting],
        ],
    );
    train(&twin, &folder.path().join("twin"), false, never).unwrap();

    let run = folder.path().join("soft");
    let recipe = Recipe::load(&run.join("recipe.toml")).unwrap();
    assert!(recipe.distillation.sha256.is_some());
    let info = fs::read_to_string(run.join("run.json")).unwrap();
    assert!(
        info.contains(recipe.distillation.sha256.as_ref().unwrap()),
        "{info}"
    );
    let best = root.join("weights/best.safetensors");
    fs::copy(run.join("weights/last.safetensors"), &best).unwrap();
    let error = train(&recipe, &run, true, never).unwrap_err();
    assert!(matches!(error, RunError::OtherTeacher { .. }), "{error}");
}

#[test]
fn a_resumed_airbench_equals_an_uninterrupted_one_and_its_whitening_stays() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(&pictures(folder.path()), &[AIRBENCH]);
    let whole = folder.path().join("whole");
    train(&recipe, &whole, false, never).unwrap();
    let run = folder.path().join("interrupted");
    let whitening = || {
        let file = TensorFile::open(&run.join("checkpoint/state.safetensors")).unwrap();
        let weight = |of| format!("{of}Airbench.whitening.weight");
        let bias = |of| format!("{of}Airbench.whitening.bias");
        ["model.", "ema.model."]
            .map(|of| [weight(of), bias(of)].map(|name| file.values(&name).unwrap().unwrap()))
    };
    train(&recipe, &run, false, at_update(1)).unwrap();
    let [[first, bias], [average, _]] = whitening();
    assert!(first.iter().any(|&x| x != 0.0));
    train(&recipe, &run, true, at_epochs_end(2)).unwrap();
    train(&recipe, &run, true, never).unwrap();
    let [[last, moved], [last_average, _]] = whitening();
    assert_eq!(last, first);
    // An average of what never moves stays too, but for rounding.
    for (last, first) in last_average.iter().zip(&average) {
        assert!((last - first).abs() <= 1e-5 * first.abs(), "{last} {first}");
    }
    assert_ne!(moved, bias);
    assert_same(&left(&run), &left(&whole), "interrupted twice");
}

/// Two classes of the three, under other names.
fn other_pictures(folder: &Path, set: &Path) -> PathBuf {
    let root = folder.join("other");
    for (from, to) in [("ant", "wasp"), ("bee", "yak")] {
        fs::create_dir_all(root.join(to)).unwrap();
        for file in fs::read_dir(set.join(from)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), root.join(to).join(file.file_name())).unwrap();
        }
    }
    root
}

fn tensors(root: &Path, name: &str) -> Vec<HostTensor> {
    let path = root.join("weights").join(name);
    host_tensors(&load_weights(&path, &cpu().device).unwrap().model)
}

#[test]
fn what_is_frozen_keeps_every_bit_and_a_resume_the_course() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let other = other_pictures(folder.path(), &data);
    /// A model, what of it is frozen, and whether a tensor is of that.
    type Case = (&'static [&'static str], &'static str, fn(&str) -> bool);
    let cases: [Case; 4] = [
        (VIT, "init.freeze=backbone", |path| {
            !path.starts_with("Vit.head.")
        }),
        (VIT, "init.freeze=1", |path| {
            !["Vit.blocks.1.", "Vit.norm.", "Vit.head."]
                .iter()
                .any(|start| path.starts_with(start))
        }),
        (RESNET, "init.freeze=backbone", |path| {
            !path.contains(".head.")
        }),
        (RESNET, "init.freeze=1", |path| {
            path.contains(".stem.") || path.contains(".stage1.")
        }),
    ];
    for (i, (model, freeze, frozen)) in cases.into_iter().enumerate() {
        let at = |name: &str| folder.path().join(format!("{name}{i}"));
        let short = &["train.epochs=2"];
        train(&recipe(&data, &[model, short]), &at("first"), false, never).unwrap();
        let weights = format!("init.weights={:?}", at("first").display().to_string());
        // Drop path, mixing, an average: none of it may reach what is frozen.
        let settings = [
            model,
            EVERYTHING,
            short,
            &[freeze, "init.layer_decay=0.8"],
            &[&weights],
        ];
        let settings: Vec<&str> = settings
            .concat()
            .into_iter()
            .filter(|s| model == VIT || !s.starts_with("model.drop_path"))
            .collect();
        let recipe = recipe(&other, &[&settings]);
        train(&recipe, &at("whole"), false, never).unwrap();
        let (before, after) = (
            tensors(&at("first"), "best.safetensors"),
            tensors(&at("whole"), "last.safetensors"),
        );
        for ((path, _, old), (_, _, new)) in before.iter().zip(&after) {
            assert_eq!(old == new, frozen(path), "{freeze}: {path}");
        }
        let head = after.iter().find(|t| t.0.ends_with("head.bias")).unwrap();
        assert_eq!(head.1, [2]);
        // What was drawn or taken at the start is in the state: the first run may be gone.
        train(&recipe, &at("run"), false, at_update(2)).unwrap();
        fs::remove_dir_all(at("first")).unwrap();
        train(&recipe, &at("run"), true, never).unwrap();
        assert_same(&left(&at("run")), &left(&at("whole")), freeze);
        let info = fs::read_to_string(at("whole").join("run.json")).unwrap();
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        assert_eq!(info["init"]["sha256"].as_str().map(str::len), Some(64));
    }
}

#[test]
fn adapters_are_all_that_learns_and_a_resume_keeps_the_course() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let other = other_pictures(folder.path(), &data);
    let base = folder.path().join("base");
    let short = &["train.epochs=2"];
    train(&recipe(&data, &[VIT, short]), &base, false, never).unwrap();
    let weights = format!("init.weights={:?}", base.display().to_string());
    let whole_tensors = |weights: &Path| {
        let file = run::open_weights(weights).unwrap();
        host_tensors(&checkpoint::load(&file, &cpu().device).unwrap().model)
    };
    for (i, more) in [
        &["init.layer_decay=0.8", "preprocess.image_size=16"][..],
        &["optimizer.kind=muon", "train.precision=bf16"],
    ]
    .into_iter()
    .enumerate()
    {
        let at = |name: &str| folder.path().join(format!("{name}{i}"));
        let settings = [
            VIT,
            EVERYTHING,
            short,
            &["init.lora_rank=3", &weights],
            more,
        ];
        let recipe = recipe(&other, &settings);
        train(&recipe, &at("whole"), false, never).unwrap();
        let (before, after) = (
            whole_tensors(&base),
            whole_tensors(&at("whole").join("weights/last.safetensors")),
        );
        for ((path, _, old), (_, _, new)) in before.iter().zip(&after) {
            let is_matrix = [
                "attention.qkv",
                "attention.projection",
                "mlp.fc1",
                "mlp.fc2",
            ]
            .iter()
            .any(|matrix| path.ends_with(&format!(".{matrix}.weight")));
            let moves = is_matrix || path.starts_with("Vit.head.");
            let resized = path == "Vit.position_embedding" && i == 0;
            assert_eq!(old != new, moves || resized, "{path}");
        }
        // Only what learns is in the file.
        let file = TensorFile::open(&at("whole").join("weights/last.safetensors")).unwrap();
        for name in file.sizes().unwrap().into_keys() {
            let learns = name.contains(".weight.lora_") || name.starts_with("Vit.head.");
            assert!(learns, "{name}");
        }
        train(&recipe, &at("run"), false, at_update(2)).unwrap();
        // Its results need the weights that it changes, and that is said before it goes on.
        let moved = folder.path().join("moved");
        fs::rename(&base, &moved).unwrap();
        let error = train(&recipe, &at("run"), true, never).unwrap_err();
        assert!(
            error.to_string().contains("base is not a run directory"),
            "{error}"
        );
        fs::rename(&moved, &base).unwrap();
        train(&recipe, &at("run"), true, at_epochs_end(1)).unwrap();
        train(&recipe, &at("run"), true, never).unwrap();
        assert_same(&left(&at("run")), &left(&at("whole")), &format!("{more:?}"));
    }
}

#[test]
fn a_new_head_may_begin_as_the_probe_and_a_resume_goes_on_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let other = other_pictures(folder.path(), &data);
    let at = |name: &str| folder.path().join(name);
    // Without batch norm, so that features are the same in training.
    let linear = [VIT, &["model.stem=linear"]].concat();
    train(&recipe(&data, &[&linear]), &at("first"), false, never).unwrap();
    let weights = format!("init.weights={:?}", at("first").display().to_string());
    let begin = |data: &Path, name: &str, more: &[&str]| {
        let recipe = recipe(data, &[&linear, &[&weights], more]);
        train(&recipe, &at(name), false, never).unwrap();
        tensors(&at(name), "last.safetensors")
    };
    let same_head = |found: &[HostTensor], expected: &[HostTensor]| {
        let pairs = found.iter().zip(expected);
        let heads = pairs.filter(|(a, _)| a.0.starts_with("Vit.head."));
        let mut values = heads.flat_map(|(a, b)| a.2.iter().zip(&b.2));
        values.all(|(a, b)| (a - b).abs() <= 1e-6)
    };
    // One update by next to nothing.
    let still = [
        "train.steps=1",
        "optimizer.lr=1e-12",
        "optimizer.weight_decay=0",
    ];
    let with = |more: &[&'static str]| [&still[..], more].concat();
    let probe = begin(&other, "probe", &["init.probe=plain"]);
    let fitted = begin(&other, "fitted", &with(&["init.head=probe"]));
    let drawn = begin(&other, "drawn", &still);
    assert!(same_head(&fitted, &probe));
    assert!(!same_head(&drawn, &probe));
    // A head that knows the classes is kept, whatever a new one would begin with.
    let kept = begin(&data, "kept", &with(&["init.head=probe"]));
    assert!(kept == begin(&data, "as-ever", &still));
    assert!(same_head(&kept, &tensors(&at("first"), "best.safetensors")));
    // All layers learn from there, with all that a training may have.
    let settings = [&linear, EVERYTHING, &[&weights, "init.head=probe"]];
    let recipe = recipe(&other, &settings);
    train(&recipe, &at("whole"), false, never).unwrap();
    let learned = tensors(&at("whole"), "last.safetensors");
    for ((path, _, old), (_, _, new)) in fitted.iter().zip(&learned) {
        assert_ne!(old, new, "{path}");
    }
    train(&recipe, &at("run"), false, at_update(2)).unwrap();
    fs::remove_dir_all(at("first")).unwrap();
    train(&recipe, &at("run"), true, never).unwrap();
    assert_same(&left(&at("run")), &left(&at("whole")), "a fitted head");
}

#[test]
fn a_head_is_fitted_on_what_batch_norms_make_of_the_new_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let other = other_pictures(folder.path(), &data);
    let at = |name: &str| folder.path().join(name);
    train(&recipe(&data, &[RESNET]), &at("first"), false, never).unwrap();
    let weights = format!("init.weights={:?}", at("first").display().to_string());
    let head = |name: &str, more: &[&str]| {
        let recipe = recipe(&other, &[RESNET, &[&weights], more]);
        train(&recipe, &at(name), false, never).unwrap();
        let mut tensors = tensors(&at(name), "last.safetensors");
        tensors.retain(|tensor| tensor.0.contains(".head."));
        tensors
    };
    let still = [
        "train.steps=1",
        "train.ema=0",
        "optimizer.lr=1e-12",
        "optimizer.weight_decay=0",
        "init.head=probe",
    ];
    let far = |a: &[HostTensor], b: &[HostTensor]| {
        let pairs = a.iter().zip(b).flat_map(|(a, b)| a.2.iter().zip(&b.2));
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    let probe = head("probe", &["init.probe=plain"]);
    // Frozen ones go by the statistics that they came with.
    let frozen = head("frozen", &[&still[..], &["init.freeze=backbone"]].concat());
    assert!(far(&frozen, &probe) <= 1e-6);
    assert!(far(&head("all", &still), &probe) > 1e-3);
}

#[test]
fn a_training_that_ends_below_its_fitted_head_leaves_that_as_the_best() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let other = other_pictures(folder.path(), &data);
    for (name, model) in [("vit", VIT), ("resnet", RESNET)] {
        let at = |what: &str| folder.path().join(format!("{name}-{what}"));
        train(&recipe(&data, &[model]), &at("first"), false, never).unwrap();
        let weights = format!("init.weights={:?}", at("first").display().to_string());
        // At a rate that ruins what was learned.
        let ruinous = [
            &weights,
            "init.head=probe",
            "train.epochs=2",
            "optimizer.lr=0.5",
            "schedule.warmup_epochs=0",
        ];
        let recipe = recipe(&other, &[model, &ruinous]);
        let mut fitted = f64::NAN;
        let mut observe = |event: RunEvent<'_>| {
            if let RunEvent::Head { chosen, .. } = event {
                fitted = chosen.top1;
            }
        };
        let dir = RunDir::create(Some(&at("whole")), "set", "model").unwrap();
        let plan = Plan::new(recipe.clone()).unwrap();
        let finished = run::train(plan, &dir, &cpu(), &Stop::default(), &mut observe).unwrap();
        let best = finished.outcome.progress.best.unwrap();
        // As it was fitted: with the statistics of its batch norms too.
        assert_eq!((best.epoch, best.score), (0, fitted), "{name}");
        assert_eq!(finished.val.unwrap().top1, fitted, "{name}");
        let says_so = |finding: &Finding| matches!(finding, Finding::NotAboveStart { .. });
        assert!(finished.findings.iter().any(says_so), "{name}");
        let [kept, last] = ["best.safetensors", "last.safetensors"].map(|weights| {
            let path = at("whole").join("weights").join(weights);
            load_weights(&path, &cpu().device).unwrap().meta
        });
        assert_eq!((kept.epoch, kept.val_top1), (0, Some(fitted)), "{name}");
        assert_eq!(last.epoch, 2, "{name}");
        // Stopped before its first update, by a kill that left the weights out.
        let saved = |event: &TrainEvent| matches!(event, TrainEvent::Saved);
        train(&recipe, &at("run"), false, saved).unwrap();
        for weights in ["best.safetensors", "last.safetensors"] {
            fs::remove_file(at("run").join("weights").join(weights)).unwrap();
        }
        train(&recipe, &at("run"), true, never).unwrap();
        assert_same(&left(&at("run")), &left(&at("whole")), name);
    }
}

#[test]
fn the_number_of_workers_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let trained = |name: &str, settings: &[&str]| {
        let recipe = recipe(&data, &[VIT, EVERYTHING, &["train.epochs=2"], settings]);
        let root = folder.path().join(name);
        train(&recipe, &root, false, never).unwrap();
        left(&root)
    };
    let one = trained("one", &["data.workers=1"]);
    assert_same(&trained("three", &["data.workers=3"]), &one, "3 workers");
    let streamed = &["data.workers=2", "data.cache_mb=0"];
    assert_same(&trained("streamed", streamed), &one, "without a cache");
    assert!(
        trained("seeded", &["train.seed=1"]).last != one.last,
        "the seed matters"
    );
}

// ---- the real command -----------------------------------------------------------------------

/// `vitrine train` on this data with a tiny ViT.
fn command(data: &Path, out: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitrine"));
    command
        .args(["train", "--device", "cpu", "--data"])
        .arg(data);
    for setting in VIT {
        command.args(["--set", setting]);
    }
    command.args(more).arg("--out").arg(out);
    command
}

fn resume(run: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitrine"));
    command
        .args(["train", "--device", "cpu", "--resume"])
        .arg(run)
        .args(more);
    command
}

fn everything() -> Vec<&'static str> {
    EVERYTHING.iter().flat_map(|s| ["--set", *s]).collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    output
}

/// The last line of stderr of a command that must fail with exit code 1.
fn fails(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    stderr(&output).lines().last().unwrap().to_owned()
}

#[test]
fn the_same_command_gives_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let trained = |name: &str| {
        let root = folder.path().join(name);
        succeeds(&mut command(&data, &root, &everything()));
        all_whole(&root);
        assert_eq!(temporary_files(&root), 0);
        left(&root)
    };
    assert_same(&trained("one"), &trained("two"), "the same command");
}

#[test]
fn the_memory_of_pictures_is_that_of_what_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    for class in ["ant", "bee"] {
        fs::create_dir_all(folder.path().join(class)).unwrap();
        for n in 0..20 {
            let path = folder.path().join(format!("{class}/{n:02}.png"));
            RgbImage::new(64, 48).save(path).unwrap();
        }
    }
    let kept = |set: &[&str]| {
        let path = format!("data.path={}", folder.path().display());
        let set = [&[&*path, "preprocess.image_size=16"], set].concat();
        let recipe = Sources {
            recipe: None,
            set: set.iter().map(|s| (*s).to_owned()).collect(),
            values: Vec::new(),
        };
        let recipe = recipe.resolve().unwrap();
        run::kept_bytes(&Plan::new(recipe).unwrap())
    };
    // A fifth is held out, half of it for validation.
    assert_eq!(kept(&[]), [32 * 3 * 16 * 16, 4 * 3 * 16 * 16]);
    // Random crops keep a shorter side of twice the size: 43x32.
    let crops = [
        "augment.random_resized_crop=[0.35, 1.0]",
        "augment.crop_padding=0",
    ];
    assert_eq!(kept(&crops), [32 * 3 * 43 * 32, 4 * 3 * 16 * 16]);
}

#[test]
fn epochs_may_grow_on_resume() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    // At a constant learning rate, two epochs and two more are four.
    let constant = ["--set", "schedule.decay=constant", "--warmup-epochs", "0"];
    let (whole, grown) = (folder.path().join("whole"), folder.path().join("grown"));
    succeeds(command(&data, &whole, &constant).args(["--epochs", "4"]));
    succeeds(command(&data, &grown, &constant).args(["--epochs", "2"]));
    assert_eq!(read_results(&grown.join("results.csv")).unwrap().len(), 2);
    succeeds(&mut resume(&grown, &["--epochs", "4"]));
    assert_same(&left(&grown), &left(&whole), "grown");
    assert_eq!(
        fails(&mut resume(&grown, &["--epochs", "-5"])),
        "error: --epochs is -5: expected no negative number"
    );
    let recipe = Recipe::load(&grown.join("recipe.toml")).unwrap();
    assert_eq!(recipe.train.epochs, Some(4));

    assert_eq!(
        fails(&mut resume(&grown, &["--lr", "0.5"])),
        format!(
            "error: --resume continues {} with its own recipe: --lr cannot change; only --data, --epochs, --time, --steps, --patience, --workers, --cache-mb, --teacher, --device and --teacher-device may",
            grown.display()
        )
    );
}

/// Kills the training after each share of an undisturbed one's time and lets it continue.
#[test]
fn a_killed_training_loses_nothing_and_leaves_no_half_file() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    // A state after every update: as many chances as can be to be killed while writing.
    let mut flags = everything();
    flags.extend(["--epochs", "10", "--checkpoint-minutes", "0"]);
    let whole = folder.path().join("whole");
    let start = Instant::now();
    succeeds(&mut command(&data, &whole, &flags));
    let undisturbed = start.elapsed();
    let expected = left(&whole);

    let moments = std::env::var("VITRINE_LONG_TESTS").map_or(4, |n| n.parse().unwrap());
    for n in 0..moments {
        let chance = (hash(1000 + n) % 1000) as f64 / 1000.0;
        let share = (n as f64 + chance) / moments as f64;
        let mut run = folder.path().join(format!("killed-{n}"));
        let mut child = command(&data, &run, &flags)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(undisturbed.mul_f64(share));
        child.kill().unwrap();
        child.wait().unwrap();
        all_whole(&run);
        // What had begun is continued, or begun again; else it is said what to do.
        let has_begun = run.join("splits/test.txt").is_file();
        let has_state = run.join("checkpoint/state.safetensors").is_file();
        if has_state || (has_begun && !run.join("weights/last.safetensors").is_file()) {
            succeeds(&mut resume(&run, &[]));
        } else {
            let message = fails(&mut resume(&run, &[]));
            assert!(
                message.contains("holds no saved state to continue from: start again with `vitrine train --recipe ")
                    || message.contains("is not a run directory ("),
                "{message}"
            );
            run = folder.path().join(format!("again-{n}"));
            succeeds(&mut command(&data, &run, &flags));
        }
        all_whole(&run);
        assert_eq!(temporary_files(&run), 0, "the leftovers are swept");
        assert_same(&left(&run), &expected, &format!("killed at {share:.3}"));
    }
}

/// What a kill leaves between the state and what follows from it is made up for.
#[test]
fn weights_that_a_kill_left_out_follow_from_the_state() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let at = |name: &str| folder.path().join(name);
    let flags = everything();
    succeeds(command(&data, &at("whole"), &flags).args(["--epochs", "3"]));
    let whole = left(&at("whole"));
    let run = at("run");
    succeeds(command(&data, &run, &flags).args(["--epochs", "3"]));
    let csv = fs::read(run.join("results.csv")).unwrap();
    // Those of an earlier epoch, none at all, and none of what was drawn.
    let older = WeightsMeta {
        epoch: 2,
        ..load_weights(&run.join("weights/last.safetensors"), &cpu().device)
            .unwrap()
            .meta
    };
    for lost in ["last", "best"] {
        let path = run.join(format!("weights/{lost}.safetensors"));
        let meta = vitrine::checkpoint::meta(&TensorFile::open(&path).unwrap()).unwrap();
        if meta.epoch < 3 {
            continue;
        }
        vitrine::checkpoint::save_meta(&TensorFile::open(&path).unwrap(), &older, None).unwrap();
        succeeds(&mut resume(&run, &[]));
        assert_same(&left(&run), &whole, lost);
        fs::remove_file(path).unwrap();
        fs::remove_file(run.join("results.csv")).unwrap();
        succeeds(&mut resume(&run, &[]));
        assert_same(&left(&run), &whole, lost);
        assert!(fs::read(run.join("results.csv")).unwrap() == csv);
    }
    // What was changed by whom it belongs to stays.
    let mut calibrate = Command::new(env!("CARGO_BIN_EXE_vitrine"));
    succeeds(calibrate.args(["calibrate", "--device", "cpu"]).arg(&run));
    let calibrated = left(&run);
    assert!(calibrated.last != whole.last);
    succeeds(&mut resume(&run, &[]));
    assert_same(&left(&run), &calibrated, "calibrated");
}

/// Under a budget of time an epoch that is trained again comes out otherwise: no weights may be kept of one that no
/// state knows of.
#[test]
fn the_state_of_an_epoch_is_there_before_its_weights() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let run = folder.path().join("run");
    let best = run.join("weights/best.safetensors");
    // Nothing can replace a folder that is not empty.
    let mut child = command(&data, &run, &["--time", "3s"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while !run.join("run.json").is_file() {
        assert_eq!(child.try_wait().unwrap(), None, "it ended early");
        std::thread::sleep(Duration::from_millis(1));
    }
    fs::create_dir_all(best.join("inside")).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        stderr(&output).contains("best.safetensors"),
        "{}",
        stderr(&output)
    );
    let stopped = progress(&run);
    assert_eq!((stopped.epoch, stopped.batch), (1, 0));
    assert_eq!(stopped.history.len(), 1);
    fs::remove_dir_all(&best).unwrap();
    succeeds(&mut resume(&run, &[]));
    let done = progress(&run);
    assert_eq!(done.history[0], stopped.history[0]);
    let meta = load_weights(&best, &cpu().device).unwrap().meta;
    let counted = done.best.unwrap();
    assert_eq!(
        (meta.epoch, meta.val_top1),
        (counted.epoch, Some(counted.score))
    );
}

/// States of before there was a note of the recipe and of the moments.
#[test]
fn a_state_of_an_earlier_version_is_continued() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let at = |name: &str| folder.path().join(name);
    let flags = everything();
    for (name, epochs) in [("whole", "3"), ("run", "2")] {
        let constant = ["--set", "schedule.decay=constant", "--epochs", epochs];
        succeeds(command(&data, &at(name), &flags).args(constant));
    }
    let path = at("run").join("checkpoint/state.safetensors");
    let file = TensorFile::open(&path).unwrap();
    let tensors: Vec<HostTensor> = SafeTensors::deserialize(&fs::read(&path).unwrap())
        .unwrap()
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let values = file.values(&name).unwrap().unwrap();
            (name, view.shape().to_vec(), values)
        })
        .collect();
    vitrine::checkpoint::write_tensors(&path, &tensors, &progress(&at("run"))).unwrap();
    assert_eq!(
        Saved::open(&at("run").join("checkpoint")).unwrap().recipe,
        None
    );
    succeeds(&mut resume(&at("run"), &["--epochs", "3"]));
    assert_same(&left(&at("run")), &left(&at("whole")), "an earlier state");
    assert!(
        Saved::open(&at("run").join("checkpoint"))
            .unwrap()
            .recipe
            .is_some()
    );
}

/// Starts a training whose stderr goes to a file, and waits until `ready` says so.
#[cfg(unix)]
fn start(command: &mut Command, log: &Path, ready: impl Fn(&str) -> bool) -> std::process::Child {
    signals::answer();
    let mut child = command
        .stdout(Stdio::null())
        .stderr(fs::File::create(log).unwrap())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    while !ready(&fs::read_to_string(log).unwrap()) {
        assert_eq!(child.try_wait().unwrap(), None, "it ended early");
        assert!(begin.elapsed() < Duration::from_secs(60), "it never began");
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}

#[cfg(unix)]
fn signal(child: &std::process::Child, name: &str) {
    let kill = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
}

#[cfg(unix)]
#[test]
fn an_interrupt_saves_and_says_how_to_resume() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let (run, log) = (folder.path().join("run"), folder.path().join("log"));
    let mut long = command(&data, &run, &["--epochs", "100000"]);
    let mut child = start(&mut long, &log, |text| text.contains("epoch 2/"));
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    all_whole(&run);
    let progress = progress(&run);
    let lines = fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    // An epoch may still end between the two.
    // Between an epoch and the next update there is nothing to save.
    let stopping = ["stopping: saving the state", "stopping"];
    let stopping = stopping.map(|word| format!("{word} (press Ctrl-C again to exit at once)"));
    assert!(stopping.iter().any(|line| lines.contains(&line.as_str())));
    assert_eq!(
        lines[lines.len() - 1],
        format!(
            "stopped after {} updates; continue with: {} train --resume {}",
            progress.update,
            program(),
            run.display()
        )
    );
    assert!(!progress.finished);
    let epochs = progress.epoch + 2;
    succeeds(&mut resume(&run, &["--epochs", &epochs.to_string()]));
    let rows = read_results(&run.join("results.csv")).unwrap();
    assert_eq!(rows.len(), epochs);
    assert!(rows.iter().enumerate().all(|(n, row)| row.epoch == n + 1));
}

/// How a training that cargo started says to start it again.
#[cfg(unix)]
fn program() -> String {
    let path = Path::new(env!("CARGO_BIN_EXE_vitrine"));
    let here = std::env::current_dir().unwrap();
    let shown = path.strip_prefix(here).unwrap_or(path);
    match std::env::var_os("CARGO") {
        Some(_) => shown.display().to_string(),
        None => "vitrine".to_owned(),
    }
}

#[cfg(unix)]
#[test]
fn nohup_keeps_a_training_alive() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let (run, log) = (folder.path().join("run"), folder.path().join("log"));
    let long = command(&data, &run, &["--epochs", "30"]);
    let mut kept = Command::new("nohup");
    kept.arg(long.get_program()).args(long.get_args());
    let mut child = start(&mut kept, &log, |text| text.contains("epoch 1/"));
    signal(&child, "-HUP");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(read_results(&run.join("results.csv")).unwrap().len(), 30);
}

#[cfg(unix)]
#[test]
fn a_comparison_that_is_told_to_stop_stops_its_training() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let (out, log) = (folder.path().join("both"), folder.path().join("log"));
    let mut compare = Command::new(env!("CARGO_BIN_EXE_vitrine"));
    compare.args([
        "compare",
        "--models",
        "vit-micro,resnet9",
        "--device",
        "cpu",
    ]);
    compare
        .args(["--budget", "epochs=100000", "--data"])
        .arg(&data);
    compare.arg("--out").arg(&out);
    let mut child = start(&mut compare, &log, |text| text.contains("epoch 2/"));
    signal(&child, "-TERM");
    let said = || fs::read_to_string(&log).unwrap();
    // 128 and the number of SIGTERM.
    assert_eq!(child.wait().unwrap().code(), Some(143), "{}", said());
    assert!(said().contains("stopped after "), "{}", said());
    let run = out.join("vit-micro-seed0");
    all_whole(&run);
    assert!(progress(&run).epoch >= 2);
}

#[test]
fn a_comparison_that_is_killed_ends_its_training() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let out = folder.path().join("both");
    let mut compare = Command::new(env!("CARGO_BIN_EXE_vitrine"));
    compare.args([
        "compare",
        "--models",
        "vit-micro,resnet9",
        "--device",
        "cpu",
    ]);
    compare
        .args(["--budget", "epochs=100000", "--data"])
        .arg(&data);
    compare.arg("--out").arg(&out);
    let run = out.join("vit-micro-seed0");
    let is_held = || {
        matches!(
            RunDir::open(&run).map(|run| run.lock()),
            Ok(Err(RunError::Busy { .. }))
        )
    };
    let wait = |until: &dyn Fn() -> bool| {
        let begin = Instant::now();
        while !until() {
            assert!(begin.elapsed() < Duration::from_secs(60), "in vain");
            std::thread::sleep(Duration::from_millis(10));
        }
        begin.elapsed()
    };
    // While it trains, and in its first moments.
    for saved in [true, false] {
        let mut child = compare
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait(&|| is_held() && (!saved || run.join("checkpoint/state.safetensors").is_file()));
        child.kill().unwrap();
        child.wait().unwrap();
        let took = wait(&|| !is_held());
        assert!(took < Duration::from_secs(5), "{took:?}");
        all_whole(&run);
        if saved {
            assert!(progress(&run).update > 0);
        }
        fs::remove_dir_all(&run).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_second_interrupt_exits_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    // The embedded set in one update of many batches: seconds before it could save.
    let run = folder.path().join("run");
    let mut long = Command::new(env!("CARGO_BIN_EXE_vitrine"));
    long.args(["train", "--device", "cpu", "--accumulate", "60000"]);
    long.args(["--model", "vit-w1", "--epochs", "2", "--out"])
        .arg(&run);
    let mut child = start(&mut long, &log, |text| {
        text.contains("per training picture")
    });
    signal(&child, "-INT");
    let begin = Instant::now();
    while !fs::read_to_string(&log).unwrap().contains("stopping ") {
        assert!(begin.elapsed() < Duration::from_secs(20), "no answer");
        std::thread::sleep(Duration::from_millis(10));
    }
    signal(&child, "-INT");
    let second = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(
        second.elapsed() < Duration::from_secs(3),
        "{:?}",
        second.elapsed()
    );
    assert!(!fs::read_to_string(&log).unwrap().contains("stopped after"));
    all_whole(&run);
}

/// A training that diverges: no clipping, no warm-up, and a learning rate far too high.
fn diverging(data: &Path, out: &Path, lr: &str, more: &[&str]) -> Command {
    let mut command = command(data, out, more);
    command.args(["--lr", lr, "--clip-grad", "0", "--warmup-epochs", "0"]);
    command.args([
        "--set",
        "optimizer.kind=sgd",
        "--set",
        "schedule.decay=constant",
    ]);
    command
}

#[test]
fn a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    for (lr, shown, more) in [
        ("3", "3.000e0", &["--checkpoint-minutes", "0"][..]),
        ("100", "1.000e2", &["--checkpoint-minutes", "0"]),
        (
            "100",
            "1.000e2",
            &[
                "--checkpoint-minutes",
                "0",
                "--val-fraction",
                "0",
                "-b",
                "60",
            ],
        ),
    ] {
        let run = folder.path().join(format!("run-{lr}-{}", more.len()));
        let message = fails(diverging(&data, &run, lr, more).args(["--epochs", "40"]));
        let said = message
            .strip_prefix(&format!("error: run {}: the ", run.display()))
            .and_then(|m| {
                m.strip_suffix(&format!(
                    " with learning rate {shown}; the last good checkpoint is kept: lower --lr, lengthen --warmup-epochs or set --clip-grad, then train again"
                ))
            })
            .unwrap_or_else(|| panic!("{message}"));
        // Where exactly it breaks is the processor's business: "loss became NaN at update 8 (epoch 2)".
        let words: Vec<&str> = said.split(' ').collect();
        let verb = words.iter().position(|w| *w == "became").unwrap();
        let what = words[..verb].join(" ");
        assert!(
            ["loss", "gradient norm", "validation loss", "weights"].contains(&what.as_str()),
            "{said}"
        );
        assert!(["NaN", "inf", "-inf"].contains(&words[verb + 1]), "{said}");
        let update: u64 = words[verb + 4].parse().unwrap();
        let state = run.join("checkpoint/state.safetensors");
        assert!(state.is_file(), "{said}");
        let progress = progress(&run);
        assert!(progress.update <= update, "{said}");
        let bytes = fs::read(&state).unwrap();
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            let finite = view
                .data()
                .chunks_exact(4)
                .all(|b| f32::from_le_bytes(b.try_into().unwrap()).is_finite());
            assert!(
                finite || !name.starts_with("model."),
                "{name} after: {said}"
            );
        }
        all_whole(&run);
    }
}

#[test]
fn training_stops_when_validation_no_longer_improves() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let run = folder.path().join("run");
    // In 32 bits this learning rate is zero: the first epoch stays the best.
    let still = ["--lr", "1e-60", "--epochs", "30", "--patience", "2"];
    let output = succeeds(&mut command(&data, &run, &still));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let first = text.lines().next().unwrap();
    assert!(first.starts_with("trained 3 epochs in "), "{first}");
    assert!(
        first.ends_with(", stopped early: validation no longer improved; best epoch 1"),
        "{first}"
    );
    assert!(progress(&run).finished);
    // Asked for more patience, it goes on.
    succeeds(&mut resume(&run, &["--patience", "4"]));
    assert_eq!(read_results(&run.join("results.csv")).unwrap().len(), 5);
}

#[test]
fn a_time_budget_ends_in_time_with_the_learning_rate_near_zero() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let run = folder.path().join("run");
    let start = Instant::now();
    let more = ["--time", "5s", "--lr", "0.001", "--json"];
    let output = succeeds(&mut command(&data, &run, &more));
    let wall = start.elapsed().as_secs_f64();
    assert!((4.0..9.0).contains(&wall), "{wall} s");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let trained = json["training_s"].as_f64().unwrap();
    assert!((4.0..7.0).contains(&trained), "{trained} s");
    let rows = read_results(&run.join("results.csv")).unwrap();
    assert_eq!(json["epochs"], rows.len());
    let rates: Vec<f64> = rows.iter().map(|row| row.lr).collect();
    assert!(rates.iter().any(|lr| *lr > 5e-4), "{rates:?}");
    assert!(*rates.last().unwrap() < 5e-5, "{rates:?}");

    // What is finished stays as it is.
    let weights = fs::read(run.join("weights/last.safetensors")).unwrap();
    succeeds(&mut resume(&run, &[]));
    assert_eq!(
        read_results(&run.join("results.csv")).unwrap().len(),
        rows.len()
    );
    assert!(fs::read(run.join("weights/last.safetensors")).unwrap() == weights);
}

#[test]
fn a_broken_state_is_named_on_resume() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let run = folder.path().join("run");
    succeeds(&mut command(&data, &run, &["--epochs", "1"]));
    let state = run.join("checkpoint/state.safetensors");
    let whole = fs::read(&state).unwrap();
    let weights = fs::read(run.join("weights/best.safetensors")).unwrap();
    let more = ["--epochs", "2"];

    for end in [0, 5, whole.len() / 3, whole.len() - 1] {
        fs::write(&state, &whole[..end]).unwrap();
        let message = fails(&mut resume(&run, &more));
        let start = format!(
            "error: run {}: {} is not a whole safetensors file (",
            run.display(),
            state.display()
        );
        assert!(
            message.starts_with(&start) && message.ends_with("); copy or train it again"),
            "{message}"
        );
    }
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    fs::write(&state, &flipped).unwrap();
    assert_eq!(
        fails(&mut resume(&run, &more)),
        format!(
            "error: run {}: {} was changed after it was written: its bytes do not match their SHA-256; copy or train it again",
            run.display(),
            state.display()
        )
    );
    fs::remove_file(&state).unwrap();
    assert_eq!(
        fails(&mut resume(&run, &more)),
        format!(
            "error: run {0}: {0} holds no saved state to continue from: start again with `vitrine train --recipe {0}/recipe.toml`",
            run.display()
        )
    );
    // None of it harmed the weights, and the whole state still works.
    load_weights(&run.join("weights/best.safetensors"), &cpu().device).unwrap();
    assert_eq!(
        fs::read(run.join("weights/best.safetensors")).unwrap(),
        weights
    );
    fs::write(&state, &whole).unwrap();
    succeeds(&mut resume(&run, &more));
}
