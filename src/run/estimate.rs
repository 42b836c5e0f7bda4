//! The cost of a training, estimated from one update.

use std::time::Duration;

use super::devices::{Devices, precision};
use super::error::RunError;
use super::pictures::kept_bytes;
use super::plan::Plan;
use super::train::measure_update;
use crate::train::{Budget, UpdateCost};

/// The estimated cost of a training on this machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Seconds of one update on pictures of full size with all their tokens, measured or extrapolated.
    pub update_s: f64,
    /// Pictures of one update.
    pub update_pictures: usize,
    /// Pictures of the largest update that was run: fewer where a whole one would have taken too long, and none
    /// where the estimate follows from the speed of matrix products.
    pub measured_pictures: usize,
    /// Mean work of an update under the curriculum, relative to that one, 0 to 1.
    pub work: f64,
    /// Number of updates.
    pub updates: f64,
    /// Seconds of training, without validation.
    pub training_s: f64,
    /// Mean floating-point operations of an update.
    pub flops_per_update: u64,
    /// Peak memory of the measured update, in bytes; `None` if the system does not report it.
    pub peak_memory_bytes: Option<u64>,
    /// Memory for decoded pictures, in bytes.
    pub pictures_bytes: u64,
}

impl Estimate {
    /// Memory of the training, in bytes; `None` if the system does not report it.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.peak_memory_bytes
            .map(|peak| peak + self.pictures_bytes)
    }
}

/// Runs a few updates on noise, for about `limit`, and estimates the cost of the whole training from them.
///
/// # Errors
///
/// [`RunError`]: the device cannot compute in the recipe's precision, or the teacher cannot be loaded.
pub fn estimate<'a>(
    plan: &Plan,
    devices: impl Into<Devices<'a>>,
    limit: Duration,
) -> Result<Estimate, RunError> {
    let devices = devices.into();
    let recipe = &plan.recipe;
    let UpdateCost {
        seconds: update_s,
        peak_memory_bytes,
        measured,
    } = measure_update(plan, precision(recipe, devices.student)?, devices, limit)?;
    let budget = recipe.budget()?;
    let work = plan.curriculum.mean_work(matches!(budget, Budget::Time(_)));
    let mean_update_s = work * update_s;
    let updates = match budget {
        Budget::Time(time) => time.as_secs_f64() / mean_update_s,
        _ => plan.updates().unwrap_or(0.0),
    };
    let cache_bytes = recipe.data.cache_mb as u64 * 1024 * 1024;
    let pictures_bytes = kept_bytes(plan)
        .map(|bytes| bytes.min(cache_bytes))
        .iter()
        .sum();
    Ok(Estimate {
        update_s,
        update_pictures: plan.pictures_per_update(),
        measured_pictures: measured,
        work,
        updates,
        training_s: updates * mean_update_s,
        flops_per_update: plan.flops_per_update(work).round() as u64,
        peak_memory_bytes,
        pictures_bytes,
    })
}
