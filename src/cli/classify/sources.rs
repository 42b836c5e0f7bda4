//! The pictures that the inputs of `classify` mean, one after the other.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File, Metadata};
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::list::{Listed, NameList};
use super::pattern::{self, has_wildcard};
use crate::classify::{ClassifyError, Input};
use crate::cli::output::note;
use crate::data::{self, DataError, PictureFiles};
use crate::names::visible;

/// Names of standard input beside `-`.
const STDIN: [&str; 3] = ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"];

/// The pictures of the inputs, then those of the list. A folder is listed when its turn comes.
pub(in crate::cli) struct Sources {
    inputs: std::vec::IntoIter<PathBuf>,
    list: Option<NameList>,
    /// Whether the last thing was a pause.
    paused: bool,
    /// The rest of what the last input means.
    open: std::vec::IntoIter<Input>,
    /// Pipes that have been read: they give nothing a second time.
    read: HashSet<(u64, u64)>,
    known: Arc<AtomicUsize>,
}

impl Sources {
    pub(in crate::cli) fn new(inputs: Vec<PathBuf>, list: Option<NameList>) -> Self {
        Self {
            known: Arc::new(AtomicUsize::new(inputs.len())),
            inputs: inputs.into_iter(),
            list,
            paused: false,
            open: Vec::new().into_iter(),
            read: HashSet::new(),
        }
    }

    /// The number of pictures as far as it is known: each input counts as one until its turn comes.
    pub(in crate::cli) fn known(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.known)
    }

    /// What one input means: itself, the pictures below a folder, or a glob's matches.
    fn expand(&mut self, path: &Path, is_literal: bool) -> Vec<Input> {
        if path == Path::new("-") && !is_literal {
            return vec![self.stdin(path)];
        }
        let failed = |reason: String| vec![no_picture(path, reason)];
        match fs::metadata(path) {
            Ok(meta) if meta.is_file() => vec![Input::File(path.to_owned())],
            Ok(meta) if meta.is_dir() => pictures_in(path),
            Ok(_) if STDIN.iter().any(|name| path == Path::new(name)) => vec![self.stdin(path)],
            Ok(meta) => vec![self.special(path, &meta)],
            Err(_) if !is_literal && is_glob(path) => matches(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                failed(match fs::symlink_metadata(path) {
                    Ok(_) => "a link to a file that is not there".to_owned(),
                    Err(_) => "no such file or folder".to_owned(),
                })
            }
            Err(error) => failed(format!("cannot read it: {error}")),
        }
    }

    /// Standard input, under the name that was given.
    fn stdin(&mut self, name: &Path) -> Input {
        let path = PathBuf::from("standard input");
        if io::stdin().is_terminal() {
            let reason = "a terminal, expected a picture; write `- < PICTURE`";
            return named_no_picture(name, &path, reason);
        }
        let identity = fs::metadata(STDIN[0]).map_or((0, 0), |meta| identity(&meta));
        if !self.read.insert(identity) {
            let reason = "it was read already, and gives its picture once";
            return named_no_picture(name, &path, reason);
        }
        Input::Pipe {
            filename: name.to_owned(),
            path,
            open: Box::new(|| Ok(Box::new(io::stdin().lock()) as Box<dyn Read>)),
        }
    }

    /// What is neither a file nor a folder: a pipe is read, as whoever named it wants.
    fn special(&mut self, path: &Path, meta: &Metadata) -> Input {
        if let Some(kind) = unreadable_kind(meta) {
            return no_picture(path, format!("{kind}, expected a picture"));
        }
        if !self.read.insert(identity(meta)) {
            let reason = "a pipe that was read already, and gives its picture once";
            return no_picture(path, reason);
        }
        let from = path.to_owned();
        Input::Pipe {
            filename: path.to_owned(),
            path: path.to_owned(),
            open: Box::new(move || Ok(Box::new(File::open(from)?) as Box<dyn Read>)),
        }
    }
}

impl Iterator for Sources {
    type Item = Input;

