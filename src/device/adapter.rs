//! Something to compute on, found and not yet opened.

#[cfg(any(feature = "cuda", feature = "rocm"))]
use burn::tensor::Device;

use super::backend::{Backend, Kind};
use super::choice::DeviceChoice;

/// Something to compute on, found and not yet opened.
#[derive(Debug)]
pub(super) struct Adapter {
    pub(super) backend: Backend,
    /// Its number within the backend, as in `wgpu:0`.
    pub(super) index: usize,
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) automatic: bool,
    pub(super) address: Address,
}

/// How Burn is told which one is meant.
#[derive(Debug)]
pub(super) enum Address {
    #[cfg(feature = "cpu")]
    Cpu,
    #[cfg(any(feature = "cuda", feature = "rocm"))]
    Card(Device),
    #[cfg(feature = "wgpu")]
    Wgpu(burn::tensor::DeviceKind),
    /// Burn has no way to name it.
    #[cfg(feature = "wgpu")]
    Unreachable(&'static str),
}

impl Adapter {
    /// How `--device` names it.
    pub(super) fn choice(&self) -> DeviceChoice {
        let index = (self.backend != Backend::Cpu).then_some(self.index);
        DeviceChoice::Named(self.backend, index)
    }
}
