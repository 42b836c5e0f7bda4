//! What can go wrong between a choice and its device.

use thiserror::Error;

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
    #[error("no device {choice} here ({found}); there is {there}")]
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
