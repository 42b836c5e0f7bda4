//! Settings of the whole process: its memory, and its end.

/// Tells mimalloc never to hand freed pages back to the kernel: a training step frees and needs
/// the same hundreds of megabytes again at once, and a fifth of its time went into clearing them.
pub fn keep_pages() {
    /// `mi_option_purge_delay` in `mimalloc.h`, which the bindings leave out; −1 is "never".
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: sets one number of the allocator, before any other thread exists; mimalloc checks
    // the option's index against its own table.
    #[allow(unsafe_code)]
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, -1);
    }
}

/// Takes memory in small pages from now on, on Linux: for work that is over before a large page has
/// paid for being cleared whole. Up to half of a cold start went into that; long work is 2 to 4 % faster in
/// large pages.
pub fn small_pages() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: a flag of this process; no memory is touched. Where the kernel lacks it, it says so
        // and nothing changes.
        #[allow(unsafe_code)]
        unsafe {
            libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
        }
    }
}

/// Ends the process at once, without running the destructors of drivers.
///
/// CubeCL's threads outlive `main`, and a driver that is torn down under them may fault: seen with
/// SwiftShader as a segmentation fault after all work was done, which turned success into failure.
/// Whoever calls this has written and flushed everything.
pub fn leave(code: u8) -> ! {
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
