//! The trainings of a comparison: planned before the first begins, then trained, or continued.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use toml::Value;

use super::{CompareArgs, difference};
use crate::cli::interrupt::{self, on_interrupt};
use crate::cli::note;
use crate::compare::Entry;
use crate::ops::PrecisionChoice;
use crate::recipe::{Layers, Recipe, parse_duration};
use crate::run::{self, OpenData, Plan, RunDir};

/// The trainings of one model, under every seed.
pub(super) struct Trainings {
    model: String,
    /// The flag of `train` that holds the budget, and its value; without, the recipe's own.
    budget: Option<(&'static str, String)>,
}

/// Trains every model under every seed; `None` when interrupted.
///
/// Each training is a process of its own, so that its peak memory is its own.
pub(super) fn train_all(
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
        let mut child = child(args, training, seed, &out, threads, precision.as_deref())?;
        let status = interrupt::wait(&mut child, stop)?;
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
        flags.push(("data.path", text(&data.display().to_string())));
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
pub(super) fn plan_all(args: &CompareArgs) -> anyhow::Result<Vec<Trainings>> {
    if args.models.len() < 2 {
        bail!("--models names one model only: expected two or more, such as vit-w1,resnet9");
    }
    let mut plans = Vec::new();
    let mut data = OpenData::default();
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
        let plan = Plan::with(recipe.clone(), &mut data)?;
        let budget = args.budget.as_ref();
        plans.push(Trainings {
            model: model.clone(),
            budget: budget.map(|text| self::budget(text, &plan)).transpose()?,
        });
        first.get_or_insert(recipe);
    }
    Ok(plans)
}

/// The budget as a flag of `train`; FLOPs become updates of this model.
fn budget(text: &str, plan: &Plan) -> anyhow::Result<(&'static str, String)> {
    let wrong = || format!("--budget {text:?}: expected epochs=N, time=30m or flops=1e15");
    let (kind, value) = text.split_once('=').with_context(wrong)?;
    match kind {
        "epochs" => match value.parse::<u32>() {
            Ok(epochs @ 1..) => Ok(("epochs", epochs.to_string())),
            _ => bail!(wrong()),
        },
        "time" => {
            parse_duration("--budget time", value)?;
            Ok(("time", value.to_owned()))
        }
        "flops" => {
            let flops: f64 = value.parse().ok().with_context(wrong)?;
            let steps = plan.updates_within(flops);
            if !(1.0..1e9).contains(&steps) {
                bail!(
                    "--budget {text}: that is {steps:.1} updates of {}; expected one to a billion",
                    plan.recipe.model.name
                );
            }
            Ok(("steps", format!("{steps:.0}")))
        }
        _ => bail!(wrong()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        args: CompareArgs,
    }

    #[test]
    fn a_training_inherits_threads_precision_and_everything_asked_for() {
        let typed = [
            "compare",
            "--models=vit-micro,resnet9",
            "--device=cpu",
            "--data=pictures",
            "--recipe=photos",
            "--set=optimizer.lr=1e-3",
        ];
        let args = Typed::parse_from(typed).args;
        let training = Trainings {
            model: "resnet9".to_owned(),
            budget: Some(("time", "3m".to_owned())),
        };
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("resnet9-seed2");
        let child = child(&args, &training, 2, &out, Some(1), Some("bf16")).unwrap();
        let said: Vec<_> = child.get_args().map(|a| a.to_str().unwrap()).collect();
        let out = out.to_str().unwrap();
        for pair in [
            ["--device", "cpu"],
            ["--threads", "1"],
            ["--precision", "bf16"],
            ["--out", out],
            ["--model", "resnet9"],
            ["--seed", "2"],
            ["--time", "3m"],
            ["--data", "pictures"],
            ["--recipe", "photos"],
            ["--set", "optimizer.lr=1e-3"],
        ] {
            assert!(said.windows(2).any(|two| two == pair), "{pair:?}: {said:?}");
        }
    }
}
