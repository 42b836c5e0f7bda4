//! One recipe, resolved and checked, and what the floors below take from it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::distillation::DistillationRecipe;
use super::duration::parse_duration;
use super::error::RecipeError;
use super::sections::{DataRecipe, ModelRecipe, PreprocessRecipe, TrainRecipe};
use super::start::{InitRecipe, ProbeViews};
use super::table::{BUDGET_KEYS, flatten, insert};
use crate::checkpoint::{Base, Shipped};
use crate::data::AugmentConfig;
use crate::hub::Repo;
use crate::model::ModelConfig;
use crate::names;
use crate::ops::Precision;
use crate::setting::{Invalid, below, positive, within};
use crate::train::{Budget, CurriculumConfig, OptimizerConfig, ScheduleConfig, TrainConfig};

/// What may change between the sessions of a training: its budget, and where its files are and how they are read.
pub(crate) const MAY_CHANGE: [&str; 11] = [
    "data.path",
    "data.cache_mb",
    "data.workers",
    "data.strict",
    "train.epochs",
    "train.steps",
    "train.time",
    "train.patience",
    "train.checkpoint_minutes",
    // Hashes tell whether their files are the same.
    "distillation.teacher",
    "init.weights",
];

/// Everything that determines a training.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// Pictures and splits.
    pub data: DataRecipe,
    /// Architecture.
    pub model: ModelRecipe,
    /// Weights to start from.
    pub init: InitRecipe,
    /// Size and normalisation.
    pub preprocess: PreprocessRecipe,
    /// Random changes to training pictures.
    pub augment: AugmentConfig,
    /// The loop.
    pub train: TrainRecipe,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// The schedule of the learning rate.
    pub schedule: ScheduleConfig,
    /// The teacher.
    pub distillation: DistillationRecipe,
    /// What changes in the course of the training.
    pub curriculum: CurriculumConfig,
}

impl Recipe {
    pub(super) fn from_table(table: Table) -> Result<Self, RecipeError> {
        let budget: Vec<_> = table
            .get("train")
            .and_then(Value::as_table)
            .map(|t| {
                BUDGET_KEYS
                    .into_iter()
                    .filter(|k| t.contains_key(*k))
                    .collect()
            })
            .unwrap_or_default();
        let mut recipe: Self = match table.clone().try_into() {
            Ok(recipe) => recipe,
            Err(error) => return Err(wrong_value(&table, &error)),
        };
        match budget.as_slice() {
            [] | ["epochs"] => {}
            ["steps"] | ["time"] => recipe.train.epochs = None,
            several => {
                return Err(RecipeError::Value {
                    reason: format!(
                        "train.{} are all set: expected one of epochs, steps and time",
                        several.join(" and train.")
                    ),
                });
            }
        }
        recipe.validate()?;
        Ok(recipe)
    }

    /// Checks every number against its range.
    ///
    /// # Errors
    ///
    /// [`RecipeError`], which names the key.
    pub(super) fn validate(&self) -> Result<(), RecipeError> {
        self.data.validate()?;
        self.preprocess.validate()?;
        self.train.validate()?;
        validate_optimizer(&self.optimizer)?;
        let warmup = self.schedule.warmup_epochs;
        within("schedule.warmup_epochs", warmup, 0.0..=1e4)?;
        self.distillation.validate()?;
        let (guided, curriculum) = (&self.distillation.config, &self.curriculum);
        if guided.guidance > 0.0
            && curriculum.token_drop > 0.0
            && guided.guidance_until <= curriculum.token_drop_until
        {
            let expected = "more than curriculum.token_drop_until: while tokens are dropped there is no map to guide";
            let until = guided.guidance_until;
            return Err(Invalid::new("distillation.guidance_until", until, expected).into());
        }
        self.augment.validate()?;
        self.curriculum.validate()?;
        self.init.validate()?;
        if self.init.probe.is_some() && self.distillation.teacher.is_some() {
            return Err(RecipeError::Value {
                reason:
                    "init.probe learns from labels alone: distillation.teacher does not go with it"
                        .to_owned(),
            });
        }
        self.budget()?;
        Ok(())
    }