    fn next(&mut self) -> Option<Input> {
        loop {
            if let Some(input) = self.open.next() {
                return Some(input);
            }
            let inputs = if let Some(input) = self.inputs.next() {
                let inputs = self.expand(&input, false);
                // It counted as one.
                self.known.fetch_add(inputs.len(), Ordering::Relaxed);
                self.known.fetch_sub(1, Ordering::Relaxed);
                inputs
            } else {
                let name = self.list.as_mut()?.next(self.paused);
                self.paused = matches!(name, Some(Listed::Pause));
                let inputs = match name {
                    Some(Listed::Name(name)) => self.expand(&name, true),
                    Some(Listed::Pause) => return Some(Input::Pause),
                    Some(Listed::Failed { list, reason }) => {
                        self.list = None;
                        vec![no_picture(&list, reason)]
                    }
                    None => {
                        self.list = None;
                        Vec::new()
                    }
                };
                self.known.fetch_add(inputs.len(), Ordering::Relaxed);
                inputs
            };
            self.open = inputs.into_iter();
        }
    }
}

/// Whether a path means every file that matches it.
pub(super) fn is_glob(path: &Path) -> bool {
    has_wildcard(path) && !path.exists()
}

fn no_picture(path: &Path, reason: impl Into<String>) -> Input {
    named_no_picture(path, path, reason)
}

/// [`no_picture`] under another name than error messages use.
fn named_no_picture(filename: &Path, path: &Path, reason: impl Into<String>) -> Input {
    Input::Failed {
        filename: filename.to_owned(),
        error: ClassifyError::NoPicture {
            path: path.to_owned(),
            reason: reason.into(),
        },
    }
}

fn pictures_in(folder: &Path) -> Vec<Input> {
    match files_in(folder) {
        Ok(files) if files.is_empty() => {
            vec![no_picture(folder, "no pictures in this folder")]
        }
        Ok(files) => files.into_iter().map(Input::File).collect(),
        Err(error) => vec![no_picture(folder, error.to_string())],
    }
}

/// The pictures below a folder; what is left out of it is said.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let PictureFiles {
        paths,
        left_out,
        notes,
    } = data::picture_files(folder)?;
    for text in notes {
        note(&format!("note: {}", visible(&text)));
    }
    for left in left_out {
        note(&format!("skipped {left}"));
    }
    Ok(paths)
}

/// The files that a glob matches, and the pictures in the folders that it matches, sorted.
fn matches(pattern: &Path) -> Vec<Input> {
    let found = match pattern::find(pattern) {
        Ok(found) => found,
        Err(error) => {
            let reason = format!("no such file, and not a glob either: {}", error.msg);
            return vec![no_picture(pattern, reason)];
        }
    };
    let mut files = BTreeSet::new();
    let unread = |(path, error): (PathBuf, io::Error)| {
        let reason = format!("cannot read it: {error}");
        no_picture(&path, reason)
    };
    let mut failed: Vec<Input> = found.failed.into_iter().map(unread).collect();
    for path in found.paths {
        if path.is_dir() {
            match files_in(&path) {
                Ok(inside) => files.extend(inside),
                Err(error) => failed.push(no_picture(&path, error.to_string())),
            }
        } else if path.is_file() {
            files.insert(path);
        } else {
            let reason = "neither a file nor a folder; a pipe is read where it is named in full";
            failed.push(no_picture(&path, reason));
        }
    }
    if files.is_empty() && failed.is_empty() {
        return vec![no_picture(pattern, "no file matches")];
    }
    files.into_iter().map(Input::File).chain(failed).collect()
}

/// Device and number of a file.
#[cfg(unix)]
fn identity(meta: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (meta.dev(), meta.ino())
}

/// What something is that may not be read as a picture: it has no end, or no bytes.
#[cfg(unix)]
fn unreadable_kind(meta: &Metadata) -> Option<&'static str> {
    use std::os::unix::fs::FileTypeExt;
    let kind = meta.file_type();
    if kind.is_fifo() {
        None
    } else if kind.is_socket() {
        Some("a socket")
    } else {
        Some("a device")
    }
}

/// Elsewhere there are no pipes among files.
#[cfg(not(unix))]
fn identity(_meta: &Metadata) -> (u64, u64) {
    (0, 0)
}

#[cfg(not(unix))]
fn unreadable_kind(_meta: &Metadata) -> Option<&'static str> {
    Some("neither a file nor a folder")
}
