//! The check of a device: a small matrix product, in a process that its driver may crash.

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
use super::enumerate;
use super::hardware::hardware;
use crate::panics;

/// The result of a passed check: the device computes a matrix product as the processor does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// The device's name.
    pub name: String,
    /// Largest absolute difference from the product in f64.
    pub max_abs_error: f64,
    /// Time from opening the device to its answer, in milliseconds.
    pub elapsed_ms: u64,
}

/// The command of our own binary that checks one device and exits.
pub const PROBE_COMMAND: &str = "__probe";

/// Longest time that a device may take to open and answer. Tuning a first product took 5 to 16 s on
/// software adapters here, on an idle machine.
const TIME_LIMIT: Duration = Duration::from_secs(120);

static PROBE: OnceLock<PathBuf> = OnceLock::new();

/// Makes checks run as `program __probe DEVICE`, each in a process of its own.
///
/// Otherwise they run on a thread of this process, where a driver that aborts ends the process.
pub fn probe_with(program: PathBuf) {
    // A second call would name the same program.
    let _ = PROBE.set(program);
}

/// Checks an adapter, in a process of its own after [`probe_with`].
///
/// # Errors
///
/// How it failed.
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
            Ok(None) if start.elapsed() < TIME_LIMIT => thread::sleep(Duration::from_millis(5)),
            _ => {
                // It hangs in its driver.
                let _ = child.kill();
                let _ = child.wait();
                return Err(no_answer());
            }
        }
    }
    // The answer is one short line, which fits into the pipe's buffer.
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    serde_json::from_slice::<Result<Check, String>>(&output.stdout)
        .unwrap_or_else(|_| Err(format!("its driver ended the check with {}", output.status)))
}

fn no_answer() -> String {
    format!("no answer within {} s", TIME_LIMIT.as_secs())
}

/// Checks one device in this process.
///
/// # Errors
///
/// How it failed.
pub fn try_here(choice: DeviceChoice) -> Result<Check, String> {
    let DeviceChoice::Named(backend, index) = choice else {
        return Err("auto is no single device".to_owned());
    };
    let adapter = enumerate::adapters(backend)
        .into_iter()
        .nth(index.unwrap_or(0))
        .ok_or("it is not there")?;
    let (send, receive) = mpsc::channel();
    // On a thread of its own, which is abandoned if the driver hangs.
    thread::Builder::new()
        .name("probe".to_owned())
        .spawn(move || {
            let answer = panics::catch_silently(AssertUnwindSafe(|| product(&adapter)));
            // After the time limit the receiver is gone.
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
        .recv_timeout(TIME_LIMIT)
        .unwrap_or_else(|_| Err(no_answer()))
}

/// Sizes m, k and n of the product: odd, so that no tile fits evenly.
const PRODUCT: [usize; 3] = [37, 53, 29];

/// Largest absolute error that passes, for entries within ±0.5. Matrix units that round f32 to ten bits
/// (TF32) stay within 2e-3 on these sums; a wrong kernel is off by 0.1 or more, or gives NaN.
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

/// The device's name: CUDA and ROCm tell it only once the device is open.
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
