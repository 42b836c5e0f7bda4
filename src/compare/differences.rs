//! What compared runs differ in beside the model: where a difference in accuracy may come from.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Serialize;

use super::entry::Entry;
use crate::checkpoint::WeightsMeta;
use crate::recipe::Recipe;
use crate::report::text;
use crate::run::{self, RunDir, RunError};
use crate::train::Budget;

/// Something that the rows of a comparison differ in.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Difference {
    /// What it is, such as `start` or a key of the recipe.
    pub what: String,
    /// Its value for each row, in their order.
    pub values: Vec<String>,
    /// Whether it leaves open what a difference in accuracy comes from. The optimizer is part of a model's recipe,
    /// and how far an equal time gets is what a comparison under it measures.
    pub confounds: bool,
}

/// A property of a run, as it is shown.
#[derive(Debug, Clone, PartialEq)]
struct Fact {
    what: String,
    value: String,
    /// What decides whether two are the same.
    identity: String,
    confounds: bool,
}

impl Fact {
    fn new(what: &str, value: impl ToString, confounds: bool) -> Self {
        Self {
            what: what.to_owned(),
            value: value.to_string(),
            identity: value.to_string(),
            confounds,
        }
    }

    fn known_by(self, identity: impl ToString) -> Self {
        Self {
            identity: identity.to_string(),
            ..self
        }
    }
}

/// What the rows differ in; `rows` are the indices of the runs of each, `metas` what their weights say of themselves.
///
/// # Errors
///
/// [`RunError`] where a run's recipe cannot be read.
pub(super) fn differences(
    entries: &[Entry],
    rows: &[Vec<usize>],
    metas: &[&WeightsMeta],
) -> Result<Vec<Difference>, RunError> {
    let facts = entries
        .iter()
        .zip(metas)
        .map(|(entry, meta)| facts(&entry.dir, meta))
        .collect::<Result<Vec<_>, _>>()?;
    // Fields of other architectures have nothing to do with each other.
    let is_field = |difference: &Difference| difference.what.starts_with("model.");
    let is_one = metas.iter().all(|meta| meta.name == metas[0].name);
    let mut found = between(&facts, rows);
    found.retain(|difference| is_one || !is_field(difference));
    Ok(found)
}

fn between(facts: &[Vec<Fact>], rows: &[Vec<usize>]) -> Vec<Difference> {
    let mut names: Vec<&str> = Vec::new();
    for fact in facts.iter().flatten() {
        if !names.contains(&fact.what.as_str()) {
            names.push(&fact.what);
        }
    }
    let find = |run: usize, what: &str| facts[run].iter().find(|fact| fact.what == what);
    let mut found = Vec::new();
    for what in names {
        let identity = |run: usize| find(run, what).map(|fact| fact.identity.as_str());
        let of_row = |row: &Vec<usize>| row.iter().map(|&run| identity(run)).collect::<Vec<_>>();
        // Seeds of one row may differ too, such as in how far a clock let them get.
        let mut sets: Vec<Vec<Option<&str>>> = rows.iter().map(of_row).collect();
        for set in &mut sets {
            set.sort_unstable();
            set.dedup();
        }
        if sets.windows(2).all(|pair| pair[0] == pair[1]) {
            continue;
        }
        let mut values: Vec<String> = rows
            .iter()
            .map(|row| {
                let mut values: Vec<&str> = row
                    .iter()
                    .map(|&run| find(run, what).map_or("–", |fact| fact.value.as_str()))
                    .collect();
                values.sort_unstable();
                values.dedup();
                match values.as_slice() {
                    [first, .., last] => format!("{first} to {last}"),
                    one => one.concat(),
                }
            })
            .collect();
        // What differs must not look alike.
        if values.windows(2).all(|pair| pair[0] == pair[1]) {
            for (value, set) in values.iter_mut().zip(&sets) {
                let identity = set.iter().flatten().next().copied().unwrap_or("–");
                *value += &format!(" ({})", identity.chars().take(8).collect::<String>());
            }
        }
        let mut those = facts.iter().flatten().filter(|fact| fact.what == what);
        found.push(Difference {
            what: what.to_owned(),
            values,
            confounds: those.any(|fact| fact.confounds),
        });
    }
    found
}

