//! An exponential moving average of the weights (Polyak & Juditsky 1992; as used by timm).

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::model::Model;
use crate::model::parameters;

/// The averaged copy of a model's tensors, batch-norm statistics included.
///
/// It lives outside the model: a cloned module keeps its parameter ids, and two modules with the
/// same ids would share optimizer state.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    updates: u64,
    averages: Vec<(String, Tensor<1>)>,
}

impl Ema {
    /// Starts the average at the model's present weights; `decay` is between 0 and 1.
    pub fn new(decay: f64, model: &Model) -> Self {
        Self {
            decay,
            updates: 0,
            averages: parameters::values(&model.valid()),
        }
    }

    /// Moves the average towards `model`; early updates weigh more, so that the random
    /// initialisation is forgotten.
    pub fn update(&mut self, model: &Model) {
        self.updates += 1;
        let t = self.updates as f64;
        let decay = self.decay.min((1.0 + t) / (10.0 + t));
        for ((_, average), (_, value)) in self
            .averages
            .iter_mut()
            .zip(parameters::values(&model.valid()))
        {
            average.inplace(|a| {
                a.mul_scalar(decay)
                    .add(value.clone().mul_scalar(1.0 - decay))
            });
        }
    }

    /// The model with the averaged weights, for evaluation.
    pub fn apply(&self, model: &Model) -> Model {
        let mut averages = self.averages.iter();
        parameters::replace(model.valid(), |_, _| {
            averages.next().map(|(_, average)| average.clone())
        })
    }

    /// Updates taken so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The averages by path.
    pub fn state(&self) -> &[(String, Tensor<1>)] {
        &self.averages
    }

    /// Takes back what [`state`](Self::state) gave; `find` looks a path up.
    pub fn restore(
        &mut self,
        updates: u64,
        device: &Device,
        mut find: impl FnMut(&str) -> Option<Vec<f32>>,
    ) {
        self.updates = updates;
        for (path, average) in &mut self.averages {
            if let Some(values) = find(path) {
                *average = Tensor::from_floats(values.as_slice(), device);
            }
        }
    }
}
