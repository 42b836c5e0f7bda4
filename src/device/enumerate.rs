//! The adapters that each backend finds, and how they are opened.

use burn::tensor::Device;

use super::adapter::{Adapter, Address};
use super::backend::Backend;
#[cfg(any(feature = "cpu", feature = "cuda", feature = "rocm"))]
use super::backend::Kind;
#[cfg(feature = "cpu")]
use super::hardware::hardware;
#[cfg(feature = "wgpu")]
use super::wgpu;
use crate::panics;

/// The adapters of a backend on this machine; none where its driver is missing.
pub(super) fn adapters(backend: Backend) -> Vec<Adapter> {
    guarded(backend, true)
}

/// The adapters that `auto` may take.
///
/// OpenGL is left out: it takes 20 to 400 ms to answer against 1 to 4 for Vulkan, which is more than a whole cold start
/// on the processor, and a GPU that has only OpenGL gains little.
pub(super) fn real_adapters(backend: Backend) -> Vec<Adapter> {
    let mut adapters = guarded(backend, false);
    adapters.retain(|adapter| adapter.automatic);
    adapters
}

/// A driver that panics while its adapters are listed has none.
fn guarded(backend: Backend, thorough: bool) -> Vec<Adapter> {
    panics::catch_silently(|| enumerate(backend, thorough)).unwrap_or_default()
}

/// What the compiled backends find; a backend that is not compiled in finds nothing.
fn enumerate(backend: Backend, thorough: bool) -> Vec<Adapter> {
    // Only wgpu has a quicker and a slower list.
    let _ = thorough;
    match backend {
        #[cfg(feature = "cuda")]
        Backend::Cuda => cards(backend, burn::tensor::DeviceType::Cuda, "CUDA"),
        #[cfg(feature = "rocm")]
        Backend::Rocm => cards(backend, burn::tensor::DeviceType::Rocm, "ROCm"),
        #[cfg(feature = "metal")]
        Backend::Metal => wgpu::adapters(backend, thorough),
        #[cfg(feature = "vulkan")]
        Backend::Vulkan => wgpu::adapters(backend, thorough),
        #[cfg(feature = "wgpu")]
        Backend::Wgpu => wgpu::adapters(backend, thorough),
        #[cfg(feature = "cpu")]
        Backend::Cpu => vec![Adapter {
            backend,
            index: 0,
            kind: Kind::Processor,
            name: hardware().processor,
            driver: "Burn flex".to_owned(),
            automatic: false,
            address: Address::Cpu,
        }],
        #[allow(unreachable_patterns)]
        _ => Vec::new(),
    }
}

/// Adapters of a runtime that lists discrete cards only, and names them only once they are open.
#[cfg(any(feature = "cuda", feature = "rocm"))]
fn cards(backend: Backend, of: burn::tensor::DeviceType, driver: &str) -> Vec<Adapter> {
    Device::enumerate(of)
        .into_vec()
        .into_iter()
        .enumerate()
        .map(|(index, device)| Adapter {
            backend,
            index,
            kind: Kind::Discrete,
            name: format!("{driver} device {index}"),
            driver: driver.to_owned(),
            automatic: true,
            address: Address::Card(device),
        })
        .collect()
}

/// Opens an adapter: the device, ready for tensors.
///
/// # Errors
///
/// Why it cannot be opened.
pub(super) fn open(adapter: &Adapter) -> Result<Device, String> {
    match &adapter.address {
        #[cfg(feature = "cpu")]
        Address::Cpu => Ok(Device::flex()),
        #[cfg(any(feature = "cuda", feature = "rocm"))]
        Address::Card(device) => {
            panics::silence_device_threads();
            Ok(device.clone())
        }
        #[cfg(feature = "wgpu")]
        Address::Wgpu(kind) => {
            panics::silence_device_threads();
            wgpu::open(adapter.backend, kind)
        }
        #[cfg(feature = "wgpu")]
        Address::Unreachable(reason) => Err((*reason).to_owned()),
    }
}
