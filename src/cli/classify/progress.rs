//! How far `classify` is, on a terminal.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::output::interactive;

/// Work that ends before that shows no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// A bar on stderr, below everything else that is printed.
pub(super) struct Progress {
    begun: Instant,
    bar: Option<ProgressBar>,
    done: usize,
    /// The number of pictures as far as it is known.
    known: Arc<AtomicUsize>,
    /// Whether more may be named later.
    is_open: bool,
}

impl Progress {
    pub(super) fn new(known: Arc<AtomicUsize>, is_open: bool) -> Self {
        Self {
            begun: Instant::now(),
            bar: None,
            done: 0,
            known,
            is_open,
        }
    }

    /// Redraws, with so many pictures done.
    pub(super) fn advance(&mut self, done: usize) {
        self.done = done;
        if !interactive() || self.begun.elapsed() < PATIENCE {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let template = match self.is_open {
                true => "{pos} pictures, {per_sec}",
                false => "[{bar:12}] {pos}/{len} pictures, {per_sec}, ETA {eta}",
            };
            let bar = ProgressBar::new(0).with_elapsed(self.begun.elapsed());
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        bar.set_length(self.known.load(Ordering::Relaxed).max(self.done) as u64);
        bar.set_position(self.done as u64);
    }

    /// Prints something without the bar in its way.
    pub(super) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Removes the bar.
    pub(super) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
