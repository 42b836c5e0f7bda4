//! How a command is told to stop: by Ctrl-C, or by a signal that ends processes.

use std::io;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::output::note;
use crate::device;
use crate::stop::Stop;
use crate::whole_file;

/// What a shell adds to the number of the signal that ended a command.
const ENDED_BY: i32 = 128;

/// How long a command that is asked to stop, and has nothing to save, is given to end by itself. A picture
/// takes this long, a whole archive or one update of a large model longer.
const GRACE: Duration = Duration::from_millis(700);

/// The variable by which a command knows that its standard input is a pipe from the one that started it, which
/// closes when that wants it to stop, or ends however it ends.
const PARENT: &str = "VITRINE_PARENT_ON_STDIN";

/// The first signal that came; 0 before.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// What the command does about one.
struct Manners {
    /// Said where the process is ended as it stands; `None` while it has something to save.
    last_words: Option<String>,
    /// Asked first where the command ends by itself, with what is said while it saves.
    asked: Option<(Stop, String)>,
    /// What is left can be continued: it ends with an exit code of its own, and does not die of the signal.
    is_continued: bool,
}

static MANNERS: Mutex<Manners> = Mutex::new(Manners {
    last_words: None,
    asked: None,
    is_continued: false,
});

fn manners() -> MutexGuard<'static, Manners> {
    MANNERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on Ctrl-C, SIGTERM and SIGHUP are answered as the command says; `words` until it says something
/// else. Signals that were ignored when the program started, as `nohup` does with SIGHUP, stay ignored.
///
/// # Errors
///
/// The system's. To be called before there are other threads.
pub(super) fn listen(words: &str) -> io::Result<()> {
    nothing_to_save(words);
    signals::listen(on_signal)
}

/// From now on the command also stops with the one that [started](wait) it, if one did: that may be killed so
/// that it can tell nobody, and may be gone already.
pub(super) fn end_with_parent() {
    if std::env::var_os(PARENT).is_none() {
        return;
    }
    thread::spawn(|| {
        // Nothing is ever sent: this returns once the other end is closed.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        // After a signal of its own it is stopping already.
        if SIGNAL.load(Ordering::SeqCst) == 0 {
            on_signal(signals::TERMINATE);
        }
    });
}

fn on_signal(signal: i32) {
    let is_first = SIGNAL
        .compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst)
        .is_ok();
    // Held where the process ends, so that the command does not say its own last words too.
    let manners = manners();
    match (&manners.asked, &manners.last_words) {
        (Some((stop, saving)), words) if is_first => {
            note(match words {
                None => saving.as_str(),
                Some(_) => "stopping (press Ctrl-C again to exit at once)",
            });
            stop.request();
            thread::spawn(exit_when_nothing_is_lost);
        }
        (_, Some(words)) => {
            note(words);
            exit(&manners);
        }
        (_, None) => {
            note("ended at once: what was saved before stays");
            exit(&manners);
        }
    }
}

/// From now on the first signal only requests this stop, and `saving` is said while the command has something to
/// save; the second one ends the process. A command that has [nothing to save](nothing_to_save) may also be
/// ended a little after the first.
pub(super) fn on_interrupt(saving: &str) -> Stop {
    let stop = Stop::default();
    manners().asked = Some((stop.clone(), saving.to_owned()));
    stop
}

/// Says something else while the command saves.
pub(super) fn say_while_saving(words: &str) {
    if let Some((_, saving)) = &mut manners().asked {
        words.clone_into(saving);
    }
}

/// The command leaves what can be continued: however it is stopped, it ends with an exit code.
pub(super) fn can_be_continued() {
    manners().is_continued = true;
}

/// From now on, until [`something_to_save`], a request to stop may end the process at any moment, with
/// these last words.
pub(super) fn nothing_to_save(words: &str) {
    manners().last_words = Some(words.to_owned());
}

/// From now on the process ends by itself.
pub(super) fn something_to_save() {
    manners().last_words = None;
}

fn exit_when_nothing_is_lost() {
    loop {
        thread::sleep(GRACE);
        let manners = manners();
        if let Some(words) = &manners.last_words {
            note(words);
            exit(&manners);
        }
    }
}

/// The exit code of a command that was told to stop, and has ended by itself; where nothing of it can be continued it
/// dies of the signal here, so that a shell's loop ends too.
pub(super) fn code() -> u8 {
    let signal = signal();
    if !manners().is_continued {
        signals::die(signal);
    }
    code_of(signal)
}

