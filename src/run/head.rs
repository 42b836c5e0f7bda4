//! The head of a training that starts from weights of other classes, fitted on their features before anything else moves.

use std::time::Instant;

use burn::module::Module;

use super::devices::{Devices, precision};
use super::error::RunError;
use super::event::RunEvent;
use super::plan::Plan;
use super::probe::Seen;
use crate::data::{EvalLoader, TrainLoader};
use crate::names::all_same;
use crate::recipe::{NewHead, ProbeViews};
use crate::stop::Stop;
use crate::train::FittedHead;

/// Fits the head of a training that has not begun, where the recipe asks for that and the weights to start from do not
/// know the classes; the model then begins with it.
///
/// Features are those of the model as the training begins with it, tokens that are drawn included.
///
/// # Errors
///
/// [`RunError`]; one that [is a stop](RunError::is_stop) where it was stopped.
pub(super) fn fit(
    plan: &mut Plan,
    train: &TrainLoader,
    val: Option<&EvalLoader>,
    devices: Devices<'_>,
    stop: &Stop,
    observe: &mut dyn FnMut(RunEvent<'_>),
) -> Result<(), RunError> {
    let meta = &plan.meta();
    let Some(start) = &mut plan.start else {
        return Ok(());
    };
    if plan.recipe.init.head == NewHead::Fresh || all_same(&start.meta.classes, &meta.classes) {
        return Ok(());
    }
    let began = Instant::now();
    let device = &devices.student.device;
    let drawn = meta.model.init(plan.recipe.train.seed, device);
    let backbone = start.fill(drawn, meta, device)?.valid();
    // As they are evaluated, without another copy in memory.
    let train = EvalLoader::new(
        train.pictures().clone(),
        meta.preprocess.clone(),
        train.batch_size(),
        plan.recipe.data.workers,
    );
    let precision = precision(&plan.recipe, devices.student)?;
    let seen = Seen::by(
        &backbone,
        &train,
        val,
        ProbeViews::Plain,
        precision,
        device,
        observe,
    )?;
    let probe = seen.fit(meta.classes.len(), device, stop, &mut |_, _, _| {})?;
    observe(RunEvent::Head {
        seconds: began.elapsed().as_secs_f64(),
        chosen: &probe.tried[probe.best],
        on: probe.chosen_on,
    });
    start.head = Some(FittedHead {
        weight: probe.weight,
        bias: probe.bias,
    });
    Ok(())
}
