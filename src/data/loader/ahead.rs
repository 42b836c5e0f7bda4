//! Makes batches in advance, on a thread of their own.

use std::ops::Range;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::batch::Batch;
use crate::data::error::DataError;
use crate::panics::message;
use crate::stop::Stop;

/// How often a wait for a batch looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(20);

/// An iterator over batches that are made in advance on a thread of their own: while one is used, the next two are made.
///
/// It ends after the last batch or after an error, of which [`DataError::Stopped`] is one. When it is dropped early, its thread stops by itself; dropping does
/// not wait for it.
#[derive(Debug)]
pub struct Batches {
    made: Receiver<Result<Batch, DataError>>,
    thread: Option<JoinHandle<()>>,
    waited: Duration,
    stop: Stop,
}

impl Batches {
    pub(super) fn ahead(
        steps: Range<usize>,
        stop: &Stop,
        mut make: impl FnMut(usize) -> Result<Batch, DataError> + Send + 'static,
    ) -> Batches {
        // One batch waits in the channel, and the thread holds the next one.
        let (send, made) = sync_channel(1);
        let refused = send.clone();
        let produce = move || {
            for step in steps {
                let batch = make(step);
                let failed = batch.is_err();
                // Sending fails when the iterator was dropped early.
                if send.send(batch).is_err() || failed {
                    return;
                }
            }
        };
        let thread = thread::Builder::new()
            .name("batches".to_owned())
            .spawn(produce);
        if let Err(error) = &thread {
            let reason = format!("it cannot be started: {error}");
            // The channel is empty and open: this neither blocks nor fails.
            let _ = refused.send(Err(DataError::Worker { reason }));
        }
        Batches {
            made,
            thread: thread.ok(),
            waited: Duration::ZERO,
            stop: stop.clone(),
        }
    }

    /// Total time that [`next`](Iterator::next) has waited.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let begin = Instant::now();
        let made = loop {
            // A batch of large photographs takes longer to make than anyone waits for a stop.
            if self.stop.is_requested() {
                return self.thread.take().map(|_| Err(DataError::Stopped));
            }
            match self.made.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) => {}
                made => break made,
            }
        };
        self.waited += begin.elapsed();
        if let Ok(batch) = made {
            return Some(batch);
        }
        let ended = self.thread.take()?.join();
        ended.err().map(|panic| {
            Err(DataError::Worker {
                reason: message(&*panic),
            })
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::batch::Targets;
    use super::*;

    #[test]
    fn a_panic_becomes_an_error() {
        let mut batches = Batches::ahead(0..3, &Stop::default(), |step| {
            assert!(step < 1, "no step {step}");
            Ok(Batch {
                images: Vec::new(),
                image_size: 1,
                len: 0,
                targets: Targets::Hard(Vec::new()),
                indices: Vec::new(),
            })
        });
        assert!(batches.next().unwrap().is_ok());
        let error = batches.next().unwrap().unwrap_err().to_string();
        assert_eq!(error, "the thread that makes batches failed: no step 1");
        assert!(batches.next().is_none());
    }

    #[test]
    fn a_wait_ends_when_it_is_told_to_stop() {
        let stop = Stop::default();
        let mut batches = Batches::ahead(0..9, &stop, |_| {
            thread::sleep(Duration::from_secs(5));
            Err(DataError::Worker {
                reason: String::new(),
            })
        });
        let begin = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(50));
                stop.request();
            });
            assert!(matches!(batches.next(), Some(Err(DataError::Stopped))));
        });
        assert!(begin.elapsed() < Duration::from_secs(3));
        assert!(batches.next().is_none());
    }

    #[test]
    fn waiting_is_measured() {
        let mut batches = Batches::ahead(0..1, &Stop::default(), |_| {
            thread::sleep(Duration::from_millis(30));
            Err(DataError::Worker {
                reason: String::new(),
            })
        });
        assert!(batches.next().is_some());
        assert!(batches.waited() >= Duration::from_millis(20));
    }
}
