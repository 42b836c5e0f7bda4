//! Named files in a folder or an archive: what both have in common.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::bytes::Bytes;
use super::encoded::read_file;
use super::error::DataError;
use super::leftovers::{is_hidden, is_left_by_program};
use super::sample::Skipped;
use crate::names;

/// What a folder or archive holds besides its files.
#[derive(Clone, Debug, Default)]
pub(super) struct Aside {
    /// What cannot be read: pipes, sockets, devices, folders without permission.
    pub left_out: Vec<Skipped>,
    /// Folders without any file.
    pub empty_folders: Vec<String>,
    /// What is not read on purpose, a sentence each.
    pub notes: Vec<String>,
}

/// A folder or an archive as a list of named files. Hidden files and folders are not in it.
pub(super) trait Files: Send + Sync {
    /// The folder or archive itself.
    fn root(&self) -> &Path;

    /// Each file's path relative to the root, as [text](names::text), with `/` between folders.
    fn names(&self) -> &[String];

    /// The contents of a file.
    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError>;

    /// The contents of a file that is to be a picture; of what is none, perhaps only the beginning. Memory for it is taken
    /// from the [budget](super::budget).
    fn picture(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError> {
        self.read(index)
    }

    /// The size of a file, in bytes, as it is stated.
    fn size(&self, index: usize) -> u64;

    /// The contents of a file as bytes that can outlive this view; not copied where they are memory-mapped.
    fn bytes(&self, index: usize) -> Result<Bytes, DataError> {
        Ok(Bytes::from(self.read(index)?.into_owned()))
    }

    /// The first 16 bytes of a file; fewer when it is shorter or cannot be read. [`read`](Self::read) reports the error.
    fn head(&self, index: usize) -> Vec<u8> {
        self.read(index)
            .map(|bytes| bytes[..bytes.len().min(16)].to_vec())
            .unwrap_or_default()
    }

    /// The path of the file on disk; `None` in an archive.
    fn on_disk(&self, index: usize) -> Option<PathBuf>;

    /// The path of a file as error messages show it.
    fn path(&self, index: usize) -> PathBuf {
        self.root().join(names::path(&self.names()[index]))
    }

    /// What it holds besides its files.
    fn aside(&self) -> &Aside {
        static NOTHING: Aside = Aside {
            left_out: Vec::new(),
            empty_folders: Vec::new(),
            notes: Vec::new(),
        };
        &NOTHING
    }
}

/// A longer list holds no class names.
pub(super) const LONGEST_LIST: u64 = 16 << 20;

/// The lines of a text file, without blanks around them and without empty ones.
pub(super) fn lines_of(files: &dyn Files, index: usize) -> Result<Vec<String>, DataError> {
    let size = files.size(index);
    if size > LONGEST_LIST {
        let reason = format!("a list of {size} bytes, expected at most {LONGEST_LIST}");
        return Err(DataError::corrupt(files.path(index), reason));
    }
    let bytes = files.read(index)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(String::from)
        .collect())
}

/// Takes `\` for the separator of folders where no name has a `/`: on Windows programs pack paths so, and elsewhere some
/// unpack `cat\1.png` as the name of one file.
pub(super) fn split_at_backslashes<T>(files: &mut Vec<(String, T)>) {
    if files.iter().any(|(name, _)| name.contains('/')) {
        return;
    }
    for (name, _) in files.iter_mut() {
        // Of an escaped byte, or of a name that has one.
        if !names::has_escape(name) {
            *name = name.replace('\\', "/");
        }
    }
    files.retain(|(name, _)| !is_hidden(name));
}

/// The regular files under a folder, sorted by name. Links are followed, and every folder is entered once.
pub(super) struct FolderFiles {
    root: PathBuf,
    names: Vec<String>,
    /// In the order of `names`; kept because a name on disk need not be valid UTF-8.
    paths: Vec<PathBuf>,
    aside: Aside,
}

