//! A GPU computes what the processor computes.
//!
//! These run where a real GPU is found, or on the adapter that `VITRINE_TEST_DEVICE` names, such
//! as `wgpu:0`; elsewhere each is ignored, with the reason, and none counts as passed. The model is tiny and
//! its sizes odd: a software driver tunes every new shape for seconds.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::io::Write;
use std::sync::{LazyLock, Mutex, PoisonError};

use burn::tensor::{Device, Tensor, TensorData};
use support::Place;
use vitrine::device::{self, DeviceChoice, Selected};
use vitrine::model::{
    Init, Model, ModelConfig, Pass, Pooling, Position, Stem, VitConfig, parameters,
};
use vitrine::ops::{Activation, Precision};
use vitrine::train::cross_entropy;

const BATCH: usize = 7;
const CLASSES: usize = 5;
const SIDE: usize = 12;

fn config() -> ModelConfig {
    ModelConfig::Vit(VitConfig {
        image_size: SIDE,
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
        registers: 1,
        drop_path: 0.0,
        distillation_token: false,
        init: Init::Xavier,
        layer_scale: 0.0,
        qk_norm: false,
        qk_norm_bias: false,
        norm_epsilon: 1e-6,
        norm_after_pooling: false,
        activation: Activation::Gelu,
    })
}

fn cpu() -> Device {
    device::select("cpu".parse().unwrap()).unwrap().device
}

/// One test at a time has the GPU: two that tune at once disturb each other's timings.
static GPU: LazyLock<Mutex<Result<Selected, String>>> = LazyLock::new(|| {
    device::probe_with(env!("CARGO_BIN_EXE_vitrine").into());
    Mutex::new(match std::env::var("VITRINE_TEST_DEVICE") {
        // A device that is named has to work.
        Ok(name) => Ok(device::select(name.parse().unwrap()).unwrap()),
        Err(_) => match device::select(DeviceChoice::Auto) {
            Ok(found) if found.name != "cpu" => Ok(found),
            Ok(cpu) => Err(format!(
                "{}, and VITRINE_TEST_DEVICE names none",
                cpu.reason
            )),
            Err(error) => Err(error.to_string()),
        },
    })
});

/// How far logits, gradients and losses may lie from the processor's.
struct Tolerance {
    logits: f32,
    gradients: f64,
    losses: f32,
}

impl Tolerance {
    /// CUDA rounds the operands of f32 products to TF32, 11 bits where f32 has 24.
    fn of(gpu: &Selected) -> Self {
        if gpu.name.starts_with("cuda") {
            Self {
                logits: 5e-3,
                gradients: 2e-2,
                losses: 5e-2,
            }
        } else {
            Self {
                logits: 1e-4,
                gradients: 1e-3,
                losses: 1e-2,
            }
        }
    }
}

/// Where a test ran, or why it did not.
type Ran = Result<String, String>;

type Test = fn() -> Ran;

/// Runs `test` on the GPU, if there is one.
fn on_gpu(test: impl FnOnce(&Selected)) -> Ran {
    let gpu = GPU.lock().unwrap_or_else(PoisonError::into_inner);
    let gpu = gpu.as_ref()?;
    test(gpu);
    Ok(gpu.name.clone())
}

/// Pictures and one-hot targets, the same everywhere.
fn batch(device: &Device) -> (Tensor<4>, Tensor<2>) {
    let pixels: Vec<f32> = (0..BATCH * 3 * SIDE * SIDE)
        .map(|i| ((i * 7919 + i / 97) % 211) as f32 / 105.0 - 1.0)
        .collect();
    let mut targets = vec![0.0f32; BATCH * CLASSES];
    for row in 0..BATCH {
        targets[row * CLASSES + (row * 3 + 1) % CLASSES] = 1.0;
    }
    (
        Tensor::from_data(TensorData::new(pixels, [BATCH, 3, SIDE, SIDE]), device),
        Tensor::from_data(TensorData::new(targets, [BATCH, CLASSES]), device),
    )
}

fn numbers<const R: usize>(tensor: Tensor<R>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().unwrap()
}

