//! What this machine computes on. The only file that names a backend.
//!
//! A driver may panic, abort or hang at first use, and Burn meets a missing device with a panic on
//! another thread. So devices are listed first, which is safe, and then tried in a process of
//! their own: [`probe_with`] says which program to run for that. Without one they are tried here,
//! under `catch_unwind`.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use thiserror::Error;

#[cfg(not(any(feature = "cpu", feature = "wgpu", feature = "cuda", feature = "rocm")))]
compile_error!("vitrine needs a backend: build with --features cpu, wgpu, cuda or rocm");

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
    /// WGSL on Vulkan, Metal or DirectX 12.
    Wgpu,
    /// Burn's flex: this processor.
    Cpu,
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

    /// Its devices here; none where its driver is missing.
    fn list(self) -> Vec<Device> {
        // A driver's fault while it is merely asked what there is leaves an empty list.
        catch_unwind(|| self.enumerate()).unwrap_or_default()
    }

    fn enumerate(self) -> Vec<Device> {
        #[allow(unused_imports)]
        use burn::tensor::DeviceType;
        match self {
            #[cfg(feature = "cuda")]
            Backend::Cuda => Device::enumerate(DeviceType::Cuda).into_vec(),
            #[cfg(feature = "rocm")]
            Backend::Rocm => Device::enumerate(DeviceType::Rocm).into_vec(),
            #[cfg(feature = "metal")]
            Backend::Metal => Device::enumerate(DeviceType::Metal).into_vec(),
            #[cfg(feature = "vulkan")]
            Backend::Vulkan => Device::enumerate(DeviceType::Vulkan).into_vec(),
            #[cfg(feature = "wgpu")]
            Backend::Wgpu => Device::enumerate(DeviceType::Wgpu).into_vec(),
            #[cfg(feature = "cpu")]
            Backend::Cpu => vec![Device::flex()],
            #[allow(unreachable_patterns)]
            _ => Vec::new(),
        }
    }
}

/// What `--device` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The best real GPU that passes a probe, else the processor.
    Auto,
    /// One backend's device; without a number, its best.
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
    #[error("no device {choice} here ({found}); there is {there}; `vitrine devices` lists them all")]
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

/// What kind of hardware an adapter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A card of its own.
    Discrete,
    /// Part of the processor's package.
    Integrated,
    /// Lent by a hypervisor.
    Virtual,
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
            Kind::Software => "software",
            Kind::Processor => "processor",
        })
    }
}

/// One adapter, tried.
#[derive(Debug, Clone, Serialize)]
pub struct AdapterReport {
    /// Its backend.
    pub backend: Backend,
    /// Its number within the backend, as in `wgpu:0`.
    pub index: usize,
    /// What it is.
    pub kind: Kind,
    /// Its own name; empty where it could not be opened.
    pub name: String,
    /// What came of trying it.
    pub check: Result<Check, String>,
}

impl AdapterReport {
    /// How `--device` names it.
    pub fn choice(&self) -> String {
        match self.backend {
            Backend::Cpu => "cpu".to_owned(),
            backend => format!("{}:{}", backend.name(), self.index),
        }
    }
}

/// A device that computed a matrix product as the processor does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Its own name.
    pub name: String,
    /// Largest difference from the processor's product.
    pub max_abs_error: f64,
    /// Time from opening it to the answer.
    pub elapsed_ms: u64,
}

/// Lists every compiled backend's adapters and tries each.
pub fn survey() -> Vec<AdapterReport> {
    let mut reports = Vec::new();
    for backend in Backend::ALL {
        for (index, device) in backend.list().into_iter().enumerate() {
            let kind = kind(backend, &device);
            let check = check(DeviceChoice::Named(backend, Some(index)), backend);
            reports.push(AdapterReport {
                backend,
                index,
                kind,
                name: check.as_ref().map(|c| c.name.clone()).unwrap_or_default(),
                check,
            });
        }
    }
    reports
}

