//! One update: forward, backward, clip, step, average. Whoever trains, measures or times a training
//! takes it from here.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::average::Average;
use super::finetune::FinetuneConfig;
use super::optimizer::{GradientSum, Optimizer, OptimizerConfig};
use super::part::{MODEL, Part, model_part};
use super::progress::Progress;
use super::state::{self, Saved};
use super::task::Task;
use crate::checkpoint::{self, CheckpointError};
use crate::data::Batch;
use crate::model::parameters::{self, declared};
use crate::model::role::{Declared, Role};
use crate::model::{Model, Noise, Pass};
use crate::ops::{Precision, profile};
use crate::stop::{self, Stop};

/// Name of the span of a batch's backward pass, for [`profile`].
pub(super) const BACKWARD: &str = "backward";
/// Name of the span of clipping, step and average, for [`profile`].
pub(super) const OPTIMIZER: &str = "optimizer";

/// All that learns in a training, and how.
#[derive(Debug)]
pub struct Learner<'t> {
    /// The model, frozen where it does not learn.
    pub model: Model,
    task: Box<dyn Task + 't>,
    optimizer: Optimizer,
    average: Option<Average>,
    finetune: FinetuneConfig,
    precision: Precision,
    has_statistics: bool,
}

/// What one update goes by.
#[derive(Debug)]
pub struct Step {
    /// Learning rate.
    pub lr: f64,
    /// Share of the budget that is spent, 0 to 1.
    pub spent: f64,
    /// Batches whose gradients are averaged.
    pub batches: usize,
    /// The update's randomness.
    pub noise: Noise,
    /// On request the update is given up, at the next operation.
    pub stop: Stop,
}

/// Why an update was not taken. No weight has changed then; running statistics of batch norms may have where the
/// loss or the gradient is not a number.
#[derive(Debug)]
pub enum NotTaken<E> {
    /// There was no batch.
    Batch(E),
    /// Someone asked to stop.
    Stopped,
    /// The loss or the gradient is not a number.
    NotFinite {
        /// `loss` or `gradient norm`.
        what: &'static str,
        /// Its value.
        value: f64,
    },
}

impl<'t> Learner<'t> {
    /// A model that learns a task; `decay` is that of the weights' moving average, 0 for none.
    pub fn new(
        model: Model,
        mut task: Box<dyn Task + 't>,
        optimizer: &OptimizerConfig,
        finetune: &FinetuneConfig,
        decay: f64,
        precision: Precision,
    ) -> Self {
        let mut model = finetune.freeze(model);
        let factors = finetune.factors(&model);
        let parts = parts(&mut model, task.as_mut());
        let names: HashSet<&str> = parts.iter().map(|part| part.name).collect();
        assert_eq!(names.len(), parts.len(), "each part has a name of its own");
        let optimizer = Optimizer::new(optimizer.clone(), &parts)
            .with_factors(factors)
            .with_precision(precision);
        let average = (decay > 0.0).then(|| Average::new(decay, &parts));
        let is_statistic = |tensor: &Declared| tensor.role == Role::Statistic;
        Self {
            has_statistics: declared(&model).iter().any(is_statistic),
            model,
            task,
            optimizer,
            average,
            finetune: finetune.clone(),
            precision,
        }
    }

    /// What the training minimises.
    pub fn task(&self) -> &dyn Task {
        self.task.as_ref()
    }

    /// One update over batches that `next` gives; returns the sum of their losses.
    ///
    /// # Errors
    ///
    /// [`NotTaken`], with every weight as it was.
    pub fn update<E>(
        &mut self,
        mut step: Step,
        mut next: impl FnMut() -> Result<Batch, E>,
    ) -> Result<f64, NotTaken<E>> {
        let mut gradients = GradientSum::default();
        let mut losses = Vec::new();
        let statistics = self.statistics();
        let stop = step.stop.clone();
        for _ in 0..step.batches {
            let loss = match next() {
                Ok(batch) => {
                    let backward = || self.backward(batch, &mut step, &mut gradients);
                    stop::until(&stop, backward).ok_or(NotTaken::Stopped)
                }
                Err(error) => Err(NotTaken::Batch(error)),
            };
            match loss {
                Ok(loss) => losses.push(loss),
                Err(not_taken) => {
                    self.put_back(statistics);
                    return Err(not_taken);
                }
            }
        }
        let _span = profile::span(OPTIMIZER);
        let norm = self.optimizer.clip(&mut gradients);
        // After the norm: to read a value is to wait for a GPU, and one wait is enough.
        let values = losses.into_iter().map(|loss| loss.into_scalar::<f32>());
        let loss_sum = values.map(f64::from).sum::<f64>();
        let loss = loss_sum / step.batches as f64;
        // Both are checked before the weights change, so that what is saved is always good.
        if !loss.is_finite() {
            let what = "loss";
            return Err(NotTaken::NotFinite { what, value: loss });
        }
        if !norm.is_finite() {
            let what = "gradient norm";
            return Err(NotTaken::NotFinite { what, value: norm });
        }
        let mut parts = parts(&mut self.model, self.task.as_mut());
        self.optimizer.step(&mut parts, gradients, step.lr);
        if let Some(average) = &mut self.average {
            average.update(&parts);
        }
        Ok(loss_sum)
    }

