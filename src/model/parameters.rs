//! A model's tensors by path: to list, average, update and replace them.
//!
//! Every tensor is handed out flat and without autodiff; order is the order of the model's fields.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

use super::decays;

/// What there is to know of one trainable tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterInfo {
    /// Field names from the model down, joined by dots.
    pub path: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Whether weight decay applies to it.
    pub decays: bool,
}

/// The trainable tensors of a module on an autodiff device.
pub fn trainable<M: Module>(module: &M) -> Vec<ParameterInfo> {
    let mut parameters = Vec::new();
    visit(module, |path, shape, _, trainable| {
        if trainable {
            parameters.push(ParameterInfo {
                decays: decays(path, shape.len()),
                path: path.to_owned(),
                shape: shape.to_vec(),
            });
        }
    });
    parameters
}

/// Every float tensor of a module, batch-norm statistics included.
///
/// Call it on [`Module::valid`]: a running statistic may otherwise lag one update behind.
pub fn values<M: Module>(module: &M) -> Vec<(String, Tensor<1>)> {
    let mut values = Vec::new();
    visit(module, |path, _, value, _| {
        values.push((path.to_owned(), value))
    });
    values
}

/// Paths and shapes of every float tensor of a module.
pub fn shapes<M: Module>(module: &M) -> Vec<(String, Vec<usize>)> {
    let mut shapes = Vec::new();
    visit(module, |path, shape, _, _| {
        shapes.push((path.to_owned(), shape.to_vec()));
    });
    shapes
}

/// Takes the gradient of each trainable tensor out of `gradients`.
pub fn take_gradients<M: Module>(module: &M, gradients: &mut Gradients) -> Vec<Option<Tensor<1>>> {
    struct Take<'a> {
        gradients: &'a mut Gradients,
        taken: Vec<Option<Tensor<1>>>,
    }
    impl ModuleVisitor for Take<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let tensor = param.val();
            if tensor.is_require_grad() {
                let gradient = tensor.grad_remove(self.gradients);
                self.taken.push(gradient.map(flat));
            }
        }
    }
    let mut take = Take {
        gradients,
        taken: Vec::new(),
    };
    module.visit(&mut take);
    take.taken
}

/// Gives each trainable tensor to `new`, which returns its next value.
pub fn update<M: Module>(module: M, mut new: impl FnMut(Tensor<1>) -> Tensor<1>) -> M {
    module.map(&mut Rewrite {
        path: Vec::new(),
        new: |_: &str, _: &[usize], value: Tensor<1>, trainable: bool| {
            if trainable { new(value) } else { value }
        },
    })
}

/// Replaces every tensor for which `new(path, shape)` gives a value of as many elements.
pub fn replace<M: Module>(
    module: M,
    mut new: impl FnMut(&str, &[usize]) -> Option<Tensor<1>>,
) -> M {
    module.map(&mut Rewrite {
        path: Vec::new(),
        new: |path: &str, shape: &[usize], value: Tensor<1>, _: bool| {
            new(path, shape).unwrap_or(value)
        },
    })
}

fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let elements = tensor.shape().num_elements();
    tensor.reshape([elements])
}

fn visit<M: Module>(module: &M, see: impl FnMut(&str, &[usize], Tensor<1>, bool)) {
    struct See<F> {
        path: Vec<String>,
        see: F,
    }
    impl<F: FnMut(&str, &[usize], Tensor<1>, bool)> ModuleVisitor for See<F> {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let tensor = param.val();
            let trainable = tensor.is_require_grad();
            let shape = tensor.dims();
            (self.see)(
                &self.path.join("."),
                &shape,
                flat(tensor.inner()),
                trainable,
            );
        }
    }
    module.visit(&mut See {
        path: Vec::new(),
        see,
    });
}

struct Rewrite<F> {
    path: Vec<String>,
    new: F,
}

impl<F: FnMut(&str, &[usize], Tensor<1>, bool) -> Tensor<1>> ModuleMapper for Rewrite<F> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        let trainable = tensor.is_require_grad();
        let autodiff = tensor.is_autodiff();
        let shape = tensor.dims();
        let value = (self.new)(
            &self.path.join("."),
            &shape,
            flat(tensor.inner()),
            trainable,
        );
        let mut tensor: Tensor<D> = value.reshape(shape);
        if autodiff {
            tensor = tensor.autodiff();
        }
        Param::from_mapped_value(id, tensor.set_require_grad(trainable), mapper)
    }
}