    /// Makes its paths absolute, so that a run can be continued from anywhere, and drops slashes at
    /// their end. Names of weights that ship, and of repositories on a hub, stay names.
    pub(crate) fn make_paths_absolute(&mut self) {
        let weights = [&mut self.distillation.teacher, &mut self.init.weights];
        let paths = weights
            .into_iter()
            .flatten()
            .filter(|path| Shipped::find(path).is_none() && !Repo::is_named(path))
            .chain(&mut self.data.path);
        for path in paths {
            if let Ok(absolute) = std::path::absolute(&*path) {
                *path = absolute.components().collect();
            }
        }
    }

    /// The recipe as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a recipe is plain data")
    }

    /// Every key that is set, dotted, with its value as TOML.
    pub(crate) fn settings(&self) -> BTreeMap<String, String> {
        let mut keys = BTreeMap::new();
        let table = Value::try_from(self).expect("a recipe is plain data");
        flatten("", &table, &mut keys);
        keys
    }

    /// A dotted key whose value differs in another recipe, with the value here and the value there.
    pub fn difference(&self, other: &Self) -> Option<(String, String, String)> {
        self.difference_but(&[], other)
    }

    /// The same for a training by `other` that is continued by this recipe: but for what may change then.
    pub fn difference_on_resume(&self, other: &Self) -> Option<(String, String, String)> {
        self.difference_but(&MAY_CHANGE, other)
    }

    fn difference_but(&self, spared: &[&str], other: &Self) -> Option<(String, String, String)> {
        let [here, there] = [self, other].map(Self::settings);
        let unset = || "unset".to_owned();
        let mut keys = here.keys().chain(there.keys());
        keys.find_map(|key| {
            if spared.contains(&key.as_str()) {
                return None;
            }
            let (a, b) = (here.get(key), there.get(key));
            (a != b).then(|| {
                let [a, b] = [a, b].map(|value| value.cloned().unwrap_or_else(unset));
                (key.clone(), a, b)
            })
        })
    }

    /// This training of weights that are drawn, instead of those that it starts from: architecture and preprocessing
    /// stay theirs.
    pub(crate) fn without_init(&self) -> Self {
        Self {
            init: InitRecipe::default(),
            ..self.clone()
        }
    }

    /// This training of all that it does not freeze, where it was to be a probe.
    pub(crate) fn fine_tuning(&self) -> Self {
        let mut recipe = self.clone();
        recipe.init.probe = None;
        recipe
    }

    /// A probe on the features of the weights that this training starts from; what says how to learn, which its
    /// optimum does not depend on, is as by default.
    pub(crate) fn probing(&self, views: ProbeViews) -> Self {
        Self {
            data: self.data.clone(),
            model: self.model.clone(),
            preprocess: self.preprocess.clone(),
            init: InitRecipe {
                probe: Some(views),
                weights: self.init.weights.clone(),
                sha256: self.init.sha256.clone(),
                ..InitRecipe::default()
            },
            train: TrainRecipe {
                batch_size: self.train.batch_size,
                seed: self.train.seed,
                precision: self.train.precision,
                ..TrainRecipe::default()
            },
            ..Self::default()
        }
    }

    /// The weights to start from and their SHA-256, once a run has written it down.
    pub(crate) fn origin(&self) -> Option<(&Path, &str)> {
        self.init
            .weights
            .as_deref()
            .zip(self.init.sha256.as_deref())
    }

    /// The weights that low-rank adapters change, where the recipe asks for some, once a run has written their hash
    /// down.
    pub(crate) fn base(&self) -> Option<Base> {
        let (weights, sha256) = self.origin()?;
        self.init.finetune.adapts().then(|| Base {
            weights: names::text(weights),
            sha256: sha256.to_owned(),
        })
    }

    /// How long to train.
    ///
    /// # Errors
    ///
    /// [`RecipeError::Invalid`] where `train.time` is no duration.
    pub fn budget(&self) -> Result<Budget, RecipeError> {
        let t = &self.train;
        if let Some(text) = &t.time {
            return Ok(Budget::Time(parse_duration("train.time", text)?));
        }
        if let Some(steps) = t.steps {
            return Ok(Budget::Steps(steps));
        }
        Ok(Budget::Epochs(t.epochs.unwrap_or(20)))
    }

    /// The settings of the loop, with the precision that [`TrainRecipe::precision`] resolved to.
    ///
    /// # Errors
    ///
    /// As for [`budget`](Self::budget).
    pub fn train_config(&self, precision: Precision) -> Result<TrainConfig, RecipeError> {
        let t = &self.train;
        Ok(TrainConfig {
            budget: self.budget()?,
            accumulate: t.accumulate,
            seed: t.seed,
            precision,
            ema: t.ema,
            ema_epochs: t.ema_epochs,
            patience: t.patience,
            checkpoint_every: Duration::from_secs_f64(t.checkpoint_minutes * 60.0),
            optimizer: self.optimizer.clone(),
            schedule: self.schedule.clone(),
            curriculum: self.curriculum.clone(),
            finetune: self.init.finetune.clone(),
        })
    }

    /// The architecture for pictures of `image_size` and `num_classes` classes.
    ///
    /// # Errors
    ///
    /// An unknown preset, an override that the family does not have, or what
    /// [`ModelConfig::validate`] refuses.
    pub fn model_config(
        &self,
        image_size: usize,
        num_classes: usize,
    ) -> Result<ModelConfig, RecipeError> {
        let m = &self.model;
        let preset = ModelConfig::unchecked_preset(&m.name, image_size, m.patch_size, num_classes)?;
        let mut json = preset.fields();
        for (key, value) in &m.overrides {
            let Some(slot) = json.get_mut(key) else {
                return Err(RecipeError::NotOfModel {
                    key: key.clone(),
                    name: m.name.clone(),
                });
            };
            *slot = serde_json::to_value(value).expect("TOML values fit into JSON");
            // One at a time, since serde does not name the field of an enum's variant.
            if let Err(error) = serde_json::from_value::<ModelConfig>(json.clone()) {
                let key = format!("model.{key}");
                return Err(Invalid::new(&key, plain(value), expected(&error.to_string())).into());
            }
        }
        self.distillation.add_token(&m.name, &mut json)?;
        let config: ModelConfig = serde_json::from_value(json).expect("each value fits its field");
        config.validate()?;
        Ok(config)
    }
}

