//! The data sets that a command opens.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::dir::RunDir;
use super::error::RunError;
use crate::data::{DataError, Dataset};

/// Opens data sets, and keeps the last one, so that it is not opened again when the next run uses it
/// too: opening a `.tar.gz` unpacks all of it.
#[derive(Debug, Default)]
pub(crate) struct OpenData {
    last: Option<(Option<PathBuf>, Arc<Dataset>)>,
}

impl OpenData {
    /// The data set at `path`; default: the embedded sample. With `strict`, a data set whose layout
    /// leaves files out is an error.
    ///
    /// # Errors
    ///
    /// [`DataError`].
    pub(crate) fn open(
        &mut self,
        path: Option<&Path>,
        strict: bool,
    ) -> Result<Arc<Dataset>, DataError> {
        let dataset = match self.last.take() {
            Some((opened, dataset)) if opened.as_deref() == path => dataset,
            // At most one data set is in memory.
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

/// Why the data set that a run was trained on cannot be opened.
pub(super) fn data_of_run(run: &RunDir, error: DataError) -> RunError {
    match error {
        DataError::Missing { path } => RunError::DataGone {
            path,
            run: run.root().to_owned(),
        },
        other => other.into(),
    }
}
