//! `[when.…]`: settings of a recipe that hold for one kind of start, one family of models, or one model.
//!
//! A recipe says in one file what a Vision Transformer needs and what a CNN, what weights need and what a start from
//! nothing: `[when.weights.optimizer]` is `[optimizer]` where the training starts from weights. These tables stand over
//! the rest of their recipe and under everything that is stated beside it.

use toml::{Table, Value};

use super::error::{Origin, RecipeError};
use super::keys::check_keys;
use super::table::merge;
use crate::model;

/// The section of a recipe that holds them.
const WHEN: &str = "when";
const CONDITIONS: &str =
    "scratch, weights, vit, cnn, a model, or one of the last three after scratch- or weights-";

/// Where a training starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    /// From weights that are drawn.
    Scratch,
    /// From weights that have learned.
    Weights,
    /// Nothing is trained: a probe is fitted.
    Probe,
}

impl Beginning {
    /// That of a training by these layers; later ones win.
    pub(super) fn of(layers: &[Table]) -> Self {
        let states = |key: &str| {
            let of = |table: &Table| table.get("init")?.get(key).cloned();
            layers.iter().rev().any(|table| of(table).is_some())
        };
        match (states("probe"), states("weights")) {
            (true, _) => Self::Probe,
            (false, true) => Self::Weights,
            (false, false) => Self::Scratch,
        }
    }

    fn name(self) -> Option<&'static str> {
        match self {
            Self::Scratch => Some("scratch"),
            Self::Weights => Some("weights"),
            Self::Probe => None,
        }
    }
}

fn is_condition(text: &str) -> bool {
    let start = ["scratch", "weights"];
    let after = |start| text.strip_prefix(start)?.strip_prefix('-');
    let of_model = start.into_iter().find_map(after).unwrap_or(text);
    start.contains(&text)
        || ["vit", "cnn"].contains(&of_model)
        || model::presets()
            .iter()
            .any(|preset| preset.name == of_model)
}

/// The conditional tables of a recipe.
#[derive(Debug, Default)]
pub(super) struct Conditional(Table);

impl Conditional {
    /// Takes them out of a recipe, once each is known to hold nothing but settings that may depend on its condition.
    ///
    /// # Errors
    ///
    /// [`RecipeError`], which names the condition or the key.
    pub(super) fn take(
        origin: &Origin,
        recipe: &mut Table,
        known: &[String],
    ) -> Result<Self, RecipeError> {
        let Some(when) = recipe.remove(WHEN) else {
            return Ok(Self::default());
        };
        let refused = |reason: String| RecipeError::Value {
            reason: format!("{origin}: {reason}"),
        };
        let Value::Table(when) = when else {
            return Err(refused(format!(
                "{WHEN} is {when}: expected tables, each under {CONDITIONS}"
            )));
        };
        for (condition, settings) in &when {
            let Value::Table(settings) = settings else {
                return Err(refused(format!(
                    "{WHEN}.{condition} is {settings}: expected a table of settings"
                )));
            };
            if !is_condition(condition) {
                return Err(refused(format!(
                    "{WHEN}.{condition}: expected {CONDITIONS}"
                )));
            }
            check_keys(origin, settings, "", known)?;
            let states = |section: &str, key: &str| {
                settings
                    .get(section)
                    .is_some_and(|section| section.get(key).is_some())
            };
            let is_start = matches!(condition.as_str(), "scratch" | "weights");
            // Each decides which conditions hold.
            for (section, key, may) in [
                ("init", "weights", false),
                ("init", "probe", false),
                ("model", "name", is_start),
            ] {
                if states(section, key) && !may {
                    return Err(refused(format!(
                        "{section}.{key} cannot stand under {WHEN}.{condition}, which follows from it"
                    )));
                }
            }
        }
        Ok(Self(when))
    }

    /// The settings that hold for a start, whatever the model.
    pub(super) fn of_beginning(&self, beginning: Beginning) -> Table {
        self.merged(&[beginning.name().map(str::to_owned)])
    }

    /// The settings that hold for a model of a family, `vit` or `cnn`, the more special ones over the others.
    pub(super) fn of_model(&self, beginning: Beginning, family: &str, model: &str) -> Table {
        let with_start = |of: &str| beginning.name().map(|start| format!("{start}-{of}"));
        self.merged(&[
            Some(family.to_owned()),
            with_start(family),
            Some(model.to_owned()),
            with_start(model),
        ])
    }

    fn merged(&self, conditions: &[Option<String>]) -> Table {
        let mut merged = Table::new();
        for condition in conditions.iter().flatten() {
            if let Some(Value::Table(settings)) = self.0.get(condition) {
                merge(&mut merged, settings.clone());
            }
        }
        merged
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use crate::checkpoint::WeightsMeta;
    use crate::data::Preprocess;
    use crate::model::ModelConfig;
    use crate::recipe::{NewHead, Recipe, Sources};
    use crate::train::OptimizerKind;

    /// Weights of a model at 56 pixels.
    fn weights(name: &str) -> WeightsMeta {
        WeightsMeta {
            name: name.to_owned(),
            model: ModelConfig::preset(name, 56, None, 7).unwrap(),
            classes: (0..7).map(|i| i.to_string()).collect(),
            preprocess: Preprocess {
                image_size: 56,
                ..Preprocess::default()
            },
            temperature: 1.0,
            epoch: 1,
            val_top1: None,
            calibration: None,
        }
    }

    fn sources(recipe: &Path, set: &[&str]) -> Sources {
        Sources {
            recipe: Some(recipe.to_str().unwrap().to_owned()),
            set: set.iter().map(|s| (*s).to_owned()).collect(),
            values: Vec::new(),
        }
    }

    fn resolve(text: &str, set: &[&str], from: Option<&str>) -> Result<Recipe, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let meta = from.map(weights);
        let mut set = set.to_vec();
        if from.is_some() {
            set.push("init.weights=FILE");
        }
        let sources = sources(file.path(), &set);
        let weights = meta.as_ref().map(|meta| (Path::new("FILE"), meta));
        sources.resolve_from(weights).map_err(|error| {
            let file = file.path().to_str().unwrap();
            error.to_string().replace(file, "FILE")
        })
    }

