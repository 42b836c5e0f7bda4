//! How long to train, and the learning rate on the way.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a training lasts; the schedule ends where it does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// Whole passes over the training split.
    Epochs(usize),
    /// Optimizer updates.
    Steps(u64),
    /// Wall-clock time, validation and saving included.
    Time(Duration),
}

/// The shape of the learning rate after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Half a cosine, to zero (Loshchilov & Hutter 2017, SGDR, eq. 5 without restarts).
    Cosine,
    /// A straight line, to zero.
    Linear,
    /// No decay.
    Constant,
}

/// The learning rate's course: linear warm-up, then decay to zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Length of the linear warm-up in epochs; fractions count.
    pub warmup_epochs: f64,
    /// Shape of the decay.
    pub decay: Decay,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            warmup_epochs: 1.0,
            decay: Decay::Cosine,
        }
    }
}

/// Largest share of a time budget that warms up.
const TIMED_WARM_UP: f64 = 0.1;

/// A [`ScheduleConfig`] whose lengths are known.
///
/// A time budget has no known number of updates: there the decay follows the share of the time
/// that is spent, and the warm-up, counted in updates, multiplies it. It is over at a tenth of the
/// time: a recipe's warm-up is meant for its own, mostly longer, training.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    base: f64,
    warmup: f64,
    decay: Decay,
    total: Option<u64>,
}

impl Schedule {
    /// A schedule that peaks at `base` over `total` updates (`None` under a time budget).
    pub fn new(
        config: &ScheduleConfig,
        base: f64,
        updates_per_epoch: u64,
        total: Option<u64>,
    ) -> Self {
        let mut warmup = config.warmup_epochs * updates_per_epoch as f64;
        if let Some(total) = total {
            // A warm-up longer than the training would never reach the peak.
            warmup = warmup.min(total as f64 / 2.0);
        }
        Self {
            base,
            warmup,
            decay: config.decay,
            total,
        }
    }

    /// Learning rate of update `step` (from 0), at share `spent` of the budget (0 to 1).
    pub fn learning_rate(&self, step: u64, spent: f64) -> f64 {
        let mut warm = if self.warmup > 0.0 {
            (step + 1) as f64 / self.warmup
        } else {
            1.0
        };
        if self.total.is_none() {
            // How many updates the time allows is not known beforehand.
            warm = warm.max(spent / TIMED_WARM_UP);
        }
        let warm = warm.min(1.0);
        let along = match self.total {
            Some(total) => {
                let rest = (total as f64 - self.warmup).max(1.0);
                ((step as f64 - self.warmup) / rest).clamp(0.0, 1.0)
            }
            None => spent.clamp(0.0, 1.0),
        };
        let decayed = match self.decay {
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * along).cos()),
            Decay::Linear => 1.0 - along,
            Decay::Constant => 1.0,
        };
        self.base * warm * decayed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(decay: Decay, total: Option<u64>) -> Schedule {
        let config = ScheduleConfig {
            warmup_epochs: 2.0,
            decay,
        };
        Schedule::new(&config, 0.1, 5, total)
    }

    #[test]
    fn warms_up_linearly_to_the_peak() {
        let s = schedule(Decay::Cosine, Some(100));
        assert!((s.learning_rate(0, 0.0) - 0.01).abs() < 1e-12);
        assert!((s.learning_rate(4, 0.0) - 0.05).abs() < 1e-12);
        assert!((s.learning_rate(10, 0.0) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn decays_to_zero_and_stays_there() {
        for decay in [Decay::Cosine, Decay::Linear] {
            let s = schedule(decay, Some(100));
            assert!((s.learning_rate(55, 0.0) - 0.05).abs() < 1e-12);
            assert!(s.learning_rate(100, 0.0).abs() < 1e-12);
            assert!(s.learning_rate(1000, 0.0).abs() < 1e-12);
        }
        // A third of the way, where they differ.
        for (decay, rate) in [(Decay::Cosine, 0.075), (Decay::Linear, 0.2 / 3.0)] {
            let got = schedule(decay, Some(100)).learning_rate(40, 0.0);
            assert!((got - rate).abs() < 1e-12, "{decay:?}: {got}");
        }
        let s = schedule(Decay::Constant, Some(100));
        assert_eq!(s.learning_rate(99, 1.0), 0.1);
    }

    #[test]
    fn follows_the_clock_under_a_time_budget() {
        let s = schedule(Decay::Linear, None);
        assert!((s.learning_rate(50, 0.25) - 0.075).abs() < 1e-12);
        assert!(s.learning_rate(50, 1.0).abs() < 1e-12);
        // The warm-up still counts updates.
        assert!((s.learning_rate(0, 0.0) - 0.01).abs() < 1e-12);
    }

    #[test]
    fn warm_up_never_outlasts_half_the_updates_or_a_tenth_of_the_time() {
        let s = schedule(Decay::Linear, Some(6));
        assert!((s.learning_rate(1, 0.0) - 0.2 / 3.0).abs() < 1e-12);
        assert!((s.learning_rate(2, 0.0) - 0.1).abs() < 1e-12);
        let s = schedule(Decay::Constant, None);
        assert!((s.learning_rate(1, 0.01) - 0.02).abs() < 1e-12);
        assert!((s.learning_rate(1, 0.05) - 0.05).abs() < 1e-12);
        assert!((s.learning_rate(2, 0.1) - 0.1).abs() < 1e-12);
    }
}
