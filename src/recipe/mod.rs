//! Settings: TOML layers and overrides in, one validated [`Recipe`] out.
//!
//! Later layers win: defaults, the model family's defaults, `--recipe`, `--set`, flags. A key that
//! nothing reads is refused with the nearest key that something does.

mod distillation;
mod init;
mod layers;
mod validate;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml::{Table, Value};

use crate::checkpoint::Shipped;
use crate::data::{AugmentConfig, Resize};
use crate::model::{ModelConfig, ModelError};
use crate::ops::{Precision, PrecisionChoice};
use crate::setting::Invalid;
use crate::train::{
    Budget, CurriculumConfig, Freeze, OptimizerConfig, ScheduleConfig, TrainConfig,
};

use layers::{BUDGET_KEYS, check_keys, insert, merge, names, parse};

pub(crate) use layers::known_keys;

pub use distillation::DistillationRecipe;
pub use init::InitRecipe;
pub use layers::{EMBEDDED, Embedded, Layers};
pub use validate::parse_duration;

/// What is wrong with a recipe.
#[derive(Debug, Error)]
pub enum RecipeError {
    /// The file could not be read.
    #[error("cannot read recipe {path}: {source}; known recipes are {known}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
        /// Names of the embedded recipes.
        known: String,
    },
    /// The text is not TOML.
    #[error("{origin} is not valid TOML: {reason}")]
    Syntax {
        /// Where it stands.
        origin: Origin,
        /// What the parser says.
        reason: String,
    },
    /// Nothing reads this key.
    #[error("{origin}: unknown key `{key}`{hint}")]
    UnknownKey {
        /// Where it stands.
        origin: Origin,
        /// The key, dotted.
        key: String,
        /// `; did you mean …?`
        hint: String,
    },
    /// An assignment without a key or a value.
    #[error("{text:?}: expected key=value, such as optimizer.lr=0.001")]
    Assignment {
        /// As given.
        text: String,
    },
    /// The value does not fit the key.
    #[error("recipe: {reason}")]
    Value {
        /// What was found and expected.
        reason: String,
    },
    /// A setting is outside its range.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The architecture that is stated is not that of the weights to start from.
    #[error("model.{key} is {stated}, and the weights {weights} have {theirs}")]
    Architecture {
        /// The key below `model`.
        key: String,
        /// As stated.
        stated: String,
        /// The weights.
        weights: PathBuf,
        /// What they have.
        theirs: String,
    },
    /// Something is to be frozen of a model that starts from nothing.
    #[error(
        "init.freeze is {freeze}: expected none without weights to start from, since a random layer has to learn"
    )]
    NothingToFreeze {
        /// As stated.
        freeze: Freeze,
    },
    /// Settings of a distillation without a teacher.
    #[error("[distillation] has settings and no teacher")]
    NoTeacher,
    /// The model cannot be built.
    #[error(transparent)]
    Model(ModelError),
}

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A recipe, by its file or name.
    Recipe(String),
    /// `key=value`, as given.
    Assignment(String),
    /// A key and its value from the program.
    Program,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recipe(name) => write!(f, "recipe {name}"),
            Self::Assignment(text) => f.write_str(text),
            Self::Program => f.write_str("settings"),
        }
    }
}

impl From<ModelError> for RecipeError {
    /// The model knows its fields; a recipe has them under `model.`.
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Invalid(invalid) => Self::Invalid(invalid.of_section("model")),
            other => Self::Model(other),
        }
    }
}

/// Where the pictures come from and how they are split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataRecipe {
    /// Folder, archive or file; without one, the bundled Fashion-MNIST sample.
    pub path: Option<PathBuf>,
    /// Share of the training pictures cut off for validation where the data brings none.
    pub val_fraction: f64,
    /// The same for the test split; 0 cuts none.
    pub test_fraction: f64,
    /// Seed of what is cut and of `fraction`. It is not the training's, so that trainings under
    /// several seeds, a teacher and its student all hold out the same pictures.
    pub split_seed: u64,
    /// Share of the training split to train on, stratified.
    pub fraction: f64,
    /// Memory for decoded pictures in MiB; what does not fit is decoded again each time.
    pub cache_mb: usize,
    /// Threads that make batches; 0 shares the process's own, one a core.
    pub workers: usize,
    /// Whether an unreadable picture is an error.
    pub strict: bool,
}

impl Default for DataRecipe {
    fn default() -> Self {
        Self {
            path: None,
            val_fraction: 0.1,
            test_fraction: 0.1,
            split_seed: 0,
            fraction: 1.0,
            cache_mb: 4096,
            workers: 0,
            strict: false,
        }
    }
}

