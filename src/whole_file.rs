//! Files that are written whole or not at all: under a temporary name, which is given up once they are.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempPath;

/// How the names of unfinished files begin; a killed process may leave one behind.
pub const TEMPORARY: &str = ".vitrine-";

/// The unfinished files of this process.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn unfinished() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a file whole or not at all.
///
/// # Errors
///
/// The system's; a file that was there before is then untouched.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = Unfinished::beside(path)?;
    file.file.write_all(bytes)?;
    file.file.sync_all()?;
    file.replace(path)?;
    // Without it a power cut may take the new name back. Not every file system can do it.
    #[cfg(unix)]
    let _ = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A file under a temporary name, which is removed with this value.
#[derive(Debug)]
pub(crate) struct Unfinished {
    file: File,
    /// `None` once it has its name.
    path: Option<TempPath>,
}

impl Unfinished {
    /// An empty file in the folder of `path`.
    pub(crate) fn beside(path: &Path) -> io::Result<Self> {
        let folder = folder_of(path);
        let mut builder = tempfile::Builder::new();
        builder.prefix(TEMPORARY);
        // Temporary files are private; what we leave behind is as readable as any other file of this user.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut unfinished = unfinished();
        let (file, path) = builder.tempfile_in(folder)?.into_parts();
        unfinished.insert(path.to_path_buf());
        let path = Some(path);
        Ok(Self { file, path })
    }

    /// Where it lies until it has its name.
    pub(crate) fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(""))
    }

    /// Gives it its name; what has that name now is replaced.
    pub(crate) fn replace(self, path: &Path) -> io::Result<()> {
        self.named(|file| file.persist(path).map_err(|e| e.error))
    }

    /// Gives it its name, which nothing may have yet.
    pub(crate) fn create(self, path: &Path) -> io::Result<()> {
        self.named(|file| file.persist_noclobber(path).map_err(|e| e.error))
    }

    fn named(mut self, rename: impl FnOnce(TempPath) -> io::Result<()>) -> io::Result<()> {
        let Some(path) = self.path.take() else {
            return Ok(());
        };
        unfinished().remove(path.to_path_buf().as_path());
        rename(path)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            unfinished().remove(path.to_path_buf().as_path());
        }
    }
}

/// Removes the unfinished files of this process, and lets it begin none: the last act of a process that
/// is told to exit at once.
pub(crate) fn remove_unfinished() {
    let files = unfinished();
    for path in files.iter() {
        // A file that cannot be removed is no reason to stay.
        let _ = std::fs::remove_file(path);
    }
    std::mem::forget(files);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let name = |e: io::Result<std::fs::DirEntry>| e.unwrap().file_name().into_string().unwrap();
        entries.map(name).collect()
    }

    #[test]
    fn a_file_is_replaced_whole_or_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, b"old").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert!(Unfinished::beside(&path).unwrap().create(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        let taken = folder.path().join("folder");
        std::fs::create_dir(&taken).unwrap();
        std::fs::write(taken.join("inside"), "").unwrap();
        assert!(write(&taken, b"new").is_err());
        assert!(write(&folder.path().join("gone/file"), b"new").is_err());
        let mut left = names(folder.path());
        left.sort();
        assert_eq!(left, ["file", "folder"]);
    }

    #[test]
    fn what_is_unfinished_is_known_until_it_has_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = Unfinished::beside(&path).unwrap();
        let temporary = file.path().to_owned();
        assert!(unfinished().contains(&temporary));
        assert!(names(folder.path())[0].starts_with(TEMPORARY));
        file.replace(&path).unwrap();
        assert!(!unfinished().contains(&temporary));
        let dropped = Unfinished::beside(&path).unwrap();
        let temporary = dropped.path().to_owned();
        drop(dropped);
        assert!(!unfinished().contains(&temporary) && !temporary.exists());
    }
}
