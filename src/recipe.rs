//! Settings: TOML layers and overrides in, one validated [`Recipe`] out.
//!
//! Later layers win: defaults, the model family's defaults, `--recipe`, `--set`, flags. A key that
//! nothing reads is refused with the nearest key that something does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml::{Table, Value};

use crate::data::{AugmentConfig, Resize};
use crate::model::{ModelConfig, ModelError};
use crate::ops::{Precision, PrecisionChoice};
use crate::train::{Budget, OptimizerConfig, ScheduleConfig, TrainConfig};

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
        /// File or flag.
        origin: String,
        /// What the parser says.
        reason: String,
    },
    /// Nothing reads this key.
    #[error("{origin}: unknown key `{key}`{hint}")]
    UnknownKey {
        /// File or flag.
        origin: String,
        /// The key, dotted.
        key: String,
        /// `; did you mean …?`
        hint: String,
    },
    /// `--set` wants `key=value`.
    #[error("--set {text:?}: expected key=value, such as --set optimizer.lr=0.001")]
    Set {
        /// As typed.
        text: String,
    },
    /// The value does not fit the key.
    #[error("recipe: {reason}")]
    Value {
        /// What was found and expected.
        reason: String,
    },
    /// The number is outside its range.
    #[error("{key} is {found}: expected {expected}")]
    Range {
        /// The key, dotted.
        key: String,
        /// Its value.
        found: String,
        /// Its range.
        expected: String,
    },
    /// The model cannot be built.
    #[error(transparent)]
    Model(ModelError),
}

impl From<ModelError> for RecipeError {
    /// The model knows its fields; a recipe has them under `model.`.
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Range {
                field,
                found,
                expected,
            } if !field.contains(' ') => Self::Range {
                key: format!("model.{field}"),
                found,
                expected,
            },
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
    /// Seed of splits, weights, data order, augmentation and drop path.
    pub seed: u64,
    /// Operands of matrix products: `auto`, `f32` or `bf16`.
    pub precision: PrecisionChoice,
    /// Label smoothing, 0 to below 1.
    pub label_smoothing: f32,
    /// Decay of the weights' moving average; 0 turns it off.
    pub ema: f64,
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
}

/// A recipe that ships inside the binary.
#[derive(Debug, Clone, Copy)]
pub struct Embedded {
    /// Its name for `--recipe`.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        &[$(Embedded {
            name: $name,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/recipes/", $name, ".toml")),
        }),*]
    };
}

/// The recipes that ship inside the binary. `vit` and `cnn` are the families' defaults.
pub const EMBEDDED: &[Embedded] = embedded![
    "default",
    "vit",
    "cnn",
    "cifar10-vit-w1",
    "cifar10-resnet9",
    "photos"
];

/// Keys that end a training: setting one in a later layer puts the others out of force.
const BUDGET_KEYS: [&str; 3] = ["epochs", "steps", "time"];

/// One source of settings, later ones winning.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// `--recipe`: an embedded recipe's name or a file.
    pub recipe: Option<String>,
    /// `--set key=value`, as typed.
    pub set: Vec<String>,
    /// Flags, as dotted keys and values.
    pub flags: Vec<(&'static str, Value)>,
}

