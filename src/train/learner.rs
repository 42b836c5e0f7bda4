//! One update: forward, backward, clip, step, average. Whoever trains, measures or times a training
//! takes it from here.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::average::Average;
use super::finetune::FinetuneConfig;
use super::optimizer::{GradientSum, Optimizer, OptimizerConfig};
use super::part::{ADAPTERS, MODEL, Part, adapters_part, model_part};
use super::progress::Progress;
use super::state::{self, Saved};
use super::task::Task;
use crate::checkpoint::{self, Base, CheckpointError, Lora, WeightsMeta};
use crate::data::Batch;
use crate::model::lora::Adapters;
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
    /// What its matrices are changed by, where adapters learn in their place.
    adapters: Option<Adapters>,
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
    /// A model that learns a task; `decay` is that of the weights' moving average, 0 for none, and low-rank adapters
    /// are drawn from `seed`.
    pub fn new(
        model: Model,
        mut task: Box<dyn Task + 't>,
        optimizer: &OptimizerConfig,
        finetune: &FinetuneConfig,
        decay: f64,
        precision: Precision,
        seed: u64,
    ) -> Self {
        let mut model = finetune.freeze(model);
        let mut adapters = finetune.adapters(&model, seed);
        let factors = finetune.factors(&model);
        let of_adapters = adapters
            .as_ref()
            .map(|adapters| finetune.factors_of(&adapters.parameters(), &model));
        let parts = parts(&mut model, &mut adapters, task.as_mut());
        let names: HashSet<&str> = parts.iter().map(|part| part.name).collect();
        assert_eq!(names.len(), parts.len(), "each part has a name of its own");
        let mut optimizer = Optimizer::new(optimizer.clone(), &parts)
            .with_factors(0, factors)
            .with_precision(precision);
        if let Some(factors) = of_adapters {
            optimizer = optimizer.with_factors(1, factors);
        }
        let average = (decay > 0.0).then(|| Average::new(decay, &parts));
        let is_statistic = |tensor: &Declared| tensor.role == Role::Statistic;
        Self {
            has_statistics: declared(&model).iter().any(is_statistic),
            model,
            adapters,
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
        let mut parts = parts(&mut self.model, &mut self.adapters, self.task.as_mut());
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
        let effective = self.adapters.as_ref().map(|a| a.apply(&self.model));
        let model = effective.as_ref().unwrap_or(&self.model);
        let loss = self.task.loss(model, batch, step.spent, &mut pass);
        let _span = profile::span(BACKWARD);
        let mut found = match step.batches {
            1 => loss.backward(),
            batches => loss.clone().mul_scalar(1.0 / batches as f32).backward(),
        };
        let parts = parts(&mut self.model, &mut self.adapters, self.task.as_mut());
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
        parameters::statistics(&self.model.valid())
    }

    /// Takes back the statistics of before an update that was not taken.
    fn put_back(&mut self, mut statistics: HashMap<String, Tensor<1>>) {
        if self.has_statistics {
            // Burn keeps the newest statistics apart until they are asked for, and would take them then.
            let _newest = self.model.valid();
            self.model = parameters::replace(self.model.clone(), |path, _| statistics.remove(path));
        }
    }

    /// The weights that are evaluated and shipped, adapters merged into them.
    pub fn shipped(&self) -> Model {
        let model = match &self.average {
            Some(average) => {
                let averaged = average.apply(MODEL, &self.model);
                self.finetune.keep_frozen(averaged, &self.model)
            }
            None => self.model.valid(),
        };
        match self.shipped_adapters() {
            Some(adapters) => adapters.apply(&model),
            None => model,
        }
    }

    /// The adapters of [`shipped`](Self::shipped), where there are some.
    fn shipped_adapters(&self) -> Option<Adapters> {
        let mut adapters = self.adapters.as_ref()?.valid();
        if let Some(average) = &self.average {
            let mut own = average.of(ADAPTERS);
            adapters.replace(|_, _| own.next());
        }
        Some(adapters)
    }

    /// Writes a weights file of `shipped`: of its adapters and heads alone, where it has adapters and `base` says
    /// what they change.
    pub(super) fn write(
        &self,
        path: &Path,
        shipped: &Model,
        meta: &WeightsMeta,
        base: Option<&Base>,
    ) -> Result<(), CheckpointError> {
        let (Some(adapters), Some(base)) = (self.shipped_adapters(), base) else {
            return checkpoint::save_weights(path, shipped, meta);
        };
        let lora = Lora {
            rank: self.finetune.lora_rank,
            alpha: self.finetune.lora_alpha,
            base: base.clone(),
        };
        checkpoint::save_adapters(path, &adapters, shipped, &lora, meta)
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
        let parts = parts(&mut self.model, &mut self.adapters, self.task.as_mut());
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
        let mut parts = parts(&mut self.model, &mut self.adapters, self.task.as_mut());
        let average = self.average.as_mut();
        saved.restore(&mut parts, &mut self.optimizer, average, device)
    }

    /// A weight that is not a number, if there is one.
    pub(super) fn broken_weight(&mut self) -> Option<f32> {
        let parts = parts(&mut self.model, &mut self.adapters, self.task.as_mut());
        let values = parts.iter().flat_map(|part| part.module.values());
        let mut numbers = values.flat_map(|(_, value)| checkpoint::host(value));
        numbers.find(|number| !number.is_finite())
    }
}