/// The first signal; that of Ctrl-C where it reached only a command that this one started.
fn signal() -> i32 {
    match SIGNAL.load(Ordering::SeqCst) {
        0 => signals::HANDLED[0],
        signal => signal,
    }
}

fn code_of(signal: i32) -> u8 {
    u8::try_from(ENDED_BY + signal).unwrap_or(u8::MAX)
}

/// Whether a command of this program ended because it was told to.
pub(super) fn was_told_to_stop(status: ExitStatus) -> bool {
    let codes = signals::HANDLED.map(|signal| i32::from(code_of(signal)));
    status.code().is_some_and(|code| codes.contains(&code))
}

fn exit(manners: &Manners) -> ! {
    whole_file::remove_unfinished();
    let signal = signal();
    if !manners.is_continued {
        signals::die(signal);
    }
    device::exit_now(code_of(signal))
}

/// Runs a training as a process of its own, which stops when that is requested of this one, or when this one ends.
pub(super) fn wait(command: &mut Command, stop: &Stop) -> io::Result<ExitStatus> {
    // The terminal's Ctrl-C must not reach it: that would be its second request.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    let mut child = command.env(PARENT, "1").stdin(Stdio::piped()).spawn()?;
    let mut pipe = child.stdin.take();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if stop.is_requested() {
            drop(pipe.take());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(unix)]
mod signals {
    use std::io;
    use std::mem::zeroed;
    use std::thread;

    /// The signals that are answered.
    pub(super) const HANDLED: [i32; 3] = [libc::SIGINT, TERMINATE, libc::SIGHUP];

    /// The one that asks a process to end.
    pub(super) const TERMINATE: i32 = libc::SIGTERM;

    /// Calls `act` with each signal, on a thread of its own.
    ///
    /// The signals are blocked in this thread and in those that it starts, and are waited for by one. Programs that
    /// are started do not inherit that: the standard library unblocks all signals in them.
    pub(super) fn listen(act: impl Fn(i32) + Send + 'static) -> io::Result<()> {
        // SAFETY: an all-zero set is one for `sigemptyset` to fill; the calls read and write it alone.
        #[allow(unsafe_code)]
        let set = unsafe {
            let mut set: libc::sigset_t = zeroed();
            libc::sigemptyset(&mut set);
            for signal in HANDLED.into_iter().filter(|&signal| !is_ignored(signal)) {
                libc::sigaddset(&mut set, signal);
            }
            match libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) {
                0 => set,
                error => return Err(io::Error::from_raw_os_error(error)),
            }
        };
        let wait = move || {
            loop {
                let mut signal = 0;
                // SAFETY: both are valid for the time of the call.
                #[allow(unsafe_code)]
                let error = unsafe { libc::sigwait(&set, &mut signal) };
                if error == 0 {
                    act(signal);
                }
            }
        };
        thread::Builder::new().spawn(wait).map(|_| ())
    }

    fn is_ignored(signal: i32) -> bool {
        // SAFETY: reads the setting and changes nothing; an all-zero `sigaction` is a valid one.
        #[allow(unsafe_code)]
        unsafe {
            let mut now: libc::sigaction = zeroed();
            libc::sigaction(signal, std::ptr::null(), &mut now) == 0
                && now.sa_sigaction == libc::SIG_IGN
        }
    }

    /// Ends this process as `signal` ends one that does not handle it.
    pub(super) fn die(signal: i32) {
        // SAFETY: the default action runs no code of ours; raising a signal has no preconditions.
        #[allow(unsafe_code)]
        unsafe {
            let mut set: libc::sigset_t = zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, signal);
            libc::signal(signal, libc::SIG_DFL);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
            libc::raise(signal);
        }
    }
}

/// Elsewhere there is Ctrl-C alone, and it reaches every process of the terminal by itself.
#[cfg(not(unix))]
mod signals {
    use std::io;

    /// The number that Ctrl-C has elsewhere.
    const CTRL_C: i32 = 2;

    pub(super) const HANDLED: [i32; 1] = [TERMINATE];

    pub(super) const TERMINATE: i32 = CTRL_C;

    pub(super) fn listen(act: impl Fn(i32) + Send + 'static) -> io::Result<()> {
        ctrlc::set_handler(move || act(CTRL_C)).map_err(io::Error::other)
    }

    pub(super) fn die(_signal: i32) {}
}

#[cfg(test)]
mod tests {
    use super::GRACE;

    #[test]
    fn the_document_states_how_long_a_command_goes_on() {
        let document = include_str!("../../docs/security.md");
        let stated = format!("while it has nothing to save | {} ms |", GRACE.as_millis());
        assert!(document.contains(&stated), "{stated}");
    }
}