impl Layers {
    /// Puts the layers over each other and checks the result.
    ///
    /// # Errors
    ///
    /// [`RecipeError`], which names the file or flag.
    pub fn resolve(&self) -> Result<Recipe, RecipeError> {
        let mut layers: Vec<(String, Table)> = Vec::new();
        if let Some(name) = &self.recipe {
            layers.push((format!("recipe {name}"), read(name)?));
        }
        for text in &self.set {
            layers.push((format!("--set {text}"), parse_set(text)?));
        }
        let mut flags = Table::new();
        for (key, value) in &self.flags {
            insert(&mut flags, key, value.clone());
        }
        layers.push(("flags".to_owned(), flags));

        let known = known_keys();
        for (origin, table) in &layers {
            check_keys(origin, table, "", &known)?;
        }
        let name = layers
            .iter()
            .rev()
            .find_map(|(_, t)| t.get("model")?.get("name")?.as_str().map(str::to_owned));
        let nothing_chosen = name.is_none()
            && !layers
                .iter()
                .any(|(_, t)| t.get("data").is_some_and(|d| d.get("path").is_some()))
            && self.recipe.is_none();
        let name = name.unwrap_or_else(|| ModelRecipe::default().name);
        let family = if name.starts_with("resnet") {
            "cnn"
        } else {
            "vit"
        };
        let base = if nothing_chosen { "default" } else { family };

        let mut merged = Table::new();
        merge(
            &mut merged,
            parse(base, embedded(base).unwrap_or_default())?,
        );
        for (_, table) in layers {
            merge(&mut merged, table);
        }
        Recipe::from_table(merged)
    }
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
        let origin = path.display().to_string();
        let table = parse(&origin, &text)?;
        check_keys(&origin, &table, "", &known_keys())?;
        Self::from_table(table)
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

    /// The recipe as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a recipe is plain data")
    }

    /// Checks every number against its range.
    ///
    /// # Errors
    ///
    /// [`RecipeError::Range`], which names the key.
    pub fn validate(&self) -> Result<(), RecipeError> {
        let t = &self.train;
        let o = &self.optimizer;
        let d = &self.data;
        within("data.val_fraction", d.val_fraction, 0.0, 0.9)?;
        within("data.test_fraction", d.test_fraction, 0.0, 0.9)?;
        if d.val_fraction + d.test_fraction > 0.95 {
            return Err(range(
                "data.val_fraction + data.test_fraction",
                d.val_fraction + d.test_fraction,
                "at most 0.95",
            ));
        }
        if !(d.fraction > 0.0 && d.fraction <= 1.0) {
            return Err(range("data.fraction", d.fraction, "more than 0, at most 1"));
        }
        within("data.cache_mb", d.cache_mb as f64, 0.0, 16_777_216.0)?;
        within("data.workers", d.workers as f64, 0.0, 1024.0)?;
        if let Some(size) = self.preprocess.image_size {
            within("preprocess.image_size", size as f64, 8.0, 2048.0)?;
        }
        for (key, values, low) in [
            ("preprocess.mean", self.preprocess.mean, 0.0),
            ("preprocess.std", self.preprocess.std, 1e-3),
        ] {
            for value in values.into_iter().flatten() {
                within(key, f64::from(value), low, 1.0)?;
            }
        }
        if let Some(epochs) = t.epochs {
            within("train.epochs", epochs as f64, 1.0, 1e6)?;
        }
        if let Some(steps) = t.steps {
            within("train.steps", steps as f64, 1.0, 1e9)?;
        }
        within("train.batch_size", t.batch_size as f64, 1.0, 65_536.0)?;
        within("train.accumulate", t.accumulate as f64, 1.0, 65_536.0)?;
        below("train.label_smoothing", f64::from(t.label_smoothing), 1.0)?;
        below("train.ema", t.ema, 1.0)?;
        within("train.patience", t.patience as f64, 0.0, 1e6)?;
        within("train.checkpoint_minutes", t.checkpoint_minutes, 0.0, 1e5)?;
        if !(o.lr > 0.0 && o.lr <= 100.0) {
            return Err(range("optimizer.lr", o.lr, "more than 0, at most 100"));
        }
        within("optimizer.weight_decay", o.weight_decay, 0.0, 10.0)?;
        below("optimizer.beta1", o.beta1, 1.0)?;
        below("optimizer.beta2", o.beta2, 1.0)?;
        below("optimizer.momentum", o.momentum, 1.0)?;
        if !(o.epsilon > 0.0 && o.epsilon <= 1.0) {
            return Err(range(
                "optimizer.epsilon",
                o.epsilon,
                "more than 0, at most 1",
            ));
        }
        within("optimizer.clip_grad", o.clip_grad, 0.0, 1e6)?;
        within(
            "schedule.warmup_epochs",
            self.schedule.warmup_epochs,
            0.0,
            1e4,
        )?;
        self.augment.validate().map_err(|e| RecipeError::Value {
            reason: e.to_string(),
        })?;
        self.budget()?;
        Ok(())
    }

    /// How long to train.
    ///
    /// # Errors
    ///
    /// [`RecipeError::Range`] where `train.time` is no duration.
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
            label_smoothing: t.label_smoothing,
            precision,
            ema: t.ema,
            patience: t.patience,
            checkpoint_every: Duration::from_secs_f64(t.checkpoint_minutes * 60.0),
            optimizer: self.optimizer.clone(),
            schedule: self.schedule.clone(),
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
        let preset = ModelConfig::preset(&m.name, image_size, m.patch_size, num_classes)?;
        let mut json = serde_json::to_value(&preset).expect("a model configuration is plain data");
        for (key, value) in &m.overrides {
            let Some(slot) = json.get_mut(key) else {
                return Err(RecipeError::Value {
                    reason: format!("model.{key} does not apply to {}", m.name),
                });
            };
            *slot = serde_json::to_value(value).expect("TOML values fit into JSON");
        }
        let config: ModelConfig = serde_json::from_value(json).map_err(|e| RecipeError::Value {
            reason: in_words(&format!("model: {e}")),
        })?;
        config.validate()?;
        Ok(config)
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

