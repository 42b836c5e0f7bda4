//! How a command is told to stop: by Ctrl-C, or by a signal that ends processes.

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::output::note;
use crate::device;
use crate::stop::Stop;
use crate::whole_file;

/// The exit code of a command that was told to stop.
const INTERRUPTED: u8 = 130;

/// How long a command that has nothing to save is given to end by itself. A picture takes this long, a
/// whole archive or one update of a large model longer.
const GRACE: Duration = Duration::from_millis(500);

/// What is said last by a command that has nothing to save; `None` while it has.
static LAST_WORDS: Mutex<Option<String>> = Mutex::new(None);

/// From the first Ctrl-C (or SIGTERM, or SIGHUP) on, a stop is requested; the second one exits at once. The
/// command may also be ended while it works, as long as it has [nothing to save](nothing_to_save); while it has
/// something, `saving` is said. Signals
/// that were ignored when the program started, as `nohup` does with SIGHUP, stay ignored.
pub(super) fn on_interrupt(saving: &'static str) -> anyhow::Result<Stop> {
    let stop = Stop::default();
    let (asked, is_again) = (stop.clone(), AtomicBool::new(false));
    handle(move || {
        if is_again.swap(true, Ordering::SeqCst) {
            exit();
        }
        let has_to_save = last_words().is_none();
        note(match has_to_save {
            true => saving,
            false => "stopping (press Ctrl-C again to exit at once)",
        });
        asked.request();
        thread::spawn(exit_when_nothing_is_lost);
    })?;
    Ok(stop)
}

/// A command that only writes what it has finished dies of the signal, and leaves no unfinished file.
pub(super) fn leave_nothing_unfinished() -> anyhow::Result<()> {
    handle(|| {
        whole_file::remove_unfinished();
        signals::die();
        exit();
    })
}

/// From now on, until [`something_to_save`], a request to stop may end the process at any moment, with
/// these last words.
pub(super) fn nothing_to_save(words: &str) {
    *last_words() = Some(words.to_owned());
}

/// From now on the process ends by itself.
pub(super) fn something_to_save() {
    *last_words() = None;
}

fn last_words() -> std::sync::MutexGuard<'static, Option<String>> {
    LAST_WORDS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn exit_when_nothing_is_lost() {
    loop {
        thread::sleep(GRACE);
        // Held to the end, so that the command does not say its own last words too.
        let words = last_words();
        if let Some(words) = &*words {
            note(words);
            exit();
        }
    }
}

fn exit() -> ! {
    whole_file::remove_unfinished();
    device::exit_now(INTERRUPTED)
}

fn handle(act: impl FnMut() + Send + 'static) -> anyhow::Result<()> {
    let ignored = signals::ignored();
    ctrlc::set_handler(act)?;
    signals::ignore(&ignored);
    Ok(())
}

/// Runs a training as a process of its own, and passes a request to stop on to it, once.
pub(super) fn wait(command: &mut Command, stop: &Stop) -> io::Result<ExitStatus> {
    // The terminal's Ctrl-C must not reach it: that would be its second request.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    let mut child: Child = command.spawn()?;
    let mut is_told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if stop.is_requested() && !is_told {
            is_told = true;
            signals::terminate(&child);
        }
        thread::sleep(Duration::from_millis(20));
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

    /// Ends this process as Ctrl-C ends one that does not handle it.
    pub(super) fn die() {
        // SAFETY: the default action runs no code of ours; raising a signal has no preconditions.
        #[allow(unsafe_code)]
        unsafe {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            libc::kill(libc::getpid(), libc::SIGINT);
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

    pub(super) fn die() {}

    pub(super) fn terminate(_child: &Child) {}
}
