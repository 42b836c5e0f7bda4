//! Trying a device with a small matrix product, where its driver can do no harm.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::adapter::Adapter;
#[cfg(feature = "wgpu")]
use super::adapter::Address;
use super::backend::Backend;
use super::choice::DeviceChoice;
use super::hardware::hardware;
use super::{enumerate, panics};

/// A device that computed a matrix product as the processor does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Its own name.
    pub name: String,
    /// Largest difference from the product in f64.
    pub max_abs_error: f64,
    /// Time from opening it to the answer.
    pub elapsed_ms: u64,
}

/// The argument that makes our own binary try one device and exit.
pub const PROBE_COMMAND: &str = "__probe";

/// How long a device may take to open and answer. Tuning a first product took 5 to 16 s on
/// software adapters here, on an idle machine.
const PATIENCE: Duration = Duration::from_secs(120);

static PROBE: OnceLock<PathBuf> = OnceLock::new();

/// From now on devices are tried by `program __probe DEVICE`, in a process of their own.
///
/// Without this they are tried on a thread of this process, where a driver that aborts takes the
/// process with it.
pub fn probe_with(program: PathBuf) {
    // A second call would name the same program.
    let _ = PROBE.set(program);
}

/// Tries an adapter: in a process of its own where there is a program for that.
///
/// # Errors
///
/// What it did instead of computing.
pub(super) fn check(adapter: &Adapter) -> Result<Check, String> {
    #[cfg(feature = "wgpu")]
    if let Address::Unreachable(reason) = adapter.address {
        return Err(reason.to_owned());
    }
    match PROBE.get() {
        Some(program) if adapter.backend != Backend::Cpu => {
            check_in_child(program, adapter.choice())
        }
        _ => try_here(adapter.choice()),
    }
}

fn check_in_child(program: &Path, choice: DeviceChoice) -> Result<Check, String> {
    let mut child = Command::new(program)
        .args([PROBE_COMMAND, &choice.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("its check cannot start: {e}"))?;
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(_)) => break,
            Ok(None) if start.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(5)),
            _ => {
                // It hangs in its driver: nothing it still says would help.
                let _ = child.kill();
                let _ = child.wait();
                return Err(no_answer());
            }
        }
    }
    // The answer is one short line, which a pipe holds until it is read.
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    serde_json::from_slice::<Result<Check, String>>(&output.stdout)
        .unwrap_or_else(|_| Err(format!("its driver ended the check with {}", output.status)))
}

fn no_answer() -> String {
    format!("no answer within {} s", PATIENCE.as_secs())
}

/// Tries one device in this process.
///
/// # Errors
///
/// What the device did instead of computing.
pub fn try_here(choice: DeviceChoice) -> Result<Check, String> {
    let DeviceChoice::Named(backend, index) = choice else {
        return Err("auto is no single device".to_owned());
    };
    let adapter = enumerate::adapters(backend)
        .into_iter()
        .nth(index.unwrap_or(0))
        .ok_or("it is not there")?;
    let (send, receive) = mpsc::channel();
    // A thread of its own, which is left behind should the driver hang.
    thread::Builder::new()
        .name("probe".to_owned())
        .spawn(move || {
            let answer = panics::catch_silently(AssertUnwindSafe(|| product(&adapter)));
            // Nobody listens any more once patience is over.
            let _ = send.send(answer.unwrap_or_else(|panic| {
                let text = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied());
                Err(format!("it panicked: {}", text.unwrap_or("no message")))
            }));
        })
        .map_err(|e| format!("its check cannot start: {e}"))?;
    receive
        .recv_timeout(PATIENCE)
        .unwrap_or_else(|_| Err(no_answer()))
}

/// Odd sizes, so that no tile fits evenly.
const PRODUCT: [usize; 3] = [37, 53, 29];

/// Entries are within ±0.5. Matrix units that round f32 to ten bits (TF32) stay within 2e-3 on
/// these sums; a kernel that is wrong is off by a tenth or more, or not a number.
const TOLERANCE: f64 = 1e-2;

fn product(adapter: &Adapter) -> Result<Check, String> {
    let start = Instant::now();
    let device = enumerate::open(adapter)?;
    let [m, k, n] = PRODUCT;
    let value = |i: usize| ((i * 7919 + 13) % 101) as f32 / 101.0 - 0.5;
    let a: Vec<f32> = (0..m * k).map(value).collect();
    let b: Vec<f32> = (0..k * n).map(|i| value(i + 31)).collect();
    let tensor = |values: &[f32], shape| {
        Tensor::<2>::from_data(TensorData::new(values.to_vec(), shape), &device)
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
            if error.is_nan() || error > TOLERANCE {
                return Err(format!("a matrix product is off by {error:.1e}"));
            }
            worst = worst.max(error);
        }
    }
    Ok(Check {
        name: own_name(adapter, &device),
        max_abs_error: worst,
        elapsed_ms: start.elapsed().as_millis() as u64,
    })
}

/// CUDA and ROCm name a card only once it is open.
fn own_name(adapter: &Adapter, device: &Device) -> String {
    #[cfg(any(feature = "cuda", feature = "rocm"))]
    if matches!(adapter.backend, Backend::Cuda | Backend::Rocm)
        && let Some(identity) = device.identity()
    {
        return identity.name;
    }
    let _ = device;
    match adapter.backend {
        Backend::Cpu => hardware().processor,
        _ => adapter.name.clone(),
    }
}
