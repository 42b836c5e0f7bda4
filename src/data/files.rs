//! Named files in a folder or an archive: what both have in common.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::bytes::Bytes;
use super::error::DataError;
use crate::names;

/// A folder or an archive as a list of named files. Hidden files and folders are not in it.
pub(super) trait Files: Send + Sync {
    /// The folder or archive itself.
    fn root(&self) -> &Path;

    /// Each file's path relative to the root, as [text](names::text), with `/` between folders.
    fn names(&self) -> &[String];

    /// The contents of a file.
    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError>;

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
}

/// The lines of a text file, without blanks around them and without empty ones.
pub(super) fn lines_of(files: &dyn Files, index: usize) -> Result<Vec<String>, DataError> {
    let bytes = files.read(index)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(String::from)
        .collect())
}

/// Whether a path has a hidden part, or the folder that macOS adds to archives: neither is meant as data.
pub(super) fn is_hidden(name: &str) -> bool {
    name.split('/')
        .any(|part| part.starts_with('.') || part == "__MACOSX")
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

/// The last part of a name.
pub(super) fn base_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The folder part of a name, with a final `/`; empty where there is none.
pub(super) fn folder_of(name: &str) -> &str {
    &name[..name.len() - base_name(name).len()]
}

/// The files under a folder, sorted by name. Links are followed, but not in a circle.
pub(super) struct FolderFiles {
    root: PathBuf,
    names: Vec<String>,
    /// In the order of `names`; kept because a name on disk need not be valid UTF-8.
    paths: Vec<PathBuf>,
}

impl FolderFiles {
    pub(super) fn open(root: &Path) -> Result<FolderFiles, DataError> {
        let mut found = Vec::new();
        walk(root, "", &mut HashSet::new(), &mut found)?;
        split_at_backslashes(&mut found);
        found.sort();
        let (names, paths) = found.into_iter().unzip();
        Ok(FolderFiles {
            root: root.into(),
            names,
            paths,
        })
    }
}

fn walk(
    folder: &Path,
    prefix: &str,
    open: &mut HashSet<PathBuf>,
    found: &mut Vec<(String, PathBuf)>,
) -> Result<(), DataError> {
    let real = fs::canonicalize(folder).map_err(DataError::io(folder, "read"))?;
    // Following a link to a folder that is being walked would never end.
    if !open.insert(real.clone()) {
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(DataError::io(folder, "read"))? {
        let entry = entry.map_err(DataError::io(folder, "read"))?;
        let part = names::text(entry.file_name());
        if is_hidden(&part) {
            continue;
        }
        let path = entry.path();
        let kind = entry.file_type().map_err(DataError::io(&path, "read"))?;
        // A dangling link is listed as a file: reading it then reports an error with its name.
        let is_folder = kind.is_dir() || (kind.is_symlink() && path.is_dir());
        let name = format!("{prefix}{part}");
        if is_folder {
            walk(&path, &format!("{name}/"), open, found)?;
        } else {
            found.push((name, path));
        }
    }
    open.remove(&real);
    Ok(())
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

    #[test]
    fn names_come_apart() {
        assert_eq!(
            (folder_of("a/b/c.bin"), base_name("a/b/c.bin")),
            ("a/b/", "c.bin")
        );
        assert_eq!((folder_of("c.bin"), base_name("c.bin")), ("", "c.bin"));
    }
}