/// A model whose every tensor has been stirred: a new one has a head of zeros, so that all of its
/// logits are zero, and so is every gradient but the head's.
fn stirred(device: &Device) -> Model {
    parameters::replace(config().init(3, device), |path, shape| {
        let count: usize = shape.iter().product();
        // No two blocks alike.
        let place: usize = path.bytes().map(usize::from).sum();
        let wave = (0..count).map(|i| ((i * 7 + place) as f32).sin() * 0.3);
        let around = if path.ends_with("gamma") { 1.0 } else { 0.0 };
        let values: Vec<f32> = wave.map(|w| around + w).collect();
        let device = device.clone().without_autodiff();
        Some(Tensor::from_floats(values.as_slice(), &device))
    })
}

fn logits(device: &Device) -> Vec<f32> {
    let mut pass = Pass::inference(Precision::F32);
    numbers(stirred(device).forward(batch(device).0, &mut pass))
}

/// Loss and gradients, one flat tensor a parameter.
fn gradients(model: &Model, device: &Device) -> (f32, Vec<Option<Tensor<1>>>) {
    let (images, targets) = batch(device);
    let loss = cross_entropy(
        model.forward(images, &mut Pass::inference(Precision::F32)),
        targets,
    );
    let value = loss.clone().into_scalar::<f32>();
    let mut gradients = loss.backward();
    (value, parameters::take_gradients(model, &mut gradients))
}

/// Losses of plain gradient descent on one batch.
fn descent(device: &Device, steps: usize) -> Vec<f32> {
    let device = device.clone().autodiff();
    let mut model = config().init(3, &device);
    let mut losses = Vec::new();
    for _ in 0..steps {
        let (loss, gradients) = gradients(&model, &device);
        losses.push(loss);
        let mut gradients = gradients.into_iter();
        model = parameters::update(model, |value| match gradients.next().flatten() {
            Some(gradient) => value.sub(gradient.mul_scalar(0.03)),
            None => value,
        });
    }
    losses
}

fn logits_equal_the_processors() -> Ran {
    on_gpu(|gpu| {
        let tolerance = Tolerance::of(gpu).logits;
        let (got, want) = (logits(&gpu.device), logits(&cpu()));
        assert_eq!(got.len(), BATCH * CLASSES);
        let largest = want.iter().fold(0.0f32, |a, w| a.max(w.abs()));
        assert!(largest > 0.1, "no logit is larger than {largest}");
        for (g, w) in got.iter().zip(&want) {
            assert!(
                (g - w).abs() <= tolerance * largest.max(1.0),
                "{g} on the GPU, {w} on the processor"
            );
        }
    })
}

fn gradients_equal_the_processors() -> Ran {
    on_gpu(|gpu| {
        let all = |device: &Device| -> Vec<Vec<f64>> {
            let device = device.clone().autodiff();
            gradients(&stirred(&device), &device)
                .1
                .into_iter()
                .map(|g| numbers(g.unwrap()).into_iter().map(f64::from).collect())
                .collect()
        };
        let norm =
            |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
        let (got, want) = (all(&gpu.device), all(&cpu()));
        let tolerance = Tolerance::of(gpu).gradients;
        let whole = norm(&mut want.iter().flatten().copied());
        assert!(whole > 0.0 && got.len() == want.len());
        let silent = want.iter().filter(|w| w.iter().all(|&w| w == 0.0)).count();
        assert_eq!(silent, 0, "parameters without a gradient");
        let paths = parameters::trainable(&config().init(3, &cpu().autodiff()));
        for ((g, w), parameter) in got.iter().zip(&want).zip(&paths) {
            let off = norm(&mut g.iter().zip(w).map(|(g, w)| g - w));
            // A key's bias has no gradient but rounding: it is held against the whole.
            let scale = norm(&mut w.iter().copied()).max(1e-3 * whole);
            assert!(
                off.is_finite() && off <= tolerance * scale,
                "{}: off by {:.1e}",
                parameter.path(),
                off / scale
            );
        }
    })
}

