//! `vitrine train`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use toml::Value;

use super::interrupt::on_interrupt;
use super::progress::Progress;
use super::{Done, note, one_meaning, quoted, say};
use crate::device::{self, DeviceChoice, Selected};
use crate::metrics::EvalReport;
use crate::ops::PrecisionChoice;
use crate::ops::profile::{self, Span};
use crate::recipe::{Layers, Recipe};
use crate::report::text;
use crate::run::{self, Devices, Estimate, Finished, Plan, RunDir, RunEvent};
use crate::train::{Ending, STEP, TrainEvent};

/// Train a model on a data set into a run directory.
///
/// Without an argument it trains a small Vision Transformer on the bundled Fashion-MNIST sample.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Folder of class folders, .tar, .tar.gz, .zip, CIFAR, IDX or Parquet.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// vit-micro, vit-w1, vit-tiny, vit-small, vit-base, resnet9, airbench or resnet18.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Recipe file, or the name of an embedded one: default, vit, cnn, photos, cifar10-vit-w1,
    /// cifar10-resnet9, cifar10-cnn, cifar10-vit, cifar10-vit-distilled or fashion-mnist-vit.
    #[arg(long, value_name = "FILE")]
    recipe: Option<String>,
    /// Set any recipe key, as in optimizer.lr=0.001; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Start from a run's best weights, a file, or what ships (cifar10-vit, cifar10-cnn):
    /// their layers, and a fresh head for other classes.
    #[arg(long, value_name = "RUN|WEIGHTS")]
    init: Option<PathBuf>,
    /// What of --init does not learn: none, backbone, or the embedding and N blocks.
    #[arg(long, value_name = "WHAT", hide_short_help = true)]
    freeze: Option<String>,
    /// Passes over the training split.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    epochs: Option<i64>,
    /// Train this long instead: 90s, 30m, 1h30m; the schedule ends where the time does.
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["epochs", "steps"])]
    time: Option<String>,
    /// Optimizer updates instead of epochs.
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "epochs",
        hide_short_help = true,
        allow_negative_numbers = true
    )]
    steps: Option<i64>,
    /// Pictures a batch.
    #[arg(short, long, value_name = "N", allow_negative_numbers = true)]
    batch_size: Option<i64>,
    /// Batches whose gradients make one update.
    #[arg(
        long,
        value_name = "N",
        hide_short_help = true,
        allow_negative_numbers = true
    )]
    accumulate: Option<i64>,
    /// Side of the model's input in pixels.
    #[arg(long, value_name = "PIXELS", allow_negative_numbers = true)]
    image_size: Option<i64>,
    /// Side of a patch in pixels.
    #[arg(
        long,
        value_name = "PIXELS",
        hide_short_help = true,
        allow_negative_numbers = true
    )]
    patch_size: Option<i64>,
    /// What happens to pictures that are not square: squash, crop or pad.
    #[arg(long, value_name = "POLICY", hide_short_help = true)]
    resize: Option<String>,
    /// Peak learning rate.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    lr: Option<f64>,
    /// Weight decay.
    #[arg(
        long,
        value_name = "X",
        hide_short_help = true,
        allow_negative_numbers = true
    )]
    weight_decay: Option<f64>,
    /// Length of the warm-up in epochs.
    #[arg(
        long,
        value_name = "X",
        hide_short_help = true,
        allow_negative_numbers = true
    )]
    warmup_epochs: Option<f64>,
    /// Operands of matrix products: auto, f32 or bf16; sums are in f32.
    #[arg(long, value_name = "PRECISION")]
    precision: Option<PrecisionChoice>,
    /// Label smoothing.
    #[arg(
        long,
        value_name = "X",
        hide_short_help = true,
        allow_negative_numbers = true
    )]
    label_smoothing: Option<f64>,
    /// Mixup's alpha; 0 turns it off.
    #[arg(
        long,
        value_name = "X",
        hide_short_help = true,
        allow_negative_numbers = true
    )]
    mixup: Option<f64>,
    /// CutMix's alpha; 0 turns it off.
    #[arg(
        long,
        value_name = "X",
        hide_short_help = true,
        allow_negative_numbers = true
    )]
    cutmix: Option<f64>,
    /// Drop path rate of the last block.
    #[arg(
        long,
        value_name = "X",
        hide_short_help = true,
        allow_negative_numbers = true
    )]
    drop_path: Option<f64>,
    /// Decay of the weights' moving average; 0 turns it off.
    #[arg(
        long,
        value_name = "X",
        hide_short_help = true,
        allow_negative_numbers = true
    )]
    ema: Option<f64>,
    /// Limit of the gradient's global norm; 0 turns clipping off.
    #[arg(
        long,
        value_name = "X",
        hide_short_help = true,
        allow_negative_numbers = true
    )]
    clip_grad: Option<f64>,
    /// Stop after this many epochs without a better validation.
    #[arg(
        long,
        value_name = "N",
        hide_short_help = true,
        allow_negative_numbers = true
    )]
    patience: Option<i64>,
    /// Share of the training split to use.
    #[arg(
        long,
        value_name = "X",
        hide_short_help = true,
        allow_negative_numbers = true
    )]
    fraction: Option<f64>,
    /// Share of train cut off for validation where the data brings none.
    #[arg(
        long,
        value_name = "X",
        hide_short_help = true,
        allow_negative_numbers = true
    )]
    val_fraction: Option<f64>,
    /// Share of train cut off for testing where the data brings none; 0 cuts none.
    #[arg(
        long,
        value_name = "X",
        hide_short_help = true,
        allow_negative_numbers = true
    )]
    test_fraction: Option<f64>,
    /// Seed of weights, data order and augmentation; splits follow data.split_seed.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    seed: Option<u32>,
    /// Threads that make batches; 0 shares the process's own, one a core.
    #[arg(
        short = 'j',
        long,
        value_name = "N",
        hide_short_help = true,
        allow_negative_numbers = true
    )]
    workers: Option<u32>,
    /// Memory for decoded pictures in MiB.
    #[arg(
        long,
        value_name = "MIB",
        hide_short_help = true,
        allow_negative_numbers = true
    )]
    cache_mb: Option<u32>,
    /// Minutes between two saved states within an epoch.
    #[arg(
        long,
        value_name = "X",
        hide_short_help = true,
        allow_negative_numbers = true
    )]
    checkpoint_minutes: Option<f64>,
    /// Refuse unreadable pictures, and what the data set's layout leaves out, instead of skipping them.
    #[arg(long, hide_short_help = true)]
    strict: bool,
    /// auto, cpu, wgpu[:i], vulkan[:i], metal[:i], cuda[:i] or rocm[:i].
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    device: DeviceChoice,
    /// Learn from a run's best weights, a file, or what ships (cifar10-vit, cifar10-cnn),
    /// beside the labels: see [distillation] in recipes.
    #[arg(long, value_name = "RUN|WEIGHTS")]
    teacher: Option<PathBuf>,
    /// Where the teacher computes; without it, where the student does.
    #[arg(long, value_name = "DEVICE", hide_short_help = true)]
    teacher_device: Option<DeviceChoice>,
    /// Folder of the run; without it runs/<data>-<model>-<n>.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Continue a run as if it had never stopped; a larger --epochs stretches its schedule.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["out", "recipe", "set"])]
    resume: Option<PathBuf>,
    /// Print what would be trained, its size and an estimate of its cost.
    #[arg(long)]
    dry_run: bool,
    /// Print where a step's time went: data, teacher, forward, backward, optimizer, by operation.
    #[arg(long, hide_short_help = true)]
    profile: bool,
    /// Print the results as one JSON object.
    #[arg(long)]
    json: bool,
}

