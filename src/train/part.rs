//! The modules that a training moves, as a list of any length.

use burn::module::Module;
use burn::tensor::{Gradients, Tensor};

use super::optimizer::config::OptimizerConfig;
use crate::model::lora::Adapters;
use crate::model::parameters::{self, Parameter};
use crate::model::{Declare, Model};

/// A module as optimizer, average and saved state see it: its tensors by path, each flat, in the
/// order of its fields.
pub trait Trainable {
    /// Its trainable tensors.
    fn parameters(&self) -> Vec<Parameter>;
    /// Paths and shapes of every float tensor.
    fn shapes(&self) -> Vec<(String, Vec<usize>)>;
    /// Every float tensor, running statistics included, without autodiff.
    fn values(&self) -> Vec<(String, Tensor<1>)>;
    /// Takes the gradient of each trainable tensor out of `gradients`.
    fn take_gradients(&self, gradients: &mut Gradients) -> Vec<Option<Tensor<1>>>;
    /// Gives each trainable tensor to `new`, which returns its next value.
    fn update(&mut self, new: &mut dyn FnMut(Tensor<1>) -> Tensor<1>);
    /// Replaces every tensor for whose path `find` has a value of as many elements.
    fn replace(&mut self, find: &mut dyn FnMut(&str) -> Option<Tensor<1>>);
}

impl<M: Module + Declare> Trainable for M {
    fn parameters(&self) -> Vec<Parameter> {
        parameters::trainable(self)
    }

    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        parameters::shapes(self)
    }

    fn values(&self) -> Vec<(String, Tensor<1>)> {
        parameters::values(&self.valid())
    }

    fn take_gradients(&self, gradients: &mut Gradients) -> Vec<Option<Tensor<1>>> {
        parameters::take_gradients(self, gradients)
    }

    fn update(&mut self, new: &mut dyn FnMut(Tensor<1>) -> Tensor<1>) {
        *self = parameters::update(self.clone(), new);
    }

    fn replace(&mut self, find: &mut dyn FnMut(&str) -> Option<Tensor<1>>) {
        *self = parameters::replace(self.clone(), |path, _| find(path));
    }
}

impl Trainable for Adapters {
    fn parameters(&self) -> Vec<Parameter> {
        Adapters::parameters(self)
    }

    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let parameters = Adapters::parameters(self).into_iter();
        parameters
            .map(|parameter| (parameter.declared.path, parameter.shape))
            .collect()
    }

    fn values(&self) -> Vec<(String, Tensor<1>)> {
        Adapters::values(self)
    }

    fn take_gradients(&self, gradients: &mut Gradients) -> Vec<Option<Tensor<1>>> {
        Adapters::take_gradients(self, gradients)
    }

    fn update(&mut self, new: &mut dyn FnMut(Tensor<1>) -> Tensor<1>) {
        Adapters::replace(self, |_, value| Some(new(value)));
    }

    fn replace(&mut self, find: &mut dyn FnMut(&str) -> Option<Tensor<1>>) {
        Adapters::replace(self, |path, _| find(path));
    }
}

/// How a part learns.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// As the recipe says: its optimizer, its learning rate's course, and one limit of the
    /// gradient's norm over all parts that do.
    Recipe,
    /// By settings of its own, at a steady learning rate.
    Own(OptimizerConfig),
}

/// One module of a training.
pub struct Part<'a> {
    /// Its name in the saved state.
    pub name: &'static str,
    /// What learns.
    pub module: &'a mut dyn Trainable,
    /// How.
    pub rule: Rule,
    /// Whether its moving average is kept where the recipe asks for one.
    pub averaged: bool,
}

impl Part<'_> {
    /// The name of one of its tensors among those of all parts.
    pub(super) fn tensor(&self, path: &str) -> String {
        format!("{}.{path}", self.name)
    }
}

/// Name of the part that is shipped.
pub(super) const MODEL: &str = "model";

/// Name of the part of low-rank adapters.
pub(super) const ADAPTERS: &str = "lora";

/// The model as a part.
pub(super) fn model_part(model: &mut Model) -> Part<'_> {
    Part {
        name: MODEL,
        module: model,
        rule: Rule::Recipe,
        averaged: true,
    }
}

/// The adapters as a part.
pub(super) fn adapters_part(adapters: &mut Adapters) -> Part<'_> {
    Part {
        name: ADAPTERS,
        module: adapters,
        rule: Rule::Recipe,
        averaged: true,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::train::average::Average;
    use crate::train::optimizer::{GradientSum, Optimizer};

    /// An optimizer of a lone model.
    pub(crate) fn optimizer(config: OptimizerConfig, model: &Model) -> Optimizer {
        Optimizer::new(config, &[model_part(&mut model.clone())])
    }

    /// The model after an update.
    pub(crate) fn stepped(
        optimizer: &mut Optimizer,
        mut model: Model,
        gradients: GradientSum,
        lr: f64,
    ) -> Model {
        optimizer.step(&mut [model_part(&mut model)], gradients, lr);
        model
    }

    /// The average of a lone model.
    pub(crate) fn average(decay: f64, model: &Model) -> Average {
        Average::new(decay, &[model_part(&mut model.clone())])
    }

    /// Moves the average of a lone model.
    pub(crate) fn average_with(average: &mut Average, model: &Model) {
        average.update(&[model_part(&mut model.clone())]);
    }
}