/// How a picture becomes the model's input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PreprocessRecipe {
    /// Side of the square input in pixels; without one, that of the pictures where they are all
    /// alike, square and at most 96, else 96.
    pub image_size: Option<usize>,
    /// What happens to pictures that are not square.
    pub resize: Resize,
    /// Mean of each channel, 0 to 1; without one, measured on the training split.
    pub mean: Option<[f32; 3]>,
    /// Standard deviation of each channel; without one, measured on the training split.
    pub std: Option<[f32; 3]>,
}

impl Default for PreprocessRecipe {
    fn default() -> Self {
        Self {
            image_size: None,
            resize: Resize::Crop,
            mean: None,
            std: None,
        }
    }
}

/// The architecture: a preset and what differs from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelRecipe {
    /// Preset, such as `vit-w1` or `resnet18`.
    pub name: String,
    /// Side of a patch in pixels; without one, the preset's choice for the image size.
    pub patch_size: Option<usize>,
    /// Fields of the preset's configuration to change.
    #[serde(flatten)]
    pub overrides: Table,
}

impl Default for ModelRecipe {
    fn default() -> Self {
        Self {
            name: "vit-micro".to_owned(),
            patch_size: None,
            overrides: Table::new(),
        }
    }
}

/// The loop's own settings; one of `epochs`, `steps` and `time` ends it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainRecipe {
    /// Passes over the training split.
    pub epochs: Option<usize>,
    /// Optimizer updates.
    pub steps: Option<u64>,
    /// Wall-clock time, such as `30m` or `1h30m`.
    pub time: Option<String>,
    /// Pictures a batch.
    pub batch_size: usize,
    /// Batches an update.
    pub accumulate: usize,
    /// Seed of weights, data order, augmentation and drop path.
    pub seed: u64,
    /// Operands of matrix products: `auto`, `f32` or `bf16`.
    pub precision: PrecisionChoice,
    /// Label smoothing, 0 to below 1.
    pub label_smoothing: f32,
    /// Decay of the weights' moving average; 0 turns it off.
    pub ema: f64,
    /// Horizon of that average in epochs, fractions count, instead of a decay: its decay is
    /// e^(−1/updates) of as many epochs' updates. 0 leaves it to `ema`.
    pub ema_epochs: f64,
    /// Epochs without improvement before it stops; 0 never does.
    pub patience: usize,
    /// Longest time between two saved states, in minutes.
    pub checkpoint_minutes: f64,
}

impl Default for TrainRecipe {
    fn default() -> Self {
        Self {
            epochs: Some(20),
            steps: None,
            time: None,
            batch_size: 128,
            accumulate: 1,
            seed: 0,
            precision: PrecisionChoice::Auto,
            label_smoothing: 0.1,
            ema: 0.0,
            ema_epochs: 0.0,
            patience: 0,
            checkpoint_minutes: 5.0,
        }
    }
}

/// Everything that decides a training.
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
    /// The learning rate's course.
    pub schedule: ScheduleConfig,
    /// The teacher.
    pub distillation: DistillationRecipe,
    /// What else changes along the way.
    pub curriculum: CurriculumConfig,
}

impl Recipe {
    /// Reads a resolved recipe back, as a run directory holds it.
    ///
    /// # Errors
    ///
    /// [`RecipeError`], which names the file.
    pub fn load(path: &Path) -> Result<Self, RecipeError> {
        let text = std::fs::read_to_string(path).map_err(|source| RecipeError::Read {
            path: path.to_owned(),
            source,
            known: names(),
        })?;
        let origin = Origin::Recipe(path.display().to_string());
        let mut table = parse(&origin, &text)?;
        check_keys(&origin, &table, "", &known_keys())?;
        // Runs from before `data.split_seed` were split by the training's seed.
        let seed = table
            .get("train")
            .and_then(|train| train.get("seed"))
            .cloned();
        if let (Some(seed), Some(Value::Table(data))) = (seed, table.get_mut("data")) {
            data.entry("split_seed").or_insert(seed);
        }
        Self::from_table(table)
    }

