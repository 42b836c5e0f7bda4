//! The `vitrine` binary: parse, run, exit code.

/// mimalloc reuses the large, short-lived buffers of a training step that the system allocator
/// returns to the kernel and faults in again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    keep_pages();
    vitrine::device::leave(vitrine::cli::main())
}

/// Tells mimalloc never to hand freed pages back to the kernel: a training step frees and needs
/// the same hundreds of megabytes again at once, and a fifth of its time went into clearing them.
fn keep_pages() {
    /// `mi_option_purge_delay` in `mimalloc.h`, which the bindings leave out; −1 is "never".
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: sets one number of the allocator, before any other thread exists; mimalloc checks
    // the option's index against its own table.
    #[allow(unsafe_code)]
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, -1);
    }
}
