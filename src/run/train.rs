//! A plan carried out: pictures, training, final evaluation.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::devices::{Devices, precision};
use super::dir::RunDir;
use super::error::RunError;
use super::event::RunEvent;
use super::files::{make_folder, write};
use super::finish::{self, Finished};
use super::info::{self, RunInfo};
use super::plan::Plan;
use super::{pictures, results};
use crate::checkpoint::WeightsMeta;
use crate::data::{EvalLoader, TrainLoader};
use crate::ops::Precision;
use crate::recipe::Recipe;
use crate::train::task::Task;
use crate::train::{Classification, Outcome, Saved, TrainEvent, Trainer, UpdateCost, Workload};

/// Trains a plan into `dir`, a new run directory, and writes all results.
///
/// # Errors
///
/// [`RunError`]; what has been saved by then stays.
pub fn train<'a>(
    mut plan: Plan,
    dir: &RunDir,
    devices: impl Into<Devices<'a>>,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(RunEvent<'_>),
) -> Result<Finished, RunError> {
    let devices = devices.into();
    plan.recipe.train.precision = precision(&plan.recipe, devices.student)?.into();
    let _held = dir.lock()?;
    dir.sweep();
    write(&dir.recipe(), plan.recipe.to_toml().as_bytes())?;
    make_folder(&dir.splits())?;
    plan.splits.write(&dir.splits())?;
    let info = RunInfo::begin(&plan, devices, dir);
    carry_out(plan, None, info, dir, devices, stop, observe)
}

/// Continues the run in `dir` from its saved state. `recipe` is the run's own, perhaps with a larger
/// budget or other paths.
///
/// # Errors
///
/// [`RunError`]; the saved state stays as it was.
pub fn resume<'a>(
    mut recipe: Recipe,
    dir: &RunDir,
    devices: impl Into<Devices<'a>>,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(RunEvent<'_>),
) -> Result<Finished, RunError> {
    let devices = devices.into();
    recipe.train.precision = precision(&recipe, devices.student)?.into();
    if !dir.state_folder().join("state.safetensors").is_file() {
        return Err(RunError::NoState {
            path: dir.root().to_owned(),
        });
    }
    // Held before the state is read: another process may be about to write a newer one.
    let _held = dir.lock()?;
    let saved = Saved::open(&dir.state_folder())?;
    let plan = Plan::resumed(recipe, dir)?;
    dir.sweep();
    write(&dir.recipe(), plan.recipe.to_toml().as_bytes())?;
    let mut info = RunInfo::begin(&plan, devices, dir);
    if let Some(before) = info::read(dir) {
        info = info.resume(&before);
    }
    carry_out(plan, Some(saved), info, dir, devices, stop, observe)
}

/// Trains until the budget is spent or `stop` is set, in a run directory that this process has locked.
fn carry_out(
    mut plan: Plan,
    saved: Option<Saved>,
    mut info: RunInfo,
    dir: &RunDir,
    devices: Devices<'_>,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(RunEvent<'_>),
) -> Result<Finished, RunError> {
    write(&dir.info(), info.to_json().as_bytes())?;
    let train = pictures::training(&mut plan, observe)?;
    let val = pictures::validation(&mut plan, observe)?;
    results::write_train_batch(dir, &train, &plan)?;
    if plan.recipe.data.strict {
        pictures::check_test(&plan, observe)?;
    }
    observe(RunEvent::Begin(&plan));
    let precision = precision(&plan.recipe, devices.student)?;
    let task = task(&plan, val, precision, devices)?;
    let trainer = trainer(&mut plan, train, dir, devices, precision, stop)?;
    let outcome = fit(trainer, task, saved, dir, observe)?;
    if !outcome.progress.finished {
        info.pause();
        write(&dir.info(), info.to_json().as_bytes())?;
        return Ok(Finished::interrupted(&plan, outcome));
    }
    observe(RunEvent::Testing);
    let finished = finish::finish(&plan, dir, devices.student, outcome)?;
    info.end(&finished.outcome.progress);
    write(&dir.info(), info.to_json().as_bytes())?;
    Ok(finished)
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
        task = task.with_teacher(distillation, plan.model.width());
    }
    if let Some(pictures) = val {
        task = task.with_validation(pictures, &plan.dataset.classes, precision);
    }
    Ok(Box::new(task))
}

/// Assembles the trainer; the plan gives up its weights to start from.
fn trainer<'a>(
    plan: &mut Plan,
    train: TrainLoader,
    dir: &RunDir,
    devices: Devices<'_>,
    precision: Precision,
    stop: &'a AtomicBool,
) -> Result<Trainer<'a>, RunError> {
    Ok(Trainer {
        config: plan.recipe.train_config(precision)?,
        train,
        device: devices.student.device.clone(),
        meta: WeightsMeta {
            name: plan.recipe.model.name.clone(),
            model: plan.model.clone(),
            classes: plan.dataset.classes.clone(),
            preprocess: plan.preprocess.clone(),
            temperature: 1.0,
            epoch: 0,
            val_top1: None,
            calibration: None,
        },
        init: plan.start.take(),
        weights: dir.weights_folder(),
        state: dir.state_folder(),
        stop,
    })
}

/// Trains; after each epoch, `results.csv` and its plot are written.
fn fit(
    trainer: Trainer<'_>,
    task: Box<dyn Task + '_>,
    saved: Option<Saved>,
    dir: &RunDir,
    observe: &mut dyn FnMut(RunEvent<'_>),
) -> Result<Outcome, RunError> {
    let mut history = saved
        .as_ref()
        .map(|s| s.progress.history.clone())
        .unwrap_or_default();
    let columns = task.columns();
    let mut failed = None;
    let outcome = trainer.train(task, saved, &mut |event| {
        if let TrainEvent::Epoch { record, .. } = &event {
            history.push(record.clone());
            if let Err(e) = results::write_results(dir, columns, &history) {
                failed.get_or_insert(e);
            }
        }
        observe(RunEvent::Train(event));
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok(outcome),
    }
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
