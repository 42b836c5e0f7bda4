//! AdamW, SGD and Muon over flat parameters, with global-norm clipping.
//!
//! Burn's `ModuleOptimizer` clips each parameter by itself, loads its state onto the default
//! device and keys it by random ids. This one keeps one flat tensor a parameter in the model's
//! own order: its state is saved by path and continues bit for bit.

mod muon;

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::model::Model;
use crate::model::parameters::{self, Parameter};
use crate::ops::Precision;
use crate::ops::adamw::{Step, adamw};
use crate::ops::flat::{combine, square_sum};

use muon::Hidden;

/// The update rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2).
    AdamW,
    /// Stochastic gradient descent with Nesterov momentum (Sutskever et al. 2013), as PyTorch
    /// writes it, weight decay coupled to the gradient.
    Sgd,
    /// Muon (Jordan et al. 2024) for the matrices of the encoder and the convolutions after the
    /// first; AdamW for embeddings, tokens, norms, biases, the first convolution and the head.
    Muon,
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
    /// Muon: peak learning rate of the matrices it moves; it follows the schedule as `lr` does,
    /// and weight decay is scaled by it.
    pub muon_lr: f64,
    /// Muon: momentum, Nesterov's.
    pub muon_momentum: f64,
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
            muon_lr: 0.02,
            muon_momentum: 0.95,
            clip_grad: 1.0,
        }
    }
}

/// Moments of one parameter; SGD and Muon use the first only.
#[derive(Debug, Clone)]
struct Moments {
    first: Tensor<1>,
    second: Option<Tensor<1>>,
}

