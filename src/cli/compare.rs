//! `vitrine compare`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use clap::Args;
use toml::Value;

use super::{Done, note, on_interrupt, say};
use crate::compare::{self, Entry};
use crate::data::SplitName;
use crate::device::{self, DeviceChoice};
use crate::recipe::{Layers, Recipe};
use crate::run::{self, EvaluateOptions, Plan, RunDir};

/// Either trains --models under one budget, or takes finished runs.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Finished run directories.
    #[arg(value_name = "RUN", conflicts_with_all = ["models", "budget", "seeds", "recipe", "set"])]
    runs: Vec<PathBuf>,
    /// Models to train, such as vit-w1,resnet9.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAMES",
        required_unless_present = "runs"
    )]
    models: Vec<String>,
    /// Data set; without it the bundled sample, or the runs' own.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// What each training may spend: epochs=N, time=30m or flops=1e15.
    #[arg(long, default_value = "epochs=10", value_name = "BUDGET")]
    budget: String,
    /// Trainings a model, with seeds 0, 1, …
    #[arg(long, default_value_t = 1, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=100))]
    seeds: u32,
    /// Split to compare on: train, val or test.
    #[arg(long, value_name = "SPLIT")]
    split: Option<SplitName>,
    /// Recipe for all of them, over each family's own optimizer.
    #[arg(long, value_name = "FILE")]
    recipe: Option<String>,
    /// Set any recipe key for all of them.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Pictures a batch when measuring.
    #[arg(short, long, default_value_t = 128, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch_size: u32,
    /// auto, cpu, wgpu[:i], vulkan[:i], metal[:i], cuda[:i] or rocm[:i].
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    device: DeviceChoice,
    /// Folder of the results, and of the runs it trains; named again, it continues there.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A model and the flag of `train` that holds its budget.
