//! Adapters that Burn uses through the wgpu crate.

use std::sync::{Mutex, PoisonError};

use burn::tensor::{Device, DeviceKind, read_sync};
use burn_wgpu::graphics::AutoGraphicsApi;
use burn_wgpu::wgpu::{AdapterInfo, Backend as Api, DeviceType, Instance, InstanceDescriptor};
use burn_wgpu::{WgpuBackend, WgpuInitError};

use super::adapter::{Adapter, Address};
use super::backend::{Backend, Kind};

/// The adapters of the graphics API that Burn chooses, in its order: of its candidates the first with a
/// GPU, or else the first with any adapter.
///
/// Without `thorough`, OpenGL is left out: it is slow to list its adapters.
pub(super) fn adapters(backend: Backend, thorough: bool) -> Vec<Adapter> {
    let candidates = match backend {
        Backend::Vulkan => vec![Api::Vulkan],
        Backend::Metal => vec![Api::Metal],
        _ => AutoGraphicsApi::chain(),
    };
    let mut settled = Vec::new();
    for api in candidates {
        if api == Api::Gl && !thorough {
            continue;
        }
        let found = adapters_of(api);
        let real = found.iter().any(|info| info.device_type != DeviceType::Cpu);
        if real || settled.is_empty() {
            settled = found;
        }
        if real {
            break;
        }
    }
    number(backend, settled)
}

/// One instance at a time: the Vulkan loader crashes when several come and go at once.
static LISTING: Mutex<()> = Mutex::new(());

fn adapters_of(api: Api) -> Vec<AdapterInfo> {
    let _one = LISTING.lock().unwrap_or_else(PoisonError::into_inner);
    let instance = Instance::new(InstanceDescriptor {
        backends: api.into(),
        ..InstanceDescriptor::new_without_display_handle()
    });
    read_sync(instance.enumerate_adapters(api.into()))
        .iter()
        .map(|adapter| adapter.get_info())
        .collect()
}

/// Numbers the adapters as Burn does: each kind from zero, and only one software adapter.
fn number(backend: Backend, found: Vec<AdapterInfo>) -> Vec<Adapter> {
    let mut seen = [0usize; 4];
    let mut next = |slot: usize| {
        seen[slot] += 1;
        seen[slot] - 1
    };
    found
        .into_iter()
        .enumerate()
        .map(|(index, info)| {
            let (kind, address) = match info.device_type {
                DeviceType::DiscreteGpu => (
                    Kind::Discrete,
                    Address::Wgpu(DeviceKind::DiscreteGpu(next(0))),
                ),
                DeviceType::IntegratedGpu => (
                    Kind::Integrated,
                    Address::Wgpu(DeviceKind::IntegratedGpu(next(1))),
                ),
                DeviceType::VirtualGpu => (
                    Kind::Virtual,
                    Address::Wgpu(DeviceKind::VirtualGpu(next(2))),
                ),
                DeviceType::Cpu if next(3) == 0 => (Kind::Software, Address::Wgpu(DeviceKind::Cpu)),
                DeviceType::Cpu => (
                    Kind::Software,
                    Address::Unreachable("Burn reaches the first software adapter only"),
                ),
                DeviceType::Other => (
                    Kind::Unknown,
                    Address::Unreachable("Burn reaches no adapter whose kind its driver hides"),
                ),
            };
            let driver = [info.driver.as_str(), info.driver_info.as_str()]
                .into_iter()
                .filter(|words| !words.is_empty())
                .fold(format!("{:?}", info.backend), |all, words| {
                    format!("{all}, {words}")
                });
            Adapter {
                backend,
                index,
                kind,
                automatic: kind < Kind::Unknown && info.backend != Api::Gl,
                name: info.name,
                driver,
                address,
            }
        })
        .collect()
}

/// Opens an adapter, with an error where Burn's own first use would panic on another thread.
pub(super) fn open(backend: Backend, kind: &DeviceKind) -> Result<Device, String> {
    let (api, same): (_, fn(DeviceKind) -> Device) = match backend {
        #[cfg(feature = "vulkan")]
        Backend::Vulkan => (WgpuBackend::Vulkan, Device::vulkan),
        #[cfg(feature = "metal")]
        Backend::Metal => (WgpuBackend::Metal, Device::metal),
        _ => (WgpuBackend::Auto, Device::wgpu),
    };
    let options = Device::wgpu_options().device_kind(kind.clone());
    match options.graphics_api(api).init() {
        Ok(device) => Ok(device),
        // It was opened before in this process: the same runtime is used again.
        Err(WgpuInitError::Registration { .. }) => Ok(same(kind.clone())),
        Err(error) => Err(format!("it cannot be opened: {error}")),
    }
}
