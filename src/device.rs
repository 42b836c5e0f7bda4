//! What this machine computes on. This module opens backends; beside it `ops` alone names one.
//!
//! A driver may panic, abort or hang at first use, and Burn meets a missing device with a panic on
//! another thread. So adapters are listed first, which is safe, and then tried in a process of
//! their own ([`probe_with`] says which program to run for that); only what passed is opened here.

mod backend;
mod hardware;
mod probe;
#[cfg(feature = "wgpu")]
mod wgpu;

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
use serde::Serialize;
use thiserror::Error;

use backend::Adapter;
pub use backend::{Backend, Kind};
pub use hardware::{Hardware, hardware, peak_memory_bytes, set_threads};
pub use probe::{Check, PROBE_COMMAND, probe_with, try_here};

#[cfg(not(any(feature = "cpu", feature = "wgpu", feature = "cuda", feature = "rocm")))]
compile_error!("vitrine needs a backend: build with --features cpu, wgpu, cuda or rocm");

/// What `--device` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The best real GPU that passes its check, else the processor.
    Auto,
    /// One backend's adapter; without a number, its best real one.
    Named(Backend, Option<usize>),
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let wrong = || DeviceError::Spelling {
            text: text.to_owned(),
        };
        let (name, index) = match text.split_once(':') {
            Some((name, index)) => (name, Some(index.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let backend = Backend::ALL.into_iter().find(|b| b.name() == name);
        match (backend, index) {
            (Some(Backend::Cpu), Some(_)) | (None, _) => Err(wrong()),
            (Some(backend), index) => Ok(Self::Named(backend, index)),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Named(backend, None) => f.write_str(backend.name()),
            Self::Named(backend, Some(index)) => write!(f, "{}:{index}", backend.name()),
        }
    }
}

/// Why a device cannot be had.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// No such spelling.
    #[error(
        "{text:?} names no device: expected auto, cpu, wgpu[:i], vulkan[:i], metal[:i], cuda[:i] or rocm[:i]"
    )]
    Spelling {
        /// As typed.
        text: String,
    },
    /// This binary lacks the backend.
    #[error(
        "this vitrine was built without {name}: build it with `cargo build --release --features {name}`, or choose {there}"
    )]
    NotCompiled {
        /// The backend.
        name: &'static str,
        /// What there is instead.
        there: String,
    },
    /// The backend has no such device here.
    #[error(
        "no device {choice} here ({found}); there is {there}; `vitrine devices` lists them all"
    )]
    Absent {
        /// Asked for.
        choice: String,
        /// What was tried.
        found: String,
        /// What there is instead.
        there: String,
    },
    /// The device is there and does not compute.
    #[error("{name} failed its check: {reason}; choose {there}, or mend its driver")]
    Failed {
        /// The device.
        name: String,
        /// What happened.
        reason: String,
        /// What there is instead.
        there: String,
    },
    /// The thread pool is already running.
    #[error("cannot set {threads} threads: work has begun on {running}; set them first")]
    Threads {
        /// Asked for.
        threads: usize,
        /// What there is.
        running: usize,
    },
}

/// A device that passed its check.
#[derive(Debug, Clone)]
pub struct Selected {
    /// Where tensors go, without autodiff.
    pub device: Device,
    /// Its name, such as `wgpu:0, NVIDIA H200`.
    pub name: String,
    /// Why this one.
    pub reason: String,
}

/// One adapter, tried.
#[derive(Debug, Clone, Serialize)]
pub struct AdapterReport {
    /// How `--device` names it, such as `wgpu:0`.
    pub device: String,
    /// What it is.
    pub kind: Kind,
    /// Its own name.
    pub name: String,
    /// What drives it.
    pub driver: String,
    /// Whether `auto` may take it: a real GPU, not reached through OpenGL.
    pub automatic: bool,
    /// What came of trying it.
    pub check: Result<Check, String>,
}

