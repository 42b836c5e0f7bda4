//! An exponential moving average of the weights (Polyak & Juditsky 1992; as used by timm).

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::part::Part;
use crate::model::parameters;
use crate::ops::flat::blend;

/// The averaged copy of the tensors of the parts that keep one, batch-norm statistics included.
///
/// It lives outside the modules: a cloned module keeps its parameter ids, and two modules with the
/// same ids would share optimizer state.
#[derive(Debug)]
pub struct Average {
    decay: f64,
    updates: u64,
    averages: Vec<(String, Tensor<1>)>,
}

/// The decay of an average that reaches back over `updates`: what lies so far behind weighs 1/e of
/// the present.
///
/// A decay that suits one size of data and batch reaches over too little or too much of another
/// training; a horizon in epochs is the same share of what was seen in both.
pub(super) fn decay_over(updates: f64) -> f64 {
    (-1.0 / updates).exp()
}

/// Every tensor of the parts that keep an average, by its name among those of all parts.
fn averaged(parts: &[Part]) -> Vec<(String, Tensor<1>)> {
    let averaged = parts.iter().filter(|part| part.averaged);
    let values = averaged.flat_map(|part| {
        let values = part.module.values().into_iter();
        values.map(|(path, value)| (part.tensor(&path), value))
    });
    values.collect()
}

impl Average {
    /// Starts the average at the parts' present weights; `decay` is between 0 and 1.
    pub fn new(decay: f64, parts: &[Part]) -> Self {
        Self {
            decay,
            updates: 0,
            averages: averaged(parts),
        }
    }

    /// Moves the average towards the parts' weights; early updates weigh more, so that the random
    /// initialisation is forgotten.
    pub fn update(&mut self, parts: &[Part]) {
        self.updates += 1;
        let t = self.updates as f64;
        let decay = self.decay.min((1.0 + t) / (10.0 + t));
        for ((_, average), (_, value)) in self.averages.iter_mut().zip(averaged(parts)) {
            average.inplace(|average| blend(average, &value, decay));
        }
    }

    /// The module of the part `name` with the averaged weights, for evaluation.
    ///
    /// # Panics
    ///
    /// Where no average of that part is kept.
    pub fn apply<M: Module>(&self, name: &str, module: &M) -> M {
        let mut own = self.of(name);
        parameters::replace(module.valid(), |_, _| own.next())
    }

    /// The averages of the part `name`, in the order of its tensors.
    ///
    /// # Panics
    ///
    /// As [`apply`](Self::apply).
    pub(super) fn of(&self, name: &str) -> impl Iterator<Item = Tensor<1>> {
        let prefix = format!("{name}.");
        let own = self.averages.iter();
        let mut own = own
            .filter(move |(tensor, _)| tensor.starts_with(&prefix))
            .map(|(_, average)| average.clone())
            .peekable();
        assert!(own.peek().is_some(), "no average of {name} is kept");
        own
    }

    /// Updates taken so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The averages by name.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tests::tiny;
    use crate::checkpoint::{host, host_tensors};
    use crate::model::{Model, ModelConfig};
    use crate::train::part::MODEL;
    use crate::train::part::tests::{average, average_with};

    /// A model whose every value is `value`.
    fn model(value: f32) -> Model {
        filled(&tiny(), value)
    }

    fn filled(config: &ModelConfig, value: f32) -> Model {
        let model = config.init(0, &Device::flex().autodiff());
        parameters::replace(model, |_, shape| {
            let count = shape.iter().product::<usize>();
            Some(Tensor::full([count], value, &Device::flex()))
        })
    }

    fn all_are(model: &Model, want: f32) {
        for (path, _, values) in host_tensors(model) {
            for got in values {
                assert!((got - want).abs() < 1e-6, "{path}: {got}, not {want}");
            }
        }
    }

    #[test]
    fn early_updates_weigh_more_until_the_decay_is_reached() {
        // Running statistics are averaged too.
        let cnn = ModelConfig::preset("resnet9", 8, None, 3).expect("a preset");
        for config in [tiny(), cnn] {
            let start = filled(&config, 0.0);
            let mut ema = average(0.2, &start);
            all_are(&ema.apply(MODEL, &start), 0.0);
            // Decays 2/11, then min(0.2, 3/12), then min(0.2, 4/13): worked out by hand.
            for (value, want) in [(1.0, 0.818_181_8), (1.0, 0.963_636_4), (3.0, 2.592_727_3)] {
                average_with(&mut ema, &filled(&config, value));
                all_are(&ema.apply(MODEL, &start), want);
            }
            assert_eq!(ema.updates(), 3);
            // The model itself is untouched.
            all_are(&start, 0.0);
        }
    }

    #[test]
    fn a_horizon_is_where_weights_have_faded_to_one_in_e() {
        for updates in [1.0, 30.5, 400.0] {
            let left = decay_over(updates).powf(updates);
            assert!((left - (-1.0_f64).exp()).abs() < 1e-12, "{left}");
        }
        assert!(decay_over(1e9) < 1.0);
    }

    #[test]
    fn a_restored_average_continues_bit_for_bit() {
        let start = model(0.1);
        let mut ema = average(0.9, &start);
        average_with(&mut ema, &model(0.7));
        let state: Vec<(String, Vec<f32>)> = ema
            .state()
            .iter()
            .map(|(path, tensor)| (path.clone(), host(tensor.clone())))
            .collect();
        let mut restored = average(0.9, &start);
        restored.restore(1, &Device::flex(), |path| {
            let found = state.iter().find(|(known, _)| known == path);
            found.map(|(_, values)| values.clone())
        });
        for ema in [&mut ema, &mut restored] {
            average_with(ema, &model(-0.3));
        }
        assert_eq!(
            host_tensors(&ema.apply(MODEL, &start)),
            host_tensors(&restored.apply(MODEL, &start))
        );
    }

    #[test]
    fn batch_norm_statistics_are_averaged_too() {
        let config = ModelConfig::preset("resnet9", 8, None, 3).expect("a preset");
        let model = config.init(0, &Device::flex().autodiff());
        let ema = average(0.9, &model);
        assert!(
            ema.state().iter().any(|(path, _)| path.contains("running")),
            "{:?}",
            ema.state().iter().map(|(path, _)| path).collect::<Vec<_>>()
        );
    }
}
