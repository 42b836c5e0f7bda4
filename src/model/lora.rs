//! Low-rank adapters (LoRA, Hu et al. 2021, <https://arxiv.org/abs/2106.09685>): a product of two thin matrices
//! learns beside each matrix, which stays as it is.
//!
//! Before each pass the effective weights are worked out and stand where the matrices stood, so that every
//! operation, at any precision and on any device, computes as it always does, and the gradient of a weight becomes
//! those of its adapter. Burn has an adapter of one matrix; queries, keys and values are three side by side, each of
//! which gets its own here, and what is drawn is drawn as everything else is.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Gradients, Tensor};

use super::draw::uniform;
use super::parameters::{self, Parameter, declared};
use super::role::{Declare, Declared, Role};

/// The adapters of all matrices between two layers of a model: in a Vision Transformer those of attention
/// (queries, keys, values, projection) and of the MLP.
///
/// With them W is W + (α/r)·A·B (Hu et al. 2021, section 4.1; here inputs are rows). A is drawn and B is zero, so that
/// a model answers at first as it did before.
#[derive(Debug, Clone)]
pub struct Adapters {
    /// α/r.
    scale: f64,
    adapters: Vec<Adapter>,
}

/// What one matrix, or several side by side, is changed by.
#[derive(Debug, Clone)]
struct Adapter {
    matrix: Declared,
    /// A, `[inputs, split·r]`: one for each of the matrices side by side.
    down: Tensor<2>,
    /// B, `[r, outputs]`: likewise, outputs/split wide each.
    up: Tensor<2>,
}

/// The matrix of a module with the smallest side, and that side, which is the largest rank that an adapter may have;
/// `None` where a module has no matrix to adapt.
pub fn largest_rank(module: &(impl Module + Declare)) -> Option<(String, usize)> {
    let sides = matrices(module).into_iter().map(|(matrix, shape)| {
        let side = shape[0].min(shape[1] / matrix.split);
        (matrix.path, side)
    });
    sides.min_by_key(|(_, side)| *side)
}

/// How many numbers adapters of this rank have.
pub fn count(module: &(impl Module + Declare), rank: usize) -> usize {
    let of = |(matrix, [inputs, outputs]): (Declared, [usize; 2])| {
        rank * (matrix.split * inputs + outputs)
    };
    matrices(module).into_iter().map(of).sum()
}

/// The matrices that are adapted, and their shapes.
fn matrices(module: &(impl Module + Declare)) -> Vec<(Declared, [usize; 2])> {
    let declared = declared(module).into_iter();
    declared
        .zip(parameters::shapes(module))
        .filter_map(|(declared, (_, shape))| match (declared.role, &shape[..]) {
            (Role::Matrix, &[inputs, outputs]) => Some((declared, [inputs, outputs])),
            _ => None,
        })
        .collect()
}

impl Adapters {
    /// Adapters of zeros, to be filled from a file.
    pub fn zeros(
        module: &(impl Module + Declare),
        rank: usize,
        alpha: f64,
        device: &Device,
    ) -> Self {
        let zeros = |shape| {
            leaf(
                Tensor::zeros(shape, &device.clone().without_autodiff()),
                device,
            )
        };
        let adapter = |(matrix, [inputs, outputs]): (Declared, [usize; 2])| Adapter {
            down: zeros([inputs, matrix.split * rank]),
            up: zeros([rank, outputs]),
            matrix,
        };
        Self {
            scale: alpha / rank as f64,
            adapters: matrices(module).into_iter().map(adapter).collect(),
        }
    }

    /// Adapters that change nothing yet: A from seed and path, uniform up to 1/√inputs either way, as PEFT draws it
    /// (its Kaiming-uniform with a = √5), and B zero. On an autodiff device they are ready to train.
    pub fn draw(
        module: &(impl Module + Declare),
        rank: usize,
        alpha: f64,
        seed: u64,
        device: &Device,
    ) -> Self {
        let mut drawn = Self::zeros(module, rank, alpha, device);
        let plain = device.clone().without_autodiff();
        for adapter in &mut drawn.adapters {
            let [inputs, ranks] = adapter.down.dims();
            let deviation = (1.0 / (3 * inputs) as f64).sqrt();
            let values = uniform(seed, &adapter.name(DOWN), inputs * ranks, deviation);
            let values = Tensor::<1>::from_floats(values.as_slice(), &plain);
            adapter.down = leaf(values.reshape([inputs, ranks]), device);
        }
        drawn
    }

    /// The module with its effective weights in place of those that are adapted; a gradient that reaches them
    /// reaches the adapters.
    pub fn apply<M: Module>(&self, module: &M) -> M {
        struct Compose<'a> {
            path: Vec<String>,
            adapters: HashMap<&'a str, &'a Adapter>,
            scale: f64,
        }
        impl ModuleMapper for Compose<'_> {
            fn enter_module(&mut self, name: &str, _container: &str) {
                self.path.push(name.to_owned());
            }