impl TrainArgs {
    fn flags(&self) -> Vec<(&'static str, Value)> {
        let mut flags: Vec<(&'static str, Value)> = Vec::new();
        let mut text = |key, value: Option<String>| {
            flags.extend(value.map(|v| (key, Value::String(v))));
        };
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        text("data.path", path(&self.data));
        text("distillation.teacher", path(&self.teacher));
        text("init.weights", path(&self.init));
        text("model.name", self.model.clone());
        text("train.time", self.time.clone());
        text("preprocess.resize", self.resize.clone());
        text("train.precision", self.precision.map(|p| p.to_string()));
        let mut integer = |key, value: Option<i64>| {
            flags.extend(value.map(|v| (key, Value::Integer(v))));
        };
        integer("train.epochs", self.epochs);
        integer("train.steps", self.steps);
        integer("train.batch_size", self.batch_size);
        integer("train.accumulate", self.accumulate);
        integer("preprocess.image_size", self.image_size);
        integer("model.patch_size", self.patch_size);
        integer("train.patience", self.patience);
        integer("train.seed", self.seed.map(i64::from));
        integer("data.workers", self.workers.map(i64::from));
        integer("data.cache_mb", self.cache_mb.map(i64::from));
        let mut float = |key, value: Option<f64>| {
            flags.extend(value.map(|v| (key, Value::Float(v))));
        };
        float("optimizer.lr", self.lr);
        float("optimizer.weight_decay", self.weight_decay);
        float("optimizer.clip_grad", self.clip_grad);
        float("schedule.warmup_epochs", self.warmup_epochs);
        float("train.label_smoothing", self.label_smoothing);
        float("train.ema", self.ema);
        float("train.checkpoint_minutes", self.checkpoint_minutes);
        float("augment.mixup", self.mixup);
        float("augment.cutmix", self.cutmix);
        float("model.drop_path", self.drop_path);
        float("data.fraction", self.fraction);
        float("data.val_fraction", self.val_fraction);
        float("data.test_fraction", self.test_fraction);
        flags.extend(self.freeze.as_ref().map(|what| {
            let blocks = what.parse().map(Value::Integer);
            let value = blocks.unwrap_or_else(|_| Value::String(what.clone()));
            ("init.freeze", value)
        }));
        if self.strict {
            flags.push(("data.strict", Value::Boolean(true)));
        }
        flags
    }

    fn recipe(&self) -> anyhow::Result<Recipe> {
        Ok(run::resolve(&Layers {
            recipe: self.recipe.clone(),
            set: self.set.clone(),
            flags: self.flags(),
        })?)
    }

    /// The run's own recipe; the budget may grow, and where the work is done may change.
    fn resumed(&self, dir: &RunDir) -> anyhow::Result<Recipe> {
        let mut recipe = Recipe::load(&dir.recipe())?;
        for (key, value) in self.flags() {
            if let Value::Integer(n @ ..0) = value {
                bail!("{key} is {n}: expected 0 or more");
            }
            match (key, value) {
                ("train.epochs", Value::Integer(n)) => {
                    recipe.train.epochs = usize::try_from(n).ok();
                    (recipe.train.steps, recipe.train.time) = (None, None);
                }
                ("train.steps", Value::Integer(n)) => {
                    recipe.train.steps = u64::try_from(n).ok();
                    (recipe.train.epochs, recipe.train.time) = (None, None);
                }
                ("train.time", Value::String(t)) => {
                    recipe.train.time = Some(t);
                    (recipe.train.epochs, recipe.train.steps) = (None, None);
                }
                ("data.path", Value::String(path)) => recipe.data.path = Some(path.into()),
                // Another path to the same file: its hash is checked.
                ("distillation.teacher", Value::String(path))
                    if recipe.distillation.teacher.is_some() =>
                {
                    recipe.distillation.teacher = Some(path.into());
                }
                ("data.workers", Value::Integer(n)) => recipe.data.workers = n as usize,
                ("data.cache_mb", Value::Integer(n)) => recipe.data.cache_mb = n as usize,
                ("train.patience", Value::Integer(n)) => recipe.train.patience = n as usize,
                ("distillation.teacher", _) => bail!(
                    "--teacher: {} is trained without one; begin a new run with it",
                    dir.root().display()
                ),
                (key, _) => bail!(
                    "--resume continues {} with its own recipe: {} cannot change; only --epochs, --steps, --time, --patience, --data, --teacher, --workers, --cache-mb, --device and --teacher-device may",
                    dir.root().display(),
                    flag(key)
                ),
            }
        }
        recipe.make_paths_absolute();
        recipe.validate()?;
        Ok(recipe)
    }
}

/// The flag that sets a key.
fn flag(key: &str) -> String {
    let name = match key {
        "init.weights" => "init",
        "model.name" => "model",
        _ => key.rsplit('.').next().unwrap_or(key),
    };
    format!("--{}", name.replace('_', "-"))
}

/// The student's device and its teacher's.
fn devices(args: &TrainArgs, recipe: &Recipe) -> anyhow::Result<[Selected; 2]> {
    let student = device::select(args.device)?;
    let teacher = match (args.teacher_device, &recipe.distillation.teacher) {
        (None, _) => student.clone(),
        (Some(device), Some(_)) => device::select(device)?,
        (Some(device), None) => {
            bail!("--teacher-device {device}: there is no teacher; name one with --teacher")
        }
    };
    Ok([student, teacher])
}

/// Runs the command.
pub fn run(args: TrainArgs) -> anyhow::Result<Done> {
    for weights in [&args.init, &args.teacher].into_iter().flatten() {
        one_meaning(weights)?;
    }
    let resumed = match &args.resume {
        Some(path) => Some(RunDir::open(path)?),
        None => None,
    };
    let recipe = match &resumed {
        Some(dir) => args.resumed(dir)?,
        None => args.recipe()?,
    };
    if args.dry_run {
        return dry_run(&args, &recipe, resumed.as_ref());
    }
    let [device, teacher_device] = devices(&args, &recipe)?;
    note(&format!("device: {} ({})", device.name, device.reason));
    if args.teacher_device.is_some() {
        let Selected { name, reason, .. } = &teacher_device;
        note(&format!("teacher's device: {name} ({reason})"));
    }
    let devices = Devices {
        student: &device,
        teacher: &teacher_device,
    };
    let (dir, plan) = match resumed {
        Some(dir) => (dir, None),
        None => {
            // What is wrong with the data or the model is said before a folder is made.
            let plan = Plan::new(recipe.clone())?;
            plan.check(&device)?;
            let (data, model) = (&plan.dataset.name, &recipe.model.name);
            let dir = RunDir::create(args.out.as_deref(), data, model)?;
            (dir, Some(plan))
        }
    };
    note(&format!("run: {}", dir.root().display()));
    let stop = on_interrupt("stopping: saving the state (press Ctrl-C again to exit at once)")?;
    let mut progress = Progress::new("", &recipe.train);
    let mut profiled = None;
    let mut teacher = 0;
    let mut arithmetic = 0.0;
    let mut observe = |event: RunEvent<'_>| {
        match &event {
            RunEvent::Begin(plan) if args.profile => {
                teacher = plan.teacher_flops();
                profile::start();
            }
            // A backward pass takes twice as many as a forward pass.
            RunEvent::Train(TrainEvent::Update { images, flops, .. }) => {
                arithmetic += *images as f64 * (3 * flops + teacher) as f64;
            }
            RunEvent::Testing => profiled = Some(profile::stop()),
            _ => {}
        }
        progress.show(event);
    };
    let finished = match plan {
        Some(plan) => run::train(plan, &dir, devices, stop, &mut observe),
        None => run::resume(recipe.clone(), &dir, devices, stop, &mut observe),
    };
    progress.clear();
    let finished = finished.with_context(|| format!("run {}", dir.root().display()))?;
    progress.warn(&finished.skipped);
    if finished.outcome.ending == Ending::Interrupted {
        note(&format!(
            "stopped after {} updates; continue with: {} train --resume {}",
            text::count(finished.outcome.progress.update),
            program(),
            quoted(dir.root())
        ));
        return Ok(Done::Interrupted);
    }
    if args.profile {
        let spans = profiled.unwrap_or_else(profile::stop);
        note(&profile_text(&spans, arithmetic, &recipe, &device)?);
    }
    if args.json {
        say(&summary_json(&dir, &finished).to_string())?;
    } else {
        say(&summary(&dir, &finished))?;
    }
    Ok(Done::Success)
}