    /// Forward and backward of one batch; returns its loss.
    fn backward(
        &mut self,
        batch: Batch,
        step: &mut Step,
        gradients: &mut GradientSum,
    ) -> Tensor<1> {
        let mut pass = Pass::training(self.precision, &mut step.noise);
        let loss = self.task.loss(&self.model, batch, step.spent, &mut pass);
        let _span = profile::span(BACKWARD);
        let mut found = match step.batches {
            1 => loss.backward(),
            batches => loss.clone().mul_scalar(1.0 / batches as f32).backward(),
        };
        let parts = parts(&mut self.model, self.task.as_mut());
        let own = parts.iter();
        gradients.add(
            own.flat_map(|part| part.module.take_gradients(&mut found))
                .collect(),
        );
        loss.inner()
    }

    /// The running statistics of the model's batch norms, which a forward pass moves.
    fn statistics(&self) -> HashMap<String, Tensor<1>> {
        if !self.has_statistics {
            return HashMap::new();
        }
        let declared = declared(&self.model).into_iter();
        let statistics: HashSet<String> = declared
            .filter(|tensor| tensor.role == Role::Statistic)
            .map(|tensor| tensor.path)
            .collect();
        let values = parameters::values(&self.model.valid()).into_iter();
        values
            .filter(|(path, _)| statistics.contains(path))
            .collect()
    }

    /// Takes back the statistics of before an update that was not taken.
    fn put_back(&mut self, mut statistics: HashMap<String, Tensor<1>>) {
        if self.has_statistics {
            // Burn keeps the newest statistics apart until they are asked for, and would take them then.
            let _newest = self.model.valid();
            self.model = parameters::replace(self.model.clone(), |path, _| statistics.remove(path));
        }
    }

    /// The weights that are evaluated and shipped.
    pub fn shipped(&self) -> Model {
        match &self.average {
            Some(average) => {
                let averaged = average.apply(MODEL, &self.model);
                self.finetune.keep_frozen(averaged, &self.model)
            }
            None => self.model.valid(),
        }
    }

    /// The average of the weights, where the training keeps one.
    pub fn average(&self) -> Option<&Average> {
        self.average.as_ref()
    }

    /// Writes everything a resume needs.
    pub(super) fn save(
        &mut self,
        folder: &Path,
        progress: &Progress,
        recipe: &str,
    ) -> Result<(), CheckpointError> {
        let parts = parts(&mut self.model, self.task.as_mut());
        state::save(
            folder,
            progress,
            recipe,
            &parts,
            &self.optimizer,
            self.average.as_ref(),
        )
    }

    /// Takes back what [`save`](Self::save) wrote.
    pub(super) fn restore(
        &mut self,
        saved: &Saved,
        device: &Device,
    ) -> Result<(), CheckpointError> {
        let mut parts = parts(&mut self.model, self.task.as_mut());
        let average = self.average.as_mut();
        saved.restore(&mut parts, &mut self.optimizer, average, device)
    }

    /// A weight that is not a number, if there is one.
    pub(super) fn broken_weight(&mut self) -> Option<f32> {
        let parts = parts(&mut self.model, self.task.as_mut());
        let values = parts.iter().flat_map(|part| part.module.values());
        let mut numbers = values.flat_map(|(_, value)| checkpoint::host(value));
        numbers.find(|number| !number.is_finite())
    }
}

/// The model, and what the task trains beside it.
fn parts<'a>(model: &'a mut Model, task: &'a mut (dyn Task + '_)) -> Vec<Part<'a>> {
    let mut parts = vec![model_part(model)];
    parts.extend(task.parts());
    parts
}
