//! The threads on which batches are made.

use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuilder};

/// The threads that make batches: a pool of their own, or the shared pool of one thread per core.
#[derive(Clone, Debug)]
pub(super) struct Workers(Option<Arc<ThreadPool>>);

impl Workers {
    /// A pool of `count` threads; the shared one for 0, and where the system refuses more threads.
    pub(super) fn new(count: usize) -> Workers {
        let pool = (count > 0).then(|| ThreadPoolBuilder::new().num_threads(count).build().ok());
        Workers(pool.flatten().map(Arc::new))
    }

    /// Runs `work` on these threads.
    pub(super) fn install<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.0 {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}
