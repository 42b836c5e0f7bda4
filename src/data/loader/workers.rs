//! The threads on which batches are made.

use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuilder};

/// The threads that make batches: a pool of their own, or the one a core that everything shares.
#[derive(Clone, Debug)]
pub(super) struct Workers(Option<Arc<ThreadPool>>);

impl Workers {
    /// A system that refuses more threads is no reason not to train: the shared ones do.
    pub(super) fn new(count: usize) -> Workers {
        let pool = (count > 0).then(|| ThreadPoolBuilder::new().num_threads(count).build().ok());
        Workers(pool.flatten().map(Arc::new))
    }

    pub(super) fn install<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.0 {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}
