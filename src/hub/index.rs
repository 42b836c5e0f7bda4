//! `model.safetensors.index.json`: which shard holds which tensor.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::error::HubError;

/// Most shards of one model.
const MOST: usize = 1000;

/// The names of a model's shards, in order.
///
/// # Errors
///
/// [`HubError`]: the file cannot be read, or is no list of plain file names.
pub(super) fn shards_of(path: &Path) -> Result<Vec<String>, HubError> {
    let text = fs::read(path).map_err(HubError::cache(path, "read"))?;
    shards(&text).map_err(|reason| HubError::Index {
        path: path.to_owned(),
        reason,
    })
}

fn shards(text: &[u8]) -> Result<Vec<String>, String> {
    let index: Value = serde_json::from_slice(text).map_err(|error| format!("no JSON: {error}"))?;
    let map = index.get("weight_map").and_then(Value::as_object);
    let Some(map) = map else {
        return Err("no weight_map: expected one from tensors to files".to_owned());
    };
    let mut shards = BTreeSet::new();
    for (tensor, file) in map {
        match file.as_str() {
            Some(file) if is_shard(file) => shards.insert(file.to_owned()),
            _ => {
                return Err(format!(
                    "the file of {tensor:?} is {file}: expected the plain name of a .safetensors file"
                ));
            }
        };
        if shards.len() > MOST {
            return Err(format!("more than {MOST} files: expected fewer"));
        }
    }
    match shards.is_empty() {
        true => Err("weight_map is empty: expected the tensors of a model".to_owned()),
        false => Ok(shards.into_iter().collect()),
    }
}

/// Whether a name leads nowhere but into its own folder, on any system.
fn is_shard(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name.len() <= 255
        && name.ends_with(".safetensors")
        && name.chars().all(is_plain)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shards_are_named_once_in_order() {
        let index = br#"{"metadata": {"total_size": 3}, "weight_map":
            {"a": "model-00002-of-00002.safetensors", "b": "model-00001-of-00002.safetensors",
             "c": "model-00002-of-00002.safetensors"}}"#;
        let expected = [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ];
        assert_eq!(shards(index).unwrap(), expected);
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        for name in [
            "../x.safetensors",
            "/x.safetensors",
            "a/x.safetensors",
            "a\\\\x.safetensors",
            "C:x.safetensors",
            ".x.safetensors",
            "x\\u0000.safetensors",
            "pytorch_model.bin",
            "",
        ] {
            let index = format!(r#"{{"weight_map": {{"a": "{name}"}}}}"#);
            let error = shards(index.as_bytes()).unwrap_err();
            assert!(error.contains("expected the plain name"), "{name}: {error}");
        }
        for (index, said) in [
            ("{", "no JSON"),
            ("[]", "no weight_map"),
            (r#"{"weight_map": {}}"#, "weight_map is empty"),
            (r#"{"weight_map": {"a": 3}}"#, "is 3"),
        ] {
            let error = shards(index.as_bytes()).unwrap_err();
            assert!(error.contains(said), "{index}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_list_panics_or_leads_out(name in "[a./\\\\:\\PC]{0,12}(.safetensors)?", bytes: Vec<u8>) {
            let _ = shards(&bytes);
            let index = serde_json::json!({"weight_map": {"a": name}});
            if let Ok(shards) = shards(index.to_string().as_bytes()) {
                let folder = Path::new("folder");
                let shard = folder.join(&shards[0]);
                prop_assert_eq!(shard.parent(), Some(folder));
            }
        }
    }
}
