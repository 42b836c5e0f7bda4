//! The data of a run, opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::data::{DataError, Dataset};

/// Opens data sets, and keeps the last one open for whoever names it again: each opening of a
/// `.tar.gz` unpacks all of it.
#[derive(Debug, Default)]
pub struct OpenData {
    last: Option<(Option<PathBuf>, Arc<Dataset>)>,
}

impl OpenData {
    /// The data set at `path`, or the embedded one. With `strict`, one whose layout leaves something
    /// out is refused.
    ///
    /// # Errors
    ///
    /// [`DataError`].
    pub fn open(&mut self, path: Option<&Path>, strict: bool) -> Result<Arc<Dataset>, DataError> {
        let dataset = match self.last.take() {
            Some((opened, dataset)) if opened.as_deref() == path => dataset,
            // Two data sets are never held at a time.
            other => {
                drop(other);
                Arc::new(match path {
                    Some(path) => Dataset::open(path)?,
                    None => Dataset::embedded(),
                })
            }
        };
        self.last = Some((path.map(Path::to_owned), Arc::clone(&dataset)));
        match dataset.skipped.first() {
            Some(first) if strict => Err(DataError::Strict {
                name: first.name.clone(),
                reason: first.reason.clone(),
                others: 0,
            }),
            _ => Ok(dataset),
        }
    }
}
