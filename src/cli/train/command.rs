//! Trains, or continues a training, and prints its results.

use anyhow::Context;

use super::args::TrainArgs;
use super::dry_run::{dry_run, smaller_size};
use super::profile::Profiler;
use super::summary;
use crate::cli::done::Done;
use crate::cli::interrupt::on_interrupt;
use crate::cli::output::{note, say};
use crate::cli::progress::Progress;
use crate::cli::shell::{program, quoted};
use crate::cli::weights::unambiguous;
use crate::device::Selected;
use crate::names::shown;
use crate::report::text;
use crate::run::{self, Devices, Plan, RunDir, RunEvent};
use crate::train::Ending;

/// Runs the command.
pub(in crate::cli) fn run(args: &TrainArgs) -> anyhow::Result<Done> {
    for weights in args.settings.weights() {
        unambiguous(&weights)?;
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
        return dry_run(args, &recipe, resumed.as_ref());
    }
    let [device, teacher_device] = args.devices(&recipe)?;
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
            // Errors of the data or the model come before a folder is made.
            let plan = Plan::new(recipe.clone())?;
            plan.check(&device)?;
            if let Some((size, share)) = smaller_size(&plan) {
                note(&format!(
                    "the weights to start from saw pictures of {size}x{size}: with --image-size {size} an update would \
                     take about {} of the time",
                    text::percent(share)
                ));
            }
            let (data, model) = (&plan.dataset.name, &recipe.model.name);
            let dir = RunDir::create(args.out.as_deref(), data, model)?;
            (dir, Some(plan))
        }
    };
    note(&format!("run: {}", shown(dir.root())));
    let stop = on_interrupt("stopping: saving the state (press Ctrl-C again to exit at once)")?;
    let mut progress = Progress::new("", &recipe.train);
    let mut profiler = Profiler::new(args.profile);
    let mut observe = |event: RunEvent<'_>| {
        profiler.watch(&event);
        progress.show(event);
    };
    let finished = match plan {
        Some(plan) => run::train(plan, &dir, devices, stop, &mut observe),
        None => run::resume(recipe.clone(), &dir, devices, stop, &mut observe),
    };
    progress.clear();
    let finished = finished.with_context(|| format!("run {}", shown(dir.root())))?;
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
    if let Some(table) = profiler.table(&recipe, &device)? {
        note(&table);
    }
    if args.json {
        say(&summary::json(&dir, &recipe, &finished).to_string())?;
    } else {
        say(&summary::plain(&dir, &recipe, &finished))?;
    }
    Ok(Done::Success)
}
