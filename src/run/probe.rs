//! A run that fits a linear probe in place of a training: features once, then logistic regression on them.

use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;

use super::devices::{Devices, precision};
use super::dir::RunDir;
use super::error::RunError;
use super::event::RunEvent;
use super::plan::Plan;
use super::{pictures, results, start};
use crate::checkpoint::{self, WeightsMeta};
use crate::data::{DataError, EvalLoader, SplitName};
use crate::device::Selected;
use crate::eval::{self, SplitFeatures};
use crate::model::Model;
use crate::ops::Precision;
use crate::recipe::{ProbeViews, RecipeError};
use crate::stop::Stop;
use crate::train::probe::{Labelled, PROBE_L2, Probe, ProbeOptions, Tried, fit as fit_probe};
use crate::train::task::Figure;
use crate::train::task::classification::{TOP1, TOP5, VAL_LOSS, figures};
use crate::train::{
    Best, Ending, EpochRecord, Outcome, Progress, Saved, TrainEvent, save_finished,
};

/// The columns of `results.csv`, in which a row is a strength of the penalty.
const COLUMNS: [&str; 4] = [TOP1, TOP5, VAL_LOSS, PROBE_L2];

/// Fits the probe of a plan and writes its weights: those that it starts from, with the fitted head. With the outcome
/// it returns the first file that could not be written on the way.
///
/// # Errors
///
/// [`RunError`]; one that [is a stop](RunError::is_stop) where it was stopped, and nothing is written then.
pub(super) fn fit(
    plan: &mut Plan,
    views: ProbeViews,
    saved: Option<Saved>,
    dir: &RunDir,
    devices: Devices<'_>,
    stop: &Stop,
    observe: &mut dyn FnMut(RunEvent<'_>),
) -> Result<(Outcome, Option<RunError>), RunError> {
    let began = Instant::now();
    // The weights are written after the state: a kill may have left them out.
    if let Some(saved) = saved
        && dir.best().is_file()
        && dir.last().is_file()
    {
        observe(RunEvent::Begin(plan));
        observe(RunEvent::NothingLeft(&saved.progress));
        let unwritten = results::write_results(dir, &COLUMNS, &saved.progress.history).err();
        return Ok((complete(saved.progress), unwritten));
    }
    let train = pictures::plain(plan, SplitName::Train, stop, observe)?;
    let train = train.ok_or(crate::train::TrainError::Empty)?;
    let val = pictures::validation(plan, stop, observe)?;
    if plan.recipe.data.strict {
        pictures::check_test(plan, stop, observe)?;
    }
    observe(RunEvent::Begin(plan));
    let meta = plan.meta();
    let backbone = backbone(plan, devices.student)?;
    let precision = precision(&plan.recipe, devices.student)?;
    let device = &devices.student.device;
    let seen = Seen::by(
        &backbone,
        &train,
        val.as_ref(),
        views,
        precision,
        device,
        observe,
    )?;
    let images_per_s = seen.pictures() as f64 / began.elapsed().as_secs_f64().max(1e-9);
    let mut history = Vec::new();
    let mut each = |step: usize, tried: &Tried, best: bool| {
        let record = record(step, tried, began.elapsed().as_secs_f64(), images_per_s);
        history.push(record.clone());
        observe(RunEvent::Train(TrainEvent::Epoch { record, best }));
    };
    let probe = seen.fit(meta.classes.len(), device, stop, &mut each)?;
    let best = probe.tried[probe.best];
    let mut progress = Progress::default();
    progress.epoch = history.len();
    progress.update = probe.iterations as u64;
    progress.elapsed_s = began.elapsed().as_secs_f64();
    progress.images = seen.train.labels.len() as u64;
    // Of what a picture costs; the fit sees none.
    progress.training_s = seen.train_s;
    progress.best = Some(Best {
        epoch: probe.best + 1,
        score: best.top1,
        loss: best.val_loss,
    });
    progress.history = history;
    progress.finished = true;
    save_finished(&dir.state_folder(), &progress, &plan.recipe.to_toml())?;
    let meta = WeightsMeta {
        epoch: probe.best + 1,
        // Folds are no validation split.
        val_top1: seen.val.is_some().then_some(best.top1),
        ..meta
    };
    let Probe { weight, bias, .. } = &probe;
    let model = backbone.with_head(weight, bias, device);
    for path in [dir.last(), dir.best()] {
        checkpoint::save_weights(&path, &model, &meta)?;
    }
    let unwritten = results::write_results(dir, &COLUMNS, &progress.history).err();
    Ok((complete(progress), unwritten))
}

fn complete(progress: Progress) -> Outcome {
    Outcome {
        ending: Ending::Complete,
        progress,
    }
}

/// The model that the plan starts from, with a head for its classes, which is to be fitted.
///
/// # Errors
///
/// [`RunError`]: the weights cannot be read, or do not fit.
pub(super) fn backbone(plan: &Plan, device: &Selected) -> Result<Model, RunError> {
    let opened = match &plan.start {
        Some(_) => None,
        None => start::open(&mut plan.recipe.clone())?,
    };
    let found = plan.start.as_ref().or(opened.as_ref());
    // A recipe without weights to start from was refused.
    let found = found.ok_or(RecipeError::NothingToProbe)?;
    let device = &device.device;
    let undrawn = plan.model.init_constant(device);
    let seed = plan.recipe.train.seed;
    Ok(found.fill(undrawn, &plan.meta(), seed, device)?.valid())
}

/// What a model makes of the pictures that a probe learns from, and of those that judge it.
pub(super) struct Seen {
    train: SplitFeatures,
    val: Option<SplitFeatures>,
    /// Seconds that the training pictures took.
    train_s: f64,
}

impl Seen {
    /// Features of the training pictures in these views, and of the validation pictures as they are, by a model without
    /// autodiff.
    pub(super) fn by(
        backbone: &Model,
        train: &EvalLoader,
        val: Option<&EvalLoader>,
        views: ProbeViews,
        precision: Precision,
        device: &Device,
        observe: &mut dyn FnMut(RunEvent<'_>),
    ) -> Result<Self, RunError> {
        let mut features = |loader: &EvalLoader, split, mirrored| {
            let total = loader.pictures().len();
            let mut done = 0;
            let mut seen = |count| {
                done += count;
                observe(RunEvent::Features { split, done, total });
            };
            eval::features(backbone, loader, device, precision, mirrored, &mut seen)
        };
        let began = Instant::now();
        let train = features(train, SplitName::Train, views == ProbeViews::Mirror)?;
        let train_s = began.elapsed().as_secs_f64();
        let val = val
            .map(|val| features(val, SplitName::Val, false))
            .transpose()?;
        Ok(Self {
            train,
            val,
            train_s,
        })
    }

    /// How many pictures and views there are.
    fn pictures(&self) -> usize {
        self.train.labels.len() + self.val.as_ref().map_or(0, |val| val.labels.len())
    }

    /// The probe of this many classes; `each` is called with every strength that was tried.
    pub(super) fn fit(
        &self,
        classes: usize,
        device: &Device,
        stop: &Stop,
        each: &mut dyn FnMut(usize, &Tried, bool),
    ) -> Result<Probe, RunError> {
        let options = ProbeOptions {
            width: self.train.width,
            classes,
            views: self.train.views,
            device,
        };
        let val = self.val.as_ref().map(labelled);
        let probe = fit_probe(labelled(&self.train), val, options, stop, each);
        Ok(probe.ok_or(DataError::Stopped)?)
    }
}

fn labelled(features: &SplitFeatures) -> Labelled<'_> {
    Labelled {
        features: &features.values,
        labels: &features.labels,
    }
}

/// A strength that was tried, as a row of `results.csv`.
fn record(step: usize, tried: &Tried, elapsed_s: f64, images_per_s: f64) -> EpochRecord {
    let mut figures = figures(tried.top1, tried.top5, tried.val_loss);
    figures.push(Figure {
        column: PROBE_L2.to_owned(),
        value: tried.l2,
    });
    EpochRecord {
        epoch: step + 1,
        elapsed_s,
        train_loss: tried.train_loss,
        figures,
        lr: 0.0,
        images_per_s,
        waiting: 0.0,
        // Every picture was seen once, whatever was tried.
        share: if step == 0 { 1.0 } else { 0.0 },
        spent: None,
    }
}
