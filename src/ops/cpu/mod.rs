//! The way from tensors to the kernels for the processor, [`vitrine_kernels`], and back.

pub(crate) mod tape;

use burn::tensor::{Device, Tensor};

/// Whether `x` lives on the processor, where the kernels are.
pub(crate) fn on_cpu<const R: usize>(x: &Tensor<R>) -> bool {
    x.device() == Device::flex()
}