    /// The recipe with other values of some keys, checked anew. Hashes stay: other paths to weights are
    /// paths to the same ones.
    ///
    /// # Errors
    ///
    /// As for [`Layers::resolve`].
    pub fn changed(&self, values: Vec<(&'static str, Value)>) -> Result<Self, RecipeError> {
        let mut table = Table::try_from(self).expect("a recipe is plain data");
        let mut changes = Table::new();
        for (key, value) in values {
            insert(&mut changes, key, value);
        }
        merge(&mut table, changes);
        let mut changed = Self::from_table(table)?;
        changed
            .distillation
            .sha256
            .clone_from(&self.distillation.sha256);
        changed.init.sha256.clone_from(&self.init.sha256);
        Ok(changed)
    }

    fn from_table(table: Table) -> Result<Self, RecipeError> {
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
        let mut recipe: Self =
            table
                .try_into()
                .map_err(|e: toml::de::Error| RecipeError::Value {
                    reason: in_words(&e.to_string()),
                })?;
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

    /// Makes its paths hold from wherever a run is continued, with or without a slash at their end
    /// the same. Names of weights that ship stay names.
    pub fn make_paths_absolute(&mut self) {
        let weights = [&mut self.distillation.teacher, &mut self.init.weights];
        let paths = weights
            .into_iter()
            .flatten()
            .filter(|path| Shipped::find(path).is_none())
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

    /// A key that another recipe has otherwise, dotted, with the value here and the value there.
    pub fn difference(&self, other: &Self) -> Option<(String, String, String)> {
        let [here, there] = [self, other].map(|recipe| {
            let mut keys = BTreeMap::new();
            flatten(
                "",
                &Value::try_from(recipe).expect("a recipe is plain data"),
                &mut keys,
            );
            keys
        });
        let unset = || "unset".to_owned();
        here.keys().chain(there.keys()).find_map(|key| {
            let (a, b) = (here.get(key), there.get(key));
            (a != b).then(|| {
                let [a, b] = [a, b].map(|value| value.cloned().unwrap_or_else(unset));
                (key.clone(), a, b)
            })
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

    /// The loop's settings, with the precision that [`TrainRecipe::precision`] came to.
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
        let mut json = serde_json::to_value(&preset).expect("a model configuration is plain data");
        for (key, value) in &m.overrides {
            let Some(slot) = json.get_mut(key) else {
                return Err(RecipeError::Value {
                    reason: format!("model.{key} does not apply to {}", m.name),
                });
            };
            *slot = serde_json::to_value(value).expect("TOML values fit into JSON");
        }
        self.add_distillation_token(&mut json)?;
        let config: ModelConfig = serde_json::from_value(json).map_err(|e| RecipeError::Value {
            reason: in_words(&format!("model: {e}")),
        })?;
        config.validate()?;
        Ok(config)
    }
}

/// The leaves of a table as TOML, by their dotted keys.
fn flatten(prefix: &str, value: &Value, keys: &mut BTreeMap<String, String>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                let dot = if prefix.is_empty() { "" } else { "." };
                flatten(&format!("{prefix}{dot}{key}"), value, keys);
            }
        }
        leaf => {
            keys.insert(prefix.to_owned(), leaf.to_string());
        }
    }
}

/// What serde says of a value, on one line and without the names of Rust's types.
fn in_words(reason: &str) -> String {
    let mut words = reason.trim().replace('\n', " ");
    for (rust, plain) in [
        ("expected usize", "expected a whole number from 0"),
        ("expected u64", "expected a whole number from 0"),
        ("expected f64", "expected a number"),
        ("expected f32", "expected a number"),
    ] {
        words = words.replace(rust, plain);
    }
    words
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn resolve(recipe: Option<&str>, set: &[&str]) -> Result<Recipe, RecipeError> {
        Layers {
            recipe: recipe.map(str::to_owned),
            set: set.iter().map(|s| (*s).to_owned()).collect(),
            flags: Vec::new(),
        }
        .resolve()
    }

    #[test]
    fn every_embedded_recipe_resolves() {
        for recipe in EMBEDDED {
            let resolved =
                resolve(Some(recipe.name), &[]).unwrap_or_else(|e| panic!("{}: {e}", recipe.name));
            resolved.model_config(32, 10).unwrap();
        }
    }

    #[test]
    fn a_resolved_recipe_reads_back_the_same() {
        let recipe = resolve(
            None,
            &[
                "data.path=some/folder",
                "train.time=1h30m",
                "model.drop_path=0.2",
            ],
        )
        .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        std::fs::write(&path, recipe.to_toml()).unwrap();
        assert_eq!(Recipe::load(&path).unwrap(), recipe);
        assert_eq!(
            recipe.budget().unwrap(),
            Budget::Time(Duration::from_secs(5400))
        );
    }

    #[test]
    fn paths_become_absolute_and_names_of_what_ships_stay() {
        let set = [
            "data.path=pictures/",
            "distillation.teacher=cifar10-vit",
            "init.weights=./cifar10-vit",
        ];
        let mut recipe = resolve(None, &set).unwrap();
        recipe.make_paths_absolute();
        let here = std::env::current_dir().unwrap();
        let path = recipe.data.path.unwrap().into_os_string();
        assert_eq!(path, here.join("pictures").into_os_string());
        assert_eq!(
            recipe.distillation.teacher.unwrap(),
            PathBuf::from("cifar10-vit")
        );
        assert_eq!(recipe.init.weights.unwrap(), here.join("cifar10-vit"));
    }

    #[test]
    fn a_run_from_before_split_seed_was_split_by_its_seed() {
        let recipe = resolve(None, &["train.seed=3", "data.split_seed=5"]).unwrap();
        let text = recipe.to_toml();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        std::fs::write(&path, &text).unwrap();
        assert_eq!(Recipe::load(&path).unwrap().data.split_seed, 5);
        std::fs::write(&path, text.replace("split_seed = 5\n", "")).unwrap();
        assert_eq!(Recipe::load(&path).unwrap().data.split_seed, 3);
    }

    #[test]
    fn an_override_may_make_a_preset_fit() {
        // Airbench's own stem kernel of 2 leaves nothing of 8 pixels.
        let small = |set: &[&str]| resolve(None, set).unwrap().model_config(8, 2);
        assert!(small(&["model.name=airbench"]).is_err());
        assert!(small(&["model.name=airbench", "model.stem_kernel=1"]).is_ok());
    }

    #[test]
    fn recipes_are_told_apart_by_a_key() {
        let plain = resolve(None, &[]).unwrap();
        assert_eq!(plain.difference(&plain.clone()), None);
        for (set, key, was, is) in [
            ("optimizer.lr=0.5", "optimizer.lr", "0.003", "0.5"),
            ("model.drop_path=0.2", "model.drop_path", "unset", "0.2"),
            ("train.steps=7", "train.epochs", "12", "unset"),
        ] {
            let found = plain.difference(&resolve(None, &[set]).unwrap()).unwrap();
            assert_eq!(found, (key.into(), was.into(), is.into()), "{set}");
        }
    }

    #[test]
    fn later_layers_win() {
        let layers = Layers {
            recipe: None,
            set: vec!["optimizer.lr=0.1".into(), "optimizer.lr=0.2".into()],
            flags: vec![("optimizer.lr", Value::Float(0.3))],
        };
        assert_eq!(layers.resolve().unwrap().optimizer.lr, 0.3);
        assert_eq!(
            resolve(None, &["optimizer.lr=0.1", "optimizer.lr=0.2"])
                .unwrap()
                .optimizer
                .lr,
            0.2
        );
    }

    #[test]
    fn a_later_budget_replaces_an_earlier_one() {
        let recipe = resolve(None, &["train.time=30m", "train.epochs=3"]).unwrap();
        assert_eq!(recipe.budget().unwrap(), Budget::Epochs(3));
    }

    #[test]
    fn a_misspelt_key_is_refused_with_the_nearest() {
        let error = resolve(None, &["optimizer.weigth_decay=0.1"])
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "optimizer.weigth_decay=0.1: unknown key `optimizer.weigth_decay`; did you mean `optimizer.weight_decay`?"
        );
        let error = resolve(None, &["epochs=3"]).unwrap_err().to_string();
        assert!(
            error.ends_with("unknown key `epochs`; did you mean `train.epochs`?"),
            "{error}"
        );
        let error = resolve(None, &["zzz=3"]).unwrap_err().to_string();
        assert!(error.ends_with("unknown key `zzz`"), "{error}");
    }

    #[test]
    fn absurd_numbers_are_refused() {
        for (set, message) in [
            (
                "train.batch_size=0",
                "train.batch_size is 0: expected 1 to 65536",
            ),
            ("train.epochs=0", "train.epochs is 0: expected 1 to 1000000"),
            (
                "optimizer.lr=-1.0",
                "optimizer.lr is -1: expected more than 0, at most 100",
            ),
            (
                "optimizer.lr=nan",
                "optimizer.lr is NaN: expected more than 0, at most 100",
            ),
            (
                "train.label_smoothing=1.0",
                "train.label_smoothing is 1: expected 0 to below 1",
            ),
            (
                "train.time=soon",
                "train.time is \"soon\": expected a duration such as 90s, 30m or 1h30m",
            ),
            (
                "data.fraction=0.0",
                "data.fraction is 0: expected more than 0, at most 1",
            ),
            (
                "preprocess.image_size=100000",
                "preprocess.image_size is 100000: expected 8 to 2048",
            ),
        ] {
            assert_eq!(resolve(None, &[set]).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn an_override_of_another_family_is_refused() {
        let recipe = resolve(None, &["model.name=resnet9", "model.depth=3"]).unwrap();
        assert_eq!(
            recipe.model_config(32, 10).unwrap_err().to_string(),
            "recipe: model.depth does not apply to resnet9"
        );
    }
}
