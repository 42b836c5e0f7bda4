//! A task that lives here alone, without labels and with a decoder that learns beside the model:
//! what the loop asks of a task is all that it needs.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};

use super::task::{Direction, Figure, Task, Validation};
use super::*;
use crate::checkpoint::{TensorFile, WeightsMeta, load_weights};
use crate::data::{
    AugmentConfig, Batch, DataError, Dataset, EvalLoader, Pictures, PicturesOptions, Preprocess,
    Resize, Shard, SplitName, TrainLoader,
};
use crate::eval;
use crate::model::{Declarations, Declare, Model, ModelConfig, Pass, Role, undrawn_linear};
use crate::ops::Precision;
use crate::stop::Stop;

/// Draws a picture's mean colour from its features.
#[derive(Module, Debug)]
struct Decoder {
    colour: Linear,
}

impl Declare for Decoder {
    fn declare(&self, to: &mut Declarations) {
        to.linear("colour", &self.colour, Role::Matrix);
    }
}

impl Decoder {
    /// Mean squared error over a batch `[B, 3, H, W]`; the result `[1]`.
    fn error(&self, features: Tensor<2>, images: Tensor<4>) -> Tensor<1> {
        let [batch, channels, ..] = images.dims();
        let colours = images
            .reshape([batch as i32, channels as i32, -1])
            .mean_dim(2);
        let colours = colours.reshape([batch, channels]);
        (self.colour.forward(features) - colours).square().mean()
    }
}

/// The mean colour of a picture, from what the model has made of it.
#[derive(Debug)]
struct MeanColour {
    decoder: Decoder,
    val: EvalLoader,
}

const ERROR: &str = "val/colour_error";

impl Task for MeanColour {
    fn parts(&mut self) -> Vec<Part<'_>> {
        vec![Part {
            name: "decoder",
            module: &mut self.decoder,
            rule: Rule::Recipe,
            averaged: true,
        }]
    }

    fn loss(&self, model: &Model, batch: Batch, _spent: f64, pass: &mut Pass) -> Tensor<1> {
        let images = eval::input(batch, &device().autodiff());
        let features = model.features(images.clone(), pass);
        self.decoder.error(features, images)
    }

    fn validate(
        &self,
        model: &Model,
        average: Option<&Average>,
    ) -> Result<Option<Validation>, DataError> {
        let decoder = match average {
            Some(average) => average.apply("decoder", &self.decoder),
            None => self.decoder.valid(),
        };
        let (mut sum, mut batches) = (0.0, 0.0);
        for batch in self.val.pass() {
            let images = eval::input(batch?, &device());
            let mut pass = Pass::inference(Precision::F32);
            let features = model.features(images.clone(), &mut pass);
            sum += f64::from(decoder.error(features, images).into_scalar::<f32>());
            batches += 1.0;
        }
        let (column, value) = (ERROR.to_owned(), sum / batches);
        Ok(Some(Validation {
            score: value,
            loss: value,
            figures: vec![Figure { column, value }],
        }))
    }

    fn direction(&self) -> Direction {
        Direction::Lower
    }

    fn columns(&self) -> &'static [&'static str] {
        &[ERROR]
    }

    fn describe(&self, _figures: &[Figure], _meta: &mut WeightsMeta) {}
}

fn device() -> Device {
    Device::flex()
}

const BATCH_SIZE: usize = 8;

