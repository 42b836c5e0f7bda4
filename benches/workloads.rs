//! The reference workloads, one a process, so that peers can be timed by turns with it.
//!
//! `cargo bench --bench workloads -- w1-train --precision bf16` prints one JSON object: workload,
//! precision, batch, threads, images_per_s, ms_per_step, peak_rss_mb. Workloads: w1-train,
//! w1-infer (vit-w1 on 32×32), w2-train, w2-infer (resnet18 on 32×32), w3-infer (vit-tiny on
//! 224×224, 1000 classes), ti-tune, s-tune (fine-tuning of vit-tiny, vit-small on 224×224, 10 classes,
//! with layer-wise decay), ti-lora, s-lora (the same with adapters of rank 8). Options: --device
//! cpu|cuda:0|… as `vitrine train` has it, --precision f32|bf16|int8 (for inference), --batch, --steps,
//! --warmup, --threads; --image-size and --width, of w1, for `growth.py`; --save FILE writes the model's
//! first weights for `vitrine classify` instead of timing it.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use vitrine::checkpoint::{WeightsMeta, save_weights};
use vitrine::data::{Preprocess, Resize};
use vitrine::device::{DeviceChoice, select};
use vitrine::model::{Model, ModelConfig, Noise};
use vitrine::ops::{Precision, Prepared};
use vitrine::stop::Stop;
use vitrine::train::{Classification, FinetuneConfig, OptimizerConfig, Step, Workload};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Options {
    workload: String,
    device: DeviceChoice,
    precision: Precision,
    batch: usize,
    steps: usize,
    warmup: usize,
    threads: usize,
    image_size: Option<usize>,
    width: Option<usize>,
    save: Option<PathBuf>,
}

fn options() -> Options {
    let mut options = Options {
        workload: String::new(),
        device: "cpu".parse().expect("a device"),
        precision: Precision::F32,
        batch: 128,
        steps: 10,
        warmup: 3,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        image_size: None,
        width: None,
        save: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || -> usize {
            let text = arguments.next().unwrap_or_default();
            text.parse()
                .unwrap_or_else(|_| panic!("{argument} {text:?}: expected a number"))
        };
        match argument.as_str() {
            "--batch" => options.batch = number(),
            "--steps" => options.steps = number(),
            "--warmup" => options.warmup = number(),
            "--threads" => options.threads = number(),
            "--image-size" => options.image_size = Some(number()),
            "--width" => options.width = Some(number()),
            "--device" => {
                let name = arguments.next().unwrap_or_default();
                options.device = name.parse().unwrap_or_else(|error| panic!("{error}"));
            }
            "--precision" => {
                options.precision = match arguments.next().as_deref() {
                    Some("f32") => Precision::F32,
                    Some("bf16") => Precision::Bf16,
                    Some("int8") => Precision::Int8,
                    other => panic!("--precision {other:?}: expected f32, bf16 or int8"),
                }
            }
            "--save" => {
                let file = arguments.next().expect("--save: expected a file");
                options.save = Some(file.into());
            }
            // What cargo passes to every bench.
            "--bench" => {}
            name => options.workload = name.to_owned(),
        }
    }
    options
}

