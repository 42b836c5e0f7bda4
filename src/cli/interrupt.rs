//! How a training is told to stop: by Ctrl-C, or by a signal that ends processes.

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::output::note;

/// Set by the first request.
static STOP: AtomicBool = AtomicBool::new(false);

/// The first Ctrl-C (or SIGTERM, or SIGHUP) requests a stop, the second one exits at once. Signals that
/// were ignored when the program started, as `nohup` does with SIGHUP, stay ignored.
pub(super) fn on_interrupt(message: &'static str) -> anyhow::Result<&'static AtomicBool> {
    let ignored = signals::ignored();
    ctrlc::set_handler(move || {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        note(message);
    })?;
    signals::ignore(&ignored);
    Ok(&STOP)
}

/// Runs a training as a process of its own, and passes a request to stop on to it, once.
pub(super) fn wait(command: &mut Command, stop: &AtomicBool) -> io::Result<ExitStatus> {
    // The terminal's Ctrl-C must not reach it: that would be its second request.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    let mut child: Child = command.spawn()?;
    let mut is_told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if stop.load(Ordering::SeqCst) && !is_told {
            is_told = true;
            signals::terminate(&child);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(unix)]
mod signals {
    use std::process::Child;

    /// The handled signals that are ignored now.
    pub(super) fn ignored() -> Vec<libc::c_int> {
        [libc::SIGINT, libc::SIGTERM, libc::SIGHUP]
            .into_iter()
            .filter(|&signal| {
                // SAFETY: reads the setting and changes nothing; an all-zero `sigaction` is a valid one.
                #[allow(unsafe_code)]
                unsafe {
                    let mut now: libc::sigaction = std::mem::zeroed();
                    libc::sigaction(signal, std::ptr::null(), &mut now) == 0
                        && now.sa_sigaction == libc::SIG_IGN
                }
            })
            .collect()
    }

    pub(super) fn ignore(signals: &[libc::c_int]) {
        for &signal in signals {
            // SAFETY: ignoring a signal runs no code of ours.
            #[allow(unsafe_code)]
            unsafe {
                libc::signal(signal, libc::SIG_IGN);
            }
        }
    }

    pub(super) fn terminate(child: &Child) {
        let Ok(id) = libc::pid_t::try_from(child.id()) else {
            return;
        };
        // SAFETY: a signal to a child that has not been waited for, so that its number is still its own.
        #[allow(unsafe_code)]
        unsafe {
            libc::kill(id, libc::SIGTERM);
        }
    }
}

/// Elsewhere, Ctrl-C reaches every process of the terminal by itself.
#[cfg(not(unix))]
mod signals {
    use std::process::Child;

    pub(super) fn ignored() {}

    pub(super) fn ignore(_ignored: &()) {}

    pub(super) fn terminate(_child: &Child) {}
}
