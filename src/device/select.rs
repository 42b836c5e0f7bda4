//! Selects a device and checks that it computes.

use burn::tensor::Device;
use serde::Serialize;

use super::adapter::Adapter;
use super::backend::{Backend, Kind};
use super::choice::DeviceChoice;
use super::error::DeviceError;
use super::probe::Check;
use super::{enumerate, probe};

/// A device that passed its check.
#[derive(Debug, Clone)]
pub struct Selected {
    /// The device, without autodiff.
    pub device: Device,
    /// Its name, such as `wgpu:0, NVIDIA H200`.
    pub name: String,
    /// Why it was selected.
    pub reason: String,
}

/// One adapter and the result of its check.
#[derive(Debug, Clone, Serialize)]
pub struct AdapterReport {
    /// The choice that selects it, such as `wgpu:0`.
    pub device: String,
    /// Kind of hardware.
    pub kind: Kind,
    /// The device's name.
    pub name: String,
    /// The driver, in words.
    pub driver: String,
    /// Whether `auto` may select it: a hardware GPU, not reached through OpenGL.
    pub automatic: bool,
    /// The result of its check, or how it failed.
    pub check: Result<Check, String>,
}

/// Lists the adapters of every compiled backend, best backend first, and checks each.
pub fn survey() -> Vec<AdapterReport> {
    all_adapters()
        .into_iter()
        .map(|adapter| {
            let check = probe::check(&adapter);
            AdapterReport {
                device: adapter.choice().to_string(),
                kind: adapter.kind,
                name: check.as_ref().map_or(adapter.name, |c| c.name.clone()),
                driver: adapter.driver,
                automatic: adapter.automatic,
                check,
            }
        })
        .collect()
}

/// Selects and opens the chosen device, and checks that it computes.
///
/// # Errors
///
/// [`DeviceError`], which lists the devices that there are.
pub fn select(choice: DeviceChoice) -> Result<Selected, DeviceError> {
    match choice {
        DeviceChoice::Auto => automatic(),
        DeviceChoice::Named(backend, index) => named(choice, backend, index),
    }
}

fn automatic() -> Result<Selected, DeviceError> {
    let mut adapters: Vec<Adapter> = Backend::ALL
        .into_iter()
        .filter(|&backend| backend != Backend::Cpu)
        .flat_map(enumerate::real_adapters)
        .collect();
    // A stable sort: of one kind, the better backend stays first.
    adapters.sort_by_key(|adapter| adapter.kind);
    let mut passed_over = Vec::new();
    for adapter in adapters {
        match checked(&adapter) {
            Ok((device, check)) => {
                let mut reason = format!("auto: the best {} that passes its check", adapter.kind);
                if !passed_over.is_empty() {
                    reason += &format!("; {}", passed_over.join("; "));
                }
                return Ok(Selected {
                    device,
                    name: format!("{}, {}", adapter.choice(), check.name),
                    reason,
                });
            }
            Err(reason) => {
                passed_over.push(format!("{} failed its check: {reason}", adapter.choice()));
            }
        }
    }
    let reason = if passed_over.is_empty() {
        "no GPU found".to_owned()
    } else {
        passed_over.join("; ")
    };
    let cpu = DeviceChoice::Named(Backend::Cpu, None);
    match enumerate::adapters(Backend::Cpu)
        .first()
        .map(enumerate::open)
    {
        Some(Ok(device)) => Ok(Selected {
            device,
            name: cpu.to_string(),
            reason: format!("auto: {reason}"),
        }),
        _ => Err(DeviceError::Absent {
            choice: "auto".to_owned(),
            found: format!("{reason}, and this vitrine was built without cpu"),
            there: in_words(&all_adapters()),
        }),
    }
}

