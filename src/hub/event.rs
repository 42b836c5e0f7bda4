//! What is told while a repository is fetched, and what is there at the end.

use std::path::PathBuf;

use super::repo::Repo;

/// What happens meanwhile.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// Bytes of a file have arrived.
    Arrived {
        /// The repository.
        repo: &'a Repo,
        /// The file.
        file: &'a str,
        /// Its bytes that are here.
        bytes: u64,
        /// All of its bytes, if the hub says how many.
        of: Option<u64>,
    },
    /// Another process fetches the file, and is waited for.
    Waits {
        /// The repository.
        repo: &'a Repo,
        /// The file.
        file: &'a str,
    },
    /// Everything is in the cache, and some of it was fetched.
    Fetched(&'a Snapshot),
    /// The weights are in the cache, and how their pictures are prepared [could not be found
    /// out](Snapshot::preprocessor_unknown).
    Unprepared(&'a Snapshot),
}

/// A repository's files in the cache.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The repository, at the commit.
    pub repo: Repo,
    /// The folder with the files.
    pub folder: PathBuf,
    /// The commit that the revision is.
    pub commit: String,
    /// The licence that its card states.
    pub licence: Option<String>,
    /// Names of the files that were wanted and are there, and their sizes in bytes.
    pub files: Vec<(String, u64)>,
    /// How many bytes were fetched.
    pub fetched: u64,
    /// Whether it could not be found out how the model's pictures are prepared: `preprocessor_config.json` is not
    /// in the cache, and the hub was not asked.
    pub preprocessor_unknown: bool,
}
