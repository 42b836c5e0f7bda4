//! The devices of this machine: listed, checked, selected and opened.
//!
//! Only this module and `ops` name a backend. A driver may panic, abort or hang at first use, and Burn
//! panics on another thread where a device is missing. So adapters are listed first, which is safe,
//! and then checked, each in a process of its own ([`probe_with`] sets the program to run); only one
//! that passes is opened here.

mod adapter;
mod backend;
mod choice;
mod enumerate;
mod error;
mod hardware;
mod probe;
mod process;
mod select;
#[cfg(feature = "wgpu")]
mod wgpu;

pub(crate) use backend::to_describe;
pub use backend::{Backend, Kind};
pub use choice::DeviceChoice;
pub use error::DeviceError;
pub use hardware::{Hardware, hardware, peak_memory_bytes, set_threads};
pub use probe::{Check, PROBE_COMMAND, probe_with, try_here};
pub use process::{disable_huge_pages, exit_now, keep_freed_pages, report_file_size_limit};
pub use select::{AdapterReport, Selected, select, survey};

#[cfg(not(any(feature = "cpu", feature = "wgpu", feature = "cuda", feature = "rocm")))]
compile_error!("vitrine needs a backend: build with --features cpu, wgpu, cuda or rocm");
