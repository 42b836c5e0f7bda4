//! A model's tensors by path: to list, average, update and replace them.
//!
//! Every tensor is handed out flat and without autodiff; order is the order of the model's fields.

use std::collections::{HashMap, HashSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

use super::role::{Declarations, Declare, Declared, Role};

/// What there is to know of one trainable tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// What it is, and where.
    pub declared: Declared,
    /// Its shape.
    pub shape: Vec<usize>,
}

impl Parameter {
    /// Field names from the model down, joined by dots.
    pub fn path(&self) -> &str {
        &self.declared.path
    }

    /// Whether weight decay applies to it.
    pub fn decays(&self) -> bool {
        self.declared.role.decays(self.shape.len())
    }
}

/// The trainable tensors of a module on an autodiff device.
pub fn trainable<M: Module + Declare>(module: &M) -> Vec<Parameter> {
    let mut declared = declared(module).into_iter();
    let mut parameters = Vec::new();
    visit(module, |_, shape, _, trainable| {
        let declared = declared.next();
        parameters.extend(declared.filter(|_| trainable).map(|declared| Parameter {
            declared,
            shape: shape.to_vec(),
        }));
    });
    parameters
}

/// The declaration of each float tensor of a module, in the order of its fields.
///
/// # Panics
///
/// Where a tensor has no role, or a role no tensor: a mistake in a [`Declare`].
pub fn declared<M: Module + Declare>(module: &M) -> Vec<Declared> {
    let [mut declared, _flags] = Declarations::of(module);
    let in_order: Vec<Declared> = shapes(module)
        .into_iter()
        .map(|(path, _)| {
            let found = declared.iter().position(|known| known.path == path);
            let found = found.unwrap_or_else(|| panic!("the tensor {path} has no role"));
            declared.remove(found)
        })
        .collect();
    if let Some(left) = declared.first() {
        panic!("{} has a role and is no tensor", left.path);
    }
    in_order
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

/// The running statistics of the batch norms of a model, by path.
///
/// Call it on [`Module::valid`], as [`values`].
pub fn statistics<M: Module + Declare>(module: &M) -> HashMap<String, Tensor<1>> {
    let declared = declared(module).into_iter();
    let paths: HashSet<String> = declared
        .filter(|tensor| tensor.role == Role::Statistic)
        .map(|tensor| tensor.path)
        .collect();
    if paths.is_empty() {
        return HashMap::new();
    }
    let values = values(module).into_iter();
    values.filter(|(path, _)| paths.contains(path)).collect()
}

/// Paths and shapes of every float tensor of a module; a tensor that Burn has yet to make is not
/// made for it.
pub fn shapes<M: Module>(module: &M) -> Vec<(String, Vec<usize>)> {
    #[derive(Default)]
    struct Shapes {
        path: Vec<String>,
        shapes: Vec<(String, Vec<usize>)>,
    }
    impl ModuleVisitor for Shapes {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let shape = param.lazy_shape().as_slice().to_vec();
            self.shapes.push((self.path.join("."), shape));
        }
    }
    let mut visitor = Shapes::default();
    module.visit(&mut visitor);
    visitor.shapes
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
pub fn update<M: Module>(module: M, new: impl FnMut(Tensor<1>) -> Tensor<1>) -> M {
    struct Update<F>(F);
    impl<F: FnMut(Tensor<1>) -> Tensor<1>> ModuleMapper for Update<F> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, tensor, mapper) = param.consume();
            if !tensor.is_require_grad() {
                return Param::from_mapped_value(id, tensor, mapper);
            }
            let shape = tensor.dims();
            let value = (self.0)(flat(tensor.inner()));
            let tensor = value.reshape(shape).autodiff().set_require_grad(true);
            Param::from_mapped_value(id, tensor, mapper)
        }
    }
    module.map(&mut Update(new))
}

/// Replaces every tensor for which `new(path, shape)` gives a value of as many elements.
///
/// Burn makes a parameter's first value when it is first asked for; one that is replaced here
/// before that is never made.
pub fn replace<M: Module>(module: M, new: impl FnMut(&str, &[usize]) -> Option<Tensor<1>>) -> M {
    struct Replace<F> {
        path: Vec<String>,
        new: F,
    }
    impl<F: FnMut(&str, &[usize]) -> Option<Tensor<1>>> ModuleMapper for Replace<F> {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let shape = param.lazy_shape();
            let Some(value) = (self.new)(&self.path.join("."), shape.as_slice()) else {
                return param;
            };
            let mut tensor: Tensor<D> = value.reshape(shape);
            if param.lazy_device().is_autodiff() {
                tensor = tensor.autodiff();
            }
            let id = param.id;
            param.transform_for_load(tensor, id)
        }
    }
    module.map(&mut Replace {
        path: Vec::new(),
        new,
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

#[cfg(test)]
mod tests {
    use burn::module::ParamId;
    use burn::tensor::{Device, Shape};

    use super::*;

    #[test]
    fn what_is_replaced_is_never_made() {
        for device in [Device::default(), Device::default().autodiff()] {
            let trains = device.is_autodiff();
            let param = Param::<Tensor<2>>::uninitialized(
                ParamId::new(),
                |_: &Device, _| panic!("made in vain"),
                device.clone(),
                true,
                Shape::new([3, 5]),
            );
            assert_eq!(shapes(&param), [(String::new(), vec![3, 5])]);
            let id = param.id;
            let new = |_: &str, shape: &[usize]| {
                let elements = shape.iter().product::<usize>();
                let plain = device.clone().without_autodiff();
                Some(Tensor::ones([elements], &plain))
            };
            let replaced = replace(param, new);
            assert_eq!(replaced.id, id);
            let value = replaced.val();
            assert_eq!((value.dims(), value.is_require_grad()), ([3, 5], trains));
        }
    }
}
