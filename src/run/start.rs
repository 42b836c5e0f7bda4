//! The weights that a training starts from: found, and checked against the model.

use burn::tensor::Device;

use super::dir::open_weights;
use super::error::RunError;
use super::hub_weights::pin;
use crate::checkpoint::{self, Fit};
use crate::model::ModelConfig;
use crate::model::lora::largest_rank;
use crate::model::parameters::declared;
use crate::model::role::Role;
use crate::names::shown;
use crate::recipe::{Recipe, RecipeError, Sources};
use crate::setting::Invalid;
use crate::train::{FinetuneConfig, Start};

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

/// Checks that a model of `classes` can start from these weights, that the blocks to freeze exist, and
/// that adapters fit; returns what becomes of each tensor.
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
    if finetune.freezes() && has_token(model) && !has_token(&start.meta.model) {
        let (set, otherwise) = match finetune.adapts() {
            true => (
                format!("init.lora_rank is {}", finetune.lora_rank),
                "train without adapters",
            ),
            false => (
                format!("init.freeze is {}", finetune.freeze),
                "freeze nothing",
            ),
        };
        return Err(RecipeError::Value {
            reason: format!(
                "{set}, and the weights {} have no distillation token: a new one would stay random; set distillation.through=pooled, or {otherwise}",
                shown(start.file.path())
            ),
        }
        .into());
    }
    check_rank(finetune, model, &start.meta.name, device)?;
    match finetune.too_many(&model.init_constant(device)) {
        None => Ok(fit),
        Some(blocks) => {
            let expected = format!("at most the {blocks} blocks of the model, or backbone");
            Err(RecipeError::from(Invalid::new("init.freeze", finetune.freeze, expected)).into())
        }
    }
}

/// Checks that a model has matrices for adapters, none smaller than they are.
fn check_rank(
    finetune: &FinetuneConfig,
    model: &ModelConfig,
    name: &str,
    device: &Device,
) -> Result<(), RecipeError> {
    let rank = finetune.lora_rank;
    if !finetune.adapts() {
        return Ok(());
    }
    match largest_rank(&model.init_constant(device)) {
        None => Err(RecipeError::Value {
            reason: format!(
                "init.lora_rank is {rank}: adapters are of attention and MLP, and {name} has none; leave it out, or start from a Vision Transformer"
            ),
        }),
        Some((matrix, side)) if rank > side => {
            let expected = format!("at most {side}, the smaller side of {matrix}");
            Err(Invalid::new("init.lora_rank", rank, expected).into())
        }
        Some(_) => Ok(()),
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
            Ok(Some(Start {
                file,
                meta,
                head: None,
            }))
        }
    }
}
