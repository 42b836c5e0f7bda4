//! A training planned: everything that follows from recipe and data, before anything is written.

use std::sync::Arc;

use super::data::{OpenData, data_of_run};
use super::devices::{Devices, precision};
use super::dir::RunDir;
use super::error::RunError;
use super::start;
use super::teacher::PlannedTeacher;
use crate::checkpoint::{Fit, WeightsMeta};
use crate::data::{Dataset, DecodeLimits, Preprocess, Skipped, SplitLists, Splits, decode};
use crate::device::{self, Selected};
use crate::model::{ModelConfig, lora};
use crate::ops::Precision;
use crate::recipe::{Recipe, RecipeError};
use crate::train::{Budget, Curriculum, Distillation, Start};

/// A training that is ready to begin: its data is open, and all files that its recipe names exist.
#[derive(Debug)]
pub struct Plan {
    /// The recipe, with the hashes of the teacher and of the weights to start from.
    pub recipe: Recipe,
    /// The data set.
    pub dataset: Arc<Dataset>,
    /// Its splits.
    pub splits: Splits,
    /// Size and normalisation; mean and deviation are neutral until the pictures are read.
    pub preprocess: Preprocess,
    /// The architecture.
    pub model: ModelConfig,
    /// What changes during the training.
    pub curriculum: Curriculum,
    /// The teacher, if there is one.
    pub teacher: Option<PlannedTeacher>,
    /// The weights to start from, if any; a resumed training has its weights in its state.
    pub start: Option<Start>,
    /// Files that the data set's layout leaves out, and unreadable pictures found so far.
    pub skipped: Vec<Skipped>,
}

