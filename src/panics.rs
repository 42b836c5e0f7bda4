//! Panics of drivers and decoders: caught, and kept off the terminal.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, UnwindSafe, catch_unwind};
use std::sync::Once;
use std::thread;

thread_local! {
    static SILENT: Cell<bool> = const { Cell::new(false) };
}

/// [`catch_unwind`] without the message that a panic prints: the caller reports it.
pub(crate) fn catch_silently<T>(work: impl FnOnce() -> T + UnwindSafe) -> thread::Result<T> {
    silence_device_threads();
    let before = SILENT.replace(true);
    let result = catch_unwind(work);
    SILENT.set(before);
    result
}

/// Keeps the panic messages of CubeCL's device threads off the terminal.
///
/// They survive some panics: on a software adapter, a throughput probe allocates more memory than there is. A panic that
/// they do not survive reaches the caller as one with the same message.
pub(crate) fn silence_device_threads() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let thread = thread::current();
            let is_device_thread = thread
                .name()
                .is_some_and(|name| name.starts_with("DSD-") || name.starts_with("DSU-"));
            if !is_device_thread && !SILENT.get() {
                previous(info);
            }
        }));
    });
}

/// The message of a panic.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "a panic without words".to_owned(),
    }
}
