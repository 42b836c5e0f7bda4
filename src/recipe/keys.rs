//! The keys that a recipe may hold.

use toml::{Table, Value};

use super::error::{Origin, RecipeError};
use super::resolved::Recipe;
use crate::data::{Centre, Filter};
use crate::model::{self, ModelConfig};

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
    let mut recipe = Recipe::default();
    // Keys that are written only where they are not at their defaults.
    recipe.preprocess.centre = Centre::Down;
    recipe.preprocess.filter = Filter::Bicubic;
    recipe.preprocess.exact = true;
    recipe.init.finetune.lora_rank = 8;
    recipe.init.finetune.lora_alpha = 1.0;
    let recipe = serde_json::to_value(recipe).expect("a recipe is plain data");
    collect("", &recipe, &mut keys);
    for preset in model::presets() {
        if let Ok(config) = ModelConfig::preset(preset.name, 32, None, 10) {
            collect("model", &config.fields(), &mut keys);
        }
    }
    // Absent where it is not set, so that recipes without it stay as they were.
    keys.extend(["init.head", "init.probe"].map(str::to_owned));
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

/// Refuses a key that nothing reads, with the nearest that something does.
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
            // Also below an unknown name: the hint is better for the whole key.
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
