//! Layers of settings: embedded recipes, files, `--set` and flags, put over each other.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{ModelRecipe, Origin, Recipe, RecipeError, init};
use crate::checkpoint::WeightsMeta;
use crate::model::ModelConfig;

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
    "cifar10-cnn",
    "cifar10-vit",
    "cifar10-vit-distilled",
    "fashion-mnist-vit",
    "photos"
];

/// Keys that end a training: setting one in a later layer puts the others out of force.
pub(super) const BUDGET_KEYS: [&str; 3] = ["epochs", "steps", "time"];

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
        self.resolve_from(None)
    }

    /// [`resolve`](Self::resolve) with the architecture and the preprocessing of weights to start
    /// from, whose path is for messages: an architecture that is stated must be theirs.
    ///
    /// # Errors
    ///
    /// [`RecipeError`], which names the file, the flag or the key.
    pub fn resolve_from(
        &self,
        weights: Option<(&Path, &WeightsMeta)>,
    ) -> Result<Recipe, RecipeError> {
        let mut layers = self.tables()?;
        if let Some((path, meta)) = weights {
            let theirs = init::layer(meta);
            init::check(path, &theirs, &layers)?;
            layers.insert(0, theirs);
        }
        let name = layers
            .iter()
            .rev()
            .find_map(|t| t.get("model")?.get("name")?.as_str().map(str::to_owned));
        let nothing_chosen = name.is_none()
            && !layers
                .iter()
                .any(|t| t.get("data").is_some_and(|d| d.get("path").is_some()))
            && self.recipe.is_none();
        let name = name.unwrap_or_else(|| ModelRecipe::default().name);
        let family = if name.starts_with("resnet") || name == "airbench" {
            "cnn"
        } else {
            "vit"
        };
        let base = if nothing_chosen { "default" } else { family };

        let mut merged = Table::new();
        merge(
            &mut merged,
            parse(
                &Origin::Recipe(base.to_owned()),
                embedded(base).unwrap_or_default(),
            )?,
        );
        for table in layers {
            merge(&mut merged, table);
        }
        Recipe::from_table(merged)
    }

    /// The weights to start from that the layers name, if they do.
    ///
    /// # Errors
    ///
    /// As for [`resolve`](Self::resolve).
    pub fn init_weights(&self) -> Result<Option<PathBuf>, RecipeError> {
        let weights = |table: &Table| Some(table.get("init")?.get("weights")?.as_str()?.into());
        let layers = self.tables()?;
        Ok(layers.iter().rev().find_map(weights))
    }

    /// Each layer, once all of its keys are known.
    fn tables(&self) -> Result<Vec<Table>, RecipeError> {
        let mut layers = Vec::new();
        if let Some(name) = &self.recipe {
            layers.push((Origin::Recipe(name.clone()), read(name)?));
        }
        for text in &self.set {
            layers.push((Origin::Assignment(text.clone()), parse_assignment(text)?));
        }
        let mut flags = Table::new();
        for (key, value) in &self.flags {
            insert(&mut flags, key, value.clone());
        }
        layers.push((Origin::Program, flags));

        let known = known_keys();
        for (origin, table) in &layers {
            check_keys(origin, table, "", &known)?;
        }
        Ok(layers.into_iter().map(|(_, table)| table).collect())
    }
}

fn embedded(name: &str) -> Option<&'static str> {
    EMBEDDED.iter().find(|e| e.name == name).map(|e| e.text)
}

pub(super) fn names() -> String {
    let names: Vec<_> = EMBEDDED.iter().map(|e| e.name).collect();
    names.join(", ")
}

fn read(name: &str) -> Result<Table, RecipeError> {
    let origin = Origin::Recipe(name.to_owned());
    if let Some(text) = embedded(name) {
        return parse(&origin, text);
    }
    let text = std::fs::read_to_string(name).map_err(|source| RecipeError::Read {
        path: name.into(),
        source,
        known: names(),
    })?;
    parse(&origin, &text)
}

pub(super) fn parse(origin: &Origin, text: &str) -> Result<Table, RecipeError> {
    text.parse()
        .map_err(|e: toml::de::Error| RecipeError::Syntax {
            origin: origin.clone(),
            reason: e.to_string().trim().to_owned(),
        })
}

/// `key=value`, where a value that is not TOML is taken as a string.
fn parse_assignment(text: &str) -> Result<Table, RecipeError> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(RecipeError::Assignment {
            text: text.to_owned(),
        });
    };
    let (key, value) = (key.trim(), value.trim());
    if key.is_empty() || value.is_empty() {
        return Err(RecipeError::Assignment {
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

pub(super) fn insert(table: &mut Table, key: &str, value: Value) {
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

pub(super) fn merge(base: &mut Table, layer: Table) {
    for (key, value) in layer {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(layer)) => {
                if layer.contains_key("teacher") || layer.contains_key("weights") {
                    // It was the hash of another file.
                    base.remove("sha256");
                }
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
pub(crate) fn known_keys() -> Vec<String> {
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
    for preset in ["vit-micro", "resnet9", "airbench"] {
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

pub(super) fn check_keys(
    origin: &Origin,
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
                    origin: origin.clone(),
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
