//! Trains the models of a comparison one after the other, or continues them.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};

use super::args::CompareArgs;
use super::difference::difference;
use super::training::{Cost, Training, begun, to_go};
use crate::cli::interrupt::{self, on_interrupt};
use crate::cli::output::note;
use crate::cli::shell::quoted;
use crate::compare::Entry;
use crate::names::shown;
use crate::ops::PrecisionChoice;
use crate::recipe::Recipe;
use crate::report::text;
use crate::run::{self, RunDir};

/// Trains every model under every seed; `None` when interrupted.
///
/// Each training is a process of its own, so that its peak memory is its own.
pub(super) fn train_all(
    args: &CompareArgs,
    plans: &[Training],
    folder: &Path,
    threads: Option<u32>,
) -> anyhow::Result<Option<Vec<Entry>>> {
    let of_seed = |seed| plans.iter().map(move |training| (seed, training));
    let runs: Vec<(u32, &Training, PathBuf)> = (0..args.seeds)
        .flat_map(of_seed)
        .filter(|(seed, training)| *seed < training.seeds(args))
        .map(|(seed, training)| {
            let out = folder.join(format!("{}-seed{seed}", training.model));
            (seed, training, out)
        })
        .collect();
    // A folder of another comparison is refused before hours are spent, not after.
    for (seed, training, out) in &runs {
        make_room(args, training, *seed, out)?;
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", shown(folder)))?;
    for (_, training, out) in runs.iter().filter(|(seed, ..)| *seed == 0) {
        training.write_recipe(args, out)?;
    }
    let go_on = format!(
        "continue with the same command and --out {}",
        quoted(folder)
    );
    interrupt::something_to_save();
    let stop = on_interrupt("stopping: the run in progress saves its state");
    // The precision that `auto` resolved to in the first training holds for all, on whatever device.
    let mut precision: Option<String> = None;
    let mut entries = Vec::new();
    // What an earlier comparison has finished costs next to nothing.
    let costs: Vec<Option<Cost>> = runs
        .iter()
        .map(|(_, training, out)| (!is_finished(out)).then_some(training.cost))
        .collect();
    let mut done: Vec<(Cost, f64)> = Vec::new();
    for (index, (seed, training, out)) in runs.iter().enumerate() {
        let model = &training.model;
        let ahead: Vec<Cost> = costs[index..].iter().copied().flatten().collect();
        note(&format!(
            "run {} of {}: {model}, seed {seed}, in {}{}",
            index + 1,
            runs.len(),
            shown(out),
            to_go(&ahead, &done).map_or(String::new(), |seconds| format!(
                "; about {} to go in all",
                text::seconds(seconds)
            ))
        ));
        let began = Instant::now();
        let mut child = training.command(args, *seed, out, threads, precision.as_deref())?;
        let status = interrupt::wait(&mut child, &stop)?;
        if stop.is_requested() || interrupt::was_told_to_stop(status) {
            note(&go_on);
            return Ok(None);
        }
        if !status.success() {
            bail!("training {model} with seed {seed} failed ({status}); see its output above");
        }
        done.extend(costs[index].map(|cost| (cost, began.elapsed().as_secs_f64())));
        let dir = RunDir::open(out)?;
        if precision.is_none() {
            precision = Some(Recipe::load(&dir.recipe())?.train.precision.to_string());
        }
        entries.push(Entry {
            model: model.clone(),
            seed: u64::from(*seed),
            is_seedless: training.is_probe(),
            dir,
        });
    }
    // The trainings are saved; what is left can be done again.
    interrupt::nothing_to_save(&go_on);
    Ok(Some(entries))
}

/// Whether there is a run in `out` that needs no more training.
fn is_finished(out: &Path) -> bool {
    begun(out).is_some_and(|dir| run::recorded(&dir, "ended").is_some())
}

/// Makes sure that `out` is free, or holds a run of this training to continue.
fn make_room(args: &CompareArgs, training: &Training, seed: u32, out: &Path) -> anyhow::Result<()> {
    if let Some(dir) = begun(out) {
        let there = Recipe::load(&dir.recipe())?;
        let mut wanted = training.recipe(args, seed)?;
        // A training settles these when it begins.
        if wanted.train.precision == PrecisionChoice::Auto {
            wanted.train.precision = there.train.precision;
        }
        wanted
            .distillation
            .sha256
            .clone_from(&there.distillation.sha256);
        if let Some((key, was, is)) = difference(&there, &wanted) {
            bail!(
                "{} was trained with {key} = {was}, now it is {is}: name another folder with --out, or use the same setting",
                shown(out)
            );
        }
        return Ok(());
    }
    if let Ok(dir) = RunDir::open(out)
        && !dir.best().exists()
        && !dir.last().exists()
    {
        // Killed before its first state: nothing of it is worth keeping.
        dir.clear()?;
    }
    if out.is_file() || !run::is_free(out) {
        bail!(
            "{} holds no run that can be continued: name another folder with --out, or move it away",
            shown(out)
        );
    }
    Ok(())
}
