//! How far `classify` is, on a terminal.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::cli::output::interactive;

/// Work that ends before that shows no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// Pictures a second since the beginning: the latest alone would say little of pictures that come in groups.
fn write_rate(state: &ProgressState, out: &mut dyn Write) {
    let rate = state.pos() as f64 / state.elapsed().as_secs_f64();
    // A bar has nowhere to say that it cannot be drawn.
    let _ = write!(out, "{rate:.1} images/s");
}

/// A bar on stderr, below everything else that is printed.
pub(in crate::cli) struct Progress {
    begun: Instant,
    bar: Option<ProgressBar>,
    done: usize,
    /// The number of pictures as far as it is known.
    known: Arc<AtomicUsize>,
    /// Whether more may be named later.
    is_open: bool,
}

impl Progress {
    pub(in crate::cli) fn new(known: Arc<AtomicUsize>, is_open: bool) -> Self {
        Self {
            begun: Instant::now(),
            bar: None,
            done: 0,
            known,
            is_open,
        }
    }

    /// Redraws, with so many pictures done.
    pub(in crate::cli) fn advance(&mut self, done: usize) {
        self.done = done;
        if !interactive() || self.begun.elapsed() < PATIENCE {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let template = match self.is_open {
                true => "{pos} pictures, {rate}",
                false => "[{bar:12}] {pos}/{len} pictures, {rate}, ETA {eta}",
            };
            let bar = ProgressBar::new(0).with_elapsed(self.begun.elapsed());
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.with_key("rate", write_rate));
            }
            bar
        });
        bar.set_length(self.known.load(Ordering::Relaxed).max(self.done) as u64);
        bar.set_position(self.done as u64);
    }

    /// Prints something without the bar in its way.
    pub(in crate::cli) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Removes the bar.
    pub(in crate::cli) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