fn profile_text(
    spans: &BTreeMap<&'static str, Span>,
    flops: f64,
    recipe: &Recipe,
    device: &Selected,
) -> anyhow::Result<String> {
    let parts: Vec<_> = STEP
        .into_iter()
        .filter_map(|name| Some((name, spans.get(name)?.seconds)))
        .collect();
    let operations: Vec<_> = spans
        .iter()
        .filter(|(name, _)| !STEP.contains(name))
        .map(|(name, span)| (*name, span.seconds, span.count))
        .collect();
    let seconds: f64 = parts.iter().map(|(_, seconds)| seconds).sum();
    let precision = run::precision(recipe, device)?;
    let rate = crate::ops::precision::product_limit(&device.device, precision)
        .map(|limit| (flops / seconds.max(1e-12), limit));
    Ok(text::profile(&parts, &operations, rate))
}

fn summary(dir: &RunDir, finished: &Finished) -> String {
    let progress = &finished.outcome.progress;
    let mut out = String::new();
    let ending = match finished.outcome.ending {
        Ending::Stale => ", stopped early: validation no longer improved",
        _ => "",
    };
    out += &format!(
        "trained {} in {}{ending}; best epoch {}\n",
        match progress.history.len() {
            1 => "1 epoch".to_owned(),
            n => format!("{n} epochs"),
        },
        text::seconds(progress.elapsed_s),
        progress.best.map_or(progress.epoch, |b| b.epoch),
    );
    if let Some(val) = &finished.val {
        out += &(text::accuracy_line("val", val) + "\n");
    }
    if let Some(test) = &finished.test {
        out += &(text::accuracy_line("test", test) + "\n");
    }
    let root = dir.root().display();
    out += &format!("plots:    {root}/results.png, confusion_matrix.png, predictions.png\n");
    out += &format!("weights:  {root}/weights/best.safetensors\n");
    let example = finished.example.as_deref().unwrap_or("PICTURE");
    out + &format!(
        "classify: {} classify {} {}\n",
        program(),
        quoted(dir.root()),
        quoted(Path::new(example))
    )
}