    const ALL: &str = "
        optimizer.lr = 0.1
        [when.scratch]
        optimizer.lr = 0.2
        model.name = 'resnet9'
        [when.weights]
        optimizer.lr = 0.3
        [when.vit]
        train.batch_size = 4
        [when.cnn]
        train.batch_size = 5
        [when.scratch-vit]
        optimizer.lr = 0.4
        [when.weights-cnn]
        optimizer.lr = 0.5
        train.batch_size = 6
        [when.vit-w1]
        train.batch_size = 7
        [when.scratch-vit-w1]
        train.accumulate = 8
    ";

    #[test]
    fn start_and_family_choose_and_what_is_stated_wins() {
        for (set, from, name, lr, batch_size) in [
            (&[][..], None, "resnet9", 0.2, 5),
            (&["model.name=vit-micro"], None, "vit-micro", 0.4, 4),
            (&["model.name=vit-w1"], None, "vit-w1", 0.4, 7),
            (&[], Some("vit-micro"), "vit-micro", 0.3, 4),
            (&[], Some("resnet9"), "resnet9", 0.5, 6),
            (&["optimizer.lr=0.7"], Some("resnet9"), "resnet9", 0.7, 6),
            (&["train.batch_size=9"], None, "resnet9", 0.2, 9),
        ] {
            let recipe = resolve(ALL, set, from).unwrap();
            let found = (
                &*recipe.model.name,
                recipe.optimizer.lr,
                recipe.train.batch_size,
            );
            assert_eq!(found, (name, lr, batch_size), "{set:?} {from:?}");
        }
        let special = resolve(ALL, &["model.name=vit-w1"], None).unwrap();
        assert_eq!(special.train.accumulate, 8);
        // A probe trains nothing: no condition of a start holds.
        let probe = resolve(ALL, &["init.probe=plain"], Some("resnet9")).unwrap();
        assert_eq!((probe.optimizer.lr, probe.train.batch_size), (0.1, 5));
    }

    #[test]
    fn what_decides_a_condition_cannot_follow_from_it() {
        for (text, told) in [
            (
                "[when.scratch-vit]\nmodel.name = 'vit-w1'",
                "recipe FILE: model.name cannot stand under when.scratch-vit, which follows from it",
            ),
            (
                "[when.vit]\ninit.weights = 'x'",
                "recipe FILE: init.weights cannot stand under when.vit, which follows from it",
            ),
            (
                "[when.transformer]\nmodel.depth = 3",
                "recipe FILE: when.transformer: expected scratch, weights, vit, cnn, a model, or one of the last three after scratch- or weights-",
            ),
            (
                "[when]\nvit = 3",
                "recipe FILE: when.vit is 3: expected a table of settings",
            ),
            (
                "[when.vit.optimizer]\nlearning_rate = 3",
                "recipe FILE: unknown key `optimizer.learning_rate`",
            ),
        ] {
            let error = resolve(text, &[], None).unwrap_err();
            assert!(error.starts_with(told), "{error}");
        }
        let error = resolve("", &["when.vit.model.depth=3"], None).unwrap_err();
        assert!(error.contains("unknown key"), "{error}");
    }

    fn photos(set: &[&str], from: Option<&str>) -> Recipe {
        let meta = from.map(weights);
        let mut set = set.to_vec();
        if from.is_some() {
            set.push("init.weights=FILE");
        }
        let weights = meta.as_ref().map(|meta| (Path::new("FILE"), meta));
        let recipe = sources(Path::new("photos"), &set).resolve_from(weights);
        recipe.unwrap()
    }

    #[test]
    fn photos_keeps_the_size_of_weights_and_fits_their_head_first() {
        for (name, kind) in [
            ("vit-tiny", OptimizerKind::AdamW),
            ("resnet18", OptimizerKind::AdamW),
        ] {
            let recipe = photos(&[], Some(name));
            assert_eq!(recipe.model.name, name);
            assert_eq!(recipe.preprocess.image_size, Some(56));
            assert_eq!(recipe.init.head, NewHead::Probe);
            assert!(recipe.init.finetune.layer_decay < 1.0);
            assert_eq!(recipe.optimizer.kind, kind);
            recipe.model_config(56, 3).unwrap();
        }
        let stated = photos(
            &[
                "preprocess.image_size=64",
                "init.head=fresh",
                "init.layer_decay=1",
            ],
            Some("vit-tiny"),
        );
        assert_eq!(stated.preprocess.image_size, Some(64));
        assert_eq!(stated.init.head, NewHead::Fresh);
        assert_eq!(stated.init.finetune.layer_decay, 1.0);
        let probe = photos(&["init.probe=plain"], Some("vit-tiny"));
        assert_eq!(probe.preprocess.image_size, Some(56));
    }

    #[test]
    fn photos_from_scratch_takes_any_model() {
        for model in [
            "vit-micro",
            "vit-w1",
            "vit-tiny",
            "resnet9",
            "airbench",
            "resnet18",
        ] {
            let recipe = photos(&[&format!("model.name={model}")], None);
            let size = recipe.preprocess.image_size.unwrap();
            recipe.model_config(size, 10).unwrap();
            assert_eq!(recipe.init, Recipe::default().init, "{model}");
        }
    }
}
