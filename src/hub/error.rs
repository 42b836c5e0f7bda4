//! Why a repository's weights are not here.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::repo::{NoRepoName, Repo};
use crate::names::{listed, shown, visible};

/// Why a repository's weights are not here.
#[derive(Debug, Error)]
pub enum HubError {
    /// No name of a repository.
    #[error(transparent)]
    Name(#[from] NoRepoName),
    /// A variable of the environment cannot be used.
    #[error("{variable} is {}: expected {expected}", visible(value))]
    Variable {
        /// Its name.
        variable: &'static str,
        /// Its value, or what may be said of it.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// Nothing may be fetched, and the cache has it not.
    #[error(
        "{repo} is not in the cache {}, and {variable} allows no connection",
        shown(cache)
    )]
    Offline {
        /// The repository.
        repo: Repo,
        /// The cache.
        cache: PathBuf,
        /// The variable that says so.
        variable: &'static str,
    },
    /// No connection to the hub.
    #[error(
        "{}{host} cannot be reached ({})",
        missing(repo, cache),
        visible(reason)
    )]
    Unreachable {
        /// The repository.
        repo: Repo,
        /// The cache, where that has it not.
        cache: Option<PathBuf>,
        /// The hub, or where it keeps the file.
        host: String,
        /// What the system says.
        reason: String,
    },
    /// The repository's owner lets only those read it who accepted its licence.
    #[error("{repo} is only for those who accepted its licence on {page}, and {}", of_token(*token))]
    Gated {
        /// The repository.
        repo: Repo,
        /// Its page.
        page: String,
        /// Where the token that was sent comes from.
        token: Option<&'static str>,
    },
    /// The token is none.
    #[error("{host} does not take the token of {token}: expected one that is still valid")]
    Token {
        /// The hub.
        host: String,
        /// Where it comes from.
        token: &'static str,
    },
    /// There is no such repository, or it is private.
    #[error("{host} knows no repository {}, or it is private and {}", repo.id(), of_token(*token))]
    NoRepository {
        /// The repository.
        repo: Repo,
        /// The hub.
        host: String,
        /// Where the token that was sent comes from.
        token: Option<&'static str>,
    },
    /// The repository has no such branch, tag or commit.
    #[error("{} has no branch, tag or commit {}", repo.id(), visible(repo.revision()))]
    NoRevision {
        /// The repository.
        repo: Repo,
    },
    /// Weights that can run code when they are read.
    #[error(
        "{repo} has weights only as {}, which can run code when they are read and are not opened: expected model.safetensors",
        listed(files)
    )]
    OnlyPickles {
        /// The repository.
        repo: Repo,
        /// Their names.
        files: Vec<String>,
    },
    /// No weights at all, or none that is a whole model by its name.
    #[error(
        "{repo} has neither model.safetensors nor model.safetensors.index.json{}",
        instead(files)
    )]
    NoWeights {
        /// The repository.
        repo: Repo,
        /// Weights of other names.
        files: Vec<String>,
    },
    /// The list of shards is none.
    #[error("{}: {}", shown(path), visible(reason))]
    Index {
        /// The list.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A server that does not answer as a hub does.
    #[error("{url} does not answer as a hub does: {}", visible(reason))]
    NoHub {
        /// The address.
        url: String,
        /// What is missing.
        reason: String,
    },
    /// An answer that is no file.
    #[error("{url}: the server answered {status}{wait}")]
    Refused {
        /// The address.
        url: String,
        /// The status.
        status: String,
        /// How long it asks to wait, as a part of the sentence.
        wait: String,
    },
    /// The connection broke again and again; what has arrived is kept.
    #[error("{url}: {}", visible(reason))]
    BrokeOff {
        /// The address.
        url: String,
        /// What happened.
        reason: String,
    },
    /// A file of another size than the hub states.
    #[error(
        "{url}: more than {expected} bytes arrived: expected no more; what arrived was removed"
    )]
    TooLong {
        /// The address.
        url: String,
        /// As the hub states it.
        expected: u64,
    },
    /// A file that is too large for what it should be.
    #[error("{url} has {found} bytes: expected at most {expected} for this file")]
    TooLarge {
        /// The address.
        url: String,
        /// As the hub states it.
        found: u64,
        /// Most that is fetched.
        expected: u64,
    },
    /// A file that is not the published one.
    #[error("{url}: SHA-256 is {found}: expected {expected}; what arrived was removed")]
    Checksum {
        /// The address.
        url: String,
        /// SHA-256 of what arrived.
        found: String,
        /// SHA-256 as the hub states it.
        expected: String,
    },
    /// The cache cannot be read or written.
    #[error("cannot {action} {}: {source}", shown(path))]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// `read` or `write`.
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// Someone asked to stop; what has arrived is kept.
    #[error("stopped on request")]
    Stopped,
}

impl HubError {
    pub(super) fn cache(
        path: impl Into<PathBuf>,
        action: &'static str,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Cache {
            path,
            action,
            source,
        }
    }
}

fn of_token(token: Option<&'static str>) -> String {
    match token {
        Some(token) => format!("the token of {token} is of nobody who may read it"),
        None => "no token was sent".to_owned(),
    }
}

fn missing(repo: &Repo, cache: &Option<PathBuf>) -> String {
    cache.as_ref().map_or_else(String::new, |cache| {
        format!("{repo} is not in the cache {}, and ", shown(cache))
    })
}

fn instead(files: &[String]) -> String {
    match files.is_empty() {
        true => String::new(),
        false => format!("; it has {}", listed(files)),
    }
}