fn kind(backend: Backend, device: &Device) -> Kind {
    if backend == Backend::Cpu {
        return Kind::Processor;
    }
    // Burn keeps the adapter's kind in the device's identity and shows it nowhere else.
    let identity = format!("{device:?}");
    match () {
        () if identity.contains("Integrated") => Kind::Integrated,
        () if identity.contains("Virtual") => Kind::Virtual,
        () if identity.contains("Cpu") || identity.contains("Other") => Kind::Software,
        () => Kind::Discrete,
    }
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
    let mut passed_over = Vec::new();
    for wanted in [Kind::Discrete, Kind::Integrated, Kind::Virtual] {
        for backend in Backend::ALL {
            if backend == Backend::Cpu {
                continue;
            }
            for (index, device) in backend.list().into_iter().enumerate() {
                if kind(backend, &device) != wanted {
                    continue;
                }
                let choice = DeviceChoice::Named(backend, Some(index));
                match check(choice, backend) {
                    Ok(check) => {
                        return Ok(Selected {
                            device,
                            name: format!("{choice}, {}", check.name),
                            reason: format!("auto: the best {wanted} that passes its check"),
                        });
                    }
                    Err(reason) => passed_over.push(format!("{choice} failed its check: {reason}")),
                }
            }
        }
    }
    let reason = if passed_over.is_empty() {
        "auto: no GPU found".to_owned()
    } else {
        format!("auto: {}", passed_over.join("; "))
    };
    match Backend::Cpu.list().into_iter().next() {
        Some(device) => Ok(Selected {
            device,
            name: "cpu".to_owned(),
            reason,
        }),
        None => Err(DeviceError::Absent {
            choice: "auto".to_owned(),
            found: reason,
            there: there(),
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
            there: there(),
        });
    }
    let devices = backend.list();
    let index = index.unwrap_or_else(|| {
        // The best of a backend: a real one before a software one.
        let rank = |d: &Device| match kind(backend, d) {
            Kind::Discrete => 0,
            Kind::Integrated => 1,
            Kind::Virtual => 2,
            _ => 3,
        };
        (0..devices.len()).min_by_key(|&i| rank(&devices[i])).unwrap_or(0)
    });
    let Some(device) = devices.get(index) else {
        return Err(DeviceError::Absent {
            choice: choice.to_string(),
            found: match devices.len() {
                0 => format!("{} finds no adapter", backend.name()),
                n => format!("{} finds {n}, numbered from 0", backend.name()),
            },
            there: there(),
        });
    };
    if backend == Backend::Cpu {
        return Ok(Selected {
            device: device.clone(),
            name: "cpu".to_owned(),
            reason: "as asked".to_owned(),
        });
    }
    let exact = DeviceChoice::Named(backend, Some(index));
    match check(exact, backend) {
        Ok(check) => Ok(Selected {
            device: device.clone(),
            name: format!("{exact}, {}", check.name),
            reason: "as asked".to_owned(),
        }),
        Err(reason) => Err(DeviceError::Failed {
            name: exact.to_string(),
            reason,
            there: there(),
        }),
    }
}

/// What can be asked for here.
fn there() -> String {
    let mut list = Vec::new();
    for backend in Backend::ALL {
        for index in 0..backend.list().len() {
            list.push(match backend {
                Backend::Cpu => "cpu".to_owned(),
                backend => format!("{}:{index}", backend.name()),
            });
        }
    }
    if list.is_empty() {
        "nothing".to_owned()
    } else {
        list.join(", ")
    }
}

static PROBE: OnceLock<PathBuf> = OnceLock::new();

/// How long a device may take to open and answer; a shader compiler can be slow the first time.
const PATIENCE: Duration = Duration::from_secs(120);

/// The argument that makes our own binary try one device and exit.
pub const PROBE_COMMAND: &str = "__probe";

/// From now on devices are tried by `program __probe DEVICE`, in a process of their own.
pub fn probe_with(program: PathBuf) {
    // A second call would name the same program.
    let _ = PROBE.set(program);
}

fn check(choice: DeviceChoice, backend: Backend) -> Result<Check, String> {
    match PROBE.get() {
        Some(program) if backend != Backend::Cpu => check_in_child(program, choice),
        _ => try_here(choice),
    }
}

