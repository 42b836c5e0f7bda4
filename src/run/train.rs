//! A plan carried out: pictures, training, final evaluation.

use std::sync::atomic::AtomicBool;

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
use crate::ops::Precision;
use crate::recipe::Recipe;
use crate::train::{Outcome, Saved, TrainEvent, Trainer, seconds_per_update};

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
    let trainer = trainer(&mut plan, dir, devices, stop, observe)?;
    let outcome = fit(trainer, saved, dir, observe)?;
    if !outcome.progress.finished {
        info.pause();
        write(&dir.info(), info.to_json().as_bytes())?;
        return Ok(Finished::interrupted(outcome));
    }
    observe(RunEvent::Testing);
    let finished = finish::finish(&plan, dir, devices.student, outcome)?;
    info.end(&finished.outcome.progress);
    write(&dir.info(), info.to_json().as_bytes())?;
    Ok(finished)
}

/// Reads the pictures and assembles the trainer.
fn trainer<'a>(
    plan: &mut Plan,
    dir: &RunDir,
    devices: Devices<'_>,
    stop: &'a AtomicBool,
    observe: &mut dyn FnMut(RunEvent<'_>),
) -> Result<Trainer<'a>, RunError> {
    let train = pictures::training(plan, observe)?;
    let val = pictures::validation(plan, observe)?;
    results::write_train_batch(dir, &train, plan)?;
    if plan.recipe.data.strict {
        pictures::check_test(plan, observe)?;
    }
    observe(RunEvent::Begin(plan));
    let precision = precision(&plan.recipe, devices.student)?;
    Ok(Trainer {
        config: plan.recipe.train_config(precision)?,
        train,
        val,
        device: devices.student.device.clone(),
        distillation: plan.distillation(precision, devices)?,
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
    saved: Option<Saved>,
    dir: &RunDir,
    observe: &mut dyn FnMut(RunEvent<'_>),
) -> Result<Outcome, RunError> {
    let mut history = saved
        .as_ref()
        .map(|s| s.progress.history.clone())
        .unwrap_or_default();
    let mut failed = None;
    let outcome = trainer.train(saved, &mut |event| {
        if let TrainEvent::Epoch { record, .. } = &event {
            history.push(record.clone());
            if let Err(e) = results::write_results(dir, &history) {
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

/// Measures one optimizer update of this plan, in seconds.
pub(super) fn measure_update(
    plan: &Plan,
    precision: Precision,
    devices: Devices<'_>,
) -> Result<f64, RunError> {
    let recipe = &plan.recipe;
    Ok(seconds_per_update(
        &plan.model,
        &recipe.optimizer,
        &recipe.init.finetune,
        plan.distillation(precision, devices)?,
        recipe.train.batch_size.min(plan.splits.train.len()),
        recipe.train.accumulate,
        precision,
        &devices.student.device,
    ))
}