fn thirty_steps_bring_the_loss_down_as_on_the_processor() -> Ran {
    on_gpu(|gpu| {
        let tolerance = Tolerance::of(gpu).losses;
        let (got, want) = (descent(&gpu.device, 30), descent(&cpu(), 30));
        assert!(
            want[29] < 0.5 * want[0],
            "the processor's own loss: {want:?}"
        );
        for (step, (g, w)) in got.iter().zip(&want).enumerate() {
            // Rounding that differs is amplified from step to step.
            assert!(
                (g - w).abs() <= tolerance * w.max(0.1),
                "step {step}: {g} on the GPU, {w} on the processor"
            );
        }
    })
}

/// Trains a student on `device`, taught from `teacher_device`; the losses of its epochs.
fn taught(place: &Place, device: &str, teacher_device: &str) -> Vec<f64> {
    let out = format!("{device}-{teacher_device}").replace(':', "");
    place
        .run(&format!(
            "train --data pets {TAUGHT} --epochs 2 --seed 1 --teacher teacher --device {device} \
             --teacher-device {teacher_device} --set distillation.guidance=1 --out {out}"
        ))
        .ok();
    let results = place.read(&format!("{out}/results.csv"));
    let mut lines = results.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let column = names.iter().position(|name| *name == "train/loss").unwrap();
    lines
        .map(|line| line.split(',').nth(column).unwrap().parse().unwrap())
        .collect()
}

/// A model of few and odd sizes.
const TAUGHT: &str = "--image-size 12 -b 8 --precision f32 --set augment.crop_padding=0 \
    --set model.stem=linear --set model.depth=1 --set model.embed_dim=24 --set model.num_heads=3 \
    --set model.mlp_dim=40";

fn a_teacher_on_another_device_teaches_the_same() -> Ran {
    on_gpu(|gpu| {
        let place = Place::new();
        place.pictures("pets", &["cat", "dog"], 10);
        place
            .run(&format!(
                "train --data pets {TAUGHT} --epochs 1 --device cpu --out teacher"
            ))
            .ok();
        let want = taught(&place, "cpu", "cpu");
        assert_eq!(want.len(), 2);
        // Its name, before the adapter's.
        let gpu = gpu.name.split(',').next().unwrap();
        for [student, teacher] in [["cpu", gpu], [gpu, "cpu"]] {
            for (g, w) in taught(&place, student, teacher).iter().zip(&want) {
                assert!(
                    (g - w).abs() <= 1e-3 * w,
                    "{g} with a student on {student} and its teacher on {teacher}, {w} on cpu"
                );
            }
        }
    })
}

/// The harness's part, in its words; what it does not do is run the drivers' destructors.
fn main() {
    // cargo-nextest asks for names first, and runs each by its name.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |name: &str| {
        let filters: Vec<_> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
        filters.is_empty() || filters.iter().any(|f| name.contains(f.as_str()))
    };
    let tests: [(&str, Test); 4] = [
        ("logits_equal_the_processors", logits_equal_the_processors),
        (
            "gradients_equal_the_processors",
            gradients_equal_the_processors,
        ),
        (
            "thirty_steps_bring_the_loss_down_as_on_the_processor",
            thirty_steps_bring_the_loss_down_as_on_the_processor,
        ),
        (
            "a_teacher_on_another_device_teaches_the_same",
            a_teacher_on_another_device_teaches_the_same,
        ),
    ];
    if arguments.iter().any(|a| a == "--list") {
        for (name, _) in tests {
            println!("{name}: test");
        }
        return;
    }
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    for (name, test) in tests.into_iter().filter(|(name, _)| wanted(name)) {
        let (count, words) = match std::panic::catch_unwind(test) {
            Ok(Ok(gpu)) => (&mut passed, format!("ok, on {gpu}")),
            Ok(Err(reason)) => (&mut ignored, format!("ignored, {reason}")),
            // The panic has printed its message already.
            Err(_) => (&mut failed, "FAILED".to_owned()),
        };
        *count += 1;
        println!("test {name} ... {words}");
    }
    let result = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {result}. {passed} passed; {failed} failed; {ignored} ignored");
    let _ = std::io::stdout().flush();
    device::exit_now(u8::from(failed > 0))
}
