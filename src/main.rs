//! The `vitrine` binary: parse, run, exit code.

/// mimalloc reuses the large, short-lived buffers of a training step that the system allocator
/// returns to the kernel and faults in again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    vitrine::device::keep_freed_pages();
    vitrine::device::report_file_size_limit();
    vitrine::device::exit_now(vitrine::cli::main())
}
