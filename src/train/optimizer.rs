//! AdamW and SGD over flat parameters, with global-norm clipping.
//!
//! Burn's `ModuleOptimizer` clips each parameter by itself, loads its state onto the default
//! device and keys it by random ids. This one keeps one flat tensor a parameter in the model's
//! own order: its state is saved by path and continues bit for bit.

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::model::Model;
use crate::model::parameters::{self, ParameterInfo};

/// The update rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2).
    AdamW,
    /// Stochastic gradient descent with Nesterov momentum (Sutskever et al. 2013), as PyTorch
    /// writes it, weight decay coupled to the gradient.
    Sgd,
}

/// Settings of the optimizer; weight decay spares norms, biases, positions and extra tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// The update rule.
    pub kind: OptimizerKind,
    /// Peak learning rate.
    pub lr: f64,
    /// Weight decay of the parameters that decay.
    pub weight_decay: f64,
    /// AdamW: decay of the first moment.
    pub beta1: f64,
    /// AdamW: decay of the second moment.
    pub beta2: f64,
    /// AdamW: added to the root of the second moment.
    pub epsilon: f64,
    /// SGD: momentum.
    pub momentum: f64,
    /// Clip the gradient's global norm to this; 0 turns clipping off.
    pub clip_grad: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::AdamW,
            lr: 1e-3,
            weight_decay: 0.05,
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            momentum: 0.9,
            clip_grad: 1.0,
        }
    }
}

/// Moments of one parameter; SGD uses the first only.
#[derive(Debug, Clone)]
struct Moments {
    first: Tensor<1>,
    second: Option<Tensor<1>>,
}

/// The optimizer of one model.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    parameters: Vec<ParameterInfo>,
    moments: Vec<Option<Moments>>,
    updates: u64,
}

/// Gradients of one update, in the order of the model's trainable parameters.
#[derive(Debug, Default)]
pub struct GradientSum(Vec<Option<Tensor<1>>>);

impl GradientSum {
    /// Adds the gradients of one backward pass.
    pub fn add(&mut self, gradients: Vec<Option<Tensor<1>>>) {
        if self.0.is_empty() {
            self.0 = gradients;
            return;
        }
        for (sum, gradient) in self.0.iter_mut().zip(gradients) {
            *sum = match (sum.take(), gradient) {
                (Some(a), Some(b)) => Some(a.add(b)),
                (a, b) => a.or(b),
            };
        }
    }

    /// Euclidean norm over all gradients together.
    pub fn norm(&self) -> f64 {
        let squares = self
            .0
            .iter()
            .flatten()
            .map(|g| g.clone().square().sum())
            .reduce(|a, b| a.add(b));
        squares.map_or(0.0, |s| f64::from(s.into_scalar::<f32>()).sqrt())
    }

    fn scale(&mut self, factor: f64) {
        for gradient in self.0.iter_mut().flatten() {
            gradient.inplace(|g| g.mul_scalar(factor));
        }
    }
}

impl Optimizer {
    /// An optimizer with empty moments for `model`.
    pub fn new(config: OptimizerConfig, model: &Model) -> Self {
        let parameters = parameters::trainable(model);
        let moments = parameters.iter().map(|_| None).collect();
        Self {
            config,
            parameters,
            moments,
            updates: 0,
        }
    }

    /// Clips the gradients to the configured global norm and returns the norm before clipping.
    ///
    /// A non-finite norm is returned as it is and nothing is scaled: the caller stops there.
    pub fn clip(&self, gradients: &mut GradientSum) -> f64 {
        let norm = gradients.norm();
        let limit = self.config.clip_grad;
        if limit > 0.0 && norm.is_finite() && norm > limit {
            gradients.scale(limit / (norm + 1e-6));
        }
        norm
    }

