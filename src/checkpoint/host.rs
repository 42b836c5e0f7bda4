//! Tensors on the host.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::model::{Model, parameters};

/// A named tensor on the host.
pub type HostTensor = (String, Vec<usize>, Vec<f32>);

/// Every float tensor of a model, copied to the host.
pub fn host_tensors(model: &Model) -> Vec<HostTensor> {
    let valid = model.valid();
    let shapes = parameters::shapes(&valid);
    let values = parameters::values(&valid);
    shapes
        .into_iter()
        .zip(values)
        .map(|((path, shape), (_, value))| (path, shape, host(value)))
        .collect()
}

/// Copies a flat tensor to the host.
pub fn host(tensor: Tensor<1>) -> Vec<f32> {
    tensor
        .try_into_vec_as::<f32>()
        .expect("a float tensor reads back as f32")
}
