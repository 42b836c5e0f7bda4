//! `[init]`: weights to start from, and what a recipe takes from them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::error::RecipeError;
use super::table::merge;
use crate::checkpoint::WeightsMeta;
use crate::names;
use crate::setting::{is_default, positive};
use crate::train::{FinetuneConfig, Freeze};

/// Weights of another data set to start from, and how their layers are treated.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InitRecipe {
    /// Weights file, run directory (its best weights), name of weights that ship with vitrine, or
    /// repository on the hub as `hf:OWNER/NAME[@REVISION]`; without one, weights are drawn.
    #[serde(with = "names::optional_path")]
    pub weights: Option<PathBuf>,
    /// SHA-256 of the file. A run writes it down; if it is set, another file is refused.
    pub sha256: Option<String>,
    /// How a head begins whose classes the weights do not know.
    #[serde(skip_serializing_if = "is_default")]
    pub head: NewHead,
    /// Fits a linear probe on the features of these weights instead of training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeViews>,
    /// Learning rates by layer, and what is frozen.
    #[serde(flatten)]
    pub finetune: FinetuneConfig,
}

/// How a new head begins. One that comes with the weights, where the classes are the same, is kept either way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NewHead {
    /// Drawn at random.
    #[default]
    Fresh,
    /// As a linear probe on the features of the weights, so that the first gradients do not carry what a random head
    /// asks for into layers that have learned (Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features and
    /// Underperform Out-of-Distribution", arXiv 2202.10054: LP-FT).
    Probe,
}

/// What a probe sees of a training picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeViews {
    /// The picture as it is evaluated.
    Plain,
    /// That, and its mirror image.
    Mirror,
}

impl InitRecipe {
    pub(super) fn validate(&self) -> Result<(), RecipeError> {
        let FinetuneConfig {
            layer_decay,
            freeze,
            lora_rank,
            lora_alpha,
        } = self.finetune;
        positive("init.layer_decay", layer_decay, 1.0)?;
        positive("init.lora_alpha", lora_alpha, 1e6)?;
        if self.weights.is_none() && self.head == NewHead::Probe {
            return Err(RecipeError::NothingToFit);
        }
        if self.probe.is_some() {
            if self.weights.is_none() {
                return Err(RecipeError::NothingToProbe);
            }
            if self.head == NewHead::Probe {
                return Err(RecipeError::Value {
                    reason: "init.probe fits the head and trains nothing after it: init.head does not go with it".to_owned(),
                });
            }
            if self.finetune != FinetuneConfig::default() {
                return Err(RecipeError::Value {
                    reason: "init.probe leaves all but the head as it is: init.freeze, init.layer_decay and init.lora_rank do not go with it".to_owned(),
                });
            }
        }
        if self.weights.is_none() && freeze != Freeze::None {
            return Err(RecipeError::NothingToFreeze { freeze });
        }
        if lora_rank > 0 {
            if self.weights.is_none() {
                return Err(RecipeError::NothingToAdapt { rank: lora_rank });
            }
            if freeze != Freeze::None {
                return Err(RecipeError::Value {
                    reason: format!(
                        "init.lora_rank is {lora_rank} and init.freeze is {freeze}: adapters leave all but themselves and the heads as it is, so leave init.freeze out"
                    ),
                });
            }
        } else if lora_alpha != FinetuneConfig::default().lora_alpha {
            return Err(RecipeError::Value {
                reason: format!(
                    "init.lora_alpha is {lora_alpha}, and without init.lora_rank there are no adapters: set both, or leave it out"
                ),
            });
        }
        Ok(())
    }
}

/// Fields of an architecture on which the shape of its weights does not depend: they may differ.
const FREE: [&str; 2] = ["drop_path", "init"];

/// What a recipe takes from weights: the architecture, and how pictures are prepared, but for what the `stated` layers
/// leave no room for.
pub(super) fn layer(meta: &WeightsMeta, stated: &[Table]) -> Table {
    let model = architecture(meta, Table::try_from(&meta.model));
    let stated = |key: &str| {
        let of = |table: &Table| table.get("preprocess")?.get(key).cloned();
        stated.iter().rev().find_map(of)
    };
    let size = stated("image_size").and_then(|size| usize::try_from(size.as_integer()?).ok());
    let mut theirs = match size {
        Some(size) => meta.preprocess.at(size),
        None => meta.preprocess.clone(),
    };
    // A training decodes no more than it needs, unless it is asked to.
    theirs.exact = false;
    let mut preprocess = Table::try_from(theirs).expect("preprocessing is plain data");
    // Another policy may have no such size.
    if stated("resize").is_some_and(|policy| preprocess.get("resize") != Some(&policy)) {
        preprocess.remove("resize_to");
    }
    let mut layer = Table::new();
    layer.insert("model".to_owned(), Value::Table(model));
    layer.insert("preprocess".to_owned(), Value::Table(preprocess));
    layer
}

