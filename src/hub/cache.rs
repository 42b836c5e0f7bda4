//! The cache, in the layout of Python's `huggingface_hub` (its guide "Understand caching"):
//!
//! ```text
//! models--OWNER--NAME/
//!   blobs/<etag>                 a file by its checksum; <etag>.incomplete while it arrives
//!   refs/<revision>              the commit that a branch or tag was when it was last asked for
//!   snapshots/<commit>/<file>    a link to ../../blobs/<etag>, or the file where there are no links
//!   .no_exist/<commit>/<file>    empty: the commit has no such file
//! .locks/models--OWNER--NAME/<etag>.lock
//! ```

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::repo::Repo;
use crate::whole_file;

/// A repository's folder in the cache.
#[derive(Debug)]
pub(super) struct RepoFolder {
    root: PathBuf,
    locks: PathBuf,
}

impl RepoFolder {
    /// That of `repo` in `cache`; nothing need be there.
    pub(super) fn new(cache: &Path, repo: &Repo) -> Self {
        let name = format!("models--{}", repo.id().replace('/', "--"));
        Self {
            root: cache.join(&name),
            locks: cache.join(".locks").join(name),
        }
    }

    /// The commit that a revision is known to be.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        if revision.len() == 40 && is_commit(revision) {
            return Some(revision.to_owned());
        }
        let commit = fs::read_to_string(self.root.join("refs").join(revision)).ok()?;
        let commit = commit.trim();
        is_commit(commit).then(|| commit.to_owned())
    }

    /// Writes down what commit a revision is.
    pub(super) fn note_commit(&self, revision: &str, commit: &str) -> io::Result<()> {
        if self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.root.join("refs").join(revision);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        whole_file::write(&path, commit.as_bytes())
    }

    /// The folder with the files of a commit.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// A commit's file, if the cache has it.
    pub(super) fn file(&self, commit: &str, name: &str) -> Option<PathBuf> {
        let path = self.snapshot(commit).join(name);
        path.is_file().then_some(path)
    }

    /// Whether the hub is known to have no such file.
    pub(super) fn lacks(&self, commit: &str, name: &str) -> bool {
        self.absence(commit, name).is_file()
    }

    /// Writes down that the hub has no such file. It is asked again where that cannot be written.
    pub(super) fn note_absent(&self, commit: &str, name: &str) {
        let path = self.absence(commit, name);
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
        if folder.is_ok() && !path.exists() {
            let _ = fs::write(path, "");
        }
    }

    fn absence(&self, commit: &str, name: &str) -> PathBuf {
        self.root.join(".no_exist").join(commit).join(name)
    }

    /// A file by its checksum.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    /// What has arrived of it, under the name that Python's tools continued until they gave each process its own.
    pub(super) fn part(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(format!("{etag}.incomplete"))
    }

    /// What whoever fetches it holds.
    pub(super) fn lock(&self, etag: &str) -> PathBuf {
        self.locks.join(format!("{etag}.lock"))
    }

    /// Makes the folders of a commit, and marks the cache as one for programs that make backups.
    pub(super) fn make(&self, commit: &str) -> io::Result<()> {
        for folder in [
            &self.root.join("blobs"),
            &self.snapshot(commit),
            &self.locks,
        ] {
            fs::create_dir_all(folder)?;
        }
        if let Some(cache) = self.root.parent() {
            let tag = cache.join("CACHEDIR.TAG");
            if !tag.exists() {
                // The first line is the standard's (bford.info/cachedir).
                let _ = fs::write(
                    tag,
                    "Signature: 8a477f597d28d172789f06886806bc55\n# A cache of the Hugging Face hub.\n",
                );
            }
        }
        Ok(())
    }

    /// Gives a commit's file the bytes of a blob: by a link, or, where there can be none, by the file itself, which
    /// leaves `blobs` if it `is_new` there and is copied if not, since another commit may have it, too.
    pub(super) fn link(
        &self,
        etag: &str,
        commit: &str,
        name: &str,
        is_new: bool,
        symlinks: bool,
    ) -> io::Result<()> {
        let path = self.snapshot(commit).join(name);
        if path.is_file() {
            return Ok(());
        }
        // A link to a blob that somebody removed.
        let _ = fs::remove_file(&path);
        if symlinks {
            let target: PathBuf = ["..", "..", "blobs", etag].iter().collect();
            match symlink(&target, &path) {
                Ok(()) => return Ok(()),
                // Another process was quicker.
                Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_file() => {
                    return Ok(());
                }
                // No rights, or a file system without links.
                Err(_) => {}
            }
        }
        let blob = self.blob(etag);
        if is_new {
            return whole_file::rename(&blob, &path);
        }
        let unfinished = whole_file::Unfinished::beside(&path)?;
        fs::copy(&blob, unfinished.path())?;
        unfinished.replace(&path)
    }
}

/// Whether a hub may call a commit so.
pub(super) fn is_commit(name: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (40..=64).contains(&name.len()) && name.bytes().all(is_digit)
}

/// An etag as the cache names files by it: without the mark of a weak one and without quotes; `None` where it could
/// be no file's name.
pub(super) fn name_of_etag(etag: &str) -> Option<&str> {
    let etag = etag.trim();
    let etag = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"');
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_name = (1..=128).contains(&etag.len())
        && etag.chars().all(is_plain)
        && etag.starts_with(|c: char| c.is_ascii_alphanumeric());
    is_name.then_some(etag)
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}
