//! What the training loop knows of a task.

use std::time::Duration;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::checkpoint::WeightsMeta;
use crate::data::{Batch, DataError};
use crate::model::{Model, Pass};
use crate::train::average::Average;
use crate::train::part::Part;

/// Name of the span in which the teacher answers, for [`profile`](crate::ops::profile).
pub(crate) const TEACHER: &str = "teacher";
/// Name of the span of a batch's forward pass, for [`profile`](crate::ops::profile).
pub(crate) const FORWARD: &str = "forward";

/// What a training minimises, and how it is judged.
pub trait Task: std::fmt::Debug {
    /// What learns beside the model; always the same parts in the same order.
    fn parts(&mut self) -> Vec<Part<'_>> {
        Vec::new()
    }

    /// Mean loss of a batch in nats, where `spent` is the share of the budget that is spent.
    ///
    /// # Shapes
    ///
    /// `[1]`.
    fn loss(&self, model: &Model, batch: Batch, spent: f64, pass: &mut Pass) -> Tensor<1>;

    /// How good the model is, without autodiff and as it would be shipped; `average` holds the
    /// averages of the task's own parts. `None` where there is nothing to validate with.
    ///
    /// # Errors
    ///
    /// [`DataError`] where a picture can no longer be read.
    fn validate(
        &self,
        model: &Model,
        average: Option<&Average>,
    ) -> Result<Option<Validation>, DataError>;

    /// Seconds that a validation takes, found out in about `limit`; `None` where it is not known.
    ///
    /// # Errors
    ///
    /// As [`validate`](Self::validate).
    fn seconds_to_validate(
        &self,
        _model: &Model,
        _limit: Duration,
    ) -> Result<Option<f64>, DataError> {
        Ok(None)
    }

    /// Which scores are better.
    fn direction(&self) -> Direction;

    /// Columns of `results.csv` that hold the figures of a validation, in order.
    fn columns(&self) -> &'static [&'static str];

    /// What the weights' file is to say of the validation that found these figures; there are none without one.
    fn describe(&self, figures: &[Figure], meta: &mut WeightsMeta);
}

/// Which of two scores is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The larger one, as of an accuracy.
    Higher,
    /// The smaller one, as of an error.
    Lower,
}

/// A figure of a validation by its column in `results.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The column.
    pub column: String,
    /// Its value; accuracies are fractions.
    pub value: f64,
}

/// What a validation has found.
#[derive(Debug, Clone, PartialEq)]
pub struct Validation {
    /// What the best epoch is chosen by.
    pub score: f64,
    /// What breaks ties: the lower, the better.
    pub loss: f64,
    /// What is recorded; a column without a value is left out.
    pub figures: Vec<Figure>,
}
