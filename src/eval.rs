//! One honest pass over a split: a model's logits, and what they are worth.

mod pass;
mod tta;

pub use pass::{Predictions, evaluate, input, predict, predict_augmented, report};
pub use tta::Tta;
