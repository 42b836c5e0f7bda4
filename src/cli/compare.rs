//! `vitrine compare`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use clap::Args;
use toml::Value;

use super::{Done, absolute, note, on_interrupt, say};
use crate::compare::{self, Entry};
use crate::data::SplitName;
use crate::device::{self, DeviceChoice};
use crate::ops::PrecisionChoice;
use crate::recipe::{Layers, Recipe};
use crate::run::{self, EvaluateOptions, Plan, RunDir};

/// Train models under one budget, or set finished runs side by side.
///
/// Prints and writes a table, McNemar's test of every pair on the same pictures, and the curves.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Finished run directories; those that differ in their seed alone count as one model.
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
    /// What each training may spend: epochs=N, time=30m or flops=1e15; without it, what the recipe
    /// says.
    #[arg(long, value_name = "BUDGET")]
    budget: Option<String>,
    /// Trainings a model, with seeds 0, 1, …
    #[arg(long, default_value_t = 1, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=100))]
    seeds: u32,
    /// train, val or test; without it test, or validation where there is none.
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

/// The trainings of one model, under every seed.
struct Trainings {
    model: String,
    /// The flag of `train` that holds the budget, and its value; without, the recipe's own.
    budget: Option<(&'static str, String)>,
}

/// What is to be set side by side.
enum Work {
    /// Runs that exist.
    Finished(Vec<Entry>),
    /// Models to train first.
    Train(Vec<Trainings>),
}

/// Runs the command; `threads` is what `--threads` says, which its trainings inherit.
pub fn run(args: CompareArgs, threads: Option<u32>) -> anyhow::Result<Done> {
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
        Work::Train(plans) => match train_all(&args, &plans, &folder, threads)? {
            Some(entries) => entries,
            None => return Ok(Done::Interrupted),
        },
    };
    let device = device::select(args.device)?;
    let options = EvaluateOptions {
        precision: PrecisionChoice::Auto,
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

/// Finished runs. Those of one recipe and the same pictures that differ in their seed alone are pooled. Where one model was
/// trained in several ways they go by the folder of the first, and where one seed was trained twice
/// each by its own.
fn finished(runs: &[PathBuf]) -> anyhow::Result<Vec<Entry>> {
    if runs.len() < 2 {
        bail!("one run only: expected two or more runs, or --models with two or more names");
    }
    let mut places = Vec::new();
    let mut found: Vec<(Recipe, RunDir)> = Vec::new();
    for path in runs {
        let dir = RunDir::open(path)?;
        let place = path.canonicalize()?;
        if places.contains(&place) {
            bail!("{} is named twice: expected different runs", path.display());
        }
        places.push(place);
        if run::recorded(&dir, "ended").is_none() {
            bail!(
                "{0} was never finished: continue it with `vitrine train --resume {0}`, or leave it out",
                path.display()
            );
        }
        found.push((Recipe::load(&dir.recipe())?, dir));
    }
    // The pictures that a run learned from; data that merely moved has the same.
    let learned = |dir: &RunDir| std::fs::read(dir.splits().join("train.txt")).ok();
    let pool = |recipe: &Recipe, dir: &RunDir| -> Vec<&(Recipe, RunDir)> {
        let pictures = learned(dir);
        let alike = |(other, place): &&(Recipe, RunDir)| {
            let mut other = other.clone();
            other.train.seed = recipe.train.seed;
            difference(recipe, &other).is_none() && learned(place) == pictures
        };
        found.iter().filter(alike).collect()
    };
    let entry = |(recipe, dir): &(Recipe, RunDir)| {
        let pool = pool(recipe, dir);
        let mut seeds: Vec<u64> = pool.iter().map(|(other, _)| other.train.seed).collect();
        seeds.sort_unstable();
        let same_model = |(other, _): &&(Recipe, RunDir)| other.model.name == recipe.model.name;
        let model = if seeds.windows(2).any(|pair| pair[0] == pair[1]) {
            dir.root().display().to_string()
        } else if found.iter().filter(same_model).count() > pool.len() {
            pool[0].1.root().display().to_string()
        } else {
            recipe.model.name.clone()
        };
        Entry {
            model,
            seed: recipe.train.seed,
            dir: dir.clone(),
        }
    };
    Ok(found.iter().map(entry).collect())
}

/// What makes two trainings different: not where their data lies, nor how it is read.
fn difference(a: &Recipe, b: &Recipe) -> Option<(String, String, String)> {
    let mut b = b.clone();
    if a.data.path.is_some() && b.data.path.is_some() {
        b.data.path.clone_from(&a.data.path);
    }
    (b.data.workers, b.data.cache_mb) = (a.data.workers, a.data.cache_mb);
    a.difference(&b)
}

/// Trains every model under every seed; `None` when interrupted.
///
/// Each training is a process of its own, so that its peak memory is its own.
fn train_all(
    args: &CompareArgs,
    plans: &[Trainings],
    folder: &Path,
    threads: Option<u32>,
) -> anyhow::Result<Option<Vec<Entry>>> {
    let of_seed = |seed| plans.iter().map(move |training| (seed, training));
    let runs: Vec<(u32, &Trainings, PathBuf)> = (0..args.seeds)
        .flat_map(of_seed)
        .map(|(seed, training)| {
            let out = folder.join(format!("{}-seed{seed}", training.model));
            (seed, training, out)
        })
        .collect();
    // A folder of another comparison is met before hours are spent, not after.
    for (seed, training, out) in &runs {
        make_room(args, training, *seed, out)?;
    }
    let stop = on_interrupt("stopping: the run in progress saves its state")?;
    // What `auto` came to in the first of them holds for all, wherever the rest is trained.
    let mut precision: Option<String> = None;
    let mut entries = Vec::new();
    for (seed, training, out) in runs {
        let model = &training.model;
        note(&format!("— {model}, seed {seed}: {}", out.display()));
        let status = child(args, training, seed, &out, threads, precision.as_deref())?.status()?;
        if stop.load(std::sync::atomic::Ordering::Relaxed) || status.code() == Some(130) {
            note(&format!(
                "continue with the same command and --out {}",
                folder.display()
            ));
            return Ok(None);
        }
        if !status.success() {
            bail!("training {model} with seed {seed} failed ({status}); what it said stands above");
        }
        let dir = RunDir::open(&out)?;
        if precision.is_none() {
            precision = Some(Recipe::load(&dir.recipe())?.train.precision.to_string());
        }
        entries.push(Entry {
            model: model.clone(),
            seed: u64::from(seed),
            dir,
        });
    }
    Ok(Some(entries))
}

/// The run in `out` that saved a state, if there is one.
fn begun(out: &Path) -> Option<RunDir> {
    let dir = RunDir::open(out).ok()?;
    let saved = dir.state_folder().join("state.safetensors").is_file();
    saved.then_some(dir)
}

/// Sees to it that `out` is free, or holds a run of this very training to continue.
fn make_room(
    args: &CompareArgs,
    training: &Trainings,
    seed: u32,
    out: &Path,
) -> anyhow::Result<()> {
    if let Some(dir) = begun(out) {
        let there = Recipe::load(&dir.recipe())?;
        let mut asked = resolve(args, &training.model, training.budget.as_ref(), seed)?;
        // What a training settles when it begins.
        if asked.train.precision == PrecisionChoice::Auto {
            asked.train.precision = there.train.precision;
        }
        asked
            .distillation
            .sha256
            .clone_from(&there.distillation.sha256);
        if let Some((key, was, is)) = difference(&there, &asked) {
            bail!(
                "{} was trained with {key} = {was}, and {is} is asked for now: name another folder with --out, or ask for that",
                out.display()
            );
        }
        return Ok(());
    }
    if let Ok(dir) = RunDir::open(out)
        && !dir.best().exists()
        && !dir.last().exists()
    {
        drop(dir.lock()?);
        // Killed before its first checkpoint: nothing of it is worth keeping.
        std::fs::remove_dir_all(out)?;
    }
    // Killed before it wrote anything: only what is empty goes.
    for folder in ["weights", "checkpoint"] {
        let _ = std::fs::remove_dir(out.join(folder));
    }
    if out.exists() && (out.is_file() || std::fs::read_dir(out)?.next().is_some()) {
        bail!(
            "{} holds no run that can be continued: name another folder with --out, or move it away",
            out.display()
        );
    }
    Ok(())
}

/// The command that trains, continues, or merely confirms one run.
fn child(
    args: &CompareArgs,
    training: &Trainings,
    seed: u32,
    out: &Path,
    threads: Option<u32>,
    precision: Option<&str>,
) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("train").stdout(Stdio::null());
    command.args(["--device", &args.device.to_string()]);
    if let Some(threads) = threads {
        command.args(["--threads", &threads.to_string()]);
    }
    if begun(out).is_some() {
        command.arg("--resume").arg(out);
        if let Some(data) = &args.data {
            command.arg("--data").arg(data);
        }
        return Ok(command);
    }
    if let Some(precision) = precision {
        command.args(["--precision", precision]);
    }
    command.arg("--out").arg(out);
    command.args(["--model", &training.model, "--seed", &seed.to_string()]);
    if let Some((flag, value)) = &training.budget {
        command.args([format!("--{flag}"), value.clone()]);
    }
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

/// The recipe that `train` makes of what [`child`] tells it.
fn resolve(
    args: &CompareArgs,
    model: &str,
    budget: Option<&(&'static str, String)>,
    seed: u32,
) -> anyhow::Result<Recipe> {
    let text = |value: &str| Value::String(value.to_owned());
    let mut flags = vec![
        ("model.name", text(model)),
        ("train.seed", Value::Integer(i64::from(seed))),
    ];
    if let Some(data) = &args.data {
        flags.push(("data.path", text(&absolute(data))));
    }
    match budget {
        Some(("time", time)) => flags.push(("train.time", text(time))),
        Some(("steps", n)) => flags.push(("train.steps", Value::Integer(n.parse()?))),
        Some((_, n)) => flags.push(("train.epochs", Value::Integer(n.parse()?))),
        None => {}
    }
    Ok(run::resolve(&Layers {
        recipe: args.recipe.clone(),
        set: args.set.clone(),
        flags,
    })?)
}

/// Each model with its budget, once it is sure that all see the same pictures alike.
fn plan_all(args: &CompareArgs) -> anyhow::Result<Vec<Trainings>> {
    if args.models.len() < 2 {
        bail!("--models names one model only: expected two or more, such as vit-w1,resnet9");
    }
    let mut plans = Vec::new();
    let mut first: Option<Recipe> = None;
    for (n, model) in args.models.iter().enumerate() {
        if args.models[..n].contains(model) {
            bail!("--models names {model} twice: expected different models");
        }
        let recipe = resolve(args, model, None, 0)?;
        if let Some(first) = &first {
            if first.augment != recipe.augment
                || first.preprocess != recipe.preprocess
                || first.data != recipe.data
                || first.train.batch_size != recipe.train.batch_size
            {
                bail!(
                    "{} and {model} would see different pictures: give both the same [augment], [preprocess], [data] and train.batch_size through --recipe or --set",
                    args.models[0]
                );
            }
            if args.budget.is_none() && first.budget()? != recipe.budget()? {
                bail!(
                    "{} and {model} would train for different times: give both one with --budget",
                    args.models[0]
                );
            }
        }
        // A model or data that cannot be had is said before the first training begins.
        let plan = run::plan(&recipe, None)?;
        let budget = args.budget.as_ref();
        plans.push(Trainings {
            model: model.clone(),
            budget: budget
                .map(|text| self::budget(text, &recipe, &plan))
                .transpose()?,
        });
        first.get_or_insert(recipe);
    }
    Ok(plans)
}

/// The budget as a flag of `train`; FLOPs become updates of this model.
fn budget(text: &str, recipe: &Recipe, plan: &Plan) -> anyhow::Result<(&'static str, String)> {
    let wrong = || format!("--budget {text:?}: expected epochs=N, time=30m or flops=1e15");
    let (kind, value) = text.split_once('=').with_context(wrong)?;
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
                    "--budget {text}: that is {steps:.1} updates of {}; expected one to a billion",
                    recipe.model.name
                );
            }
            Ok(("steps", format!("{steps:.0}")))
        }
        _ => bail!(wrong()),
    }
}