fn named(
    choice: DeviceChoice,
    backend: Backend,
    index: Option<usize>,
) -> Result<Selected, DeviceError> {
    if !backend.is_compiled() {
        return Err(DeviceError::NotCompiled {
            name: backend.name(),
            there: in_words(&all_adapters()),
        });
    }
    #[cfg(feature = "cpu")]
    if (backend, index) == (Backend::Cpu, None) {
        // The processor needs neither a search nor a check, which would slow down a cold start.
        return Ok(Selected {
            device: Device::flex(),
            name: choice.to_string(),
            reason: "as requested".to_owned(),
        });
    }
    let adapters = enumerate::adapters(backend);
    let wanted = match index {
        Some(index) => adapters.get(index),
        // A software adapter is many times slower than the CPU backend: it is selected by its index only.
        None => adapters
            .iter()
            .filter(|adapter| adapter.kind != Kind::Software)
            .min_by_key(|adapter| adapter.kind),
    };
    let Some(adapter) = wanted else {
        return Err(DeviceError::Absent {
            choice: choice.to_string(),
            found: match (adapters.len(), index) {
                (0, _) => format!("{} finds no adapter", backend.name()),
                (_, None) => format!("{} finds software adapters only", backend.name()),
                (n, Some(_)) => format!("{} finds {n}, numbered from 0", backend.name()),
            },
            there: in_words(&all_adapters()),
        });
    };
    let exact = adapter.choice();
    match checked(adapter) {
        Ok((device, check)) => Ok(Selected {
            device,
            name: format!("{exact}, {}", check.name),
            reason: "as requested".to_owned(),
        }),
        Err(reason) => {
            let mut rest = all_adapters();
            rest.retain(|other| other.choice() != exact);
            Err(DeviceError::Failed {
                name: format!("{exact} ({})", adapter.name),
                reason,
                there: in_words(&rest),
            })
        }
    }
}

/// The device of an adapter that passed its check, and the check.
fn checked(adapter: &Adapter) -> Result<(Device, Check), String> {
    let check = probe::check(adapter)?;
    Ok((enumerate::open(adapter)?, check))
}

/// The adapters of every compiled backend.
fn all_adapters() -> Vec<Adapter> {
    Backend::ALL
        .into_iter()
        .flat_map(enumerate::adapters)
        .collect()
}

/// A list of adapters in words, each with the choice that selects it.
fn in_words(adapters: &[Adapter]) -> String {
    if adapters.is_empty() {
        return "nothing else".to_owned();
    }
    let words: Vec<String> = adapters
        .iter()
        .map(|adapter| match adapter.backend {
            Backend::Cpu => adapter.choice().to_string(),
            _ => format!("{} ({}, {})", adapter.choice(), adapter.name, adapter.kind),
        })
        .collect();
    words.join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[cfg(feature = "cpu")]
    #[test]
    fn the_processor_passes_its_check() {
        let check = probe::try_here(DeviceChoice::Named(Backend::Cpu, None)).unwrap();
        assert!(check.max_abs_error < 1e-5);
        let selected = select("cpu".parse().unwrap()).unwrap();
        assert_eq!(
            (selected.name.as_str(), selected.reason.as_str()),
            ("cpu", "as requested")
        );
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_backend_left_out_says_how_to_build_it() {
        let error = select("cuda:0".parse().unwrap()).unwrap_err().to_string();
        assert!(
            error.starts_with("this vitrine was built without cuda: build it with `cargo build --release --features cuda`, or choose "),
            "{error}"
        );
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn an_absent_adapter_is_an_error_that_lists_the_others() {
        let error = select("wgpu:99".parse().unwrap()).unwrap_err().to_string();
        assert!(
            error.starts_with("no device wgpu:99 here (wgpu finds "),
            "{error}"
        );
        assert!(error.contains("there is "), "{error}");
    }

    #[test]
    fn auto_never_takes_software() {
        for adapter in Backend::ALL.into_iter().flat_map(enumerate::real_adapters) {
            assert!(adapter.kind < Kind::Software, "{}", adapter.name);
        }
    }
}
