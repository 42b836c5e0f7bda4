//! One pass of a model over a split: its logits, and the figures from them.

mod pass;
mod tta;

pub use pass::{
    Predictions, SplitFeatures, evaluate, features, input, predict, predict_augmented,
    predict_with_features, report, seconds_of_pass,
};
pub use tta::Tta;