impl Plan {
    /// Plans a new run: opens the data, splits it, chooses image size and architecture, and finds
    /// the teacher and the weights to start from.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub fn new(recipe: Recipe) -> Result<Self, RunError> {
        Self::with(recipe, &mut OpenData::default())
    }

    /// [`new`](Self::new) with data that may be open already.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub(crate) fn with(recipe: Recipe, data: &mut OpenData) -> Result<Self, RunError> {
        let dataset = data.open(recipe.data.path.as_deref(), recipe.data.strict)?;
        let seed = recipe.data.split_seed;
        let splits = dataset
            .split(seed, recipe.data.val_fraction, recipe.data.test_fraction)?
            .fraction(recipe.data.fraction, seed);
        let mut plan = Self::settle(recipe, dataset, splits)?;
        plan.start = start::open(&mut plan.recipe)?;
        Ok(plan)
    }

    /// Plans the rest of a run, on the splits that it began with.
    ///
    /// # Errors
    ///
    /// [`RunError`], also if the data lacks a picture of the run's split lists.
    pub fn resumed(recipe: Recipe, dir: &RunDir) -> Result<Self, RunError> {
        let path = recipe.data.path.as_deref();
        let opened = OpenData::default().open(path, recipe.data.strict);
        let dataset = opened.map_err(|error| data_of_run(dir, error))?;
        let splits = Splits::read(&dir.splits(), &dataset)?;
        let left_out = SplitLists::read(&dir.splits())?.left_out(&dataset);
        let mut plan = Self::settle(recipe, dataset, splits)?;
        plan.skipped.extend(left_out);
        Ok(plan)
    }

    fn settle(mut recipe: Recipe, dataset: Arc<Dataset>, splits: Splits) -> Result<Self, RunError> {
        let image_size = match recipe.preprocess.image_size {
            Some(size) => size,
            None => natural_size(&dataset, &splits),
        };
        let preprocess = Preprocess {
            image_size,
            resize: recipe.preprocess.resize,
            resize_to: recipe.preprocess.resize_to,
            centre: recipe.preprocess.centre,
            filter: recipe.preprocess.filter,
            exact: recipe.preprocess.exact,
            mean: recipe.preprocess.mean.unwrap_or([0.0; 3]),
            std: recipe.preprocess.std.unwrap_or([1.0; 3]),
        };
        let model = recipe.model_config(image_size, splits.classes.len())?;
        let curriculum = recipe
            .curriculum
            .resolve(&model)
            .map_err(RecipeError::from)?;
        let teacher = PlannedTeacher::find(&recipe, &dataset.origin, &splits.classes)?;
        // A resume must find the same teacher.
        recipe.distillation.sha256 = teacher.as_ref().map(|teacher| teacher.sha256.clone());
        let skipped = dataset.skipped.clone();
        Ok(Self {
            recipe,
            dataset,
            splits,
            preprocess,
            model,
            curriculum,
            teacher,
            start: None,
            skipped,
        })
    }

    /// Checks that the weights to start from fit the model, and that `device` computes in the
    /// recipe's precision; returns what becomes of each tensor of those weights, if there are any.
    ///
    /// # Errors
    ///
    /// [`RunError`]; nothing has been written by then.
    pub fn check(&self, device: &Selected) -> Result<Option<Fit>, RunError> {
        let fits = |start: &Start| {
            let finetune = &self.recipe.init.finetune;
            let classes = &self.splits.classes;
            start::check(start, finetune, &self.model, classes, &device.device)
        };
        let fit = self.start.as_ref().map(fits).transpose()?;
        precision(&self.recipe, device)?;
        Ok(fit)
    }

    /// How many numbers low-rank adapters have, where they learn in place of all but the heads.
    pub fn adapter_parameters(&self) -> Option<u64> {
        let finetune = &self.recipe.init.finetune;
        let model = || self.model.init_constant(&device::to_describe());
        finetune
            .adapts()
            .then(|| lora::count(&model(), finetune.lora_rank) as u64)
    }

    /// What goes with the weights of this plan, once its pictures are decoded.
    pub(super) fn meta(&self) -> WeightsMeta {
        WeightsMeta {
            name: self.recipe.model.name.clone(),
            model: self.model.clone(),
            classes: self.splits.classes.clone(),
            preprocess: self.preprocess.clone(),
            temperature: 1.0,
            epoch: 0,
            val_top1: None,
            calibration: None,
        }
    }

    /// Pictures of one batch.
    pub(super) fn batch_size(&self) -> usize {
        let wanted = self.recipe.train.batch_size;
        wanted.min(self.splits.train.len())
    }

    /// Pictures of one update.
    pub(crate) fn pictures_per_update(&self) -> usize {
        self.batch_size() * self.recipe.train.accumulate
    }

    /// Floating-point operations of one update, on average over a training whose pictures take a
    /// share `work` of the whole ones' work: a backward pass costs twice a forward pass, and a
    /// teacher's forward pass comes on top. What is frozen counts as if it learned.
    pub(crate) fn flops_per_update(&self, work: f64) -> f64 {
        let picture = 3.0 * self.model.flops() as f64 * work + self.teacher_flops() as f64;
        picture * self.pictures_per_update() as f64
    }

    /// Floating-point operations of the teacher's forward pass on one picture; 0 without a teacher.
    pub(crate) fn teacher_flops(&self) -> u64 {
        let teacher = self.teacher.as_ref();
        teacher.map_or(0, |teacher| teacher.meta.model.flops())
    }

    /// Updates of the whole training; `None` under a budget of time.
    pub(crate) fn updates(&self) -> Option<f64> {
        let updates_per_epoch = (self.splits.train.len() / self.batch_size().max(1))
            .max(1)
            .div_ceil(self.recipe.train.accumulate);
        match self.recipe.budget().ok()? {
            Budget::Epochs(epochs) => Some((epochs * updates_per_epoch) as f64),
            Budget::Steps(steps) => Some(steps as f64),
            Budget::Time(_) => None,
        }
    }

    /// Updates of this model that `flops` floating-point operations pay for.
    pub(crate) fn updates_within(&self, flops: f64) -> f64 {
        flops / self.flops_per_update(self.curriculum.mean_work(false))
    }

    /// Where the weights to start from saw smaller pictures than this training: their size in pixels, and the share of
    /// this training's work that a picture of that size takes.
    pub fn smaller_size_of_start(&self) -> Option<(usize, f64)> {
        let size = self.start.as_ref()?.meta.preprocess.image_size;
        if size >= self.preprocess.image_size {
            return None;
        }
        let classes = self.dataset.classes.len();
        let there = self.recipe.model_config(size, classes).ok()?;
        Some((size, there.flops() as f64 / self.model.flops() as f64))
    }

    /// Loads the teacher, if there is one.
    pub(super) fn distillation(
        &self,
        precision: Precision,
        devices: Devices<'_>,
    ) -> Result<Option<Distillation>, RunError> {
        let load = |teacher: &PlannedTeacher| {
            teacher.load(&self.recipe, &self.preprocess, precision, devices.teacher)
        };
        self.teacher.as_ref().map(load).transpose()
    }
}

/// Largest image size, in pixels, that is chosen by default: beyond it a CPU trains for days.
const LARGEST_NATURAL_SIZE: usize = 96;

/// The size of the pictures if they are square, small and all alike, else
/// [`LARGEST_NATURAL_SIZE`].
fn natural_size(dataset: &Dataset, splits: &Splits) -> usize {
    let stride = (splits.train.len() / 64).max(1);
    let mut sizes = splits.train.iter().step_by(stride).filter_map(|sample| {
        let picture = decode(&dataset.read(sample).ok()?, &DecodeLimits::default()).ok()?;
        Some(picture.dimensions())
    });
    match sizes.next() {
        Some((w, h))
            if w == h && w as usize <= LARGEST_NATURAL_SIZE && sizes.all(|s| s == (w, h)) =>
        {
            (w as usize).max(8)
        }
        _ => LARGEST_NATURAL_SIZE,
    }
}
