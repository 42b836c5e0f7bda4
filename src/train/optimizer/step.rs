//! The optimizer of a list of parts: clipping, and one update of everything.

use burn::tensor::{Device, Tensor};

use super::config::{OptimizerConfig, OptimizerKind};
use super::matrices::Hidden;
use super::muon::orthogonal_directions;
use super::rules::Moments;
use super::slot::{GradientSum, Slot};
use crate::ops::Precision;
use crate::ops::flat::{combine, square_sum};
use crate::train::part::{Part, Rule};

/// The optimizer of all parts of a training.
#[derive(Debug)]
pub struct Optimizer {
    /// The recipe's, then each part's own.
    rules: Vec<OptimizerConfig>,
    /// What is moved, in the order of the parts and of their fields.
    slots: Vec<Slot>,
    precision: Precision,
    updates: u64,
}

/// The recipe's rule, whose learning rate follows the schedule.
const RECIPE: usize = 0;

impl Optimizer {
    /// An optimizer with empty moments; `config` is for the parts that learn by the recipe.
    pub fn new(config: OptimizerConfig, parts: &[Part]) -> Self {
        let mut rules = vec![config];
        let mut slots = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let rule = match &part.rule {
                Rule::Recipe => RECIPE,
                Rule::Own(config) => {
                    rules.push(config.clone());
                    rules.len() - 1
                }
            };
            let is_muon = rules[rule].kind == OptimizerKind::Muon;
            slots.extend(part.module.parameters().into_iter().map(|parameter| Slot {
                name: part.tensor(parameter.path()),
                part: index,
                rule,
                factor: 1.0,
                moments: None,
                hidden: is_muon.then(|| Hidden::of(&parameter)).flatten(),
                parameter,
            }));
        }
        Self {
            rules,
            slots,
            precision: Precision::F32,
            updates: 0,
        }
    }

    /// The same with a factor on the learning rate of each trainable tensor of one part, by its place in the list of
    /// parts, in their order.
    ///
    /// # Panics
    ///
    /// Where there are more or fewer factors than tensors.
    #[must_use]
    pub fn with_factors(mut self, part: usize, factors: Vec<f64>) -> Self {
        let own = self.slots.iter_mut().filter(|slot| slot.part == part);
        let own: Vec<&mut Slot> = own.collect();
        assert_eq!(own.len(), factors.len(), "one for each");
        for (slot, factor) in own.into_iter().zip(factors) {
            slot.factor = factor;
        }
        self
    }

    /// Sets what the operands of Muon's products are rounded to; f32 unless told otherwise.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Clips the gradients of the parts that share a rule to its global norm, and returns the norm
    /// of the recipe's before clipping.
    ///
    /// A norm that is not finite is returned as it is; the gradients are then of no use.
    pub fn clip(&self, gradients: &mut GradientSum) -> f64 {
        let mut norms = Vec::new();
        for (rule, config) in self.rules.iter().enumerate() {
            let limit = config.clip_grad;
            if rule != RECIPE && limit <= 0.0 {
                continue;
            }
            let slots = self.slots.iter().zip(&mut gradients.0);
            let mut own: Vec<&mut Tensor<1>> = slots
                .filter(|(slot, _)| slot.rule == rule)
                .filter_map(|(_, gradient)| gradient.as_mut())
                .collect();
            let norm = square_sum(own.iter().map(|gradient| &**gradient)).sqrt();
            if limit > 0.0 && norm.is_finite() && norm > limit {
                let factor = limit / (norm + 1e-6);
                // One length after another, as in `step`.
                own.sort_by_key(|gradient| gradient.dims());
                for gradient in &mut own {
                    gradient.inplace(|g| g.mul_scalar(factor));
                }
            }
            norms.push(norm);
        }
        let broken = norms.iter().find(|norm| !norm.is_finite());
        *broken.unwrap_or(&norms[RECIPE])
    }

    /// One update of every parameter that has a gradient; `lr` is the recipe's at this moment.
    pub fn step(&mut self, parts: &mut [Part], mut gradients: GradientSum, lr: f64) {
        self.updates += 1;
        // All at once: their products are worth sharing out.
        let (rules, slots) = (&self.rules, &mut self.slots);
        let mut directions = orthogonal_directions(rules, slots, &mut gradients, self.precision);
        let mut values = Vec::with_capacity(self.slots.len());
        for part in parts.iter_mut() {
            part.module.update(&mut |value| {
                values.push(value.clone());
                value
            });
        }
        // One length after another: on a GPU, what is of one length may share a kernel.
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by_key(|&index| values[index].dims());
        for index in order {
            let (gradient, direction) = (gradients.0[index].take(), directions[index].take());
            let value = values[index].clone();
            values[index] = self.next_value(index, value, gradient, direction, lr);
        }
        let mut values = values.into_iter();
        for part in parts {
            part.module
                .update(&mut |value| values.next().unwrap_or(value));
        }
    }

    /// The value of the tensor in one slot after this update.
    fn next_value(
        &mut self,
        index: usize,
        value: Tensor<1>,
        gradient: Option<Tensor<1>>,
        direction: Option<Tensor<1>>,
        lr: f64,
    ) -> Tensor<1> {
        let slot = &mut self.slots[index];
        let config = &self.rules[slot.rule];
        let peak = if slot.rule == RECIPE { lr } else { config.lr };
        let lr = peak * slot.factor;
        let decay = if slot.parameter.decays() {
            config.weight_decay
        } else {
            0.0
        };
        if let (Some(hidden), Some(direction)) = (slot.hidden, direction) {
            let rate = lr * config.muon_lr / config.lr;
            return combine(value, 1.0 - rate * decay, &direction, -rate * hidden.gain);
        }
        let Some(gradient) = gradient else {
            return value;
        };
        let moments = slot.moments.take();
        let (value, moments) = match config.kind {
            OptimizerKind::AdamW | OptimizerKind::Muon => {
                config.adamw(value, gradient, moments, self.updates, lr, decay)
            }
            OptimizerKind::Sgd => config.sgd(value, gradient, moments, lr, decay),
        };
        slot.moments = Some(moments);
        value
    }

    /// Updates taken so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The state as named flat tensors: `<part>.<path>.first` and `<part>.<path>.second`.
    pub fn state(&self) -> Vec<(String, Tensor<1>)> {
        let mut state = Vec::new();
        for slot in &self.slots {
            let Some(moments) = &slot.moments else {
                continue;
            };
            state.push((format!("{}.first", slot.name), moments.first.clone()));
            if let Some(second) = &moments.second {
                state.push((format!("{}.second", slot.name), second.clone()));
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
        for slot in &mut self.slots {
            let mut tensor = |part: &str| {
                find(&format!("{}.{part}", slot.name))
                    .map(|values| Tensor::<1>::from_floats(values.as_slice(), device))
            };
            slot.moments = tensor("first").map(|first| Moments {
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
    use crate::model::parameters::Parameter;
    use crate::model::{Model, ModelConfig, parameters};
    use crate::train::part::model_part;
    use crate::train::part::tests::{optimizer, stepped};

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

    fn norm_of(sum: &GradientSum) -> f64 {
        square_sum(sum.0.iter().flatten()).sqrt()
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
        let mut optimizer = optimizer(config(kind, 0.1), &model);
        let infos = parameters::trainable(&model);
        for (step, gradient) in [0.5, -0.25, 1.0].into_iter().enumerate() {
            let gradients = gradients(&model, gradient);
            model = stepped(&mut optimizer, model, gradients, 0.1);
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
            let before = optimizer(config, &model).clip(&mut sum);
            (before, norm_of(&sum))
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
        assert_eq!(norm_of(&GradientSum::default()), 0.0);
    }

    #[test]
    fn a_parameter_without_a_gradient_stays() {
        let model = model();
        let before = host_tensors(&model);
        let mut sum = gradients(&model, 1.0);
        sum.0[1] = None;
        let mut optimizer = optimizer(config(OptimizerKind::AdamW, 0.1), &model);
        let after = host_tensors(&stepped(&mut optimizer, model, sum, 0.1));
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
                let optimizer = optimizer(config(kind, 0.1), &model);
                let sum = gradients(&model, 0.3);
                let mut optimizer = optimizer.with_factors(0, factors);
                host_tensors(&stepped(&mut optimizer, model.clone(), sum, lr))
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
            let fresh = |model: &Model| optimizer(config(kind, 0.1), model);
            let mut optimizer = fresh(&model);
            for value in [0.3, -0.7] {
                let sum = gradients(&model, value);
                model = stepped(&mut optimizer, model, sum, 0.01);
            }
            let state: std::collections::HashMap<String, Vec<f32>> = optimizer
                .state()
                .into_iter()
                .map(|(name, tensor)| (name, host(tensor)))
                .collect();
            let mut restored = fresh(&model);
            restored.restore(2, &Device::flex(), |name| state.get(name).cloned());
            let sum = gradients(&model, 0.9);
            let one = stepped(&mut optimizer, model.clone(), gradients(&model, 0.9), 0.01);
            let other = stepped(&mut restored, model, sum, 0.01);
            assert_eq!(host_tensors(&one), host_tensors(&other));
        }
    }

    #[test]
    fn parts_share_the_recipes_rule_or_have_one_of_their_own() {
        let (model, guest) = (model(), model());
        let own = OptimizerConfig {
            clip_grad: 0.0,
            ..config(OptimizerKind::AdamW, 0.0)
        };
        let recipe = OptimizerConfig {
            clip_grad: 0.5,
            ..config(OptimizerKind::Sgd, 0.1)
        };
        let update = |rule: Rule| {
            let (mut model, mut guest) = (model.clone(), guest.clone());
            let mut sum = gradients(&model, 3.0);
            sum.0.extend(gradients(&guest, 3.0).0);
            let name = "guest";
            let averaged = false;
            let mut parts = vec![model_part(&mut model)];
            parts.push(Part {
                name,
                module: &mut guest,
                rule,
                averaged,
            });
            let mut optimizer = Optimizer::new(recipe.clone(), &parts);
            let norm = optimizer.clip(&mut sum);
            optimizer.step(&mut parts, sum, 0.05);
            let names: Vec<String> = optimizer.state().into_iter().map(|s| s.0).collect();
            let guests = names
                .iter()
                .filter(|name| name.starts_with("guest."))
                .count();
            assert!(guests > 0 && names.iter().any(|name| name.starts_with("model.")));
            drop(parts);
            (norm, host_tensors(&model), host_tensors(&guest), guests)
        };
        let count: usize = parameters::trainable(&model)
            .iter()
            .map(|i| i.shape.iter().product::<usize>())
            .sum();
        let (norm, together, same, firsts) = update(Rule::Recipe);
        // One norm over both, and the same step for the same weights.
        let both = 3.0 * (2.0 * count as f64).sqrt();
        assert!((norm / both - 1.0).abs() < 1e-5, "{norm}, not {both}");
        assert_eq!(together, same);
        let (norm, alone, other, moments) = update(Rule::Own(own));
        let one = 3.0 * (count as f64).sqrt();
        assert!((norm / one - 1.0).abs() < 1e-5, "{norm}, not {one}");
        assert_ne!(alone, together);
        // AdamW's first step is its learning rate, at its own pace and unclipped.
        for (_, _, values) in other {
            for value in values {
                assert!((value - (START - 0.1)).abs() < 1e-5, "{value}");
            }
        }
        assert_eq!(moments, 2 * firsts, "AdamW keeps two moments, SGD one");
        // A rule of its own has a limit of its own.
        let limited = OptimizerConfig {
            clip_grad: 0.25,
            ..config(OptimizerKind::Sgd, 0.0)
        };
        let (norm, unmoved, other, _) = update(Rule::Own(limited));
        assert!((norm / one - 1.0).abs() < 1e-5, "{norm}, not {one}");
        assert_eq!(unmoved, alone);
        let step = 0.1 * 1.9 * 0.25 / (count as f32).sqrt();
        for (_, _, values) in other {
            for value in values {
                assert!((START - value - step).abs() < 1e-5, "{value}");
            }
        }
    }
}
