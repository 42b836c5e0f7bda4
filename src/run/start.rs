//! The weights that a training starts from: found, and checked against the model.

use burn::tensor::Device;

use super::dir::open_weights;
use super::error::RunError;
use super::hub_weights::pin;
use crate::checkpoint::{self, Fit};
use crate::model::ModelConfig;
use crate::model::parameters::declared;
use crate::model::role::Role;
use crate::names::shown;
use crate::recipe::{Recipe, RecipeError, Sources};
use crate::setting::Invalid;
use crate::train::{FinetuneConfig, Freeze, Start};

/// Resolves a recipe. If it starts from weights, their architecture and preprocessing are its
/// defaults. Its paths become absolute, so that the run can be resumed from any folder, and repositories on a
/// hub get their commits, so that a new run of the recipe starts from the same weights.
///
/// # Errors
///
/// [`RunError`]: the weights cannot be read, or a setting is wrong, as for [`Sources::resolve`].
pub fn resolve(sources: &Sources) -> Result<Recipe, RunError> {
    let mut recipe = match sources.init_weights()? {
        None => sources.resolve()?,
        Some(path) => {
            let meta = checkpoint::meta(&open_weights(&path)?)?;
            sources.resolve_from(Some((&path, &meta)))?
        }
    };
    recipe.make_paths_absolute();
    pin(&mut recipe.init.weights)?;
    pin(&mut recipe.distillation.teacher)?;
    Ok(recipe)
}

/// Checks that a model of `classes` can start from these weights, and that the blocks to freeze
/// exist; returns what becomes of each tensor.
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
) -> Result<Fit, RunError> {
    let fit = start.check(model, classes, device)?;
    let has_token = |model: &ModelConfig| {
        let tensors = declared(&model.init_constant(device)).into_iter();
        tensors
            .map(|tensor| tensor.role)
            .any(Role::is_for_distillation)
    };
    if finetune.freeze != Freeze::None && has_token(model) && !has_token(&start.meta.model) {
        return Err(RecipeError::Value {
            reason: format!(
                "init.freeze is {}, and the weights {} have no distillation token: a new one would stay random; set distillation.through=pooled, or freeze nothing",
                finetune.freeze,
                shown(start.file.path())
            ),
        }
        .into());
    }
    match finetune.too_many(&model.init_constant(device)) {
        None => Ok(fit),
        Some(blocks) => {
            let expected = format!("at most the {blocks} blocks of the model, or backbone");
            Err(RecipeError::from(Invalid::new("init.freeze", finetune.freeze, expected)).into())
        }
    }
}

/// Opens the weights that a recipe starts from, if any, and writes their hash into the recipe.
///
/// # Errors
///
/// [`RunError`]: the weights cannot be read, or their hash is not the recipe's.
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
