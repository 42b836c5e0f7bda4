//! What happens during a run.

use super::plan::Plan;
use crate::data::SplitName;
use crate::train::TrainEvent;

/// What happens during a run, for whoever shows it.
#[derive(Debug)]
pub enum RunEvent<'a> {
    /// Pictures of a split are being read and decoded.
    Decoding {
        /// The split.
        split: SplitName,
        /// Pictures done.
        done: usize,
        /// Pictures in all.
        total: usize,
    },
    /// The data is ready and training begins.
    Begin(&'a Plan),
    /// The trainer's own.
    Train(TrainEvent),
    /// The final figures are being taken.
    Testing,
}