/// What can differ between runs, the most telling first.
fn facts(dir: &RunDir, meta: &WeightsMeta) -> Result<Vec<Fact>, RunError> {
    let recipe = Recipe::load(&dir.recipe())?;
    let settings = recipe.settings();
    let info = run::read_info(dir).unwrap_or_default();
    let side = meta.preprocess.image_size;
    let mut facts = vec![
        Fact::new("picture size", format!("{side}x{side}"), true),
        source("start", "init", "from scratch", &settings),
        source("teacher", "distillation", "none", &settings),
        training_pictures(dir, &recipe),
        budget(&recipe, &info),
        Fact::new("passes over the pictures", passes(dir, &info), false),
        Fact::new("precision", recipe.train.precision, true),
    ];
    // Under a budget of time a faster machine trains more.
    let is_timed = recipe.train.time.is_some();
    for what in ["device", "threads"] {
        let value = match &info[what] {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        facts.push(Fact::new(what, value, is_timed));
    }
    for (key, value) in &settings {
        if let Some(confounds) = is_told_by_its_key(key) {
            facts.push(Fact::new(key, value.trim_matches('"'), confounds));
        }
    }
    // As the architecture came out, whether a recipe states a field or its preset does.
    let fields = serde_json::to_value(&meta.model).unwrap_or_default();
    for (field, value) in fields.as_object().into_iter().flatten() {
        if !["image_size", "num_classes"].contains(&field.as_str()) {
            let value = value.to_string();
            facts.push(Fact::new(
                &format!("model.{field}"),
                value.trim_matches('"'),
                false,
            ));
        }
    }
    Ok(facts)
}

/// Whether a key of the recipe is a difference of its own, and then whether it confounds.
fn is_told_by_its_key(key: &str) -> Option<bool> {
    match key {
        // Part of another fact, or without effect on what is learned.
        "model.name" | "train.seed" | "train.epochs" | "train.steps" | "train.time"
        | "train.precision" => None,
        "train.checkpoint_minutes" | "init.weights" | "init.sha256" | "distillation.teacher" => {
            None
        }
        "distillation.sha256" | "preprocess.image_size" => None,
        // They follow from the training pictures, or from the weights to start from.
        "preprocess.mean" | "preprocess.std" => None,
        // Loss and average belong to a family's recipe, as the optimizer does.
        "train.label_smoothing" | "train.ema" | "train.ema_epochs" | "train.patience" => {
            Some(false)
        }
        _ => match key.split('.').next() {
            // The training pictures say what these come to.
            Some("data") => None,
            // The weights know how the architecture came out.
            Some("model") => None,
            Some("optimizer" | "schedule") => Some(false),
            _ => Some(true),
        },
    }
}

/// The weights that a run starts from, or its teacher.
fn source(what: &str, section: &str, none: &str, settings: &BTreeMap<String, String>) -> Fact {
    let key = match section {
        "init" => "init.weights",
        _ => "distillation.teacher",
    };
    let Some(weights) = settings.get(key) else {
        return Fact::new(what, none, true);
    };
    let name = weights.trim_matches('"').to_owned();
    let sha256 = settings.get(&format!("{section}.sha256"));
    let sha256 = sha256.map(|sha256| sha256.trim_matches('"').to_owned());
    Fact::new(what, &name, true).known_by(sha256.unwrap_or(name))
}

fn training_pictures(dir: &RunDir, recipe: &Recipe) -> Fact {
    let lists = std::fs::read_to_string(dir.splits().join("train.txt")).unwrap_or_default();
    let mut hasher = DefaultHasher::new();
    lists.hash(&mut hasher);
    let data = recipe.data.path.as_ref().and_then(|path| path.file_name());
    let data = data.map_or("the bundled sample".into(), |name| name.to_string_lossy());
    let count = text::count(lists.lines().count() as u64);
    Fact::new("training pictures", format!("{count} of {data}"), true)
        .known_by(format!("{:016x}", hasher.finish()))
}

fn budget(recipe: &Recipe, info: &serde_json::Value) -> Fact {
    let value = match recipe.budget() {
        _ if recipe.init.probe.is_some() => "to the optimum".to_owned(),
        Ok(Budget::Time(time)) => text::seconds(time.as_secs_f64()),
        Ok(Budget::Epochs(epochs)) => format!("{epochs} epochs"),
        Ok(Budget::Steps(steps)) => {
            // Equal operations are an equal budget, though of other numbers of updates.
            let pictures =
                steps as f64 * (recipe.train.batch_size * recipe.train.accumulate) as f64;
            let operations = 3.0 * pictures * info["flops_per_image"].as_f64().unwrap_or(0.0);
            let fact = Fact::new("budget", format!("{} updates", text::count(steps)), true);
            return match operations > 0.0 {
                // Two digits: an update more or less is no other budget.
                true => fact.known_by(format!("{operations:.1e}")),
                false => fact,
            };
        }
        Err(_) => "–".to_owned(),
    };
    Fact::new("budget", value, true)
}

/// Passes over the training pictures, with two digits; earlier versions have recorded whole epochs only.
fn passes(dir: &RunDir, info: &serde_json::Value) -> String {
    let passes = info["epochs_seen"].as_f64();
    let passes =
        passes.unwrap_or_else(|| run::history(dir).iter().map(|record| record.share).sum());
    match passes {
        passes if passes >= 9.95 => format!("{passes:.0}"),
        passes => format!("{passes:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(of: &[&[(&str, &str, &str, bool)]]) -> Vec<Vec<Fact>> {
        let fact = |&(what, value, identity, confounds): &(&str, &str, &str, bool)| {
            Fact::new(what, value, confounds).known_by(identity)
        };
        of.iter()
            .map(|facts| facts.iter().map(fact).collect())
            .collect()
    }

    #[test]
    fn what_differs_is_named_row_by_row() {
        let facts = runs(&[
            &[
                ("size", "32x32", "32", true),
                ("passes", "3.10", "3.10", false),
            ],
            &[
                ("size", "32x32", "32", true),
                ("passes", "3.20", "3.20", false),
            ],
            &[
                ("size", "96x96", "96", true),
                ("passes", "0.28", "0.28", false),
            ],
        ]);
        let found = between(&facts, &[vec![0, 1], vec![2]]);
        let told: Vec<_> = found
            .iter()
            .map(|d| (d.what.as_str(), d.values.join(" | "), d.confounds))
            .collect();
        assert_eq!(
            told,
            [
                ("size", "32x32 | 96x96".to_owned(), true),
                ("passes", "3.10 to 3.20 | 0.28".to_owned(), false)
            ]
        );
        assert_eq!(between(&facts[..2], &[vec![0], vec![1]]).len(), 1);
        assert_eq!(between(&facts[..1], &[vec![0], vec![0]]), []);
    }

    #[test]
    fn other_things_of_one_name_do_not_look_alike() {
        let facts = runs(&[
            &[("teacher", "runs/cnn", "aaaaaaaaaa", true)],
            &[("teacher", "runs/cnn", "bbbbbbbbbb", true)],
            &[("teacher", "runs/moved", "aaaaaaaaaa", true)],
            &[],
        ]);
        let found = between(&facts, &[vec![0], vec![1]]);
        assert_eq!(
            found[0].values,
            ["runs/cnn (aaaaaaaa)", "runs/cnn (bbbbbbbb)"]
        );
        // The same weights elsewhere are the same.
        assert_eq!(between(&facts, &[vec![0], vec![2]]), []);
        // A setting that only one has.
        assert_eq!(
            between(&facts, &[vec![0], vec![3]])[0].values,
            ["runs/cnn", "–"]
        );
    }

    #[test]
    fn keys_are_told_once_and_not_at_all_where_they_change_nothing() {
        for (key, told) in [
            ("train.seed", None),
            ("data.workers", None),
            ("data.split_seed", None),
            ("init.sha256", None),
            ("augment.flip", Some(true)),
            ("init.freeze", Some(true)),
            ("train.batch_size", Some(true)),
            ("optimizer.lr", Some(false)),
            ("model.depth", None),
            ("model.name", None),
        ] {
            assert_eq!(is_told_by_its_key(key), told, "{key}");
        }
    }
}