fn validate_optimizer(o: &OptimizerConfig) -> Result<(), Invalid> {
    positive("optimizer.lr", o.lr, 100.0)?;
    within("optimizer.weight_decay", o.weight_decay, 0.0..=10.0)?;
    below("optimizer.beta1", o.beta1, 1.0)?;
    below("optimizer.beta2", o.beta2, 1.0)?;
    below("optimizer.momentum", o.momentum, 1.0)?;
    positive("optimizer.muon_lr", o.muon_lr, 100.0)?;
    below("optimizer.muon_momentum", o.muon_momentum, 1.0)?;
    positive("optimizer.epsilon", o.epsilon, 1.0)?;
    within("optimizer.clip_grad", o.clip_grad, 0.0..=1e6)
}

/// The key whose value serde refuses. Its error does not name the key in every section, so each is
/// tried alone.
fn wrong_value(table: &Table, error: &toml::de::Error) -> RecipeError {
    let mut leaves = Vec::new();
    leaves_of("", table, &mut leaves);
    for (key, value) in leaves {
        let mut alone = Table::new();
        insert(&mut alone, &key, value.clone());
        if let Err(error) = alone.try_into::<Recipe>() {
            return Invalid::new(&key, plain(value), expected(error.message())).into();
        }
    }
    RecipeError::Value {
        reason: error.to_string().trim().replace('\n', " "),
    }
}

/// The values of a table by their dotted keys.
fn leaves_of<'a>(prefix: &str, table: &'a Table, leaves: &mut Vec<(String, &'a Value)>) {
    for (name, value) in table {
        let key = match prefix {
            "" => name.clone(),
            section => format!("{section}.{name}"),
        };
        match value {
            Value::Table(inner) if !inner.is_empty() => leaves_of(&key, inner, leaves),
            leaf => leaves.push((key, leaf)),
        }
    }
}

/// A value as it was typed: a string without its quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What serde expected, without the names of Rust's types.
fn expected(message: &str) -> String {
    let message = message.trim().replace(['\n', '`', '"'], " ");
    let words = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let found = words.split_once("expected ").map_or(&*words, |(_, it)| it);
    // JSON's reader adds where in the text it stopped.
    let found = found.split(" at line ").next().unwrap_or(found);
    match found {
        "usize" | "u64" | "u32" => "a whole number from 0".to_owned(),
        "f64" | "f32" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "path string" | "a string" => "text".to_owned(),
        "an array of length 3" => "three numbers, such as [0.5, 0.5, 0.5]".to_owned(),
        other => other.replace(" ,", ","),
    }
}
