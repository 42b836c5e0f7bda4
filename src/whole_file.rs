//! Files that are written whole or not at all: under a temporary name, which is given up once they are.
//! The few that are written in place, or only held, are opened without following a link.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempPath;

/// How the names of unfinished files begin; a killed process may leave one behind.
pub const TEMPORARY: &str = ".vitrine-";

/// Random letters and digits behind [`TEMPORARY`]: as many as no word of a person has.
const RANDOM: usize = 16;

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
    file.replace(path)
}

/// Whether a file of this name is unfinished, of this process or of one that was killed.
pub(crate) fn is_temporary(name: &str) -> bool {
    let random = name.strip_prefix(TEMPORARY).unwrap_or_default();
    random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Opens a file for reading and for writing in place; one that is not there is made, and one that is keeps
/// what it holds.
///
/// # Errors
///
/// The system's, and where the name is that of a link or of anything else but a plain file: whoever put it
/// there may have meant what it leads to.
pub(crate) fn open_in_place(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    // A named pipe would else be waited for.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        libc::O_NOFOLLOW | libc::O_NONBLOCK,
    );
    #[cfg(windows)]
    {
        /// `FILE_FLAG_OPEN_REPARSE_POINT`: the link itself.
        const LINK_ITSELF: u32 = 0x0020_0000;
        std::os::windows::fs::OpenOptionsExt::custom_flags(&mut options, LINK_ITSELF);
    }
    let opened = options.open(path);
    let kind = match &opened {
        Ok(file) => file.metadata()?.file_type(),
        Err(_) => match path.symlink_metadata() {
            Ok(found) => found.file_type(),
            Err(_) => return opened,
        },
    };
    let what = match kind {
        kind if kind.is_file() => return opened,
        kind if kind.is_symlink() => "a link",
        kind if kind.is_dir() => "a folder",
        _ => "no regular file",
    };
    Err(io::Error::other(format!(
        "it is {what}, which vitrine never makes there; remove it"
    )))
}

/// Holds the file at `path`, which is made, until what is returned is dropped, or the process ends; `None`
/// where another process holds it.
///
/// # Errors
///
/// As [`open_in_place`]'s.
pub(crate) fn hold(path: &Path) -> io::Result<Option<File>> {
    let file = open_in_place(path)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(None),
        // A file system without locks is no reason to do nothing.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(file)),
    }
}

/// Makes a name in this folder last: without it a power cut may take it back. Not every file system can.
fn keep_name(path: &Path) {
    #[cfg(unix)]
    let _ = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
    #[cfg(not(unix))]
    let _ = path;
}

/// Renames a file whose bytes are on the disk.
///
/// # Errors
///
/// The system's.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    keep_name(to);
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
        builder.prefix(TEMPORARY).rand_bytes(RANDOM);
        // Temporary files are private; what we leave behind is as readable as any other file of this user.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut unfinished = unfinished();
        let (file, path) = builder.tempfile_in(folder)?.into_parts();
        unfinished.insert(path.to_path_buf());
        let path = Some(path);
        Ok(Self { file, path })
    }

    /// The file, for whoever writes it in pieces.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Where it lies until it has its name.
    pub(crate) fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(""))
    }

    /// Writes it, and returns once that is on the disk.
    pub(crate) fn write_with(
        &mut self,
        write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut out = BufWriter::new(&self.file);
        write(&mut out)?;
        out.flush()?;
        drop(out);
        self.file.sync_all()
    }

    /// Gives it its name; what has that name now is replaced.
    pub(crate) fn replace(self, path: &Path) -> io::Result<()> {
        self.named(path, |file| file.persist(path).map_err(|e| e.error))
    }

    /// Gives it its name, which nothing may have yet.
    pub(crate) fn create(self, path: &Path) -> io::Result<()> {
        self.named(path, |file| {
            file.persist_noclobber(path).map_err(|e| e.error)
        })
    }

    fn named(
        mut self,
        path: &Path,
        rename: impl FnOnce(TempPath) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(temporary) = self.path.take() else {
            return Ok(());
        };
        unfinished().remove(temporary.to_path_buf().as_path());
        rename(temporary)?;
        keep_name(path);
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            unfinished().remove(path.to_path_buf().as_path());
        }
    }
}