/// An architecture as a recipe states it.
fn architecture(meta: &WeightsMeta, fields: Result<Table, toml::ser::Error>) -> Table {
    let mut model = fields.expect("a configuration is plain data");
    for follows in ["family", "variant", "image_size", "num_classes"] {
        model.remove(follows);
    }
    model.insert("name".to_owned(), Value::String(meta.name.clone()));
    model
}

/// Refuses an architecture that is stated and is not that of the weights.
pub(super) fn check(
    weights: &Path,
    meta: &WeightsMeta,
    layers: &[Table],
) -> Result<(), RecipeError> {
    let theirs = architecture(meta, Table::try_from(meta.model.fields()));
    let mut stated = Table::new();
    for table in layers {
        merge(&mut stated, table.clone());
    }
    let Some(stated) = stated.get("model").and_then(Value::as_table) else {
        return Ok(());
    };
    let number = |value: &Value| {
        let whole = || value.as_integer().map(|i| i as f64);
        value.as_float().or_else(whole)
    };
    // TOML tells 0 from 0.0.
    let same = |a: &Value, b: &Value| a == b || number(a).is_some_and(|a| number(b) == Some(a));
    for (key, value) in stated {
        let of_weights = theirs.get(key);
        // What it came to be shows in the shapes of the weights.
        if of_weights.and_then(Value::as_str) == Some("by-size") {
            continue;
        }
        if !FREE.contains(&key.as_str()) && !of_weights.is_some_and(|theirs| same(theirs, value)) {
            return Err(RecipeError::Architecture {
                key: key.clone(),
                stated: value.to_string(),
                weights: weights.to_owned(),
                theirs: of_weights.map_or("no such thing".to_owned(), Value::to_string),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::data::{Centre, Filter, Preprocess, Resize};
    use crate::model::ModelConfig;
    use crate::recipe::{Recipe, Sources};

    fn meta() -> WeightsMeta {
        let ModelConfig::Vit(mut vit) = ModelConfig::preset("vit-micro", 28, None, 7).unwrap()
        else {
            panic!("vit-micro is a ViT")
        };
        vit.depth = 3;
        WeightsMeta {
            name: "vit-micro".to_owned(),
            model: ModelConfig::Vit(vit),
            classes: (0..7).map(|i| i.to_string()).collect(),
            preprocess: Preprocess {
                image_size: 28,
                resize: Resize::Pad,
                mean: [0.1, 0.2, 0.3],
                std: [0.4, 0.5, 0.6],
                ..Preprocess::default()
            },
            temperature: 1.0,
            epoch: 1,
            val_top1: None,
            calibration: None,
        }
    }

    fn resolve(set: &[&str]) -> Result<Recipe, String> {
        let sources = Sources {
            set: set.iter().map(|s| (*s).to_owned()).collect(),
            ..Sources::default()
        };
        let resolved = sources.resolve_from(Some((Path::new("FILE"), &meta())));
        resolved.map_err(|e| e.to_string())
    }

    #[test]
    fn architecture_and_preprocessing_come_from_the_weights() {
        let recipe = resolve(&["train.epochs=3"]).unwrap();
        let theirs = meta();
        assert_eq!(recipe.preprocess.image_size, Some(28));
        assert_eq!(recipe.preprocess.resize, Resize::Pad);
        assert_eq!(recipe.preprocess.mean, Some(theirs.preprocess.mean));
        assert_eq!(recipe.model_config(28, 7).unwrap(), theirs.model);
        // Once written, the recipe no longer needs the weights.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        std::fs::write(&path, recipe.to_toml()).unwrap();
        assert_eq!(Recipe::load(&path).unwrap(), recipe);
    }

    #[test]
    fn what_is_stated_wins_where_the_weights_still_fit() {
        let recipe = resolve(&[
            "preprocess.image_size=32",
            "preprocess.std=[0.5, 0.5, 0.5]",
            "model.drop_path=0.25",
            "model.depth=3",
            // Their own, though no file says so.
            "model.activation=gelu",
            "model.norm_epsilon=1e-6",
        ])
        .unwrap();
        let ModelConfig::Vit(vit) = recipe.model_config(32, 2).unwrap() else {
            panic!("it stays a ViT")
        };
        assert_eq!((vit.image_size, vit.depth, vit.num_classes), (32, 3, 2));
        assert_eq!(vit.drop_path, 0.25);
        assert_eq!(recipe.preprocess.std, Some([0.5; 3]));
    }

    #[test]
    fn preprocessing_of_other_projects_follows_the_image_size() {
        let mut meta = meta();
        meta.preprocess = Preprocess {
            image_size: 28,
            resize: Resize::ShorterEdge,
            resize_to: Some(32),
            filter: Filter::Bicubic,
            centre: Centre::Down,
            exact: true,
            ..meta.preprocess
        };
        let resolve = |set: &[&str]| {
            let sources = Sources {
                set: set.iter().map(|s| (*s).to_owned()).collect(),
                ..Sources::default()
            };
            let recipe = sources.resolve_from(Some((Path::new("FILE"), &meta)));
            recipe.unwrap().preprocess
        };
        let theirs = resolve(&[]);
        assert_eq!(
            (
                theirs.resize,
                theirs.resize_to,
                theirs.filter,
                theirs.centre
            ),
            (Resize::ShorterEdge, Some(32), Filter::Bicubic, Centre::Down)
        );
        assert!(!theirs.exact, "a training decodes no more than it needs");
        assert!(resolve(&["preprocess.exact=true"]).exact);
        let larger = resolve(&["preprocess.image_size=56"]);
        assert_eq!(larger.resize_to, Some(64));
        let stated = resolve(&["preprocess.image_size=56", "preprocess.resize_to=60"]);
        assert_eq!(stated.resize_to, Some(60));
        let same = resolve(&["preprocess.resize=shorter-edge"]);
        assert_eq!(same.resize_to, Some(32));
        // Another policy has no such size, and is no error for that.
        let padded = resolve(&["preprocess.resize=pad", "preprocess.filter=box"]);
        assert_eq!((padded.resize_to, padded.filter), (None, Filter::Box));
    }

    #[test]
    fn a_stem_that_followed_from_the_size_may_be_stated() {
        let meta = WeightsMeta {
            name: "resnet18".to_owned(),
            model: ModelConfig::preset("resnet18", 128, None, 7).unwrap(),
            ..meta()
        };
        let set = ["preprocess.image_size=64", "model.stem=imagenet"];
        let sources = Sources {
            set: set.map(str::to_owned).to_vec(),
            ..Sources::default()
        };
        let recipe = sources.resolve_from(Some((Path::new("FILE"), &meta)));
        let ModelConfig::Resnet(resnet) = recipe.unwrap().model_config(64, 7).unwrap() else {
            panic!("it stays a ResNet")
        };
        assert!(resnet.imagenet_stem());
    }

    #[test]
    fn another_architecture_is_refused() {
        for (set, told) in [
            (
                "model.name=vit-w1",
                "model.name is \"vit-w1\", and the weights FILE have \"vit-micro\"",
            ),
            (
                "model.depth=4",
                "model.depth is 4, and the weights FILE have 3",
            ),
            (
                "model.patch_size=7",
                "model.patch_size is 7, and the weights FILE have 4",
            ),
            (
                "model.activation=gelu-tanh",
                "model.activation is \"gelu-tanh\", and the weights FILE have \"gelu\"",
            ),
            (
                "model.width=7",
                "model.width is 7, and the weights FILE have no such thing",
            ),
        ] {
            assert_eq!(resolve(&[set]).unwrap_err(), told);
        }
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let plain = |set: &str| {
            let sources = Sources {
                set: vec![set.to_owned()],
                ..Sources::default()
            };
            sources.resolve().unwrap_err().to_string()
        };
        assert_eq!(
            plain("init.layer_decay=0"),
            "init.layer_decay is 0: expected more than 0, at most 1"
        );
        assert_eq!(
            plain("init.freeze=backbone"),
            "init.freeze is backbone: expected none without weights to start from, since a random layer has to learn"
        );
        assert_eq!(
            plain("init.lora_rank=8"),
            "init.lora_rank is 8: expected 0 without weights to start from, which the adapters change"
        );
        assert_eq!(
            plain("init.lora_alpha=4"),
            "init.lora_alpha is 4, and without init.lora_rank there are no adapters: set both, or leave it out"
        );
        for (set, told) in [
            (
                ["init.lora_alpha=0", "init.lora_rank=2"],
                "init.lora_alpha is 0: expected more than 0, at most 1000000",
            ),
            (
                ["init.freeze=2", "init.lora_rank=2"],
                "init.lora_rank is 2 and init.freeze is 2: adapters leave all but themselves and the heads as it is, so leave init.freeze out",
            ),
            (
                ["init.probe=plain", "init.lora_rank=2"],
                "init.probe leaves all but the head as it is: init.freeze, init.layer_decay and init.lora_rank do not go with it",
            ),
        ] {
            assert_eq!(
                resolve(&["init.weights=w", set[0], set[1]]).unwrap_err(),
                told
            );
        }
        assert_eq!(
            plain("init.head=probe"),
            "init.head is probe: expected fresh without weights to start from, since random features are worth no fit"
        );
        assert_eq!(
            plain("init={ weights = 'FILE', probe = 'plain', head = 'probe' }"),
            "init.probe fits the head and trains nothing after it: init.head does not go with it"
        );
        assert_eq!(
            plain("init.freeze=half"),
            "init.freeze is half: expected none, backbone or a number of blocks"
        );
    }
}
