//! What a budget of time keeps to close an epoch: validating, saving, drawing.

use super::super::clock::{PROBE, REST, VALIDATION, spent};
use super::super::progress::Progress;
use super::super::schedule::Budget;
use super::event::{TrainError, TrainEvent};
use super::{Run, Trainer};

impl Trainer {
    /// Finds out how long a validation takes before a time budget has to keep room for one, and leaves it out
    /// where it would take too much.
    pub(super) fn foresee_closing(
        &self,
        run: &mut Run<'_>,
        observe: &mut dyn FnMut(TrainEvent),
    ) -> Result<(), TrainError> {
        let Budget::Time(budget) = self.config.budget else {
            return Ok(());
        };
        if run.progress.epoch == 0 {
            run.progress.closing_s = run.progress.closing_s.max(REST * budget.as_secs_f64());
        }
        let limit = budget.mul_f64(PROBE);
        let shipped = run.learner.shipped();
        let Some(expected_s) = run.learner.task().seconds_to_validate(&shipped, limit)? else {
            return Ok(());
        };
        let budget_s = budget.as_secs_f64();
        run.validates = expected_s <= VALIDATION * budget_s;
        if !run.validates {
            observe(TrainEvent::ValidationLeftOut {
                expected_s,
                budget_s,
            });
        } else if run.progress.epoch == 0 {
            run.progress.closing_s = run.progress.closing_s.max(expected_s + REST * budget_s);
        }
        run.expected_s = expected_s;
        run.tick();
        Ok(())
    }

    /// Leaves the first validation out where updates took longer than foreseen and it no longer fits. Where there
    /// was one before, the last epoch has to be compared with it.
    pub(super) fn drop_validation_that_does_not_fit(
        &self,
        run: &mut Run<'_>,
        observe: &mut dyn FnMut(TrainEvent),
    ) {
        let Budget::Time(budget) = self.config.budget else {
            return;
        };
        run.tick();
        let budget_s = budget.as_secs_f64();
        let overruns = run.progress.elapsed_s + run.expected_s > budget_s;
        if run.validates && overruns && run.progress.best.is_none() {
            run.validates = false;
            observe(TrainEvent::ValidationLeftOut {
                expected_s: run.expected_s,
                budget_s,
            });
        }
    }

    /// Share of the budget that is spent; a time budget keeps room for one more update and to close its epoch.
    pub(super) fn spent(&self, progress: &Progress, total: Option<u64>) -> f64 {
        let (update, elapsed_s) = (progress.update, progress.elapsed_s);
        let reserve_s = progress.reserve_s();
        spent(self.config.budget, total, reserve_s, update, elapsed_s)
    }
}