/// A folder under a temporary name, which is removed with this value.
#[derive(Debug)]
pub(crate) struct UnfinishedFolder(Option<tempfile::TempDir>);

impl UnfinishedFolder {
    /// An empty folder in the folder of `path`.
    pub(crate) fn beside(path: &Path) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(TEMPORARY).rand_bytes(RANDOM);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        let mut unfinished = unfinished();
        let folder = builder.tempdir_in(folder_of(path))?;
        unfinished.insert(folder.path().to_owned());
        Ok(Self(Some(folder)))
    }

    /// Where it lies until it has its name.
    pub(crate) fn path(&self) -> &Path {
        self.0
            .as_ref()
            .map_or(Path::new(""), |folder| folder.path())
    }

    /// Gives it its name, which nothing may have yet but an empty folder.
    pub(crate) fn create(mut self, path: &Path) -> io::Result<()> {
        let Some(folder) = self.0.take() else {
            return Ok(());
        };
        keep_name(&folder.path().join("."));
        unfinished().remove(folder.path());
        // Removed where this fails.
        std::fs::rename(folder.path(), path)?;
        let _ = folder.keep();
        keep_name(path);
        Ok(())
    }
}

impl Drop for UnfinishedFolder {
    fn drop(&mut self) {
        if let Some(folder) = self.0.take() {
            unfinished().remove(folder.path());
        }
    }
}

/// Removes the unfinished files and folders of this process, and lets it begin none: the last act of a process that
/// is told to exit at once.
pub(crate) fn remove_unfinished() {
    let files = unfinished();
    for path in files.iter() {
        // What cannot be removed is no reason to stay.
        let _ = match path.is_dir() {
            true => std::fs::remove_dir_all(path),
            false => std::fs::remove_file(path),
        };
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
        assert!(is_temporary(&names(folder.path())[0]));
        file.replace(&path).unwrap();
        assert!(!unfinished().contains(&temporary));
        let dropped = Unfinished::beside(&path).unwrap();
        let temporary = dropped.path().to_owned();
        drop(dropped);
        assert!(!unfinished().contains(&temporary) && !temporary.exists());
    }

    #[test]
    fn a_file_of_someone_else_is_not_taken_for_an_unfinished_one() {
        for name in [".vitrine-notes", ".vitrine-backup", ".vitrine-", "notes"] {
            assert!(!is_temporary(name), "{name}");
        }
    }

    #[test]
    fn a_file_that_is_opened_in_place_keeps_what_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        drop(open_in_place(&path).unwrap());
        std::fs::write(&path, "kept").unwrap();
        drop(open_in_place(&path).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"kept");
    }

    #[test]
    #[cfg(unix)]
    fn nothing_but_a_plain_file_is_opened_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "precious").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("gone"), at("broken")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        let pipe = std::process::Command::new("mkfifo")
            .arg(at("pipe"))
            .status();
        assert!(pipe.unwrap().success());
        for (name, what) in [
            (
                "link",
                "it is a link, which vitrine never makes there; remove it",
            ),
            (
                "broken",
                "it is a link, which vitrine never makes there; remove it",
            ),
            (
                "folder",
                "it is a folder, which vitrine never makes there; remove it",
            ),
            (
                "pipe",
                "it is no regular file, which vitrine never makes there; remove it",
            ),
        ] {
            for error in [open_in_place(&at(name)).err(), hold(&at(name)).err()] {
                assert_eq!(error.unwrap().to_string(), what, "{name}");
            }
        }
        assert_eq!(std::fs::read(at("file")).unwrap(), b"precious");
        assert!(!at("gone").exists());
    }
}
