//! This machine, for the record of a run.

use serde::{Deserialize, Serialize};

use super::error::DeviceError;

/// The hardware and system on which figures are measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hardware {
    /// The processor's name.
    pub processor: String,
    /// Number of hardware threads that this process may use.
    pub cores: usize,
    /// Main memory, in bytes; 0 where the system does not tell.
    pub memory_bytes: u64,
    /// The operating system.
    pub os: String,
}

/// The hardware and system of this machine.
pub fn hardware() -> Hardware {
    use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};
    let what = RefreshKind::nothing()
        .with_cpu(CpuRefreshKind::nothing())
        .with_memory(MemoryRefreshKind::nothing().with_ram());
    // What the system does not tell is left empty, not guessed.
    let system = System::new_with_specifics(what).ok();
    let brand = system
        .as_ref()
        .and_then(|s| s.cpus().first())
        .map(|cpu| cpu.brand().trim().to_owned())
        .filter(|brand| !brand.is_empty());
    Hardware {
        processor: brand.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: system.map_or(0, |s| s.total_memory()),
        os: System::long_os_version().unwrap_or_else(|_| std::env::consts::OS.to_owned()),
    }
}

/// Peak memory of this process, in bytes, without that of GPUs; `None` where the system does not tell,
/// which is everywhere but on Linux.
pub fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Sets the number of threads of the global pool, which decodes and augments pictures and on which the
/// CPU backend computes. Threads of drivers and file readers are not counted.
///
/// # Errors
///
/// [`DeviceError::Threads`] when the pool is already running: it cannot be resized.
pub fn set_threads(threads: usize) -> Result<(), DeviceError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|_| DeviceError::Threads {
            threads,
            running: rayon::current_num_threads(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_name_and_a_core() {
        let here = hardware();
        assert!(!here.processor.is_empty() && !here.os.is_empty());
        assert!(here.cores >= 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_held_is_counted() {
        let peak = peak_memory_bytes();
        assert!(peak.is_some_and(|bytes| bytes > 1 << 20), "{peak:?}");
        assert!(peak.is_some_and(|bytes| bytes < hardware().memory_bytes));
    }
}
