//! What the cache holds.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::cache::is_commit;
use super::error::HubError;
use super::repo::Repo;

/// Files of a commit of a model's repository in the cache.
#[derive(Debug, Clone)]
pub struct Cached {
    /// `OWNER/NAME`.
    pub id: String,
    /// The commit.
    pub commit: String,
    /// Branches and tags that were this commit when they were last asked for.
    pub revisions: Vec<String>,
    /// How many files of it are there.
    pub files: usize,
    /// Their size in bytes; what two commits share is counted for both.
    pub bytes: u64,
    /// Whether there are safetensors among them.
    pub has_weights: bool,
    /// Where they are.
    pub folder: PathBuf,
}

/// All models in a cache, by name and commit.
///
/// # Errors
///
/// [`HubError::Cache`] where the folder cannot be read; one that does not exist is an empty cache.
pub fn cached(cache: &Path) -> Result<Vec<Cached>, HubError> {
    let entries = match fs::read_dir(cache) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(HubError::cache(cache, "read")(error)),
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(repo) = name.to_str().and_then(Repo::of_folder) else {
            continue;
        };
        let refs = refs_below(&entry.path().join("refs"));
        for snapshot in entries_of(&entry.path().join("snapshots")) {
            let commit = snapshot.file_name().to_string_lossy().into_owned();
            if !is_commit(&commit) {
                continue;
            }
            let files = files_below(&snapshot.path());
            found.push(Cached {
                id: repo.id().to_owned(),
                revisions: refs
                    .iter()
                    .filter(|(_, of)| *of == commit)
                    .map(|(name, _)| name.clone())
                    .collect(),
                files: files.len(),
                bytes: files.iter().map(|(_, bytes)| bytes).sum(),
                has_weights: files.iter().any(|(name, _)| name.ends_with(".safetensors")),
                folder: snapshot.path(),
                commit,
            });
        }
    }
    found.sort_by(|a, b| (&a.id, &a.commit).cmp(&(&b.id, &b.commit)));
    Ok(found)
}

fn entries_of(folder: &Path) -> Vec<fs::DirEntry> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .collect()
}

/// Every file below a folder, by its path there; links to folders are not followed.
fn below(folder: &Path) -> BTreeSet<PathBuf> {
    let (mut files, mut folders) = (BTreeSet::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in entries_of(&folder) {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(_) => {
                    files.insert(entry.path());
                }
                Err(_) => {}
            }
        }
    }
    files
}

/// The files of a snapshot whose bytes are there, with their sizes.
fn files_below(folder: &Path) -> Vec<(String, u64)> {
    let files = below(folder).into_iter();
    files
        .filter_map(|path| {
            let bytes = fs::metadata(&path)
                .ok()
                .filter(fs::Metadata::is_file)?
                .len();
            Some((path.to_string_lossy().into_owned(), bytes))
        })
        .collect()
}

/// Branches and tags with their commits.
fn refs_below(folder: &Path) -> Vec<(String, String)> {
    let files = below(folder).into_iter();
    files
        .filter_map(|path| {
            let commit = fs::read_to_string(&path).ok()?.trim().to_owned();
            let name = path.strip_prefix(folder).ok()?.to_str()?.replace('\\', "/");
            is_commit(&commit).then_some((name, commit))
        })
        .collect()
}
