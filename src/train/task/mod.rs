//! What a training minimises, and how it is judged: one file a task.

pub mod classification;
pub mod cross_entropy;
pub mod distillation;
mod guidance;
mod judge;

pub use judge::{Direction, Figure, Task, Validation};
pub(crate) use judge::{FORWARD, TEACHER};