/// The model, its adapters, and what the task trains beside it.
fn parts<'a>(
    model: &'a mut Model,
    adapters: &'a mut Option<Adapters>,
    task: &'a mut (dyn Task + '_),
) -> Vec<Part<'a>> {
    let mut parts = vec![model_part(model)];
    parts.extend(adapters.as_mut().map(adapters_part));
    parts.extend(task.parts());
    parts
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::data::Targets;
    use crate::model::{ModelConfig, freeze};
    use crate::train::optimizer::OptimizerKind;
    use crate::train::{Classification, cross_entropy};

    const RANK: usize = 2;
    const ALPHA: f64 = 3.0;
    const LR: f64 = 0.05;

    /// A matrix on the host, row by row.
    #[derive(Clone)]
    struct Dense {
        columns: usize,
        values: Vec<f64>,
    }

    impl Dense {
        fn new(columns: usize, values: impl IntoIterator<Item = f32>) -> Self {
            Self {
                columns,
                values: values.into_iter().map(f64::from).collect(),
            }
        }

        fn rows(&self) -> usize {
            self.values.len() / self.columns
        }

        fn part(&self, first: usize, columns: usize) -> Self {
            let rows = self.values.chunks(self.columns);
            let part = rows.flat_map(|row| row[first..first + columns].to_vec());
            Self {
                columns,
                values: part.collect(),
            }
        }

        fn transposed(&self) -> Self {
            let at = |i: usize| {
                let (row, column) = (i / self.rows(), i % self.rows());
                self.values[column * self.columns + row]
            };
            Self {
                columns: self.rows(),
                values: (0..self.values.len()).map(at).collect(),
            }
        }

        fn times(&self, other: &Self) -> Self {
            let cell = |i: usize| -> f64 {
                let (row, column) = (i / other.columns, i % other.columns);
                (0..self.columns)
                    .map(|k| {
                        self.values[row * self.columns + k]
                            * other.values[k * other.columns + column]
                    })
                    .sum()
            };
            Self {
                columns: other.columns,
                values: (0..self.rows() * other.columns).map(cell).collect(),
            }
        }

        /// `self` + `factor`·`other`, which stands from column `first` on.
        fn add(&mut self, first: usize, factor: f64, other: &Self) {
            for (i, value) in other.values.iter().enumerate() {
                let (row, column) = (i / other.columns, i % other.columns);
                self.values[row * self.columns + first + column] += factor * value;
            }
        }
    }

    fn waves(path: &str, count: usize) -> Vec<f32> {
        let place: usize = path.bytes().map(usize::from).sum();
        (0..count)
            .map(|i| ((i * 7 + place) as f32).sin() * 0.2)
            .collect()
    }

    fn batch() -> Batch {
        Batch {
            images: waves("images", 4 * 3 * 64)
                .iter()
                .map(|v| 5.0 * v)
                .collect(),
            image_size: 8,
            len: 4,
            targets: Targets::Hard(vec![0, 2, 1, 2]),
            indices: (0..4).collect(),
        }
    }

    /// A model whose every value is another.
    fn model(device: &Device) -> Model {
        let config = ModelConfig::preset("vit-micro", 8, None, 3).unwrap();
        parameters::replace(config.init(1, device), |path, shape| {
            // A variance is not negative.
            if path.ends_with("running_var") {
                return None;
            }
            let values = waves(path, shape.iter().product());
            Some(Tensor::from_floats(values.as_slice(), &Device::flex()))
        })
    }

    fn finetune() -> FinetuneConfig {
        FinetuneConfig {
            lora_rank: RANK,
            lora_alpha: ALPHA,
            layer_decay: 0.8,
            ..FinetuneConfig::default()
        }
    }

    fn learner(decay: f64) -> Learner<'static> {
        let plain = OptimizerConfig {
            kind: OptimizerKind::Sgd,
            momentum: 0.0,
            weight_decay: 0.0,
            clip_grad: 0.0,
            ..OptimizerConfig::default()
        };
        let task = Box::new(Classification::new(0.0, &Device::flex()));
        let model = model(&Device::flex().autodiff());
        Learner::new(model, task, &plain, &finetune(), decay, Precision::F32, 5)
    }

    fn update(learner: &mut Learner<'_>) {
        let step = Step {
            lr: LR,
            spent: 0.0,
            batches: 1,
            noise: Noise::new(0, 0),
            stop: Stop::default(),
        };
        learner
            .update(step, || Ok::<_, Infallible>(batch()))
            .unwrap();
    }

    /// The gradient of each tensor that [`trainable`](parameters::trainable) names, where all of a model learns.
    fn gradients(model: &Model) -> HashMap<String, Vec<f32>> {
        let device = Device::flex().autodiff();
        let Batch { images, .. } = batch();
        let images = Tensor::<1>::from_floats(images.as_slice(), &device);
        let noise = &mut Noise::new(0, 0);
        let pass = &mut Pass::training(Precision::F32, noise);
        let logits = model.forward(images.reshape([4, 3, 8, 8]), pass);
        let targets = [0, 2, 1, 2].iter().flat_map(|&class| {
            let mut row = [0f32; 3];
            row[class] = 1.0;
            row
        });
        let targets: Vec<f32> = targets.collect();
        let targets = Tensor::<1>::from_floats(targets.as_slice(), &device).reshape([4, 3]);
        let mut found = cross_entropy(logits, targets).backward();
        let taken = parameters::take_gradients(model, &mut found).into_iter();
        let paths = parameters::trainable(model).into_iter();
        paths
            .zip(taken)
            .filter_map(|(tensor, gradient)| {
                Some((tensor.declared.path, checkpoint::host(gradient?)))
            })
            .collect()
    }

    #[test]
    fn adapters_move_by_the_gradient_of_the_weight_that_they_change() {
        const UPDATES: usize = 3;
        let mut learner = learner(0.0);
        let start: HashMap<String, Vec<f32>> = parameters::values(&learner.model.valid())
            .into_iter()
            .map(|(path, value)| (path, checkpoint::host(value)))
            .collect();
        // The same by hand: a dense model of W + (α/r)·A·B, of which all learns, gives G = ∂L/∂W; then A moves by
        // (α/r)·G·Bᵀ and B by (α/r)·Aᵀ·G.
        let scale = ALPHA / RANK as f64;
        let adapters = learner.adapters.as_ref().unwrap();
        let values = adapters.values().into_iter();
        let mut by_hand: HashMap<String, Dense> = values
            .zip(adapters.parameters())
            .map(|((path, value), of)| (path, Dense::new(of.shape[1], checkpoint::host(value))))
            .collect();
        let mut heads: HashMap<String, Vec<f64>> = HashMap::new();
        let device = Device::flex().autodiff();
        let matrices: Vec<(Declared, Vec<usize>)> = declared(&learner.model)
            .into_iter()
            .zip(parameters::shapes(&learner.model))
            .map(|(declared, (_, shape))| (declared, shape))
            .collect();
        let last = matrices.iter().map(|(of, _)| of.layer).max().unwrap();
        for _ in 0..UPDATES {
            let dense = parameters::replace(model(&device), |path, shape| {
                let of = matrices.iter().find(|(of, _)| of.path == path)?;
                let values: Vec<f32> = match (of.0.role, heads.get(path)) {
                    (_, Some(head)) => head.iter().map(|&v| v as f32).collect(),
                    (Role::Matrix, None) => {
                        let [down, up] =
                            ["lora_a", "lora_b"].map(|n| &by_hand[&format!("{path}.{n}")]);
                        let mut whole = Dense::new(shape[1], start[path].clone());
                        let width = shape[1] / of.0.split;
                        for i in 0..of.0.split {
                            let product =
                                down.part(i * RANK, RANK).times(&up.part(i * width, width));
                            whole.add(i * width, scale, &product);
                        }
                        whole.values.iter().map(|&v| v as f32).collect()
                    }
                    _ => return None,
                };
                Some(Tensor::from_floats(values.as_slice(), &Device::flex()))
            });
            // A batch norm goes by its statistics, as where nothing but adapters learns.
            let dense = freeze(dense, |of| of.role != Role::Matrix && !of.role.is_head());
            let gradients = gradients(&dense);
            for (of, shape) in &matrices {
                let path = &of.path;
                let rate = LR * 0.8f64.powi((last - of.layer) as i32);
                match of.role {
                    role if role.is_head() => {
                        let values = start[path].iter().map(|&v| f64::from(v)).collect();
                        let head = heads.entry(path.clone()).or_insert(values);
                        for (value, gradient) in head.iter_mut().zip(&gradients[path]) {
                            *value -= rate * f64::from(*gradient);
                        }
                    }
                    Role::Matrix => {
                        let gradient = Dense::new(shape[1], gradients[path].clone());
                        let [down, up] =
                            ["lora_a", "lora_b"].map(|n| by_hand[&format!("{path}.{n}")].clone());
                        let width = shape[1] / of.split;
                        for i in 0..of.split {
                            let gradient = gradient.part(i * width, width);
                            let (a, b) = (down.part(i * RANK, RANK), up.part(i * width, width));
                            let of_down = gradient.times(&b.transposed());
                            let of_up = a.transposed().times(&gradient);
                            let mut step = |name: &str, first, by: &Dense| {
                                let tensor = by_hand.get_mut(&format!("{path}.{name}")).unwrap();
                                tensor.add(first, -rate * scale, by);
                            };
                            step("lora_a", i * RANK, &of_down);
                            step("lora_b", i * width, &of_up);
                        }
                    }
                    _ => {}
                }
            }
            update(&mut learner);
        }
        let close = |path: &str, found: &[f32], expected: &[f64]| {
            let largest = expected.iter().fold(0f64, |most, v| most.max(v.abs()));
            for (found, expected) in found.iter().zip(expected) {
                let off = (f64::from(*found) - expected).abs();
                assert!(off < 1e-4 * largest, "{path}: {found}, not {expected}");
            }
        };
        for (path, value) in learner.adapters.as_ref().unwrap().values() {
            let value = checkpoint::host(value);
            assert!(value.iter().any(|&v| v != 0.0), "{path} has moved");
            close(&path, &value, &by_hand[&path].values);
        }
        for (path, value) in parameters::values(&learner.model.valid()) {
            let value = checkpoint::host(value);
            match heads.get(&path) {
                Some(head) => close(&path, &value, head),
                None => assert_eq!(value, start[&path], "{path} stays"),
            }
        }
    }

    #[test]
    fn an_average_of_adapters_is_what_ships() {
        let mut learner = learner(0.5);
        for _ in 0..2 {
            update(&mut learner);
        }
        let state = learner.average().unwrap().state().to_vec();
        let averaged = learner.shipped_adapters().unwrap().values();
        for (path, value) in &averaged {
            let name = format!("{ADAPTERS}.{path}");
            let (_, kept) = state.iter().find(|(known, _)| *known == name).unwrap();
            assert_eq!(
                checkpoint::host(value.clone()),
                checkpoint::host(kept.clone())
            );
        }
        let now = learner.adapters.as_ref().unwrap().values();
        let differs = |((_, a), (_, b)): (&(String, Tensor<1>), &(String, Tensor<1>))| {
            checkpoint::host(a.clone()) != checkpoint::host(b.clone())
        };
        assert!(averaged.iter().zip(&now).any(differs));
    }
}
