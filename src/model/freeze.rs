//! Parts of a model that do not learn.

use std::collections::HashSet;

use burn::module::{Flag, Module, ModuleMapper, Param};
use burn::tensor::Tensor;

use super::parameters;
use super::role::{Declarations, Declare, Declared};

/// The model with every tensor that is `frozen` fixed: no gradient reaches it, nothing is
/// recorded that only it would need, and a batch norm keeps its running statistics and goes by them.
pub fn freeze<M: Module + Declare>(model: M, frozen: impl Fn(&Declared) -> bool) -> M {
    struct Freeze {
        path: Vec<String>,
        frozen: HashSet<String>,
        flags: HashSet<String>,
    }
    impl ModuleMapper for Freeze {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }

        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            match self.frozen.contains(&self.path.join(".")) {
                true => param.set_require_grad(false),
                false => param,
            }
        }

        fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
            let path = self.path.join(".");
            assert!(self.flags.contains(&path), "the flag {path} has no role");
            match self.frozen.contains(&path) {
                true => flag.with_value(false),
                false => flag,
            }
        }
    }
    let [_tensors, flags] = Declarations::of(&model);
    let all_flags = flags.iter().map(|flag| flag.path.clone()).collect();
    let declared = parameters::declared(&model).into_iter().chain(flags);
    let paths = declared.filter(|declared| frozen(declared));
    let mut freeze = Freeze {
        path: Vec::new(),
        frozen: paths.map(|declared| declared.path).collect(),
        flags: all_flags,
    };
    model.map(&mut freeze)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::model::families::ModelConfig;

    #[test]
    fn what_is_frozen_has_no_gradient() {
        let device = Device::flex().autodiff();
        for name in ["vit-micro", "resnet9"] {
            let config = ModelConfig::preset(name, 8, None, 3).unwrap();
            let model = freeze(config.init(1, &device), |declared| !declared.role.is_head());
            let left = parameters::trainable(&model);
            assert_eq!(left.len(), 2, "{left:?}");
            assert!(left.iter().all(|p| p.declared.role.is_head()), "{left:?}");
        }
    }
}
