//! TOML tables: parsed, put over each other, and flattened to dotted keys.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::error::{Origin, RecipeError};

/// Keys that end a training: one in a later layer replaces the others.
pub(super) const BUDGET_KEYS: [&str; 3] = ["epochs", "steps", "time"];

/// Parts of a dotted key beyond its first; no key of a recipe has as many.
const DEEPEST: usize = 8;

/// The table that `text` holds.
pub(super) fn parse(origin: &Origin, text: &str) -> Result<Table, RecipeError> {
    text.parse()
        .map_err(|e: toml::de::Error| RecipeError::Syntax {
            origin: origin.clone(),
            reason: e.to_string().trim().to_owned(),
        })
}

/// The table that `key=value` stands for; a value that is not TOML is a string.
pub(super) fn parse_assignment(text: &str) -> Result<Table, RecipeError> {
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
    // Deeper than any key is; what works on tables calls itself for each part.
    if let Some((at, _)) = key.match_indices('.').nth(DEEPEST) {
        return Err(RecipeError::UnknownKey {
            origin: Origin::Assignment(format!("{}…", &key[..at])),
            hint: String::new(),
            key: format!("{}…", &key[..at]),
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

/// Sets a dotted key.
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

/// Puts `layer` over `base`.
pub(super) fn merge(base: &mut Table, layer: Table) {
    for (key, value) in layer {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(layer)) => {
                if layer.contains_key("teacher") || layer.contains_key("weights") {
                    // The hash is that of another file.
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

/// The leaves of a table as TOML, by their dotted keys.
pub(super) fn flatten(prefix: &str, value: &Value, keys: &mut BTreeMap<String, String>) {
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