#[allow(clippy::print_stdout)]
fn main() {
    vitrine::device::keep_freed_pages();
    let options = options();
    // `cargo test --benches` and a bare `cargo bench` name no workload.
    if options.workload.is_empty() {
        return;
    }
    vitrine::device::set_threads(options.threads).expect("no work has begun");
    let (preset, image_size, classes) = match options.workload.split('-').next() {
        Some("w1") => ("vit-w1", 32, 10),
        Some("w2") => ("resnet18", 32, 10),
        Some("w3") => ("vit-tiny", 224, 1000),
        Some("ti") => ("vit-tiny", 224, 10),
        Some("s") => ("vit-small", 224, 10),
        _ => panic!("{:?} is no workload", options.workload),
    };
    let patches = options.image_size.map(|_| 4);
    let image_size = options.image_size.unwrap_or(image_size);
    let mut config = ModelConfig::preset(preset, image_size, patches, classes).expect("a preset");
    if let Some(width) = options.width {
        let ModelConfig::Vit(vit) = &mut config else {
            panic!("--width: of a ViT alone");
        };
        // As vit-w1 has them: heads of 64, and an MLP of twice the width.
        (vit.embed_dim, vit.num_heads, vit.mlp_dim) = (width, width / 64, 2 * width);
        config.validate().expect("a width of whole heads");
    }
    if let Some(file) = &options.save {
        return save(file, preset, config);
    }
    let selected = select(options.device).unwrap_or_else(|error| panic!("{error}"));
    let device = selected.device;
    let adapts = options.workload.ends_with("-lora");
    let tunes = adapts || options.workload.ends_with("-tune");
    let seconds = if tunes || options.workload.ends_with("-train") {
        let finetune = FinetuneConfig {
            layer_decay: if tunes { 0.75 } else { 1.0 },
            lora_rank: if adapts { 8 } else { 0 },
            ..FinetuneConfig::default()
        };
        let workload = Workload {
            model: &config,
            optimizer: &OptimizerConfig::default(),
            finetune: &finetune,
            batch_size: options.batch,
            accumulate: 1,
            precision: options.precision,
        };
        let task = Classification::new(0.0, &device);
        let mut learner = workload.learner(Box::new(task), &device);
        let batch = workload.batch();
        let mut update = 0;
        timed(&options, &device, || {
            let step = Step {
                lr: 1e-3,
                spent: 0.0,
                batches: 1,
                noise: Noise::new(0, update),
                stop: Stop::default(),
            };
            let loss = learner.update(step, || Ok::<_, Infallible>(batch.clone()));
            assert!(loss.is_ok(), "{loss:?}");
            update += 1;
        })
    } else {
        let pixels: Vec<f32> = (0..options.batch * 3 * image_size * image_size)
            .map(|i| ((i * 2_654_435_761) % 1_000) as f32 / 500.0 - 1.0)
            .collect();
        let shape = [options.batch, 3, image_size, image_size];
        let images = Tensor::<4>::from_data(TensorData::new(pixels, shape), &device);
        let model: Model = config.init(0, &device).valid();
        let prepared = Prepared::default();
        timed(&options, &device, || {
            let logits = model
                .infer(images.clone(), options.precision, &prepared)
                .into_data();
            assert_eq!(logits.shape()[0], options.batch);
        })
    };
    let peak = vitrine::device::peak_memory_bytes().unwrap_or(0) >> 20;
    let result = serde_json::json!({
        "workload": options.workload,
        "device": selected.name,
        "precision": options.precision,
        "batch": options.batch,
        "threads": options.threads,
        "peak_rss_mb": peak,
        "images_per_s": options.batch as f64 / seconds,
        "ms_per_step": 1e3 * seconds,
    });
    println!("{result}");
    vitrine::device::exit_now(0);
}

/// Seconds of a step, to the end of all that it has given the device to do.
fn timed(options: &Options, device: &Device, mut step: impl FnMut()) -> f64 {
    let wait = || device.sync().expect("the device answers");
    for _ in 0..options.warmup {
        step();
    }
    wait();
    let start = Instant::now();
    for _ in 0..options.steps {
        step();
    }
    wait();
    start.elapsed().as_secs_f64() / options.steps as f64
}

/// Weights whose answers mean nothing, but take as long as any.
fn save(file: &Path, name: &str, config: ModelConfig) {
    let model = config.init(0, &Device::flex());
    let meta = WeightsMeta {
        name: name.to_owned(),
        classes: (0..config.num_classes())
            .map(|class| format!("class {class}"))
            .collect(),
        preprocess: Preprocess {
            image_size: config.image_size(),
            resize: Resize::Crop,
            mean: [0.5; 3],
            std: [0.5; 3],
            ..Preprocess::default()
        },
        temperature: 1.0,
        epoch: 0,
        val_top1: None,
        calibration: None,
        model: config,
    };
    save_weights(file, &model, &meta).unwrap_or_else(|error| panic!("{error}"));
}
