#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::time::Duration;

use toml::Value;

use super::*;
use crate::train::Budget;

fn resolve(recipe: Option<&str>, set: &[&str]) -> Result<Recipe, RecipeError> {
    Sources {
        recipe: recipe.map(str::to_owned),
        set: set.iter().map(|s| (*s).to_owned()).collect(),
        values: Vec::new(),
    }
    .resolve()
}

#[test]
fn every_embedded_recipe_resolves() {
    for recipe in EMBEDDED {
        let resolved =
            resolve(Some(recipe.name), &[]).unwrap_or_else(|e| panic!("{}: {e}", recipe.name));
        resolved.model_config(32, 10).unwrap();
    }
}

#[test]
fn a_resolved_recipe_reads_back_the_same() {
    let recipe = resolve(
        None,
        &[
            "data.path=some/folder",
            "train.time=1h30m",
            "model.drop_path=0.2",
        ],
    )
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recipe.toml");
    std::fs::write(&path, recipe.to_toml()).unwrap();
    assert_eq!(Recipe::load(&path).unwrap(), recipe);
    assert_eq!(
        recipe.budget().unwrap(),
        Budget::Time(Duration::from_secs(5400))
    );
}

#[test]
fn paths_become_absolute_and_names_of_what_ships_stay() {
    let set = [
        "data.path=pictures/",
        "distillation.teacher=cifar10-vit",
        "init.weights=./cifar10-vit",
    ];
    let mut recipe = resolve(None, &set).unwrap();
    recipe.make_paths_absolute();
    let here = std::env::current_dir().unwrap();
    let path = recipe.data.path.unwrap().into_os_string();
    assert_eq!(path, here.join("pictures").into_os_string());
    assert_eq!(
        recipe.distillation.teacher.unwrap(),
        PathBuf::from("cifar10-vit")
    );
    assert_eq!(recipe.init.weights.unwrap(), here.join("cifar10-vit"));
}

#[test]
fn an_override_may_make_a_preset_fit() {
    // Airbench's own stem kernel of 2 leaves nothing of 8 pixels.
    let small = |set: &[&str]| resolve(None, set).unwrap().model_config(8, 2);
    assert!(small(&["model.name=airbench"]).is_err());
    assert!(small(&["model.name=airbench", "model.stem_kernel=1"]).is_ok());
}

#[test]
fn a_resume_may_change_where_data_is_and_how_long_it_takes() {
    let begun = resolve(None, &["data.path=there"]).unwrap();
    let continued = |set: &[&str]| resolve(None, set).unwrap().difference_on_resume(&begun);
    assert_eq!(
        continued(&[
            "data.path=moved",
            "train.time=1h",
            "train.patience=3",
            "data.workers=2"
        ]),
        None
    );
    let (key, now, was) = continued(&["data.path=moved", "optimizer.lr=0.5"]).unwrap();
    assert_eq!([key, now, was], ["optimizer.lr", "0.5", "0.001"]);
}

#[test]
fn recipes_are_told_apart_by_a_key() {
    let plain = resolve(None, &[]).unwrap();
    assert_eq!(plain.difference(&plain.clone()), None);
    for (set, key, was, is) in [
        ("optimizer.lr=0.5", "optimizer.lr", "0.003", "0.5"),
        ("model.drop_path=0.2", "model.drop_path", "unset", "0.2"),
        ("train.steps=7", "train.epochs", "12", "unset"),
    ] {
        let found = plain.difference(&resolve(None, &[set]).unwrap()).unwrap();
        assert_eq!(found, (key.into(), was.into(), is.into()), "{set}");
    }
}

#[test]
fn later_layers_win() {
    let sources = Sources {
        recipe: None,
        set: vec!["optimizer.lr=0.1".into(), "optimizer.lr=0.2".into()],
        values: vec![("optimizer.lr", Value::Float(0.3))],
    };
    assert_eq!(sources.resolve().unwrap().optimizer.lr, 0.3);
    assert_eq!(
        resolve(None, &["optimizer.lr=0.1", "optimizer.lr=0.2"])
            .unwrap()
            .optimizer
            .lr,
        0.2
    );
}

