//! The head of a training that starts from weights of other classes, fitted on their features before anything else moves.

use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;

use super::devices::{Devices, precision};
use super::error::RunError;
use super::event::RunEvent;
use super::plan::Plan;
use super::probe::Seen;
use crate::data::{EvalLoader, TrainLoader};
use crate::eval;
use crate::model::parameters::{self, declared};
use crate::model::role::{Declared, Role};
use crate::model::{Model, Noise, Pass};
use crate::names::all_same;
use crate::ops::Precision;
use crate::recipe::{NewHead, ProbeViews};
use crate::stop::Stop;
use crate::train::FittedHead;

/// Batches after which next to nothing is left of earlier running statistics (0.9⁵⁰ is 0.005).
const SETTLED: usize = 50;

/// The model with the running statistics that its batch norms come to on these pictures (AdaBN, Li et al. 2016, arXiv
/// 1603.04779): a training changes them within its first updates, and a head that was fitted on features of the old ones
/// would no longer fit. What is frozen keeps them.
fn settle(
    model: Model,
    train: &TrainLoader,
    seed: u64,
    precision: Precision,
    device: &Device,
) -> Result<Model, RunError> {
    let is_statistic = |tensor: &Declared| tensor.role == Role::Statistic;
    if declared(&model).iter().any(is_statistic) {
        let learning = device.clone().autodiff();
        let batches = (0..SETTLED).flat_map(|epoch| train.epoch(epoch, 0));
        for (step, batch) in batches.take(SETTLED).enumerate() {
            let mut noise = Noise::new(seed, step as u64);
            let mut pass = Pass::training(precision, &mut noise);
            model.features(eval::input(batch?, &learning), &mut pass);
        }
    }
    Ok(model.valid())
}

/// Fits the head of a training that has not begun, where the recipe asks for that and the weights to start from do not
/// know the classes; the model then begins with it.
///
/// Features are those of the model as the training begins with it, tokens that are drawn included, and as it goes by
/// these pictures.
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
    let seed = plan.recipe.train.seed;
    let precision = precision(&plan.recipe, devices.student)?;
    let undrawn = meta.model.init_constant(&device.clone().autodiff());
    let model = start.fill(undrawn, meta, seed, device)?;
    let finetune = &plan.recipe.init.finetune;
    let backbone = match finetune.adapts() {
        // Adapters leave it as it is.
        true => model.valid(),
        false => settle(finetune.freeze(model), train, seed, precision, device)?,
    };
    // As they are evaluated, without another copy in memory.
    let train = EvalLoader::new(
        train.pictures().clone(),
        meta.preprocess.clone(),
        train.batch_size(),
        plan.recipe.data.workers,
    );
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
        statistics: parameters::statistics(&backbone),
    });
    Ok(())
}