/// Trains on 40 pictures for four epochs of five updates, or until an update.
fn train(folder: &Path, saved: Option<Saved>, until: u64) -> Outcome {
    let preprocess = Preprocess {
        image_size: 8,
        resize: Resize::Squash,
        mean: [0.3; 3],
        std: [0.3; 3],
        ..Preprocess::default()
    };
    let dataset = Arc::new(Dataset::embedded());
    let samples = dataset.given(SplitName::Train);
    let pictures = |samples| {
        let options = PicturesOptions::default();
        Pictures::load(
            &dataset,
            samples,
            &preprocess,
            &options,
            &Stop::default(),
            &|_| {},
        )
        .unwrap()
    };
    let device = device();
    let config = ModelConfig::preset("vit-micro", 8, None, 10).unwrap();
    let task = MeanColour {
        decoder: Decoder {
            colour: undrawn_linear(config.width(), 3, &device.clone().autodiff()),
        },
        val: EvalLoader::new(
            pictures(&samples[40..56]),
            preprocess.clone(),
            BATCH_SIZE,
            1,
        ),
    };
    let stop = Stop::default();
    let trainer = Trainer {
        config: TrainConfig {
            budget: Budget::Epochs(4),
            accumulate: 1,
            seed: 3,
            ema: 0.5,
            ema_epochs: 0.0,
            patience: 0,
            checkpoint_every: Duration::from_secs(3600),
            precision: Precision::F32,
            optimizer: OptimizerConfig {
                kind: OptimizerKind::Muon,
                lr: 0.01,
                ..OptimizerConfig::default()
            },
            schedule: ScheduleConfig::default(),
            curriculum: CurriculumConfig::default(),
            finetune: FinetuneConfig::default(),
        },
        train: TrainLoader::new(
            pictures(&samples[..40]),
            preprocess.clone(),
            AugmentConfig::default(),
            BATCH_SIZE,
            3,
            Shard::whole(),
            1,
        ),
        device,
        meta: WeightsMeta {
            name: "vit-micro".to_owned(),
            model: config,
            classes: (0..10).map(|class| class.to_string()).collect(),
            preprocess,
            temperature: 1.0,
            epoch: 0,
            val_top1: None,
            calibration: None,
        },
        init: None,
        base: None,
        weights: folder.to_owned(),
        state: folder.to_owned(),
        recipe: String::new(),
        stop: stop.clone(),
    };
    let mut updates = 0;
    trainer
        .train(Box::new(task), saved, &mut |event| {
            if matches!(event, TrainEvent::Update { .. }) {
                updates += 1;
                if updates == until {
                    stop.request();
                }
            }
        })
        .unwrap()
}

#[test]
fn a_task_of_its_own_is_trained_judged_saved_and_resumed() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [whole, parts] = folders.each_ref().map(|folder| folder.path());
    let outcome = train(whole, None, u64::MAX);
    assert_eq!(outcome.ending, Ending::Complete);
    let history = outcome.progress.history;
    let errors: Vec<f64> = history.iter().map(|r| r.figure(ERROR).unwrap()).collect();
    // It learns, and the epoch of the smallest error is the best.
    let best = outcome.progress.best.unwrap();
    let smallest = errors.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(smallest < 0.5 * errors[0], "{errors:?}");
    assert_eq!((best.score, errors[best.epoch - 1]), (smallest, smallest));

    let interrupted = train(parts, None, 7);
    assert_eq!(interrupted.ending, Ending::Interrupted);
    let saved = Saved::open(parts).unwrap();
    train(parts, Some(saved), u64::MAX);
    for file in ["last.safetensors", "best.safetensors"] {
        let [whole, parts] = [whole, parts].map(|folder| std::fs::read(folder.join(file)).unwrap());
        assert!(whole == parts, "{file} differs");
    }
    let decoders = [whole, parts].map(|folder| {
        let file = TensorFile::open(&folder.join("state.safetensors")).unwrap();
        let tensor = |of: &str| file.values(&format!("{of}decoder.colour.weight"));
        ["", "ema."].map(|of| tensor(of).unwrap().unwrap())
    });
    assert_eq!(decoders[0], decoders[1]);
    // The decoder has learned, and is no part of what ships.
    assert!(decoders[0][0].iter().any(|&x| x != 0.0));
    let shipped = whole.join("best.safetensors");
    let file = TensorFile::open(&shipped).unwrap();
    for name in ["decoder.colour.weight", "colour.weight"] {
        assert_eq!(file.values(name).unwrap(), None);
    }
    load_weights(&shipped, &device()).unwrap();
}
