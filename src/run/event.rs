//! What happens during a run.

use super::plan::Plan;
use crate::data::SplitName;
use crate::train::probe::{Chosen, Tried};
use crate::train::{Progress, TrainEvent};

/// What happens during a run, for a caller that shows progress.
#[derive(Debug)]
pub enum RunEvent<'a> {
    /// Pictures of a split are being decoded.
    Decoding {
        /// The split.
        split: SplitName,
        /// Pictures done.
        done: usize,
        /// Pictures in total.
        total: usize,
    },
    /// The data is ready and training begins.
    Begin(&'a Plan),
    /// A run is resumed whose budget is spent: it is only evaluated again.
    NothingLeft(&'a Progress),
    /// Features of a split are being computed.
    Features {
        /// The split.
        split: SplitName,
        /// Pictures done.
        done: usize,
        /// Pictures in total.
        total: usize,
    },
    /// The head that a training begins with is fitted.
    Head {
        /// Seconds that features and fit took.
        seconds: f64,
        /// The strength of the penalty that was kept, with its figures.
        chosen: &'a Tried,
        /// What they were measured on.
        on: Chosen,
    },
    /// An event of the trainer.
    Train(TrainEvent),
    /// Training is over; the best weights are being evaluated.
    Testing,
}
