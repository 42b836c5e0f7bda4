//! How a repository is named.

use std::fmt::{self, Display};
use std::path::Path;

use thiserror::Error;

use crate::names::visible;

/// The revision that is meant where none is named.
const MAIN: &str = "main";

/// Longest name of an owner or a repository, as the hub has it.
const LONGEST: usize = 96;

/// What a name begins with: ours, timm's, and a page's address.
const PREFIXES: [&str; 6] = [
    "hf:",
    "hf-hub:",
    "https://huggingface.co/",
    "https://www.huggingface.co/",
    "http://huggingface.co/",
    "https://hf.co/",
];

/// A name that no repository can have.
#[derive(Debug, Error)]
#[error("{} is no repository: expected {expected}", visible(name))]
pub struct NoRepoName {
    name: String,
    expected: &'static str,
}

/// A repository of a model, at a revision: `hf:OWNER/NAME[@REVISION]`, or `hf:NAME` for the oldest ones, which
/// have no owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repo {
    /// `OWNER/NAME`, or `NAME`.
    id: Box<str>,
    revision: Option<Box<str>>,
}

impl Repo {
    /// Whether `path` names a repository; a file or folder of such a name goes by `./hf:NAME`.
    pub fn is_named(path: &Path) -> bool {
        path.to_str()
            .is_some_and(|name| PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
    }

    /// The repository that `path` names, where it [names one](Self::is_named).
    ///
    /// # Errors
    ///
    /// [`NoRepoName`] where a repository is meant and the name cannot be one.
    pub fn find(path: &Path) -> Result<Option<Self>, NoRepoName> {
        match path.to_str() {
            Some(name) if Self::is_named(path) => Self::parse(name).map(Some),
            _ => Ok(None),
        }
    }

    /// Reads `hf:OWNER/NAME[@REVISION]`, `hf-hub:` as timm spells it, or the address of a repository's page.
    ///
    /// # Errors
    ///
    /// [`NoRepoName`].
    pub fn parse(name: &str) -> Result<Self, NoRepoName> {
        let wrong = |expected: &'static str| NoRepoName {
            name: name.to_owned(),
            expected,
        };
        let prefix = PREFIXES.iter().find(|prefix| name.starts_with(**prefix));
        let Some(prefix) = prefix else {
            return Err(wrong(
                "hf:OWNER/NAME, or hf:OWNER/NAME@REVISION for a branch, tag or commit",
            ));
        };
        let rest = &name[prefix.len()..];
        let (id, revision) = match prefix.starts_with("hf") {
            true => {
                let rest = rest.strip_prefix("//").unwrap_or(rest);
                match rest.split_once('@') {
                    Some((id, revision)) => (id.to_owned(), Some(revision)),
                    None => (rest.to_owned(), None),
                }
            }
            false => of_page(rest).map_err(wrong)?,
        };
        check_id(&id).map_err(wrong)?;
        if let Some(revision) = revision {
            check_revision(revision).map_err(wrong)?;
        }
        Ok(Self {
            id: id.into(),
            revision: revision.map(Box::from),
        })
    }

    /// `OWNER/NAME`, or `NAME`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The branch, tag or commit.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(MAIN)
    }

    /// The same repository at a commit.
    pub(super) fn at(&self, commit: &str) -> Self {
        Self {
            id: self.id.clone(),
            revision: Some(commit.into()),
        }
    }

    /// A repository by its folder's name in a cache, `models--OWNER--NAME`.
    pub(super) fn of_folder(folder: &str) -> Option<Self> {
        let id = folder.strip_prefix("models--")?.replace("--", "/");
        check_id(&id).ok()?;
        Some(Self {
            id: id.into(),
            revision: None,
        })
    }
}

impl Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf:{}", self.id)?;
        match &self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

/// Repository and revision of a page's address below the hub's: `OWNER/NAME` or `OWNER/NAME/tree/REVISION`.
fn of_page(path: &str) -> Result<(String, Option<&str>), &'static str> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let path = path.trim_end_matches('/');
    let of_other = ["datasets/", "spaces/", "docs/", "collections/", "papers/"];
    if of_other.iter().any(|other| path.starts_with(other)) {
        return Err("the address of a model's page, such as https://huggingface.co/OWNER/NAME");
    }
    if let Some((id, revision)) = path.split_once("/tree/") {
        return Ok((id.to_owned(), Some(revision)));
    }
    if path.matches('/').count() > 1 {
        return Err("the repository, not a file of it: hf:OWNER/NAME");
    }
    Ok((path.to_owned(), None))
}

fn check_id(id: &str) -> Result<(), &'static str> {
    let parts: Vec<&str> = id.split('/').collect();
    if parts.len() > 2 || parts.iter().any(|part| part.is_empty()) {
        return Err("OWNER/NAME behind hf:");
    }
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let outer = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name = |part: &&str| {
        part.len() <= LONGEST
            && part.chars().all(inner)
            && part.starts_with(outer)
            && part.ends_with(outer)
    };
    if !parts.iter().all(is_name) {
        return Err(
            "letters, digits, hyphens, underscores and dots in OWNER and NAME, at most 96 of them, a letter or \
             digit first and last",
        );
    }
    if id.contains("--") || id.contains("..") || id.ends_with(".git") {
        return Err("no two hyphens or dots in a row, and no .git at the end");
    }
    Ok(())
}

/// What git allows as the name of a branch or tag, and no path out of a folder.
fn check_revision(revision: &str) -> Result<(), &'static str> {
    let is_wrong = |c: char| c.is_control() || c.is_whitespace() || "\\~^:?*[<>|\"%#".contains(c);
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && !part.ends_with('.')
            && !part.ends_with(".lock")
    };
    match revision.len() <= 255
        && !revision.contains(is_wrong)
        && !revision.contains("..")
        && !revision.contains("@{")
        && revision.split('/').all(is_part)
    {
        true => Ok(()),
        false => Err("a branch, tag or commit behind @"),
    }
}
