//! What there is to choose from, for help texts; the lists come from the tables themselves.

use crate::checkpoint::SHIPPED;
use crate::data::download;
use crate::device::DeviceChoice;
use crate::model;
use crate::recipe::EMBEDDED;

/// Help on a model that is named: all forms that are read.
pub(super) const WEIGHTS: &str = "Run directory, weights file, folder or file of another project, hf:OWNER/NAME, or the name of \
                                  weights that ship with vitrine: {weights}";

/// `text` with each name in braces, such as `{models}`, replaced by what there is of it.
pub(super) fn fill(text: &str) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, tail) = after.split_once('}').expect("the brace is closed");
        filled += before;
        filled += &list(name);
        rest = tail;
    }
    filled + rest
}

fn list(name: &str) -> String {
    match name {
        "models" => either(model::presets().iter().map(|preset| preset.name)),
        "recipes" => either(EMBEDDED.iter().map(|recipe| recipe.name)),
        "weights" => either(SHIPPED.iter().map(|shipped| shipped.name)),
        "datasets" => either(download::known_datasets().iter().map(|known| known.name)),
        "devices" => DeviceChoice::spellings(),
        _ => unreachable!("no list is called {name}"),
    }
}

/// "a, b or c".
fn either<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => names.concat(),
    }
}
