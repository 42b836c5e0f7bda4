//! A plan carried out: pictures, training, final evaluation.

use std::time::Duration;

use super::devices::{Devices, precision};
use super::dir::RunDir;
use super::error::RunError;
use super::event::RunEvent;
use super::files::{make_folder, write};
use super::finish::{self, Finished};
use super::info::{self, RunInfo};
use super::plan::Plan;
use super::{head, pictures, probe, results, start};
use crate::data::{EvalLoader, TrainLoader};
use crate::names;
use crate::ops::Precision;
use crate::recipe::Recipe;
use crate::stop::Stop;
use crate::train::task::Task;
use crate::train::{
    Classification, Ending, Outcome, Progress, Saved, TrainEvent, Trainer, UpdateCost, Workload,
};

/// Trains a plan into `dir`, a new run directory, and writes all results.
///
/// # Errors
///
/// [`RunError`]; what has been saved by then stays.
pub fn train<'a>(
    mut plan: Plan,
    dir: &RunDir,
    devices: impl Into<Devices<'a>>,
    stop: &Stop,
    observe: &mut dyn FnMut(RunEvent<'_>),
) -> Result<Finished, RunError> {
    let devices = devices.into();
    plan.recipe.train.precision = precision(&plan.recipe, devices.student)?.into();
    let _held = dir.lock()?;
    // Another process may have trained here since the folder was made.
    dir.check_free()?;
    dir.sweep();
    write(&dir.recipe(), plan.recipe.to_toml().as_bytes())?;
    make_folder(&dir.splits())?;
    plan.splits.write(&dir.splits())?;
    let info = RunInfo::begin(&plan, devices, dir);
    carry_out(plan, None, info, dir, devices, stop, observe)
}

/// Continues the run in `dir` from its saved state, or from the beginning where it was stopped before
/// its first update. `recipe` is the run's own, perhaps with a larger budget or other paths.
///
/// # Errors
///
/// [`RunError`]; the saved state stays as it was.
pub fn resume<'a>(
    mut recipe: Recipe,
    dir: &RunDir,
    devices: impl Into<Devices<'a>>,
    stop: &Stop,
    observe: &mut dyn FnMut(RunEvent<'_>),
) -> Result<Finished, RunError> {
    let devices = devices.into();
    recipe.train.precision = precision(&recipe, devices.student)?.into();
    if !dir.has_state() && !dir.has_only_begun() {
        return Err(RunError::NoState {
            path: dir.root().to_owned(),
        });
    }
    // Held before the state is read: another process may be about to write a newer one.
    let _held = dir.lock()?;
    let (saved, plan) = if dir.has_state() {
        let saved = Saved::open(&dir.state_folder())?;
        let begun = begun(&saved, dir)?;
        // A hash that the recipe does not give is that of the file that the training knows.
        for (given, known) in [
            (&mut recipe.init.sha256, begun.init.sha256.clone()),
            (
                &mut recipe.distillation.sha256,
                begun.distillation.sha256.clone(),
            ),
        ] {
            if given.is_none() {
                *given = known;
            }
        }
        if let Some((key, found, expected)) = recipe.difference_on_resume(&begun) {
            return Err(RunError::OtherRecipe {
                run: dir.root().to_owned(),
                key,
                found,
                expected,
            });
        }
        let budget = recipe.budget()?;
        if budget != begun.budget()? && saved.progress.exceeds(budget) {
            return Err(RunError::LessThanDone {
                path: dir.root().to_owned(),
                epochs: saved.progress.epoch,
                updates: saved.progress.update,
                seconds: saved.progress.elapsed_s,
            });
        }
        if recipe.init.finetune.adapts() {
            // Its results need the weights that the adapters change: now, not only at its end.
            start::open(&mut recipe)?;
        }
        (Some(saved), Plan::resumed(recipe, dir)?)
    } else {
        let mut plan = Plan::resumed(recipe, dir)?;
        plan.start = start::open(&mut plan.recipe)?;
        plan.check(devices.student)?;
        (None, plan)
    };
    dir.sweep();
    write(&dir.recipe(), plan.recipe.to_toml().as_bytes())?;
    let mut info = RunInfo::begin(&plan, devices, dir);
    if let Some(before) = info::read(dir) {
        info = info.resume(&before);
    }
    carry_out(plan, saved, info, dir, devices, stop, observe)
}

/// The recipe that a state was trained by: its own, or the run's where an earlier version wrote it.
fn begun(saved: &Saved, dir: &RunDir) -> Result<Recipe, RunError> {
    Ok(match &saved.recipe {
        Some(text) => Recipe::parse(&names::text(dir.root()), text)?,
        None => Recipe::load(&dir.recipe())?,
    })
}

