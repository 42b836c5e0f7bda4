//! Figures from a model's logits: accuracy, confusion, calibration, significance; and from its features, how unlike all training pictures a picture is.

mod calibration;
mod confusion;
mod familiarity;
mod logits;
mod report;
mod statistics;

pub use calibration::{Calibration, Figures, Threshold, calibration_on_folds, fit_temperature};
pub use confusion::{Confusion, WHOLE};
pub use familiarity::{Familiarity, FamiliarityLimit, Separation};
pub use logits::{correct, softmax};
pub use report::{ClassReport, ConfusedPair, EvalReport, Mistake, ReliabilityBin, evaluate};
pub use statistics::{McNemar, MeanInterval, mcnemar, mean_std_interval, wilson};
