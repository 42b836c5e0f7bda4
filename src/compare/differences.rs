//! What compared runs differ in beside the model: where a difference in accuracy may come from.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Serialize;

use super::entry::Entry;
use crate::checkpoint::WeightsMeta;
use crate::recipe::{InitRecipe, ProbeViews, Recipe};
use crate::report::text;
use crate::run::{self, RunDir, RunError};
use crate::train::{Budget, Freeze};

/// Something that the rows of a comparison differ in.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Difference {
    /// What it is, such as `start` or a key of the recipe.
    pub what: String,
    /// Its value for each row, in their order.
    pub values: Vec<String>,
    /// Whether it means anything to each row: a probe has no budget.
    #[serde(skip)]
    pub concerns: Vec<bool>,
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
    let recipes = entries
        .iter()
        .map(|entry| Recipe::load(&entry.dir.recipe()))
        .collect::<Result<Vec<_>, _>>()?;
    let facts: Vec<Vec<Fact>> = entries
        .iter()
        .zip(&recipes)
        .zip(metas)
        .map(|((entry, recipe), meta)| facts(&entry.dir, recipe, meta))
        .collect();
    // Fields of other architectures have nothing to do with each other.
    let is_field = |difference: &Difference| difference.what.starts_with("model.");
    let is_one = metas.iter().all(|meta| meta.name == metas[0].name);
    let concerns = |run: usize, what: &str| recipes[run].init.probe.is_none() || is_of_probe(what);
    let mut found = between(&facts, rows, &concerns);
    found.retain(|difference| is_one || !is_field(difference));
    let first = architecture(metas[0]);
    if metas.iter().all(|meta| architecture(meta) == first) {
        for difference in &mut found {
            // Ways to train one model are what is compared.
            difference.confounds &= !is_of_way(&difference.what);
        }
    }
    Ok(found)
}

/// The fields of an architecture that the shapes of its weights depend on, but for sizes of pictures and classes.
fn architecture(meta: &WeightsMeta) -> serde_json::Value {
    let mut fields = meta.model.fields();
    for free in ["image_size", "num_classes", "drop_path", "init"] {
        if let Some(fields) = fields.as_object_mut() {
            fields.remove(free);
        }
    }
    fields
}

const START: &str = "start";
const LEARNS: &str = "what learns";

/// Whether it says from where and how far a model is trained.
fn is_of_way(what: &str) -> bool {
    what == START || what == LEARNS || what.starts_with("init.")
}

/// Whether it means something to a probe, which has no budget, no learning rate and no augmentation.
fn is_of_probe(what: &str) -> bool {
    const OF_PROBE: [&str; 7] = [
        "picture size",
        START,
        LEARNS,
        "training pictures",
        "precision",
        "device",
        "threads",
    ];
    let is_of = |section: &str| what.starts_with(section);
    OF_PROBE.contains(&what) || ["preprocess.", "model.", "init."].into_iter().any(is_of)
}