/// How the user can start us again: a newcomer has no `vitrine` on the path, and `cargo run` would build another one
/// where features were given.
fn program() -> String {
    let by_cargo = std::env::var_os("CARGO").and_then(|_| std::env::current_exe().ok());
    let Some(path) = by_cargo else {
        return "vitrine".to_owned();
    };
    let here = std::env::current_dir().ok();
    let shown = here.and_then(|here| Some(path.strip_prefix(here).ok()?.to_owned()));
    quoted(&shown.unwrap_or(path))
}

fn summary_json(dir: &RunDir, finished: &Finished) -> serde_json::Value {
    let progress = &finished.outcome.progress;
    let brief = |report: &Option<EvalReport>| {
        report.as_ref().map(|r| {
            serde_json::json!({
                "n": r.n, "top1": r.top1, "top1_interval": r.top1_interval,
                "top5": r.top5, "loss": r.loss, "macro_f1": r.macro_f1, "ece": r.ece,
            })
        })
    };
    serde_json::json!({
        "run": dir.root(),
        "weights": dir.best(),
        "epochs": progress.history.len(),
        "best_epoch": progress.best.map(|b| b.epoch),
        "training_s": progress.elapsed_s,
        "val": brief(&finished.val),
        "test": brief(&finished.test),
        "example": finished.example,
    })
}

