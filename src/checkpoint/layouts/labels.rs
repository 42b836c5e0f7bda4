//! Names of classes, from the settings of another project.

use serde_json::{Map, Value};

use super::error::LayoutError;
use super::source::Settings;

/// Names of the classes of the ImageNet challenge, one a line, in the order of its models.
const IMAGENET: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/assets/labels/imagenet-1k.txt"
));

/// Names where the settings have none, and what was assumed.
pub(super) fn assumed(count: usize) -> (Vec<String>, Vec<String>) {
    if count == 1000 {
        let names = IMAGENET.lines().map(str::to_owned).collect();
        let note = "its 1000 classes have no names: they are taken to be ImageNet's";
        return (names, vec![note.to_owned()]);
    }
    let names = (0..count).map(|class| class.to_string()).collect();
    let note = format!("its {count} classes have no names: they are numbered");
    (names, if count > 0 { vec![note] } else { Vec::new() })
}

/// The names that timm's `config.json` has: `label_names`, a list or an object by number, and what
/// `label_descriptions` calls each of them.
///
/// # Errors
///
/// [`LayoutError::Setting`] where they are of another number or type.
pub(super) fn of_timm(
    config: &Settings,
    pretrained: &Value,
    count: usize,
) -> Result<(Vec<String>, Vec<String>), LayoutError> {
    let either = |key: &str| {
        let nested = pretrained.get(key).filter(|value| !value.is_null());
        config.get(key).or(nested)
    };
    let Some(labels) = either("label_names") else {
        return Ok(assumed(count));
    };
    let names = match labels {
        Value::Array(list) => list
            .iter()
            .map(|name| name.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| config.wrong("label_names", "a list with other than texts", "texts"))?,
        Value::Object(by_number) => by_id(config, "label_names", by_number, count)?,
        other => return Err(config.wrong("label_names", other, "a list or an object of texts")),
    };
    if names.len() != count {
        let expected = format!("{count}, one for each output of the classifier");
        return Err(config.wrong("the number of label_names", names.len(), expected));
    }
    let described = either("label_descriptions").and_then(Value::as_object);
    let described = |name: &String| {
        let text = described
            .and_then(|all| all.get(name))
            .and_then(Value::as_str);
        text.unwrap_or(name).to_owned()
    };
    // Only where they tell the classes apart as the names do.
    let texts: Vec<String> = names.iter().map(described).collect();
    Ok((if distinct(&texts) { texts } else { names }, Vec::new()))
}

/// The names that transformers' `config.json` has: `id2label`.
///
/// # Errors
///
/// [`LayoutError::Setting`] where they are of another number or type.
pub(super) fn of_transformers(
    config: &Settings,
    count: usize,
) -> Result<(Vec<String>, Vec<String>), LayoutError> {
    let Some(labels) = config.get("id2label") else {
        return match config.number("num_labels")? {
            Some(told) if count > 0 && told != count => Err(config.wrong(
                "num_labels",
                told,
                format!("{count}, as the tensors have it"),
            )),
            _ => Ok(assumed(count)),
        };
    };
    if count == 0 {
        return Ok(assumed(0));
    }
    let Value::Object(by_number) = labels else {
        return Err(config.wrong("id2label", labels, "an object of texts"));
    };
    let names = by_id(config, "id2label", by_number, count)?;
    // What the library writes where nobody gave names.
    let are_made_up = names
        .iter()
        .enumerate()
        .all(|(id, name)| *name == format!("LABEL_{id}"));
    match are_made_up && count == 1000 {
        true => Ok(assumed(count)),
        false => Ok((names, Vec::new())),
    }
}

/// Names by number, which must be 0 to `count` − 1.
fn by_id(
    config: &Settings,
    key: &str,
    labels: &Map<String, Value>,
    count: usize,
) -> Result<Vec<String>, LayoutError> {
    if labels.len() != count {
        let key = format!("the number of entries of {key}");
        let expected = format!("{count}, one for each output of the classifier");
        return Err(config.wrong(&key, labels.len(), expected));
    }
    let mut names = vec![None; count];
    for (id, name) in labels {
        let place = id.parse::<usize>().ok().and_then(|id| names.get_mut(id));
        match (place, name.as_str()) {
            (Some(place), Some(name)) => *place = Some(name.to_owned()),
            _ => {
                let found = format!("{id:?}: {name}");
                let expected = format!("numbers from 0 to {} and texts", count - 1);
                return Err(config.wrong(key, found, expected));
            }
        }
    }
    let all: Option<Vec<String>> = names.into_iter().collect();
    all.ok_or_else(|| config.wrong(key, "without some of its numbers", "each number once"))
}

/// Whether no two are alike.
fn distinct(names: &[String]) -> bool {
    let set: std::collections::HashSet<&String> = names.iter().collect();
    set.len() == names.len()
}