/// Trains until the budget is spent or `stop` is requested, in a run directory that this process has
/// locked.
fn carry_out(
    mut plan: Plan,
    saved: Option<Saved>,
    mut info: RunInfo,
    dir: &RunDir,
    devices: Devices<'_>,
    stop: &Stop,
    observe: &mut dyn FnMut(RunEvent<'_>),
) -> Result<Finished, RunError> {
    write(&dir.info(), info.to_json().as_bytes())?;
    let mut outcome = Outcome {
        ending: Ending::Interrupted,
        progress: saved
            .as_ref()
            .map_or_else(Progress::default, |saved| saved.progress.clone()),
    };
    let fitted = match plan.recipe.init.probe {
        Some(views) => probe::fit(&mut plan, views, saved, dir, devices, stop, observe),
        None => fit(&mut plan, saved, dir, devices, stop, observe),
    };
    let finished = match fitted {
        Ok((trained, unwritten)) if trained.progress.finished => {
            outcome = trained;
            observe(RunEvent::Testing);
            finish::finish(
                &plan,
                dir,
                devices.student,
                outcome.clone(),
                unwritten,
                stop,
            )
        }
        Ok((trained, None)) => Ok(Finished::interrupted(&plan, trained)),
        Ok((_, Some(unwritten))) => Err(unwritten),
        Err(error) => Err(error),
    };
    match finished {
        Ok(finished) if finished.outcome.ending != Ending::Interrupted => {
            info.end(&finished.outcome.progress);
            write(&dir.info(), info.to_json().as_bytes())?;
            Ok(finished)
        }
        Ok(finished) => {
            info.pause();
            write(&dir.info(), info.to_json().as_bytes())?;
            Ok(finished)
        }
        // Nothing is lost: what was trained is saved, and the rest can be done again.
        Err(error) if error.is_stop() => {
            outcome.ending = Ending::Interrupted;
            Ok(Finished::interrupted(&plan, outcome))
        }
        Err(error) => Err(error),
    }
}

/// Decodes the pictures and trains. With the outcome it returns the first file that could not be
/// written on the way.
fn fit(
    plan: &mut Plan,
    saved: Option<Saved>,
    dir: &RunDir,
    devices: Devices<'_>,
    stop: &Stop,
    observe: &mut dyn FnMut(RunEvent<'_>),
) -> Result<(Outcome, Option<RunError>), RunError> {
    let train = pictures::training(plan, stop, observe)?;
    let val = pictures::validation(plan, stop, observe)?;
    results::write_train_batch(dir, &train, plan)?;
    if plan.recipe.data.strict {
        pictures::check_test(plan, stop, observe)?;
    }
    observe(RunEvent::Begin(plan));
    if let Some(saved) = &saved {
        let train = &plan.recipe.train;
        let progress = &saved.progress;
        let is_stale = train.patience > 0 && progress.stale >= train.patience;
        if progress.batch == 0 && (is_stale || progress.has_spent(plan.recipe.budget()?)) {
            observe(RunEvent::NothingLeft(progress));
        }
    }
    let precision = precision(&plan.recipe, devices.student)?;
    if saved.is_none() {
        head::fit(plan, &train, val.as_ref(), devices, stop, observe)?;
    }
    let task = task(plan, val, precision, devices)?;
    let trainer = trainer(plan, train, dir, devices, precision, stop)?;
    train_on(trainer, task, saved, dir, observe)
}

/// The task of the run: classification, with distillation if the plan has a teacher.
fn task(
    plan: &Plan,
    val: Option<EvalLoader>,
    precision: Precision,
    devices: Devices<'_>,
) -> Result<Box<dyn Task>, RunError> {
    let smoothing = plan.recipe.train.label_smoothing;
    let mut task = Classification::new(smoothing, &devices.student.device);
    if let Some(distillation) = plan.distillation(precision, devices)? {
        task = task.with_teacher(distillation, plan.model.map_width());
    }
    if let Some(pictures) = val {
        task = task.with_validation(pictures, &plan.splits.classes, precision);
    }
    Ok(Box::new(task))
}

/// Assembles the trainer; the plan gives up its weights to start from.
fn trainer(
    plan: &mut Plan,
    train: TrainLoader,
    dir: &RunDir,
    devices: Devices<'_>,
    precision: Precision,
    stop: &Stop,
) -> Result<Trainer, RunError> {
    Ok(Trainer {
        config: plan.recipe.train_config(precision)?,
        train,
        device: devices.student.device.clone(),
        meta: plan.meta(),
        init: plan.start.take(),
        base: plan.recipe.base(),
        weights: dir.weights_folder(),
        state: dir.state_folder(),
        recipe: plan.recipe.to_toml(),
        stop: stop.clone(),
    })
}

/// Trains; after each epoch, `results.csv` and its plot are written. With the outcome it returns the
/// first of them that could not be: that ends no training.
fn train_on(
    trainer: Trainer,
    task: Box<dyn Task + '_>,
    saved: Option<Saved>,
    dir: &RunDir,
    observe: &mut dyn FnMut(RunEvent<'_>),
) -> Result<(Outcome, Option<RunError>), RunError> {
    let mut history = saved
        .as_ref()
        .map(|s| s.progress.history.clone())
        .unwrap_or_default();
    let columns = task.columns();
    let mut failed = None;
    // A kill may have left them out after the state was written.
    if !history.is_empty() {
        failed = results::write_results(dir, columns, &history).err();
    }
    let outcome = trainer.train(task, saved, &mut |event| {
        if let TrainEvent::Epoch { record, .. } = &event {
            history.push(record.clone());
            if let Err(e) = results::write_results(dir, columns, &history) {
                failed.get_or_insert(e);
            }
        }
        observe(RunEvent::Train(event));
    })?;
    Ok((outcome, failed))
}

/// Measures what one optimizer update of this plan costs, in about `limit`.
pub(super) fn measure_update(
    plan: &Plan,
    precision: Precision,
    devices: Devices<'_>,
    limit: Duration,
) -> Result<UpdateCost, RunError> {
    let recipe = &plan.recipe;
    let workload = Workload {
        model: &plan.model,
        optimizer: &recipe.optimizer,
        finetune: &recipe.init.finetune,
        batch_size: plan.batch_size(),
        accumulate: recipe.train.accumulate,
        precision,
    };
    let task = task(plan, None, precision, devices)?;
    Ok(workload.cost_of_update(task, &devices.student.device, limit)?)
}