    /// One update of every parameter that has a gradient.
    pub fn step(&mut self, model: Model, gradients: GradientSum, lr: f64) -> Model {
        self.updates += 1;
        let mut gradients = gradients.0.into_iter();
        let mut index = 0;
        parameters::update(model, |value| {
            let i = index;
            index += 1;
            let Some(gradient) = gradients.next().flatten() else {
                return value;
            };
            let decay = if self.parameters[i].decays {
                self.config.weight_decay
            } else {
                0.0
            };
            let moments = self.moments[i].take();
            let (value, moments) = match self.config.kind {
                OptimizerKind::AdamW => self.adamw(value, gradient, moments, lr, decay),
                OptimizerKind::Sgd => self.sgd(value, gradient, moments, lr, decay),
            };
            self.moments[i] = Some(moments);
            value
        })
    }

    fn adamw(
        &self,
        value: Tensor<1>,
        gradient: Tensor<1>,
        moments: Option<Moments>,
        lr: f64,
        decay: f64,
    ) -> (Tensor<1>, Moments) {
        let OptimizerConfig {
            beta1,
            beta2,
            epsilon,
            ..
        } = self.config;
        let fresh1 = gradient.clone().mul_scalar(1.0 - beta1);
        let fresh2 = gradient.square().mul_scalar(1.0 - beta2);
        let (first, second) = match moments {
            Some(Moments {
                first,
                second: Some(second),
            }) => (
                first.mul_scalar(beta1).add(fresh1),
                second.mul_scalar(beta2).add(fresh2),
            ),
            _ => (fresh1, fresh2),
        };
        let t = self.updates as f64;
        let correct1 = 1.0 - beta1.powf(t);
        let correct2 = 1.0 - beta2.powf(t);
        // m̂ / (√v̂ + ε), with both corrections folded into two scalars.
        let denominator = second
            .clone()
            .sqrt()
            .mul_scalar(1.0 / correct2.sqrt())
            .add_scalar(epsilon);
        let step = first.clone().div(denominator).mul_scalar(lr / correct1);
        let value = if decay > 0.0 {
            value.mul_scalar(1.0 - lr * decay)
        } else {
            value
        };
        (
            value.sub(step),
            Moments {
                first,
                second: Some(second),
            },
        )
    }

    fn sgd(
        &self,
        value: Tensor<1>,
        gradient: Tensor<1>,
        moments: Option<Moments>,
        lr: f64,
        decay: f64,
    ) -> (Tensor<1>, Moments) {
        let momentum = self.config.momentum;
        let gradient = if decay > 0.0 {
            gradient.add(value.clone().mul_scalar(decay))
        } else {
            gradient
        };
        let first = match moments {
            Some(m) => m.first.mul_scalar(momentum).add(gradient.clone()),
            None => gradient.clone(),
        };
        let step = gradient.add(first.clone().mul_scalar(momentum));
        (
            value.sub(step.mul_scalar(lr)),
            Moments {
                first,
                second: None,
            },
        )
    }

    /// Updates taken so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The state as named flat tensors: `<path>.first` and `<path>.second`.
    pub fn state(&self) -> Vec<(String, Tensor<1>)> {
        let mut state = Vec::new();
        for (info, moments) in self.parameters.iter().zip(&self.moments) {
            let Some(moments) = moments else { continue };
            state.push((format!("{}.first", info.path), moments.first.clone()));
            if let Some(second) = &moments.second {
                state.push((format!("{}.second", info.path), second.clone()));
            }
        }
        state
    }

    /// Takes back what [`state`](Self::state) gave; `find` looks a name up.
    pub fn restore(
        &mut self,
        updates: u64,
        device: &Device,
        mut find: impl FnMut(&str) -> Option<Vec<f32>>,
    ) {
        self.updates = updates;
        for (info, moments) in self.parameters.iter().zip(&mut self.moments) {
            let mut tensor = |part: &str| {
                find(&format!("{}.{part}", info.path))
                    .map(|values| Tensor::<1>::from_floats(values.as_slice(), device))
            };
            *moments = tensor("first").map(|first| Moments {
                first,
                second: tensor("second"),
            });
        }
    }
}