/// The optimizer of one model.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    parameters: Vec<Parameter>,
    moments: Vec<Option<Moments>>,
    /// What Muon moves, by parameter; empty places with another rule.
    hidden: Vec<Option<Hidden>>,
    /// On the learning rate, by parameter.
    factors: Vec<f64>,
    precision: Precision,
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
        square_sum(self.0.iter().flatten()).sqrt()
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
        let is_muon = config.kind == OptimizerKind::Muon;
        let hidden = |info| is_muon.then(|| Hidden::of(info)).flatten();
        Self {
            hidden: parameters.iter().map(hidden).collect(),
            factors: vec![1.0; parameters.len()],
            config,
            parameters,
            moments,
            precision: Precision::F32,
            updates: 0,
        }
    }

    /// The same with a factor on the learning rate of each trainable parameter, in their order.
    ///
    /// # Panics
    ///
    /// Where there are more or fewer factors than parameters.
    pub fn with_factors(self, factors: Vec<f64>) -> Self {
        assert_eq!(factors.len(), self.parameters.len(), "one for each");
        Self { factors, ..self }
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
    pub fn step(&mut self, model: Model, mut gradients: GradientSum, lr: f64) -> Model {
        self.updates += 1;
        // All at once: their products are worth sharing out.
        let mut directions = self.orthogonal_directions(&mut gradients).into_iter();
        let mut gradients = gradients.0.into_iter();
        let mut index = 0;
        parameters::update(model, |value| {
            let i = index;
            index += 1;
            let lr = lr * self.factors[i];
            let decay = if self.parameters[i].decays() {
                self.config.weight_decay
            } else {
                0.0
            };
            let (gradient, direction) = (gradients.next(), directions.next());
            if let (Some(hidden), Some(direction)) = (self.hidden[i], direction.flatten()) {
                let rate = lr * self.config.muon_lr / self.config.lr;
                return combine(value, 1.0 - rate * decay, &direction, -rate * hidden.gain);
            }
            let Some(gradient) = gradient.flatten() else {
                return value;
            };
            let moments = self.moments[i].take();
            let (value, moments) = match self.config.kind {
                OptimizerKind::AdamW | OptimizerKind::Muon => {
                    self.adamw(value, gradient, moments, lr, decay)
                }
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
        let (first, second) = match moments {
            Some(Moments {
                first,
                second: Some(second),
            }) => (first, second),
            _ => (gradient.zeros_like(), gradient.zeros_like()),
        };
        let t = self.updates as f64;
        let step = Step {
            lr,
            beta1,
            beta2,
            correction1: 1.0 - beta1.powf(t),
            correction2: 1.0 - beta2.powf(t),
            epsilon,
            decay,
        };
        let [value, first, second] = adamw(value, gradient, first, second, &step);
        let second = Some(second);
        (value, Moments { first, second })
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
            state.push((format!("{}.first", info.path()), moments.first.clone()));
            if let Some(second) = &moments.second {
                state.push((format!("{}.second", info.path()), second.clone()));
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
                find(&format!("{}.{part}", info.path()))
                    .map(|values| Tensor::<1>::from_floats(values.as_slice(), device))
            };
            *moments = tensor("first").map(|first| Moments {
                first,
                second: tensor("second"),
            });
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::checkpoint::tests::tiny;
    use crate::checkpoint::{host, host_tensors};
    use crate::model::ModelConfig;

    const START: f32 = 0.8;

    /// A model on an autodiff device whose every value is [`START`].
    fn model() -> Model {
        let model = tiny().init(0, &Device::flex().autodiff());
        parameters::replace(model, |_, shape| {
            Some(Tensor::full(
                [shape.iter().product::<usize>()],
                START,
                &Device::flex(),
            ))
        })
    }

    /// Gradients that are `value` everywhere.
    fn gradients(model: &Model, value: f32) -> GradientSum {
        let count = |info: &Parameter| info.shape.iter().product::<usize>();
        let all = parameters::trainable(model);
        let one = |info| Some(Tensor::full([count(info)], value, &Device::flex()));
        GradientSum(all.iter().map(one).collect())
    }

    fn config(kind: OptimizerKind, weight_decay: f64) -> OptimizerConfig {
        OptimizerConfig {
            kind,
            lr: 0.1,
            weight_decay,
            clip_grad: 0.0,
            ..OptimizerConfig::default()
        }
    }

    /// Three updates with gradients 0.5, −0.25 and 1 at learning rate 0.1; every value of a
    /// parameter that decays must follow `decayed`, of the others `spared`.
    fn follows(kind: OptimizerKind, decayed: [f32; 3], spared: [f32; 3]) {
        let mut model = model();
        let mut optimizer = Optimizer::new(config(kind, 0.1), &model);
        let infos = parameters::trainable(&model);
        for (step, gradient) in [0.5, -0.25, 1.0].into_iter().enumerate() {
            let gradients = gradients(&model, gradient);
            model = optimizer.step(model, gradients, 0.1);
            for (info, (path, _, values)) in infos.iter().zip(host_tensors(&model)) {
                assert_eq!(info.path(), path);
                let want = if info.decays() { decayed } else { spared }[step];
                for got in values {
                    assert!(
                        (got - want).abs() < 2e-6,
                        "{path}, {step}: {got}, not {want}"
                    );
                }
            }
        }
        assert_eq!(optimizer.updates(), 3);
    }

    // Worked out by hand from the papers' equations, in 64 bits.
    #[test]
    fn adamw_follows_the_equations() {
        follows(
            OptimizerKind::AdamW,
            [0.692, 0.658_410_1, 0.586_184_7],
            [0.7, 0.673_330_1, 0.607_688_8],
        );
    }

    #[test]
    fn nesterov_follows_the_equations() {
        follows(
            OptimizerKind::Sgd,
            [0.6898, 0.677_213_8, 0.446_727_4],
            [0.705, 0.712, 0.5058],
        );
    }

    #[test]
    fn decay_spares_norms_biases_positions_and_tokens() {
        let resnet = ModelConfig::preset("resnet9", 8, None, 3).unwrap();
        for config in [tiny(), resnet] {
            let infos = parameters::trainable(&config.init(0, &Device::flex().autodiff()));
            assert!(infos.iter().any(|i| i.decays()));
            for info in infos {
                let field = info.path().rsplit('.').next().unwrap();
                match field {
                    "weight" => assert!(info.decays(), "{}", info.path()),
                    "bias" | "gamma" | "beta" | "position_embedding" | "class_token"
                    | "distillation_token" | "register_tokens" => {
                        assert!(!info.decays(), "{}", info.path())
                    }
                    _ => panic!("{}: neither decays nor is spared here", info.path()),
                }
            }
        }
    }

    #[test]
    fn clipping_limits_the_norm_over_all_parameters_together() {
        let model = model();
        let count: usize = parameters::trainable(&model)
            .iter()
            .map(|i| i.shape.iter().product::<usize>())
            .sum();
        let norm = 3.0 * (count as f64).sqrt();
        let clip = |limit: f64, value: f32| {
            let mut sum = gradients(&model, value);
            let config = OptimizerConfig {
                clip_grad: limit,
                ..OptimizerConfig::default()
            };
            let before = Optimizer::new(config, &model).clip(&mut sum);
            (before, sum.norm())
        };
        let (before, after) = clip(0.5, 3.0);
        assert!((before / norm - 1.0).abs() < 1e-5, "{before}, not {norm}");
        assert!((after - 0.5).abs() < 1e-5, "{after}");
        // Below the limit, and without one, nothing changes.
        assert_eq!(clip(1e6, 3.0).1, before);
        assert_eq!(clip(0.0, 3.0).1, before);
        assert!(clip(0.5, f32::NAN).0.is_nan());
        assert!(clip(0.5, f32::INFINITY).0.is_infinite());
    }

    #[test]
    fn gradients_add_up_where_there_are_any() {
        let some = |x: f32| Some(Tensor::<1>::from_floats([x, 2.0 * x], &Device::flex()));
        let mut sum = GradientSum::default();
        sum.add(vec![some(1.0), None, some(3.0), None]);
        sum.add(vec![some(0.5), some(2.0), None, None]);
        let values: Vec<_> = sum.0.into_iter().map(|g| g.map(host)).collect();
        assert_eq!(
            values,
            [
                Some(vec![1.5, 3.0]),
                Some(vec![2.0, 4.0]),
                Some(vec![3.0, 6.0]),
                None
            ]
        );
        assert_eq!(GradientSum::default().norm(), 0.0);
    }

    #[test]
    fn a_parameter_without_a_gradient_stays() {
        let model = model();
        let before = host_tensors(&model);
        let mut sum = gradients(&model, 1.0);
        sum.0[1] = None;
        let mut optimizer = Optimizer::new(config(OptimizerKind::AdamW, 0.1), &model);
        let after = host_tensors(&optimizer.step(model, sum, 0.1));
        assert_eq!(after[1], before[1]);
        assert_ne!(after[0], before[0]);
        assert_ne!(after[2], before[2]);
    }

    #[test]
    fn a_factor_scales_the_learning_rate_of_its_parameter() {
        for kind in [
            OptimizerKind::AdamW,
            OptimizerKind::Sgd,
            OptimizerKind::Muon,
        ] {
            let model = model();
            let step = |factors: Vec<f64>, lr: f64| {
                let optimizer = Optimizer::new(config(kind, 0.1), &model);
                let sum = gradients(&model, 0.3);
                let mut optimizer = optimizer.with_factors(factors);
                host_tensors(&optimizer.step(model.clone(), sum, lr))
            };
            let count = parameters::trainable(&model).len();
            for slow in 0..count {
                let mut factors = vec![1.0; count];
                factors[slow] = 0.25;
                let mixed = step(factors, 0.1);
                let (whole, quarter) = (step(vec![1.0; count], 0.1), step(vec![1.0; count], 0.025));
                for (i, tensor) in mixed.iter().enumerate() {
                    let expected = if i == slow { &quarter } else { &whole };
                    assert_eq!(*tensor, expected[i], "{kind:?}");
                }
                assert_ne!(whole[slow], quarter[slow], "{kind:?}");
            }
        }
    }

    #[test]
    fn a_restored_optimizer_continues_bit_for_bit() {
        for kind in [OptimizerKind::AdamW, OptimizerKind::Sgd] {
            let mut model = model();
            let mut optimizer = Optimizer::new(config(kind, 0.1), &model);
            for value in [0.3, -0.7] {
                let sum = gradients(&model, value);
                model = optimizer.step(model, sum, 0.01);
            }
            let state: std::collections::HashMap<String, Vec<f32>> = optimizer
                .state()
                .into_iter()
                .map(|(name, tensor)| (name, host(tensor)))
                .collect();
            let mut restored = Optimizer::new(config(kind, 0.1), &model);
            restored.restore(2, &Device::flex(), |name| state.get(name).cloned());
            let sum = gradients(&model, 0.9);
            let one = optimizer.step(model.clone(), gradients(&model, 0.9), 0.01);
            let other = restored.step(model, sum, 0.01);
            assert_eq!(host_tensors(&one), host_tensors(&other));
        }
    }
}
