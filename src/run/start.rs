//! Weights that a recipe starts from: found, and what the recipe takes from them.

use burn::tensor::Device;

use super::dir::open_weights;
use super::error::RunError;
use crate::checkpoint;
use crate::model::ModelConfig;
use crate::recipe::{Layers, Recipe, RecipeError};
use crate::setting::Invalid;
use crate::train::{FinetuneConfig, Freeze, Start};

/// Resolves a recipe whose architecture and preprocessing are, unless stated, those of the weights
/// that it starts from, if it does. Its paths hold from wherever the run is continued.
///
/// # Errors
///
/// [`RunError`]: weights that are none, and whatever [`Layers::resolve`] refuses.
pub fn resolve(layers: &Layers) -> Result<Recipe, RunError> {
    let mut recipe = match layers.init_weights()? {
        None => layers.resolve()?,
        Some(path) => {
            let meta = checkpoint::meta(&open_weights(&path)?)?;
            layers.resolve_from(Some((&path, &meta)))?
        }
    };
    recipe.make_paths_absolute();
    Ok(recipe)
}

/// Whether a model of `classes` can start from these weights, and whether what is to be frozen of it
/// exists.
///
/// # Errors
///
/// [`RunError`].
pub(super) fn check(
    start: &Start,
    finetune: &FinetuneConfig,
    model: &ModelConfig,
    classes: &[String],
    device: &Device,
) -> Result<(), RunError> {
    start.check(model, classes, device)?;
    let has_token =
        |model: &ModelConfig| matches!(model, ModelConfig::Vit(vit) if vit.distillation_token);
    if finetune.freeze != Freeze::None && has_token(model) && !has_token(&start.meta.model) {
        return Err(RecipeError::Value {
            reason: format!(
                "init.freeze is {}, and the weights {} have no distillation token: a new one would stay random; set distillation.through=pooled, or freeze nothing",
                finetune.freeze,
                start.file.path().display()
            ),
        }
        .into());
    }
    match finetune.too_many(&model.init_constant(device)) {
        None => Ok(()),
        Some(blocks) => {
            let expected = format!("at most the {blocks} blocks of the model, or backbone");
            Err(RecipeError::from(Invalid::new("init.freeze", finetune.freeze, expected)).into())
        }
    }
}

/// Finds the weights that a recipe starts from, if it does, and writes their hash into it.
///
/// # Errors
///
/// [`RunError`]: weights that are none, or not those of the recipe's hash.
pub(super) fn open(recipe: &mut Recipe) -> Result<Option<Start>, RunError> {
    let Some(path) = &recipe.init.weights else {
        return Ok(None);
    };
    let file = open_weights(path)?;
    let meta = checkpoint::meta(&file)?;
    let found = file.sha256();
    match &recipe.init.sha256 {
        Some(expected) if *expected != found => Err(RunError::OtherStart {
            path: file.path().to_owned(),
            found,
            expected: expected.clone(),
        }),
        _ => {
            recipe.init.sha256 = Some(found);
            Ok(Some(Start { file, meta }))
        }
    }
}