impl FolderFiles {
    /// Lists the files under `root`.
    ///
    /// # Errors
    ///
    /// [`DataError::Io`] where `root` itself cannot be read; folders in it that cannot are left out, with the reason.
    pub(super) fn open(root: &Path) -> Result<FolderFiles, DataError> {
        let canonical = fs::canonicalize(root).map_err(DataError::io(root, "read"))?;
        // On Windows it may be a stick with pictures.
        if cfg!(unix) && canonical.parent().is_none() {
            return Err(DataError::Layout {
                path: root.into(),
                reason: "the root of the file system, with everything on this machine; name the folder of the pictures".into(),
            });
        }
        let mut walk = Walk {
            root: canonical,
            ..Walk::default()
        };
        walk.folder(root, "").map_err(DataError::io(root, "read"))?;
        // Links come last, so that a folder is listed under its own name, whatever links lead to it.
        while let Some((path, name)) = walk.folders.pop().or_else(|| {
            let (name, path) = walk.links.pop_first()?;
            Some((path, name))
        }) {
            if let Err(error) = walk.folder(&path, &format!("{name}/")) {
                walk.leave_out(format!("{name}/"), format!("cannot be read: {error}"));
            }
        }
        split_at_backslashes(&mut walk.found);
        walk.found.sort();
        walk.aside.left_out.sort_by(|a, b| a.name.cmp(&b.name));
        walk.aside.empty_folders.sort();
        walk.aside.notes = walk.notes();
        let (names, paths) = walk.found.into_iter().unzip();
        Ok(FolderFiles {
            root: root.into(),
            names,
            paths,
            aside: walk.aside,
        })
    }
}

/// A walk through a folder, with what is still to be entered.
#[derive(Default)]
struct Walk {
    /// The folder that was named, by its own path.
    root: PathBuf,
    folders: Vec<(PathBuf, String)>,
    /// Links to folders, by their names.
    links: BTreeMap<String, PathBuf>,
    /// Folders that were entered, and under which name.
    entered: HashMap<FolderId, String>,
    found: Vec<(String, PathBuf)>,
    /// Names of what other programs leave, and how often each was met.
    left_by_programs: BTreeMap<String, usize>,
    /// Links to folders that were entered already, and under which name.
    again: Vec<(String, String)>,
    aside: Aside,
}

/// The same for two paths to one folder.
#[cfg(unix)]
type FolderId = (u64, u64);
#[cfg(not(unix))]
type FolderId = PathBuf;

#[cfg(unix)]
fn folder_id(folder: &Path) -> io::Result<FolderId> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(folder).map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn folder_id(folder: &Path) -> io::Result<FolderId> {
    fs::canonicalize(folder)
}

impl Walk {
    /// Lists one folder, whose files' names begin with `prefix`.
    fn folder(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        let id = folder_id(folder)?;
        let entries = fs::read_dir(folder)?;
        if let Some(first) = self.entered.get(&id) {
            self.again.push((prefix.into(), first.clone()));
            return Ok(());
        }
        self.entered.insert(id, prefix.into());
        let mut is_empty = true;
        for entry in entries {
            let entry = entry?;
            let part = names::text(entry.file_name());
            if part.starts_with('.') {
                continue;
            }
            if is_left_by_program(&part) {
                *self.left_by_programs.entry(part).or_default() += 1;
                continue;
            }
            is_empty = false;
            let (path, name) = (entry.path(), format!("{prefix}{part}"));
            let own = entry.file_type()?;
            let kind = match own.is_symlink() {
                true => fs::metadata(&path).map(|metadata| metadata.file_type()),
                false => Ok(own),
            };
            match kind {
                Ok(kind) if kind.is_dir() && own.is_symlink() => {
                    // What lies around the data set is no part of it, and may be all there is on the machine.
                    let holds_this =
                        |target: PathBuf| self.root != target && self.root.starts_with(target);
                    if fs::canonicalize(&path).is_ok_and(holds_this) {
                        let reason = "a link to a folder around this one, which is not entered";
                        self.leave_out(name, reason.into());
                    } else {
                        self.links.insert(name, path);
                    }
                }
                Ok(kind) if kind.is_dir() => self.folders.push((path, name)),
                // Reading from a pipe may wait for ever, and a device may never end.
                Ok(kind) if !kind.is_file() => {
                    let link = if own.is_symlink() { "a link to " } else { "" };
                    let reason = format!("{link}{}; only regular files are read", kind_of(kind));
                    self.leave_out(name, reason);
                }
                // A dangling link is listed as a file: reading it then reports an error with its name.
                Ok(_) | Err(_) => self.found.push((name, path)),
            }
        }
        if is_empty {
            self.aside.empty_folders.push(prefix.into());
        }
        Ok(())
    }

    fn leave_out(&mut self, name: String, reason: String) {
        self.aside.left_out.push(Skipped { name, reason });
    }