/// Prints the resolved recipe, the model's size, and a cost measured on one update.
fn dry_run(args: &TrainArgs, recipe: &Recipe, resumed: Option<&RunDir>) -> anyhow::Result<Done> {
    let plan = match resumed {
        Some(dir) => Plan::resumed(recipe.clone(), dir)?,
        None => Plan::new(recipe.clone())?,
    };
    let [device, teacher_device] = devices(args, recipe)?;
    plan.check(&device)?;
    let devices = Devices {
        student: &device,
        teacher: &teacher_device,
    };
    let start = Instant::now();
    let estimate = run::estimate(&plan, devices)?;
    if args.json {
        say(&serde_json::json!({
            "recipe": recipe,
            "model": plan.model,
            "parameters": plan.model.parameters(),
            "flops_per_update": estimate.flops_per_update,
            "updates": estimate.updates,
            "training_s": estimate.training_s,
            "memory_bytes": estimate.memory_bytes(),
            "device": device.name,
        })
        .to_string())?;
        return Ok(Done::Success);
    }
    say(&(recipe.to_toml() + "\n" + &about(&plan, &estimate, &device) + &cost(&estimate)))?;
    note(&format!(
        "nothing was written; measured in {}",
        text::seconds(start.elapsed().as_secs_f64())
    ));
    Ok(Done::Success)
}

/// What a dry run says of the data, the device and the models, as comments of a recipe.
fn about(plan: &Plan, estimate: &Estimate, device: &Selected) -> String {
    let mut out = format!(
        "# data: {}, {} classes, {} train, {} val, {} test pictures\n",
        plan.dataset.origin,
        plan.dataset.classes.len(),
        text::count(plan.splits.train.len() as u64),
        text::count(plan.splits.val.len() as u64),
        text::count(plan.splits.test.len() as u64),
    );
    out += &format!("# device: {} ({})\n", device.name, device.reason);
    if let Some(teacher) = &plan.teacher {
        out += &format!(
            "# teacher: {}, {} parameters, {} an update\n",
            teacher.meta.name,
            text::count(teacher.meta.model.parameters()),
            text::flops(plan.teacher_flops() * plan.pictures_per_update() as u64)
        );
    }
    out + &format!(
        "# model: {} parameters, {} an update\n",
        text::count(plan.model.parameters()),
        text::flops(estimate.flops_per_update)
    )
}

/// What a dry run says of time and memory.
fn cost(estimate: &Estimate) -> String {
    let share = match estimate.work {
        work if work < 1.0 => format!(
            ", of which the curriculum takes {:.0} % on average",
            100.0 * work
        ),
        _ => String::new(),
    };
    let mut out = format!(
        "# time: about {} for {} updates, from one update timed here ({:.2} s{share}), validation not counted\n",
        text::seconds(estimate.training_s),
        text::count(estimate.updates as u64),
        estimate.update_s,
    );
    if let (Some(memory), Some(peak)) = (estimate.memory_bytes(), estimate.peak_memory_bytes) {
        out += &format!(
            "# memory: about {} MiB ({} MiB at the peak of that update, {} MiB of decoded pictures)\n",
            memory >> 20,
            peak >> 20,
            estimate.pictures_bytes >> 20
        );
    }
    out
}
