//! What can go wrong in opening a device.

use thiserror::Error;

/// Why a device cannot be used.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// Text that is not a device.
    #[error("{text:?} is not a device: expected {expected}")]
    Spelling {
        /// The text.
        text: String,
        /// All spellings.
        expected: String,
    },
    /// A backend that is not compiled in.
    #[error(
        "this vitrine was built without {name}: build it with `cargo build --release --features {name}`, or choose {there}"
    )]
    NotCompiled {
        /// The backend.
        name: &'static str,
        /// The devices that there are, in words.
        there: String,
    },
    /// A device that this machine does not have.
    #[error("no device {choice} here ({found}); there is {there}")]
    Absent {
        /// The device that was chosen.
        choice: String,
        /// What the backend found instead.
        found: String,
        /// The devices that there are, in words.
        there: String,
    },
    /// A device that fails its check.
    #[error("{name} failed its check: {reason}; choose {there}, or repair its driver")]
    Failed {
        /// The device.
        name: String,
        /// How it failed.
        reason: String,
        /// The devices that there are, in words.
        there: String,
    },
    /// A thread pool that is already running.
    #[error("cannot set {threads} threads: work has begun on {running}; set them first")]
    Threads {
        /// The number of threads to set.
        threads: usize,
        /// The number of threads of the pool.
        running: usize,
    },
}
