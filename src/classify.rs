//! Weights and pictures in, labels and probabilities out.
//!
//! A [`Classifier`] answers for prepared pictures; [`stream`] reads, decodes and classifies any number
//! of them at the same time, in order and in bounded memory.

mod classifier;
mod error;
mod neighbours;
mod stream;

pub use classifier::{Classifier, Found, Prediction, Wanted};
pub use error::ClassifyError;
pub use neighbours::{Nearest, Neighbour, Neighbours, OtherWeights};
pub use stream::{Answer, Answers, Input, Next, StreamError, StreamOptions, stream};
