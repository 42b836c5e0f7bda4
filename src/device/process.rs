//! Settings of the whole process: its memory, and its end.

/// Makes mimalloc keep freed pages instead of returning them to the kernel: a training step frees and
/// allocates the same hundreds of megabytes, and the kernel's clearing took a fifth of its time.
pub fn keep_freed_pages() {
    /// `mi_option_purge_delay` in `mimalloc.h`, which the bindings leave out; −1 is "never".
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: sets one number of the allocator, before any other thread exists; mimalloc checks
    // the option's index against its own table.
    #[allow(unsafe_code)]
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, -1);
    }
}

/// Makes a write past the file-size limit (`ulimit -f`) an error like that of a full disk, instead of a signal
/// that ends the process without a word.
pub fn report_file_size_limit() {
    #[cfg(unix)]
    {
        // SAFETY: sets how this process takes one signal, before any other thread exists.
        #[allow(unsafe_code)]
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        }
    }
}

/// Turns off transparent huge pages for this process, on Linux: clearing huge pages took up to half of a
/// cold start. Long work is 2 to 4 % faster with them.
pub fn disable_huge_pages() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: a flag of this process; no memory is touched. A kernel without it returns an error and
        // changes nothing.
        #[allow(unsafe_code)]
        unsafe {
            libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
        }
    }
}

/// Ends the process at once, without running the destructors of drivers.
///
/// CubeCL's threads outlive `main`, and a driver that is unloaded while they run may crash: seen with
/// SwiftShader as a segmentation fault after all work was done, which turned success into failure.
/// The caller must have written and flushed everything.
pub fn exit_now(code: u8) -> ! {
    #[cfg(unix)]
    {
        // SAFETY: `_exit` takes any number and does not return; no memory is touched.
        #[allow(unsafe_code)]
        unsafe {
            libc::_exit(i32::from(code))
        }
    }
    #[cfg(not(unix))]
    std::process::exit(i32::from(code))
}