type ModelPlan = (String, (&'static str, String));

/// What is to be set side by side.
enum Work {
    /// Runs that exist.
    Finished(Vec<Entry>),
    /// Models to train first.
    Train(Vec<ModelPlan>),
}

/// Runs the command.
pub fn run(args: CompareArgs) -> anyhow::Result<Done> {
    // What is wrong with the question is said before a folder is made.
    let work = if args.runs.is_empty() {
        Work::Train(plan_all(&args)?)
    } else {
        Work::Finished(finished(&args.runs)?)
    };
    let folder = match &args.out {
        Some(out) => {
            std::fs::create_dir_all(out)
                .with_context(|| format!("cannot make {}, which --out names", out.display()))?;
            out.clone()
        }
        None => run::next_free(Path::new("runs"), "compare")?,
    };
    let entries = match work {
        Work::Finished(entries) => entries,
        Work::Train(plans) => match train_all(&args, &plans, &folder)? {
            Some(entries) => entries,
            None => return Ok(Done::Interrupted),
        },
    };
    let device = device::select(args.device)?;
    let options = EvaluateOptions {
        precision: crate::ops::PrecisionChoice::Auto,
        data: args.data.clone(),
        split: args.split,
        batch_size: args.batch_size as usize,
        ..EvaluateOptions::default()
    };
    let comparison = compare::compare(&entries, &options, &device)?;
    let written = compare::write(&comparison, &entries, &folder)?;
    if args.json {
        say(&serde_json::to_string(&comparison)?)?;
    } else {
        say(&format!(
            "{} pictures of the {} split\n{}",
            comparison.pictures,
            comparison.split,
            comparison.table().text()
        ))?;
        for sentence in comparison.sentences() {
            say(&sentence)?;
        }
    }
    for path in written {
        note(&format!("written {}", path.display()));
    }
    Ok(Done::Success)
}

/// Finished runs, pooled by model where several seeds of one model are among them.
fn finished(runs: &[PathBuf]) -> anyhow::Result<Vec<Entry>> {
    if runs.len() < 2 {
        bail!("one run only: expected two or more runs, or --models with two or more names");
    }
    let mut entries = Vec::new();
    for (n, path) in runs.iter().enumerate() {
        let dir = RunDir::open(path)?;
        if runs[..n].contains(path) {
            bail!("{} is named twice: expected different runs", path.display());
        }
        let recipe = Recipe::load(&dir.recipe())?;
        entries.push((recipe, dir));
    }
    Ok(entries
        .iter()
        .map(|(recipe, dir)| {
            // The same model under the same seed twice is two different trainings: name them apart.
            let twin = entries.iter().any(|(other, place)| {
                place != dir
                    && other.model.name == recipe.model.name
                    && other.train.seed == recipe.train.seed
            });
            Entry {
                model: if twin {
                    dir.root().display().to_string()
                } else {
                    recipe.model.name.clone()
                },
                seed: recipe.train.seed,
                dir: dir.clone(),
            }
        })
        .collect())
}

/// Trains every model under every seed; `None` when interrupted.
///
/// Each training is a process of its own, so that its peak memory is its own.
fn train_all(
    args: &CompareArgs,
    plans: &[ModelPlan],
    folder: &Path,
) -> anyhow::Result<Option<Vec<Entry>>> {
    let stop = on_interrupt("stopping: the run in progress saves its state")?;
    let mut entries = Vec::new();
    for seed in 0..args.seeds {
        for (model, budget) in plans {
            let out = folder.join(format!("{model}-seed{seed}"));
            note(&format!("— {model}, seed {seed}: {}", out.display()));
            let status = child(args, model, budget, seed, &out)?.status()?;
            if stop.load(std::sync::atomic::Ordering::Relaxed) || status.code() == Some(130) {
                note(&format!(
                    "continue with the same command and --out {}",
                    folder.display()
                ));
                return Ok(None);
            }
            if !status.success() {
                bail!(
                    "training {model} with seed {seed} failed ({status}); what it said stands above"
                );
            }
            entries.push(Entry {
                model: model.clone(),
                seed: u64::from(seed),
                dir: RunDir::open(&out)?,
            });
        }
    }
    Ok(Some(entries))
}

/// The command that trains, continues, or merely confirms one run.
fn child(
    args: &CompareArgs,
    model: &str,
    budget: &(&'static str, String),
    seed: u32,
    out: &Path,
) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("train").stdout(Stdio::null());
    command.args(["--device", &args.device.to_string()]);
    if RunDir::open(out).is_ok_and(|dir| dir.state_folder().join("state.safetensors").is_file()) {
        command.arg("--resume").arg(out);
        return Ok(command);
    }
    // A run that was killed before its first checkpoint has nothing worth keeping.
    if out.exists() {
        std::fs::remove_dir_all(out)?;
    }
    command.arg("--out").arg(out);
    command.args(["--model", model, "--seed", &seed.to_string()]);
    command.args([format!("--{}", budget.0), budget.1.clone()]);
    if let Some(data) = &args.data {
        command.arg("--data").arg(data);
    }
    if let Some(recipe) = &args.recipe {
        command.args(["--recipe", recipe]);
    }
    for set in &args.set {
        command.args(["--set", set]);
    }
    Ok(command)
}

/// Each model with its budget, once it is sure that all see the same pictures alike.
fn plan_all(args: &CompareArgs) -> anyhow::Result<Vec<ModelPlan>> {
    if args.models.len() < 2 {
        bail!("--models names one model only: expected two or more, such as vit-w1,resnet9");
    }
    let mut plans = Vec::new();
    let mut first: Option<Recipe> = None;
    for model in &args.models {
        let mut flags = vec![("model.name", Value::String(model.clone()))];
        if let Some(data) = &args.data {
            flags.push(("data.path", Value::String(data.display().to_string())));
        }
        let recipe = run::resolve(&Layers {
            recipe: args.recipe.clone(),
            set: args.set.clone(),
            flags,
        })?;
        if let Some(first) = &first
            && (first.augment != recipe.augment
                || first.preprocess != recipe.preprocess
                || first.data != recipe.data
                || first.train.batch_size != recipe.train.batch_size)
        {
            bail!(
                "{} and {model} would see different pictures: give both the same [augment], [preprocess], [data] and train.batch_size through --recipe or --set",
                args.models[0]
            );
        }
        // A model or data that cannot be had is said before the first training begins.
        let plan = run::plan(&recipe, None)?;
        plans.push((model.clone(), budget(args, &recipe, &plan)?));
        first.get_or_insert(recipe);
    }
    Ok(plans)
}

/// The budget as a flag of `train`; FLOPs become updates of this model.
fn budget(
    args: &CompareArgs,
    recipe: &Recipe,
    plan: &Plan,
) -> anyhow::Result<(&'static str, String)> {
    let wrong = || {
        format!(
            "--budget {:?}: expected epochs=N, time=30m or flops=1e15",
            args.budget
        )
    };
    let (kind, value) = args.budget.split_once('=').with_context(wrong)?;
    match kind {
        "epochs" => match value.parse::<u32>() {
            Ok(epochs @ 1..) => Ok(("epochs", epochs.to_string())),
            _ => bail!(wrong()),
        },
        "time" => {
            crate::recipe::parse_duration("--budget time", value)?;
            Ok(("time", value.to_owned()))
        }
        "flops" => {
            let flops: f64 = value.parse().ok().with_context(wrong)?;
            let batch =
                recipe.train.batch_size.min(plan.splits.train.len()) * recipe.train.accumulate;
            let work = plan.curriculum.mean_work(false);
            let steps = flops / (plan.training_flops(work) * batch as f64);
            if !(1.0..1e9).contains(&steps) {
                bail!(
                    "--budget {}: that is {steps:.1} updates of {}; expected at least one",
                    args.budget,
                    recipe.model.name
                );
            }
            Ok(("steps", format!("{steps:.0}")))
        }
        _ => bail!(wrong()),
    }
}