            fn exit_module(&mut self, _name: &str, _container: &str) {
                self.path.pop();
            }

            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let Some(adapter) = self.adapters.get(&*self.path.join(".")) else {
                    return param;
                };
                let (id, weight, _mapper) = param.consume();
                let change = adapter.product().mul_scalar(self.scale);
                let change = change.reshape(weight.dims());
                // What depends on others is no leaf, of which alone a gradient can be required.
                Param::initialized(id, weight + change)
            }
        }
        let adapters = self.adapters.iter();
        module.clone().map(&mut Compose {
            path: Vec::new(),
            adapters: adapters
                .map(|adapter| (&*adapter.matrix.path, adapter))
                .collect(),
            scale: self.scale,
        })
    }

    /// The same without autodiff.
    #[must_use]
    pub fn valid(&self) -> Self {
        let mut valid = self.clone();
        valid.each(|_, tensor| tensor.inner());
        valid
    }

    /// Its tensors, in an order that depends on the model alone: of each matrix A, then B.
    pub fn parameters(&self) -> Vec<Parameter> {
        let of = |adapter: &Adapter, name: &str, tensor: &Tensor<2>| Parameter {
            declared: Declared {
                path: adapter.name(name),
                ..adapter.matrix.clone()
            },
            shape: tensor.dims().to_vec(),
        };
        let adapters = self.adapters.iter();
        adapters
            .flat_map(|adapter| {
                [
                    of(adapter, DOWN, &adapter.down),
                    of(adapter, UP, &adapter.up),
                ]
            })
            .collect()
    }

    /// The tensors, flat and without autodiff, by path.
    pub fn values(&self) -> Vec<(String, Tensor<1>)> {
        let mut values = Vec::new();
        self.clone().each(|path, tensor| {
            values.push((path, flat(tensor.clone().inner())));
            tensor
        });
        values
    }

    /// Takes the gradient of each tensor out of `gradients`.
    pub fn take_gradients(&self, gradients: &mut Gradients) -> Vec<Option<Tensor<1>>> {
        let mut taken = Vec::new();
        self.clone().each(|_, tensor| {
            taken.push(tensor.grad_remove(gradients).map(flat));
            tensor
        });
        taken
    }

    /// Replaces every tensor for which `new(path, value)` gives another value of as many elements.
    pub fn replace(&mut self, mut new: impl FnMut(&str, Tensor<1>) -> Option<Tensor<1>>) {
        self.each(|path, tensor| {
            let (shape, device) = (tensor.dims(), tensor.device());
            match new(&path, flat(tensor.clone().inner())) {
                Some(value) => leaf(value.reshape(shape), &device),
                None => tensor,
            }
        });
    }

    fn each(&mut self, mut change: impl FnMut(String, Tensor<2>) -> Tensor<2>) {
        for adapter in &mut self.adapters {
            adapter.down = change(adapter.name(DOWN), adapter.down.clone());
            adapter.up = change(adapter.name(UP), adapter.up.clone());
        }
    }
}

/// How A and B are called behind the path of their matrix; as in PEFT, but for its capitals.
const DOWN: &str = "lora_a";
const UP: &str = "lora_b";

impl Adapter {
    fn name(&self, name: &str) -> String {
        format!("{}.{name}", self.matrix.path)
    }

    /// A·B of each of the matrices side by side, `[inputs, outputs]`.
    fn product(&self) -> Tensor<2> {
        let split = self.matrix.split;
        if split == 1 {
            return self.down.clone().matmul(self.up.clone());
        }
        let part = |whole: &Tensor<2>, i: usize| {
            let width = whole.dims()[1] / split;
            whole.clone().narrow(1, i * width, width)
        };
        let products = (0..split).map(|i| part(&self.down, i).matmul(part(&self.up, i)));
        Tensor::cat(products.collect(), 1)
    }
}

/// A tensor that learns where the device has autodiff.
fn leaf(value: Tensor<2>, device: &Device) -> Tensor<2> {
    match device.is_autodiff() {
        true => value.autodiff().set_require_grad(true),
        false => value,
    }
}

