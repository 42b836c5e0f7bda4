//! Signals as a terminal gives them.

/// The programs that this process starts from now on answer Ctrl-C, SIGTERM and SIGHUP, also where whoever started the
/// tests ignores them, as a shell does for what it runs in the background.
pub(crate) fn answer() {
    #[cfg(unix)]
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the default action runs no code of ours.
        #[allow(unsafe_code)]
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}
