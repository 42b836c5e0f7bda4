//! Trains, or continues a training, and prints its results.

use anyhow::Context;

use super::args::TrainArgs;
use super::chosen::chosen;
use super::dry_run::{dry_run, smaller_size};
use super::profile::Profiler;
use super::summary;
use crate::cli::done::Done;
use crate::cli::interrupt::{self, on_interrupt};
use crate::cli::named::unambiguous;
use crate::cli::output::{note, say, tell};
use crate::cli::progress::Progress;
use crate::cli::shell::{program, quoted};
use crate::device::Selected;
use crate::names::shown;
use crate::report::text;
use crate::run::{self, Devices, Plan, RunDir, RunEvent};
use crate::train::{Ending, Outcome, TrainEvent};

/// Runs the command.
pub(in crate::cli) fn run(args: &TrainArgs) -> anyhow::Result<Done> {
    interrupt::end_with_parent();
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
    if let Some(time) = &recipe.train.time
        && let Some(unit) = unit_meant(time)
    {
        note(&unit);
    }
    if args.dry_run {
        return dry_run(args, &recipe, resumed.as_ref());
    }
    interrupt::can_be_continued();
    interrupt::nothing_to_save(match &resumed {
        Some(_) => "stopped; the run is as it was: the same command continues it",
        None => "stopped; nothing was written: the same command begins again",
    });
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
    let (dir, plan, stop) = match resumed {
        Some(dir) => (dir, None, on_interrupt(SAVING)),
        None => {
            // Errors of the data or the model come before a folder is made.
            let plan = Plan::new(recipe.clone())?;
            if let Some(fit) = plan.check(&device)? {
                note(&summary::fit(&fit));
                let origin = plan.start.as_ref().and_then(|start| start.file.origin());
                if let Some(count) = plan.adapter_parameters() {
                    note(&format!(
                        "adapters: {} parameters learn, and the heads",
                        text::count(count)
                    ));
                }
                for assumed in origin.into_iter().flat_map(|origin| &origin.notes) {
                    note(&format!("note: {assumed}"));
                }
            }
            if let Some(name) = &args.recipe
                && recipe.init.probe.is_none()
            {
                note(&chosen(&shown(name).to_string(), &plan));
            }
            if let Some((size, share)) = smaller_size(&plan) {
                note(&format!(
                    "the weights to start from saw pictures of {size}x{size}: with --image-size {size} an update would \
                     take about {} of the time",
                    text::percent(share)
                ));
            }
            let (data, model) = (&plan.dataset.name, &recipe.model.name);
            let stop = on_interrupt(SAVING);
            let dir = RunDir::create(args.out.as_deref(), data, model)?;
            (dir, Some(plan), stop)
        }
    };
    interrupt::nothing_to_save(&match dir.has_state() {
        true => stopped("stopped; the state saved before is as it was", &dir),
        false => stopped(BEFORE_THE_FIRST, &dir),
    });
    note(&format!("run: {}", shown(dir.root())));
    let mut progress = Progress::new("", &recipe.train);
    let mut profiler = Profiler::new(args.profile);
    let mut observe = |event: RunEvent<'_>| {
        profiler.watch(&event);
        match &event {
            RunEvent::Begin(plan) => {
                interrupt::say_while_saving(&saving(plan.model.parameters()));
            }
            RunEvent::Train(TrainEvent::Update { .. }) => interrupt::something_to_save(),
            // Once it is told to stop, it ends by itself after it has saved.
            RunEvent::Train(TrainEvent::Saved) if !stop.is_requested() => {
                interrupt::nothing_to_save(&stopped("stopped; the state is saved", &dir));
            }
            RunEvent::Testing => interrupt::nothing_to_save(&stopped(WHILE_EVALUATED, &dir)),
            _ => {}
        }
        progress.show(event);
    };
    let finished = match plan {
        Some(plan) => run::train(plan, &dir, devices, &stop, &mut observe),
        None => run::resume(recipe.clone(), &dir, devices, &stop, &mut observe),
    };
    interrupt::something_to_save();
    progress.clear();
    let finished = finished.with_context(|| format!("run {}", shown(dir.root())))?;
    progress.warn(&finished.skipped);
    let Outcome {
        ending,
        progress: at,
    } = &finished.outcome;
    if *ending == Ending::Interrupted {
        let updates = format!("stopped after {} updates", text::count(at.update));
        let what = match at.update {
            0 => BEFORE_THE_FIRST,
            _ if at.finished => WHILE_EVALUATED,
            _ => &updates,
        };
        note(&stopped(what, &dir));
        return Ok(Done::Interrupted);
    }
    if let Some(table) = profiler.table(&recipe, &device)? {
        note(&table);
    }
    if args.json {
        say(&summary::json(&dir, &recipe, &finished).to_string())?;
    } else {
        tell(&summary::plain(&dir, &recipe, &finished))?;
    }
    match finished.unwritten {
        Some(error) => Err(error).with_context(|| format!("run {}", dir.root().display())),
        None => Ok(Done::Success),
    }
}

const SAVING: &str = "stopping: saving the state (press Ctrl-C again to exit at once)";
const BEFORE_THE_FIRST: &str = "stopped before the first update";
const WHILE_EVALUATED: &str = "stopped while the trained weights, which are saved, were evaluated";

/// What is said while the state of so many parameters is saved, which takes as long as its size.
fn saving(parameters: u64) -> String {
    /// Of a parameter: itself and two moments.
    const BYTES: u64 = 4 * 3;
    /// A disk takes a state below this size in about a second.
    const LARGE: u64 = 200_000_000;
    let bytes = parameters * BYTES;
    match bytes < LARGE {
        true => SAVING.to_owned(),
        false => format!(
            "stopping: saving the state, about {:.1} GB (press Ctrl-C again to exit at once, without it)",
            bytes as f64 / 1e9
        ),
    }
}

/// What was stopped, and how it goes on.
fn stopped(what: &str, dir: &RunDir) -> String {
    format!(
        "{what}; continue with: {} train --resume {}",
        program(),
        quoted(dir.root())
    )
}

/// What is said of a time that ends without a unit.
fn unit_meant(time: &str) -> Option<String> {
    let time = time.trim();
    time.ends_with(|last: char| last.is_ascii_digit() || last == '.')
        .then(|| {
            format!(
                "time {time}: a number without a unit counts seconds; for minutes write {time}m"
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_for_a_large_state_is_told_its_size() {
        assert_eq!(saving(6_000_000), SAVING);
        assert_eq!(
            saving(86_000_000),
            "stopping: saving the state, about 1.0 GB (press Ctrl-C again to exit at once, without it)"
        );
    }

    #[test]
    fn a_time_without_a_unit_says_what_it_counts() {
        let told = |time: &str| {
            format!(
                "time {time}: a number without a unit counts seconds; for minutes write {time}m"
            )
        };
        for time in ["3", "1h30", "2.5"] {
            assert_eq!(unit_meant(time), Some(told(time)));
        }
        for time in ["3s", "3m", "1h30m", "1h "] {
            assert_eq!(unit_meant(time), None);
        }
    }
}
