//! The backends, and the adapters each one finds.

use std::fmt;
use std::panic::catch_unwind;

use burn::tensor::Device;
use serde::Serialize;

use super::{Check, DeviceChoice, hardware, probe};

/// A family of devices, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// NVIDIA's own.
    Cuda,
    /// AMD's own.
    Rocm,
    /// Apple's own.
    Metal,
    /// SPIR-V on Vulkan.
    Vulkan,
    /// WGSL on Vulkan, Metal, DirectX 12 or OpenGL.
    Wgpu,
    /// Burn's flex: this processor.
    Cpu,
}

/// What kind of hardware an adapter is, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A card of its own.
    Discrete,
    /// Part of the processor's package.
    Integrated,
    /// Lent by a hypervisor.
    Virtual,
    /// Its driver does not say.
    Unknown,
    /// A driver that computes on the processor.
    Software,
    /// The processor itself.
    Processor,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Discrete => "discrete GPU",
            Kind::Integrated => "integrated GPU",
            Kind::Virtual => "virtual GPU",
            Kind::Unknown => "unknown",
            Kind::Software => "software",
            Kind::Processor => "processor",
        })
    }
}

impl Backend {
    /// All of them, best first.
    pub const ALL: [Backend; 6] = [
        Backend::Cuda,
        Backend::Rocm,
        Backend::Metal,
        Backend::Vulkan,
        Backend::Wgpu,
        Backend::Cpu,
    ];

    /// Its name, which is also the name of the feature that compiles it in.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Cuda => "cuda",
            Backend::Rocm => "rocm",
            Backend::Metal => "metal",
            Backend::Vulkan => "vulkan",
            Backend::Wgpu => "wgpu",
            Backend::Cpu => "cpu",
        }
    }

    /// Whether this binary has it.
    pub fn is_compiled(self) -> bool {
        match self {
            Backend::Cuda => cfg!(feature = "cuda"),
            Backend::Rocm => cfg!(feature = "rocm"),
            Backend::Metal => cfg!(feature = "metal"),
            Backend::Vulkan => cfg!(feature = "vulkan"),
            Backend::Wgpu => cfg!(feature = "wgpu"),
            Backend::Cpu => cfg!(feature = "cpu"),
        }
    }

    /// Its adapters here; none where its driver is missing.
    pub(super) fn adapters(self) -> Vec<Adapter> {
        self.list(true)
    }

    /// The adapters that `auto` may take.
    ///
    /// OpenGL is not asked: it takes 20 to 400 ms to answer against 1 to 4 for Vulkan, which is
    /// more than a whole cold start on the processor, and a GPU that has only OpenGL gains little.
    pub(super) fn real_adapters(self) -> Vec<Adapter> {
        let mut adapters = self.list(false);
        adapters.retain(|adapter| adapter.automatic);
        adapters
    }

    fn list(self, thorough: bool) -> Vec<Adapter> {
        // A driver's fault while it is merely asked what there is leaves an empty list.
        probe::hush(|| catch_unwind(|| self.enumerate(thorough))).unwrap_or_default()
    }

    /// What the compiled backends find; a backend left out finds nothing.
    fn enumerate(self, thorough: bool) -> Vec<Adapter> {
        // Only wgpu has a quicker and a slower list.
        let _ = thorough;
        match self {
            #[cfg(feature = "cuda")]
            Backend::Cuda => self.cards(burn::tensor::DeviceType::Cuda, "CUDA"),
            #[cfg(feature = "rocm")]
            Backend::Rocm => self.cards(burn::tensor::DeviceType::Rocm, "ROCm"),
            #[cfg(feature = "metal")]
            Backend::Metal => super::wgpu::list(self, thorough),
            #[cfg(feature = "vulkan")]
            Backend::Vulkan => super::wgpu::list(self, thorough),
            #[cfg(feature = "wgpu")]
            Backend::Wgpu => super::wgpu::list(self, thorough),
            #[cfg(feature = "cpu")]
            Backend::Cpu => vec![Adapter {
                backend: self,
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

    /// Adapters of a runtime that lists real cards only, and names them only once open.
    #[cfg(any(feature = "cuda", feature = "rocm"))]
    fn cards(self, of: burn::tensor::DeviceType, driver: &str) -> Vec<Adapter> {
        Device::enumerate(of)
            .into_vec()
            .into_iter()
            .enumerate()
            .map(|(index, device)| Adapter {
                backend: self,
                index,
                kind: Kind::Discrete,
                name: format!("{driver} device {index}"),
                driver: driver.to_owned(),
                automatic: true,
                address: Address::Card(device),
            })
            .collect()
    }
}

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

    /// Tries it: in a process of its own where there is a program for that.
    pub(super) fn check(&self) -> Result<Check, String> {
        match &self.address {
            #[cfg(feature = "wgpu")]
            Address::Unreachable(reason) => Err((*reason).to_owned()),
            _ => probe::check(self),
        }
    }

    /// The device, ready for tensors.
    pub(super) fn open(&self) -> Result<Device, String> {
        match &self.address {
            #[cfg(feature = "cpu")]
            Address::Cpu => Ok(Device::flex()),
            #[cfg(any(feature = "cuda", feature = "rocm"))]
            Address::Card(device) => {
                probe::hush_device_threads();
                Ok(device.clone())
            }
            #[cfg(feature = "wgpu")]
            Address::Wgpu(kind) => {
                probe::hush_device_threads();
                super::wgpu::open(self.backend, kind)
            }
            #[cfg(feature = "wgpu")]
            Address::Unreachable(reason) => Err((*reason).to_owned()),
        }
    }
}
