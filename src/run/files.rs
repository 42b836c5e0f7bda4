//! Files of a run: whole, or not there.

use std::path::Path;

use super::error::RunError;
use crate::whole_file;

/// Writes a file under a temporary name and renames it once it is whole.
///
/// # Errors
///
/// [`RunError::Write`], which names the file; what stood there before is then untouched.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    whole_file::write(path, bytes).map_err(cannot_write(path))
}

/// Makes a folder and those that it lies in.
///
/// # Errors
///
/// [`RunError::Write`], which names the folder.
pub(super) fn make_folder(path: &Path) -> Result<(), RunError> {
    std::fs::create_dir_all(path).map_err(cannot_write(path))
}

fn cannot_write(path: &Path) -> impl FnOnce(std::io::Error) -> RunError {
    let path = path.to_owned();
    |source| RunError::Write { path, source }
}