fn range(key: &str, found: impl ToString, expected: &str) -> RecipeError {
    RecipeError::Range {
        key: key.to_owned(),
        found: found.to_string(),
        expected: expected.to_owned(),
    }
}

fn within(key: &str, value: f64, low: f64, high: f64) -> Result<(), RecipeError> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(range(key, value, &format!("{low} to {high}")))
    }
}

fn below(key: &str, value: f64, limit: f64) -> Result<(), RecipeError> {
    if (0.0..limit).contains(&value) {
        Ok(())
    } else {
        Err(range(key, value, &format!("0 to below {limit}")))
    }
}

/// Reads `30m`, `1h30m`, `90s` or `45` (seconds).
///
/// # Errors
///
/// [`RecipeError::Range`], which names `key`.
pub fn parse_duration(key: &str, text: &str) -> Result<Duration, RecipeError> {
    let wrong = || {
        range(
            key,
            format!("{text:?}"),
            "a duration such as 90s, 30m or 1h30m",
        )
    };
    let mut seconds = 0.0;
    let mut number = String::new();
    for c in text.trim().chars() {
        let unit = match c {
            'h' => 3600.0,
            'm' => 60.0,
            's' => 1.0,
            _ => {
                number.push(c);
                continue;
            }
        };
        seconds += unit * number.parse::<f64>().map_err(|_| wrong())?;
        number.clear();
    }
    if !number.is_empty() {
        seconds += number.parse::<f64>().map_err(|_| wrong())?;
    }
    if !(1.0..=1e8).contains(&seconds) {
        return Err(wrong());
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn embedded(name: &str) -> Option<&'static str> {
    EMBEDDED.iter().find(|e| e.name == name).map(|e| e.text)
}

fn names() -> String {
    let names: Vec<_> = EMBEDDED.iter().map(|e| e.name).collect();
    names.join(", ")
}

fn read(name: &str) -> Result<Table, RecipeError> {
    if let Some(text) = embedded(name) {
        return parse(name, text);
    }
    let text = std::fs::read_to_string(name).map_err(|source| RecipeError::Read {
        path: name.into(),
        source,
        known: names(),
    })?;
    parse(name, &text)
}

fn parse(origin: &str, text: &str) -> Result<Table, RecipeError> {
    text.parse()
        .map_err(|e: toml::de::Error| RecipeError::Syntax {
            origin: origin.to_owned(),
            reason: e.to_string().trim().to_owned(),
        })
}

/// `key=value`, where a value that is not TOML is taken as a string.
fn parse_set(text: &str) -> Result<Table, RecipeError> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(RecipeError::Set {
            text: text.to_owned(),
        });
    };
    let (key, value) = (key.trim(), value.trim());
    if key.is_empty() || value.is_empty() {
        return Err(RecipeError::Set {
            text: text.to_owned(),
        });
    }
    let value = format!("value = {value}")
        .parse::<Table>()
        .ok()
        .and_then(|mut t| t.remove("value"))
        .unwrap_or_else(|| Value::String(value.to_owned()));
    let mut table = Table::new();
    insert(&mut table, key, value);
    Ok(table)
}

fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let entry = table
                .entry(section.to_owned())
                .or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = entry {
                insert(inner, rest, value);
            }
        }
    }
}

fn merge(base: &mut Table, layer: Table) {
    for (key, value) in layer {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(layer)) => {
                if BUDGET_KEYS.iter().any(|k| layer.contains_key(*k)) {
                    base.retain(|k, _| !BUDGET_KEYS.contains(&k));
                }
                merge(base, layer);
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Every dotted key a recipe may hold.
fn known_keys() -> Vec<String> {
    fn collect(prefix: &str, value: &serde_json::Value, keys: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    let key = if prefix.is_empty() {
                        name.clone()
                    } else {
                        format!("{prefix}.{name}")
                    };
                    collect(&key, value, keys);
                }
            }
            _ => keys.push(prefix.to_owned()),
        }
    }
    let mut keys = Vec::new();
    let recipe = serde_json::to_value(Recipe::default()).expect("a recipe is plain data");
    collect("", &recipe, &mut keys);
    for preset in ["vit-micro", "resnet9"] {
        if let Ok(config) = ModelConfig::preset(preset, 32, None, 10) {
            let config = serde_json::to_value(config).expect("a configuration is plain data");
            collect("model", &config, &mut keys);
        }
    }
    // These follow from the data or from the preset's name.
    keys.retain(|k| {
        ![
            "model.image_size",
            "model.num_classes",
            "model.family",
            "model.variant",
        ]
        .contains(&k.as_str())
    });
    keys.sort();
    keys.dedup();
    keys
}

fn check_keys(
    origin: &str,
    table: &Table,
    prefix: &str,
    known: &[String],
) -> Result<(), RecipeError> {
    for (name, value) in table {
        let key = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        let is_section = known.iter().any(|k| k.starts_with(&format!("{key}.")));
        match value {
            // Also below a name that is none: the hint is better for the whole key.
            Value::Table(inner) if is_section || !inner.is_empty() => {
                check_keys(origin, inner, &key, known)?;
            }
            _ if known.contains(&key) => {}
            _ => {
                return Err(RecipeError::UnknownKey {
                    origin: origin.to_owned(),
                    hint: nearest(&key, known)
                        .map(|k| format!("; did you mean `{k}`?"))
                        .unwrap_or_default(),
                    key,
                });
            }
        }
    }
    Ok(())
}

/// The known key that differs least, by its whole or by its last part.
fn nearest<'a>(key: &str, known: &'a [String]) -> Option<&'a str> {
    let last = |k: &str| k.rsplit('.').next().unwrap_or_default().to_owned();
    known
        .iter()
        .map(|k| {
            let whole = strsim::jaro_winkler(key, k);
            let part = strsim::jaro_winkler(&last(key), &last(k));
            (k, whole.max(part))
        })
        .filter(|(_, score)| *score > 0.75)
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(k, _)| k.as_str())
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
            "--set optimizer.weigth_decay=0.1: unknown key `optimizer.weigth_decay`; did you mean `optimizer.weight_decay`?"
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