fn check_in_child(program: &PathBuf, choice: DeviceChoice) -> Result<Check, String> {
    let mut child = Command::new(program)
        .args([PROBE_COMMAND, &choice.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("cannot start its check: {e}"))?;
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(_)) => break,
            Ok(None) if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(10)),
            _ => {
                // It hangs in its driver: nothing it still says would help.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("no answer within {} s", PATIENCE.as_secs()));
            }
        }
    }
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    serde_json::from_slice::<Result<Check, String>>(&output.stdout)
        .unwrap_or_else(|_| Err(format!("its check ended with {}", output.status)))
}

/// Tries one device in this process: a small matrix product against the same in f64.
///
/// # Errors
///
/// What the device did instead.
pub fn try_here(choice: DeviceChoice) -> Result<Check, String> {
    let DeviceChoice::Named(backend, index) = choice else {
        return Err("auto is no single device".to_owned());
    };
    let device = backend
        .list()
        .into_iter()
        .nth(index.unwrap_or(0))
        .ok_or("it is not there")?;
    let start = Instant::now();
    catch_unwind(AssertUnwindSafe(|| product(backend, &device)))
        .unwrap_or_else(|panic| {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("it panicked: {}", text.unwrap_or("no message")))
        })
        .map(|(name, max_abs_error)| Check {
            name,
            max_abs_error,
            elapsed_ms: start.elapsed().as_millis() as u64,
        })
}

/// Odd sizes, so that no tile fits evenly.
const PRODUCT: [usize; 3] = [37, 53, 29];

fn product(backend: Backend, device: &Device) -> Result<(String, f64), String> {
    let [m, k, n] = PRODUCT;
    let value = |i: usize| ((i * 7919 + 13) % 101) as f32 / 101.0 - 0.5;
    let a: Vec<f32> = (0..m * k).map(value).collect();
    let b: Vec<f32> = (0..k * n).map(|i| value(i + 31)).collect();
    let tensor = |values: &[f32], shape| {
        Tensor::<2>::from_data(TensorData::new(values.to_vec(), shape), device)
    };
    let got = tensor(&a, [m, k])
        .matmul(tensor(&b, [k, n]))
        .try_into_vec_as::<f32>()
        .map_err(|e| format!("{e:?}"))?;
    let mut worst = 0.0f64;
    for row in 0..m {
        for column in 0..n {
            let want: f64 = (0..k)
                .map(|i| f64::from(a[row * k + i]) * f64::from(b[i * n + column]))
                .sum();
            let error = (f64::from(got[row * n + column]) - want).abs();
            // A comparison that a NaN does not slip through.
            if !(error <= 1e-3) {
                return Err(format!("a matrix product is off by {error:.3e}"));
            }
            worst = worst.max(error);
        }
    }
    Ok((own_name(backend, device), worst))
}

fn own_name(backend: Backend, device: &Device) -> String {
    #[cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm"))]
    if backend != Backend::Cpu
        && let Some(identity) = device.identity()
    {
        return identity.name;
    }
    match backend {
        Backend::Cpu => hardware().processor,
        _ => format!("{device:?}"),
    }
}

/// What a figure was measured on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hardware {
    /// The processor's name.
    pub processor: String,
    /// Its cores, as the system counts them.
    pub cores: usize,
    /// Main memory in bytes.
    pub memory_bytes: u64,
    /// The operating system.
    pub os: String,
}

/// This machine.
pub fn hardware() -> Hardware {
    use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};
    let what = RefreshKind::nothing()
        .with_cpu(CpuRefreshKind::nothing())
        .with_memory(MemoryRefreshKind::nothing().with_ram());
    // What the system does not tell is left out, not guessed.
    let system = System::new_with_specifics(what).ok();
    let brand = system
        .as_ref()
        .and_then(|s| s.cpus().first())
        .map(|cpu| cpu.brand().trim().to_owned());
    Hardware {
        processor: brand.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: system.map_or(0, |s| s.total_memory()),
        os: System::long_os_version().unwrap_or_else(|_| std::env::consts::OS.to_owned()),
    }
}

/// The most memory this process has held at once; `None` where the system does not say.
pub fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn choices_read_back() {
        for text in ["auto", "cpu", "wgpu", "wgpu:1", "vulkan:0", "metal", "cuda:3", "rocm"] {
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
        assert_eq!(select("cpu".parse().unwrap()).unwrap().name, "cpu");
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
}