/// Lists every compiled backend's adapters, best backend first, and tries each.
pub fn survey() -> Vec<AdapterReport> {
    everything()
        .into_iter()
        .map(|adapter| {
            let check = adapter.check();
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

/// Finds the device that `choice` asks for, and makes sure that it computes.
///
/// # Errors
///
/// [`DeviceError`], which says what there is instead.
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
        .flat_map(Backend::real_adapters)
        .collect();
    // A stable sort: of one kind, the better backend stays first.
    adapters.sort_by_key(|adapter| adapter.kind);
    let mut passed_over = Vec::new();
    for adapter in adapters {
        match adapter
            .check()
            .and_then(|check| Ok((adapter.open()?, check)))
        {
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
    match Backend::Cpu.adapters().first().map(Adapter::open) {
        Some(Ok(device)) => Ok(Selected {
            device,
            name: cpu.to_string(),
            reason: format!("auto: {reason}"),
        }),
        _ => Err(DeviceError::Absent {
            choice: "auto".to_owned(),
            found: format!("{reason}, and this vitrine was built without cpu"),
            there: list(&everything()),
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
            there: list(&everything()),
        });
    }
    #[cfg(feature = "cpu")]
    if (backend, index) == (Backend::Cpu, None) {
        // The processor needs neither a search nor a check, and a cold start has no time for them.
        return Ok(Selected {
            device: Device::flex(),
            name: choice.to_string(),
            reason: "as asked".to_owned(),
        });
    }
    let adapters = backend.adapters();
    let wanted = match index {
        Some(index) => adapters.get(index),
        // Software computes many times slower than the processor itself: only a number gets it.
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
            there: list(&everything()),
        });
    };
    let exact = adapter.choice();
    match adapter
        .check()
        .and_then(|check| Ok((adapter.open()?, check)))
    {
        Ok((device, check)) => Ok(Selected {
            device,
            name: format!("{exact}, {}", check.name),
            reason: "as asked".to_owned(),
        }),
        Err(reason) => {
            let mut rest = everything();
            rest.retain(|other| other.choice() != exact);
            Err(DeviceError::Failed {
                name: format!("{exact} ({})", adapter.name),
                reason,
                there: list(&rest),
            })
        }
    }
}

/// Every adapter of this machine that this binary reaches.
fn everything() -> Vec<Adapter> {
    Backend::ALL
        .into_iter()
        .flat_map(Backend::adapters)
        .collect()
}

/// Adapters in words, as `--device` names them.
fn list(adapters: &[Adapter]) -> String {
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

/// Tells mimalloc never to hand freed pages back to the kernel: a training step frees and needs
/// the same hundreds of megabytes again at once, and a fifth of its time went into clearing them.
pub fn keep_pages() {
    /// `mi_option_purge_delay` in `mimalloc.h`, which the bindings leave out; −1 is "never".
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: sets one number of the allocator, before any other thread exists; mimalloc checks
    // the option's index against its own table.
    #[allow(unsafe_code)]
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, -1);
    }
}

/// Takes memory in small pages from now on, on Linux: for work that is over before a large page has
/// paid for being cleared whole. Up to half of a cold start went into that; long work is 2 to 4 % faster in
/// large pages.
pub fn small_pages() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: a flag of this process; no memory is touched. Where the kernel lacks it, it says so
        // and nothing changes.
        #[allow(unsafe_code)]
        unsafe {
            libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
        }
    }
}

/// Ends the process at once, without running the destructors of drivers.
///
/// CubeCL's threads outlive `main`, and a driver that is torn down under them may fault: seen with
/// SwiftShader as a segmentation fault after all work was done, which turned success into failure.
/// Whoever calls this has written and flushed everything.
pub fn leave(code: u8) -> ! {
    #[cfg(unix)]
    {
        // SAFETY: `_exit` takes any number and does not return; no memory is touched.
        #[allow(unsafe_code)]
        unsafe {
            libc::_exit(i32::from(code))
        }
    }
    #[cfg(not(unix))]
    std::process::exit(i32::from(code))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn choices_read_back() {
        for text in [
            "auto", "cpu", "wgpu", "wgpu:1", "vulkan:0", "metal", "cuda:3", "rocm",
        ] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        for text in ["", "gpu", "cuda:", "cuda:x", "cpu:0", "wgpu:-1"] {
            assert_eq!(
                text.parse::<DeviceChoice>().unwrap_err().to_string(),
                format!(
                    "{text:?} names no device: expected auto, cpu, wgpu[:i], vulkan[:i], metal[:i], cuda[:i] or rocm[:i]"
                )
            );
        }
    }

    #[cfg(feature = "cpu")]
    #[test]
    fn the_processor_passes_its_check() {
        let check = try_here(DeviceChoice::Named(Backend::Cpu, None)).unwrap();
        assert!(check.max_abs_error < 1e-5);
        let selected = select("cpu".parse().unwrap()).unwrap();
        assert_eq!(
            (selected.name.as_str(), selected.reason.as_str()),
            ("cpu", "as asked")
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
        for adapter in Backend::ALL.into_iter().flat_map(Backend::real_adapters) {
            assert!(adapter.kind < Kind::Software, "{}", adapter.name);
        }
    }
}