fn flat(tensor: Tensor<2>) -> Tensor<1> {
    let elements = tensor.shape().num_elements();
    tensor.reshape([elements])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Model, ModelConfig, Pass};
    use crate::ops::Precision;

    /// A model whose every value is another, and not zero.
    fn model(name: &str, device: &Device) -> Model {
        let config = ModelConfig::preset(name, 8, None, 3).unwrap();
        parameters::replace(config.init(1, device), |path, shape| {
            // A variance is not negative.
            if path.ends_with("running_var") {
                return None;
            }
            let values = waves(path, shape.iter().product());
            Some(Tensor::from_floats(values.as_slice(), &Device::flex()))
        })
    }

    fn waves(path: &str, count: usize) -> Vec<f32> {
        let place: usize = path.bytes().map(usize::from).sum();
        let wave = |i| ((i * 7 + place) as f32).sin() * 0.2 + 0.01;
        (0..count).map(wave).collect()
    }

    /// Adapters whose every value is another.
    fn waving(model: &Model, rank: usize, alpha: f64) -> Adapters {
        let mut adapters = Adapters::zeros(model, rank, alpha, &Device::flex());
        adapters.replace(|path, value| {
            let values = waves(path, value.dims()[0]);
            Some(Tensor::from_floats(values.as_slice(), &Device::flex()))
        });
        adapters
    }

    fn host(model: &Model) -> Vec<(String, Vec<f32>)> {
        let values = parameters::values(&model.valid()).into_iter();
        values
            .map(|(path, value)| (path, value.try_into_vec_as::<f32>().unwrap()))
            .collect()
    }

    fn logits(model: &Model) -> Vec<f32> {
        let images = Tensor::<1>::from_floats(waves("", 2 * 3 * 64).as_slice(), &Device::flex());
        let pass = &mut Pass::inference(Precision::F32);
        let logits = model.forward(images.reshape([2, 3, 8, 8]), pass);
        logits.try_into_vec_as::<f32>().unwrap()
    }

    #[test]
    fn fresh_adapters_change_nothing_and_are_drawn_by_seed_and_path() {
        let device = Device::flex();
        let model = model("vit-micro", &device);
        let draw = |seed| Adapters::draw(&model, 4, 8.0, seed, &device);
        let changed = draw(3).apply(&model);
        assert_eq!(host(&changed), host(&model));
        assert_eq!(logits(&changed), logits(&model));

        let values = |adapters: &Adapters| -> Vec<(String, Vec<f32>)> {
            let values = adapters.values().into_iter();
            values
                .map(|(path, value)| (path, value.try_into_vec_as::<f32>().unwrap()))
                .collect()
        };
        let (one, other) = (values(&draw(3)), values(&draw(4)));
        assert_eq!(values(&draw(3)), one);
        let shapes = draw(3).parameters();
        // Four matrices a block, of each A and B.
        assert_eq!(one.len(), 4 * 4 * 2);
        assert_eq!(
            one.iter().map(|(_, values)| values.len()).sum::<usize>(),
            count(&model, 4)
        );
        for (((path, values), (_, others)), of) in one.iter().zip(&other).zip(&shapes) {
            assert_eq!(path, of.path());
            if path.ends_with(UP) {
                assert!(values.iter().all(|&value| value == 0.0), "{path}");
                continue;
            }
            let bound = (1.0 / of.shape[0] as f32).sqrt();
            let largest = values
                .iter()
                .fold(0f32, |most, value| most.max(value.abs()));
            assert!(largest <= bound && largest > 0.9 * bound, "{path}");
            assert_ne!(values, others);
        }
        let first = one.iter().filter(|(path, _)| path.ends_with(DOWN));
        let mut first: Vec<f32> = first.map(|(_, values)| values[0]).collect();
        first.sort_by(f32::total_cmp);
        first.dedup();
        assert_eq!(first.len(), 16, "each is drawn for itself");
    }

    #[test]
    fn each_of_several_matrices_side_by_side_has_a_product_of_its_own() {
        let model = model("vit-micro", &Device::flex());
        let (rank, alpha) = (2, 6.0);
        let adapters = waving(&model, rank, alpha);
        let (before, after) = (host(&model), host(&adapters.apply(&model)));
        let shapes = parameters::shapes(&model);
        let declared = declared(&model);
        let mut adapted = 0;
        for (i, (path, old)) in before.iter().enumerate() {
            let new = &after[i].1;
            if declared[i].role != Role::Matrix {
                assert_eq!(old, new, "{path}");
                continue;
            }
            adapted += 1;
            let split = declared[i].split;
            assert_eq!(split, if path.contains("qkv") { 3 } else { 1 }, "{path}");
            let [inputs, outputs] = shapes[i].1[..] else {
                panic!("{path} is a matrix")
            };
            let down = waves(&format!("{path}.{DOWN}"), inputs * split * rank);
            let up = waves(&format!("{path}.{UP}"), rank * outputs);
            for row in 0..inputs {
                for column in 0..outputs {
                    let of = column / (outputs / split);
                    let product: f32 = (0..rank)
                        .map(|r| {
                            down[row * split * rank + of * rank + r] * up[r * outputs + column]
                        })
                        .sum();
                    let at = row * outputs + column;
                    let expected = old[at] + 3.0 * product;
                    assert!((new[at] - expected).abs() < 1e-6, "{path}: {row}, {column}");
                }
            }
        }
        assert_eq!(adapted, 16);
    }

    #[test]
    fn no_rank_is_larger_than_the_smallest_matrix_and_a_cnn_has_none() {
        let device = Device::flex();
        let config = ModelConfig::preset("vit-micro", 8, None, 3).unwrap();
        let vit = config.init_constant(&device);
        let (path, side) = largest_rank(&vit).unwrap();
        let smallest = matrices(&vit)
            .into_iter()
            .map(|(matrix, [inputs, outputs])| (inputs.min(outputs / matrix.split), matrix.path));
        let smallest: Vec<_> = smallest.collect();
        assert!(smallest.iter().all(|(other, _)| *other >= side));
        assert!(smallest.contains(&(side, path)));
        for name in ["resnet9", "resnet18", "airbench"] {
            let config = ModelConfig::preset(name, 32, None, 3).unwrap();
            assert_eq!(largest_rank(&config.init_constant(&device)), None, "{name}");
        }
    }
}
