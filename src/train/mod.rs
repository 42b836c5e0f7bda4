//! The one training loop, its optimizers, schedule, average and state.
//!
//! It knows nothing of recipes, terminals or flags: settings come in as [`TrainConfig`], what
//! happens goes out as [`TrainEvent`].

pub mod classification;
mod curriculum;
pub mod distillation;
mod ema;
mod finetune;
mod guidance;
mod measure;
mod objective;
mod optimizer;
mod schedule;
mod state;
mod trainer;

pub use classification::{cross_entropy, soft_targets};
pub use curriculum::{Curriculum, CurriculumConfig, Moment};
pub use distillation::{Distillation, DistillationConfig, Teacher, TeacherTargets, Through};
pub use finetune::{FinetuneConfig, Freeze, Start};
pub use measure::seconds_per_update;
pub use objective::Objective;
pub use optimizer::{GradientSum, Optimizer, OptimizerConfig, OptimizerKind};
pub use schedule::{Budget, Decay, Schedule, ScheduleConfig};
pub use state::{Best, EpochRecord, Progress, Saved};
pub use trainer::{Ending, Outcome, STEP, TrainConfig, TrainError, TrainEvent, Trainer};