#[test]
fn a_later_budget_replaces_an_earlier_one() {
    let recipe = resolve(None, &["train.time=30m", "train.epochs=3"]).unwrap();
    assert_eq!(recipe.budget().unwrap(), Budget::Epochs(3));
}

#[test]
fn a_misspelt_key_is_refused_with_the_nearest() {
    let error = resolve(None, &["optimizer.weigth_decay=0.1"])
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "optimizer.weigth_decay=0.1: unknown key `optimizer.weigth_decay`; did you mean `optimizer.weight_decay`?"
    );
    let error = resolve(None, &["epochs=3"]).unwrap_err().to_string();
    assert!(
        error.ends_with("unknown key `epochs`; did you mean `train.epochs`?"),
        "{error}"
    );
    let error = resolve(None, &["zzz=3"]).unwrap_err().to_string();
    assert!(error.ends_with("unknown key `zzz`"), "{error}");
}

#[test]
fn absurd_numbers_are_refused() {
    for (set, message) in [
        (
            "train.batch_size=0",
            "train.batch_size is 0: expected 1 to 65536",
        ),
        ("train.epochs=0", "train.epochs is 0: expected 1 to 1000000"),
        (
            "optimizer.lr=-1.0",
            "optimizer.lr is -1: expected more than 0, at most 100",
        ),
        (
            "optimizer.lr=nan",
            "optimizer.lr is NaN: expected more than 0, at most 100",
        ),
        (
            "train.label_smoothing=1.0",
            "train.label_smoothing is 1: expected 0 to below 1",
        ),
        (
            "train.time=soon",
            "train.time is \"soon\": expected a duration such as 90s, 30m or 1h30m",
        ),
        (
            "train.time=1h-59m",
            "train.time is \"1h-59m\": expected a duration such as 90s, 30m or 1h30m",
        ),
        (
            "train.time=30m1h",
            "train.time is \"30m1h\": expected a duration such as 90s, 30m or 1h30m",
        ),
        (
            "train.time=1e3s",
            "train.time is \"1e3s\": expected a duration such as 90s, 30m or 1h30m",
        ),
        (
            "data.fraction=0.0",
            "data.fraction is 0: expected more than 0, at most 1",
        ),
        (
            "preprocess.image_size=100000",
            "preprocess.image_size is 100000: expected 8 to 2048",
        ),
    ] {
        assert_eq!(resolve(None, &[set]).unwrap_err().to_string(), message);
    }
}

#[test]
fn an_override_of_another_family_is_refused() {
    let recipe = resolve(None, &["model.name=resnet9", "model.depth=3"]).unwrap();
    assert_eq!(
        recipe.model_config(32, 10).unwrap_err().to_string(),
        "model.depth does not apply to resnet9: leave it out, or choose another model"
    );
}

#[test]
fn settings_that_files_leave_out_at_their_default_are_keys_too() {
    let set = [
        "model.name=vit-w1",
        "model.norm_epsilon=1e-12",
        "model.activation=gelu-tanh",
        "model.norm_after_pooling=true",
        "model.qk_norm=true",
        "model.qk_norm_bias=true",
    ];
    let config = resolve(None, &set).unwrap().model_config(32, 10).unwrap();
    let crate::model::ModelConfig::Vit(vit) = config else {
        panic!("vit-w1 is a ViT")
    };
    assert_eq!(vit.norm_epsilon, 1e-12);
    assert_eq!(vit.activation, crate::ops::Activation::GeluTanh);
    assert!(vit.norm_after_pooling && vit.qk_norm_bias);
    let wrong = resolve(None, &["model.name=vit-w1", "model.activation=relu"]).unwrap();
    assert_eq!(
        wrong.model_config(32, 10).unwrap_err().to_string(),
        "model.activation is relu: expected gelu or gelu-tanh"
    );
}

#[test]
fn a_key_of_endless_parts_is_unknown_and_no_deeper_than_the_stack() {
    let set = format!("{}=1", vec!["a"; 60_000].join("."));
    let error = resolve(None, &[&set]).unwrap_err().to_string();
    assert!(error.contains("unknown key `a.a.a"), "{error}");
    assert!(error.len() < 200, "{error}");
}
