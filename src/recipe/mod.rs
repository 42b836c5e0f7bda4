//! Settings: TOML and single values in, one validated [`Recipe`] out.
//!
//! [`Sources`] puts them over each other, the later ones winning: the model family's defaults, a
//! recipe, assignments such as `optimizer.lr=0.001`, values of the caller. A key that nothing reads
//! is refused with the nearest key that something does.

mod distillation;
mod duration;
mod embedded;
mod error;
mod keys;
mod resolved;
mod sections;
mod sources;
mod start;
mod table;
mod when;

pub use distillation::DistillationRecipe;
pub(crate) use duration::parse_duration;
pub use embedded::{EMBEDDED, Embedded};
pub use error::{Origin, RecipeError};
pub(crate) use keys::known_keys;
#[cfg(test)]
pub(crate) use resolved::MAY_CHANGE;
pub use resolved::Recipe;
pub use sections::{DataRecipe, ModelRecipe, PreprocessRecipe, TrainRecipe};
pub use sources::Sources;
pub use start::{InitRecipe, NewHead, ProbeViews};

#[cfg(test)]
mod tests;
