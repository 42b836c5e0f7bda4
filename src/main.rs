//! The `vitrine` binary: parse, run, exit code.

use std::process::ExitCode;

/// mimalloc reuses the large, short-lived buffers of a training step that the system allocator
/// returns to the kernel and faults in again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    vitrine::cli::main()
}