    /// What the walk passed over on purpose.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.left_by_programs.is_empty() {
            let names: Vec<String> = self
                .left_by_programs
                .iter()
                .map(|(name, times)| match times {
                    1 => name.clone(),
                    more => format!("{name} ({more} times)"),
                })
                .collect();
            notes.push(format!(
                "left out what other programs keep: {}",
                names.join(", ")
            ));
        }
        // A link upwards leads to what is being read anyway.
        let is_upwards = |(link, first): &&(String, String)| link.starts_with(first.as_str());
        let again: Vec<&(String, String)> =
            self.again.iter().filter(|pair| !is_upwards(pair)).collect();
        if let Some((link, first)) = again.first() {
            notes.push(format!(
                "{link} is the folder {first} once more, which is read once{}",
                match again.len() - 1 {
                    0 => String::new(),
                    more => format!(" (so {} {more} more)", if more == 1 { "is" } else { "are" }),
                }
            ));
        }
        notes
    }
}

/// What a directory entry is that is neither a file nor a folder.
#[cfg(unix)]
fn kind_of(kind: fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(not(unix))]
fn kind_of(_: fs::FileType) -> &'static str {
    "neither a file nor a folder"
}

impl Files for FolderFiles {
    fn root(&self) -> &Path {
        &self.root
    }

    fn names(&self) -> &[String] {
        &self.names
    }

    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError> {
        let path = &self.paths[index];
        // Pictures are small and read once: a plain read is faster than a map, and survives a file that shrinks.
        fs::read(path)
            .map(Cow::Owned)
            .map_err(DataError::io(path, "read"))
    }

    fn picture(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError> {
        let path = &self.paths[index];
        read_file(path)
            .map(Cow::Owned)
            .map_err(DataError::io(path, "read"))
    }

    fn size(&self, index: usize) -> u64 {
        fs::metadata(&self.paths[index]).map_or(0, |metadata| metadata.len())
    }

    fn bytes(&self, index: usize) -> Result<Bytes, DataError> {
        Bytes::map(&self.paths[index])
    }

    fn head(&self, index: usize) -> Vec<u8> {
        let mut head = Vec::new();
        if let Ok(file) = fs::File::open(&self.paths[index]) {
            // An error only shortens the head; reading the whole file reports it.
            let _ = file.take(16).read_to_end(&mut head);
        }
        head
    }

    fn on_disk(&self, index: usize) -> Option<PathBuf> {
        Some(self.paths[index].clone())
    }

    fn aside(&self) -> &Aside {
        &self.aside
    }
}

/// Some of the files of a folder or archive, perhaps under other names.
pub(super) struct Kept {
    pub files: Box<dyn Files>,
    /// Indices into `files`.
    pub kept: Vec<usize>,
    pub names: Vec<String>,
    pub aside: Aside,
}

impl Files for Kept {
    fn root(&self) -> &Path {
        self.files.root()
    }

    fn names(&self) -> &[String] {
        &self.names
    }

    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError> {
        self.files.read(self.kept[index])
    }

    fn picture(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError> {
        self.files.picture(self.kept[index])
    }

    fn size(&self, index: usize) -> u64 {
        self.files.size(self.kept[index])
    }

    fn bytes(&self, index: usize) -> Result<Bytes, DataError> {
        self.files.bytes(self.kept[index])
    }

    fn head(&self, index: usize) -> Vec<u8> {
        self.files.head(self.kept[index])
    }

    fn on_disk(&self, index: usize) -> Option<PathBuf> {
        self.files.on_disk(self.kept[index])
    }

    fn path(&self, index: usize) -> PathBuf {
        self.files.path(self.kept[index])
    }

    fn aside(&self) -> &Aside {
        &self.aside
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn walks_sorted_without_hidden_files_or_endless_links() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "b/2.jpg",
            "b/10.jpg",
            "a/x/1.jpg",
            ".git/c.jpg",
            "a/.d.jpg",
            "__MACOSX/e.jpg",
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(folder.path(), folder.path().join("a/loop")).unwrap();
        let files = FolderFiles::open(folder.path()).unwrap();
        assert_eq!(files.names(), ["a/x/1.jpg", "b/10.jpg", "b/2.jpg"]);
        assert_eq!(&*files.read(2).unwrap(), b"b/2.jpg");
        assert_eq!(&*files.bytes(2).unwrap(), b"b/2.jpg");
        assert_eq!(files.head(1), b"b/10.jpg");
    }

    #[test]
    fn what_was_unpacked_with_backslashes_has_folders() {
        let mut files = [r"cat\1.png", r"dog\.DS_Store", r"a\xE9.png", "2.png"]
            .map(|name| (name.to_string(), ()))
            .to_vec();
        split_at_backslashes(&mut files);
        let names: Vec<&str> = files.iter().map(|(name, ())| name.as_str()).collect();
        assert_eq!(names, ["cat/1.png", r"a\xE9.png", "2.png"]);
        files[0].0 = r"a\b/1.png".into();
        split_at_backslashes(&mut files);
        assert_eq!(files[0].0, r"a\b/1.png");
    }
}
