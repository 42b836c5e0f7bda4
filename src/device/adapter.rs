//! A device that a backend has found, not yet opened.

#[cfg(any(feature = "cuda", feature = "rocm"))]
use burn::tensor::Device;

use super::backend::{Backend, Kind};
use super::choice::DeviceChoice;

/// A device that a backend has found, not yet opened.
#[derive(Debug)]
pub(super) struct Adapter {
    pub(super) backend: Backend,
    /// Its index within the backend, as in `wgpu:0`.
    pub(super) index: usize,
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) automatic: bool,
    pub(super) address: Address,
}

/// How Burn addresses it.
#[derive(Debug)]
pub(super) enum Address {
    #[cfg(feature = "cpu")]
    Cpu,
    #[cfg(any(feature = "cuda", feature = "rocm"))]
    Card(Device),
    #[cfg(feature = "wgpu")]
    Wgpu(burn::tensor::DeviceKind),
    /// Burn cannot address it; the reason.
    #[cfg(feature = "wgpu")]
    Unreachable(&'static str),
}

impl Adapter {
    /// The choice that selects it.
    pub(super) fn choice(&self) -> DeviceChoice {
        let index = (self.backend != Backend::Cpu).then_some(self.index);
        DeviceChoice::Named(self.backend, index)
    }
}
