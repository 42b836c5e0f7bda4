//! The one training loop, its optimizers, schedule, average and state.
//!
//! It knows nothing of recipes, terminals or flags: settings come in as [`TrainConfig`], what
//! happens goes out as [`TrainEvent`]. What is minimised is a [`task`]; [`Learner`] takes one
//! update of it.

mod average;
mod clock;
mod curriculum;
mod finetune;
mod learner;
mod measure;
mod optimizer;
mod part;
pub mod probe;
mod progress;
mod schedule;
mod state;
pub mod task;
mod trainer;

pub use average::Average;
pub use curriculum::{Curriculum, CurriculumConfig, Moment};
pub use finetune::{FinetuneConfig, FittedHead, Freeze, Start};
pub use learner::{Learner, NotTaken, Step};
pub use measure::{UpdateCost, Workload, cost_of_features};
pub use optimizer::{OptimizerConfig, OptimizerKind};
pub use part::{Part, Rule};
pub use progress::{Best, EpochRecord, Progress};
pub use schedule::{Budget, Decay, Schedule, ScheduleConfig};
pub use state::{Saved, save_finished};
pub use task::classification::Classification;
pub use task::cross_entropy::{cross_entropy, soft_targets};
pub use task::distillation::{Distillation, DistillationConfig, Teacher, TeacherTargets, Through};
pub use trainer::{Ending, Outcome, STEP, TrainConfig, TrainError, TrainEvent, Trainer};

#[cfg(test)]
mod tests;
