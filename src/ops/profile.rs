//! Where the time goes: named spans, added up between [`start`] and [`stop`].
//!
//! A span ends when the call returns. On the processor that is when the work is done; a GPU may only
//! have been told of it by then.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::stop;

static ON: AtomicBool = AtomicBool::new(false);
static SPANS: Mutex<BTreeMap<&'static str, Span>> = Mutex::new(BTreeMap::new());

/// What one name's spans come to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Span {
    /// Seconds, added up.
    pub seconds: f64,
    /// How many there were.
    pub count: u64,
}

/// Begins to count; what was counted before is forgotten.
pub(crate) fn start() {
    SPANS.lock().unwrap_or_else(PoisonError::into_inner).clear();
    ON.store(true, Ordering::Relaxed);
}

/// Stops counting and returns what was counted, by name.
pub(crate) fn stop() -> BTreeMap<&'static str, Span> {
    ON.store(false, Ordering::Relaxed);
    std::mem::take(&mut SPANS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Does not count until what this returns is dropped.
#[must_use = "a pause lasts as long as what this returns"]
pub(crate) fn pause() -> Pause {
    Pause(ON.swap(false, Ordering::Relaxed))
}

/// A time that is not counted.
#[derive(Debug)]
pub(crate) struct Pause(bool);

impl Drop for Pause {
    fn drop(&mut self) {
        ON.fetch_or(self.0, Ordering::Relaxed);
    }
}

/// A span from now until it is dropped. Every operation begins with one, so here an update that is told to stop is
/// given up.
#[must_use = "a span lasts as long as what this returns"]
pub(crate) fn span(name: &'static str) -> Timer {
    stop::give_up_if_asked();
    let began = ON.load(Ordering::Relaxed).then(Instant::now);
    Timer { name, began }
}

/// A span that has not ended yet.
#[derive(Debug)]
pub(crate) struct Timer {
    name: &'static str,
    began: Option<Instant>,
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(began) = self.began {
            let seconds = began.elapsed().as_secs_f64();
            let mut spans = SPANS.lock().unwrap_or_else(PoisonError::into_inner);
            let span = spans.entry(self.name).or_default();
            span.seconds += seconds;
            span.count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_add_up_only_while_asked_for() {
        drop(span("before"));
        start();
        for _ in 0..3 {
            let _span = span("test span");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let spans = stop();
        drop(span("after"));
        start();
        {
            let _pause = pause();
            drop(span("paused"));
        }
        drop(span("resumed"));
        let later = stop();
        assert!(later.contains_key("resumed") && !later.contains_key("paused"));
        // Other tests may leave spans of their own.
        assert_eq!(spans["test span"].count, 3);
        assert!(spans["test span"].seconds >= 6e-3);
        assert!(!spans.contains_key("before") && !stop().contains_key("after"));
    }
}
