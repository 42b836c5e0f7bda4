//! What a training tells of itself, and how it ends.

use thiserror::Error;

use super::super::progress::{EpochRecord, Progress};
use crate::checkpoint::CheckpointError;
use crate::data::DataError;
use crate::setting::Invalid;

/// What happens during training, for whoever shows it.
#[derive(Debug, Clone, PartialEq)]
pub enum TrainEvent {
    /// An optimizer update.
    Update {
        /// Epoch, from 1.
        epoch: usize,
        /// Batches of the epoch done, and in all.
        batches: (usize, usize),
        /// Mean loss of the update's batches.
        loss: f64,
        /// Its learning rate.
        lr: f64,
        /// Images of the update.
        images: usize,
        /// Seconds the update took, waiting included.
        seconds: f64,
        /// Seconds of it spent waiting for data.
        waited_s: f64,
        /// Share of the budget that is spent, 0 to 1.
        spent: f64,
        /// Floating-point operations of a forward pass over one of its pictures.
        flops: u64,
    },
    /// An epoch is over and validated.
    Epoch {
        /// Its figures.
        record: EpochRecord,
        /// Whether it is the best so far.
        best: bool,
    },
    /// A validation would take too much of the time budget, so that there is none until the training is over;
    /// the last weights count as the best.
    ValidationLeftOut {
        /// Seconds that it is expected to take.
        expected_s: f64,
        /// Seconds of the budget.
        budget_s: f64,
    },
    /// The state was saved.
    Saved,
}

/// Why a training stopped before its end, or could not begin.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The loss, the gradient or a weight is not a number.
    #[error(
        "the {what} became {value} at update {update} (epoch {epoch}) with learning rate {lr:.3e}; the last good checkpoint is kept"
    )]
    NotFinite {
        /// `loss`, `gradient norm`, `validation loss`, `validation score` or `weights`.
        what: &'static str,
        /// Its value.
        value: f64,
        /// Updates taken before.
        update: u64,
        /// Epoch, from 1.
        epoch: usize,
        /// Learning rate of the update.
        lr: f64,
    },
    /// The curriculum does not fit the model.
    #[error(transparent)]
    Curriculum(#[from] Invalid),
    /// The training split gives no batch.
    #[error("the training split is empty: nothing to train on")]
    Empty,
    /// A batch could not be made.
    #[error(transparent)]
    Data(#[from] DataError),
    /// State or weights could not be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl TrainError {
    /// Whether nothing failed: someone asked to stop.
    pub(crate) fn is_stop(&self) -> bool {
        matches!(self, Self::Data(DataError::Stopped))
    }
}

/// How a training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The budget is spent.
    Complete,
    /// Validation stopped improving.
    Stale,
    /// Someone asked it to stop; the state is saved.
    Interrupted,
}

/// What a training leaves behind.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// Where it stood.
    pub progress: Progress,
}