/// What the rows differ in, of those runs that it concerns.
fn between(
    facts: &[Vec<Fact>],
    rows: &[Vec<usize>],
    concerns: &dyn Fn(usize, &str) -> bool,
) -> Vec<Difference> {
    let mut names: Vec<&str> = Vec::new();
    for fact in facts.iter().flatten() {
        if !names.contains(&fact.what.as_str()) {
            names.push(&fact.what);
        }
    }
    let find = |run: usize, what: &str| {
        let mut of_run = facts[run].iter();
        of_run.find(|fact| fact.what == what && concerns(run, what))
    };
    let mut found = Vec::new();
    for what in names {
        let identity = |run: usize| find(run, what).map(|fact| fact.identity.as_str());
        let concerned = |row: &Vec<usize>| row.iter().any(|&run| concerns(run, what));
        let concerned: Vec<bool> = rows.iter().map(concerned).collect();
        let of_row = |row: &Vec<usize>| row.iter().map(|&run| identity(run)).collect::<Vec<_>>();
        // Seeds of one row may differ too, such as in how far a clock let them get.
        let mut sets: Vec<Vec<Option<&str>>> = rows.iter().map(of_row).collect();
        for set in &mut sets {
            set.sort_unstable();
            set.dedup();
        }
        if are_alike(&sets, &concerned) {
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
        if are_alike(&values, &concerned) {
            let counted = values.iter_mut().zip(&sets).zip(&concerned);
            for ((value, set), _) in counted.filter(|(_, concerned)| **concerned) {
                let identity = set.iter().flatten().next().copied().unwrap_or("–");
                *value += &format!(" ({})", identity.chars().take(8).collect::<String>());
            }
        }
        let mut those = facts.iter().flatten().filter(|fact| fact.what == what);
        found.push(Difference {
            what: what.to_owned(),
            values,
            concerns: concerned,
            confounds: those.any(|fact| fact.confounds),
        });
    }
    found
}

/// Whether all values that count are the same.
fn are_alike<T: PartialEq>(values: &[T], counts: &[bool]) -> bool {
    let mut counted = values.iter().zip(counts).filter(|(_, counts)| **counts);
    let Some((first, _)) = counted.next() else {
        return true;
    };
    counted.all(|(value, _)| value == first)
}

/// What can differ between runs, the most telling first.
fn facts(dir: &RunDir, recipe: &Recipe, meta: &WeightsMeta) -> Vec<Fact> {
    let settings = recipe.settings();
    let info = run::read_info(dir).unwrap_or_default();
    let side = meta.preprocess.image_size;
    let mut facts = vec![
        Fact::new("picture size", format!("{side}x{side}"), true),
        source(START, "init", "from scratch", &settings),
        Fact::new(LEARNS, learns(&recipe.init), true),
        source("teacher", "distillation", "none", &settings),
        training_pictures(dir, recipe),
        budget(recipe, &info),
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
    facts
}

/// How much of the model is trained.
fn learns(init: &InitRecipe) -> String {
    match (init.probe, init.finetune.freeze) {
        (Some(ProbeViews::Plain), _) => "a linear classifier".to_owned(),
        (Some(ProbeViews::Mirror), _) => "a linear classifier, from mirror images too".to_owned(),
        (None, _) if init.finetune.adapts() => {
            format!("adapters of rank {}, and the head", init.finetune.lora_rank)
        }
        (None, Freeze::None) => "all layers".to_owned(),
        (None, Freeze::Backbone) => "the head".to_owned(),
        (None, Freeze::Blocks(blocks)) => format!("all above block {blocks}"),
    }
}

/// Whether a key of the recipe is a difference of its own, and then whether it confounds.
fn is_told_by_its_key(key: &str) -> Option<bool> {
    match key {
        // Part of another fact, or without effect on what is learned.
        "model.name" | "train.seed" | "train.epochs" | "train.steps" | "train.time"
        | "train.precision" => None,
        "train.checkpoint_minutes" | "distillation.teacher" => None,
        "init.weights" | "init.sha256" | "init.freeze" | "init.lora_rank" | "init.probe" => None,
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

    const ALL: &dyn Fn(usize, &str) -> bool = &|_, _| true;

    #[test]
    fn what_does_not_concern_a_probe_is_no_difference() {
        let facts = runs(&[
            &[("start", "w", "w", true), ("optimizer.lr", "1", "1", false)],
            &[("start", "w", "w", true), ("optimizer.lr", "2", "2", false)],
            &[("start", "w", "w", true), ("optimizer.lr", "3", "3", false)],
        ]);
        let concerns = |run: usize, what: &str| run > 0 || is_of_probe(what);
        assert_eq!(between(&facts, &[vec![0], vec![1]], &concerns), []);
        let found = between(&facts, &[vec![0], vec![1], vec![2]], &concerns);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].values, ["–", "2", "3"].map(str::to_owned));
        assert!(!is_of_probe("budget") && !is_of_probe("augment.flip"));
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
        let found = between(&facts, &[vec![0, 1], vec![2]], ALL);
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
        assert_eq!(between(&facts[..2], &[vec![0], vec![1]], ALL).len(), 1);
        assert_eq!(between(&facts[..1], &[vec![0], vec![0]], ALL), []);
    }

    #[test]
    fn other_things_of_one_name_do_not_look_alike() {
        let facts = runs(&[
            &[("teacher", "runs/cnn", "aaaaaaaaaa", true)],
            &[("teacher", "runs/cnn", "bbbbbbbbbb", true)],
            &[("teacher", "runs/moved", "aaaaaaaaaa", true)],
            &[],
        ]);
        let found = between(&facts, &[vec![0], vec![1]], ALL);
        assert_eq!(
            found[0].values,
            ["runs/cnn (aaaaaaaa)", "runs/cnn (bbbbbbbb)"]
        );
        // The same weights elsewhere are the same.
        assert_eq!(between(&facts, &[vec![0], vec![2]], ALL), []);
        // A setting that only one has.
        assert_eq!(
            between(&facts, &[vec![0], vec![3]], ALL)[0].values,
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
            ("init.freeze", None),
            ("init.layer_decay", Some(true)),
            ("train.batch_size", Some(true)),
            ("optimizer.lr", Some(false)),
            ("model.depth", None),
            ("model.name", None),
        ] {
            assert_eq!(is_told_by_its_key(key), told, "{key}");
        }
    }
}
