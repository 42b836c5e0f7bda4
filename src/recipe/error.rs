//! What can be wrong with a recipe.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use crate::model::ModelError;
use crate::names::{shown, visible};
use crate::setting::Invalid;
use crate::train::Freeze;

/// What is wrong with a recipe.
#[derive(Debug, Error)]
pub enum RecipeError {
    /// No recipe and no file has this name.
    #[error("{name:?} is neither a recipe nor a file{hint}; known recipes are {known}")]
    NotFound {
        /// The name that was given.
        name: String,
        /// `, did you mean …?`, or nothing.
        hint: String,
        /// Names of the embedded recipes.
        known: String,
    },
    /// The file could not be read.
    #[error("cannot read recipe {path}: {source}", path = shown(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The text is not TOML.
    #[error("{origin} is not valid TOML: {reason}")]
    Syntax {
        /// Where it was found.
        origin: Origin,
        /// What the parser says.
        reason: String,
    },
    /// Nothing reads this key.
    #[error("{origin}: unknown key `{}`{hint}", visible(key))]
    UnknownKey {
        /// Where it was found.
        origin: Origin,
        /// The key, dotted.
        key: String,
        /// `; did you mean …?`
        hint: String,
    },
    /// An assignment without a key or a value.
    #[error("{text:?}: expected key=value, such as optimizer.lr=0.001")]
    Assignment {
        /// The text that was typed.
        text: String,
    },
    /// Keys that do not go together.
    #[error("{reason}")]
    Value {
        /// What was found and expected.
        reason: String,
    },
    /// The model has no such setting.
    #[error("model.{key} does not apply to {name}: leave it out, or choose another model")]
    NotOfModel {
        /// The key below `model`.
        key: String,
        /// The model.
        name: String,
    },
    /// A setting is outside its range.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The architecture that is stated is not that of the weights to start from.
    #[error("model.{key} is {stated}, and the weights {weights} have {theirs}", weights = shown(weights), stated = visible(stated), theirs = visible(theirs))]
    Architecture {
        /// The key below `model`.
        key: String,
        /// As stated.
        stated: String,
        /// The weights.
        weights: PathBuf,
        /// What they have.
        theirs: String,
    },
    /// A part of a model is to be frozen that starts from no weights.
    #[error(
        "init.freeze is {freeze}: expected none without weights to start from, since a random layer has to learn"
    )]
    NothingToFreeze {
        /// As stated.
        freeze: Freeze,
    },
    /// Low-rank adapters of weights that are drawn.
    #[error(
        "init.lora_rank is {rank}: expected 0 without weights to start from, which the adapters change"
    )]
    NothingToAdapt {
        /// As stated.
        rank: usize,
    },
    /// A probe without weights.
    #[error("init.probe needs weights whose features it is fitted on")]
    NothingToProbe,
    /// A head to be fitted without weights.
    #[error(
        "init.head is probe: expected fresh without weights to start from, since random features are worth no fit"
    )]
    NothingToFit,
    /// Settings of a distillation without a teacher.
    #[error("[distillation] has settings and no teacher")]
    NoTeacher,
    /// The model cannot be built.
    #[error(transparent)]
    Model(ModelError),
}

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A recipe, by its file or name.
    Recipe(String),
    /// `key=value`, as given.
    Assignment(String),
    /// A key and its value from the program.
    Program,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recipe(name) => write!(f, "recipe {}", visible(name)),
            Self::Assignment(text) => f.write_str(&visible(text)),
            Self::Program => f.write_str("settings"),
        }
    }
}

impl From<ModelError> for RecipeError {
    /// The model knows its fields; a recipe has them under `model.`.
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Invalid(invalid) => Self::Invalid(invalid.of_section("model")),
            other => Self::Model(other),
        }
    }
}
