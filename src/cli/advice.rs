//! What a user can do about an error. The floors below say what is wrong, by path, key and value;
//! here it gets the flags and commands that mend it.

use std::error::Error;

use crate::model::ModelError;
use crate::recipe::RecipeError;
use crate::run::RunError;
use crate::train::TrainError;

/// An error and its causes in one line, with what to do next; a cause that is quoted already is
/// not said twice.
pub(super) fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        if text.is_empty() {
            text = advised(cause);
        } else if !text.contains(&cause.to_string()) {
            text += &format!(": {}", advised(cause));
        }
    }
    text
}

/// One cause with its advice, if there is any for it.
fn advised(cause: &(dyn Error + 'static)) -> String {
    let advised = if let Some(error) = cause.downcast_ref() {
        of_run(error)
    } else if let Some(error) = cause.downcast_ref() {
        of_recipe(error)
    } else {
        None
    };
    advised.unwrap_or_else(|| cause.to_string())
}

/// What is wrong, then what to do: "found: next step", or "found: expected; next step".
fn then(error: &dyn Error, advice: &str) -> Option<String> {
    let text = error.to_string();
    let joint = if text.contains(": ") { ";" } else { ":" };
    Some(format!("{text}{joint} {advice}"))
}

fn of_run(error: &RunError) -> Option<String> {
    match error {
        RunError::Recipe(error) => of_recipe(error),
        RunError::Train(error) => of_train(error),
        _ => None,
    }
}

fn of_recipe(error: &RecipeError) -> Option<String> {
    match error {
        RecipeError::Model(error) => of_model(error),
        _ => None,
    }
}

fn of_model(error: &ModelError) -> Option<String> {
    match error {
        ModelError::PatchSize {
            patch_size,
            image_size,
            divisors,
        } => Some(format!(
            "--patch-size {patch_size} does not divide --image-size {image_size}: expected one of {divisors}"
        )),
        ModelError::NoPatches { name } => Some(format!(
            "--patch-size does not apply to {name}, which has no patches: leave it out"
        )),
        _ => None,
    }
}

fn of_train(error: &TrainError) -> Option<String> {
    match error {
        TrainError::NotFinite { .. } => then(
            error,
            "lower --lr, lengthen --warmup-epochs or set --clip-grad, then train again",
        ),
        _ => None,
    }
}
