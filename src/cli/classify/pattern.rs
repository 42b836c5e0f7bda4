//! What a quoted glob matches. The `glob` crate compares names; it is not used to find them, since it passes over
//! names that are not UTF-8.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use glob::{Pattern, PatternError};

/// One part of a path.
enum Part {
    /// As it is.
    Name(OsString),
    /// What matches it.
    Like(Pattern),
    /// `**`: any number of folders.
    Folders,
}

/// The paths that match, and the folders that could not be read.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub paths: Vec<PathBuf>,
    pub failed: Vec<(PathBuf, io::Error)>,
}

/// Whether a path may be meant for every file that matches it.
pub(super) fn has_wildcard(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.iter().any(|byte| b"*?[".contains(byte))
}

/// Finds what matches a pattern. A byte that is not UTF-8 is one character.
///
/// # Errors
///
/// Where it is no pattern.
pub(super) fn find(pattern: &Path) -> Result<Found, PatternError> {
    let part = |component: Component<'_>| {
        let name = component.as_os_str();
        Ok(match component {
            Component::Normal(_) if name == "**" => Part::Folders,
            Component::Normal(_) if has_wildcard(Path::new(name)) => {
                Part::Like(Pattern::new(&name.to_string_lossy())?)
            }
            _ => Part::Name(name.to_owned()),
        })
    };
    let parts: Vec<Part> = pattern.components().map(part).collect::<Result<_, _>>()?;
    let mut found = Found::default();
    found.walk(PathBuf::new(), &parts);
    found.paths.sort();
    found.paths.dedup();
    Ok(found)
}

impl Found {
    /// Adds what of `folder`, empty for the current one, matches `parts`.
    fn walk(&mut self, folder: PathBuf, parts: &[Part]) {
        let Some((part, rest)) = parts.split_first() else {
            self.paths.push(match folder.as_os_str().is_empty() {
                true => PathBuf::from("."),
                false => folder,
            });
            return;
        };
        match part {
            Part::Name(name) => {
                let path = folder.join(name);
                if !rest.is_empty() || fs::symlink_metadata(&path).is_ok() {
                    self.walk(path, rest);
                }
            }
            Part::Like(pattern) => {
                for entry in self.entries(&folder) {
                    let name = entry.file_name();
                    if pattern.matches(&name.to_string_lossy()) {
                        self.walk(folder.join(name), rest);
                    }
                }
            }
            Part::Folders => {
                self.walk(folder.clone(), rest);
                for entry in self.entries(&folder) {
                    // Links may lead in a circle.
                    if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                        self.walk(folder.join(entry.file_name()), parts);
                    }
                }
            }
        }
    }

    /// What lies in a folder; nothing where it is none.
    fn entries(&mut self, folder: &Path) -> Vec<fs::DirEntry> {
        let place = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        };
        let entries = match fs::read_dir(place) {
            Ok(entries) => entries.collect::<io::Result<Vec<_>>>(),
            Err(error) => Err(error),
        };
        entries.unwrap_or_else(|error| {
            use io::ErrorKind::{NotADirectory, NotFound};
            if !matches!(error.kind(), NotADirectory | NotFound) {
                self.failed.push((place.to_owned(), error));
            }
            Vec::new()
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_what_the_crate_finds_and_names_that_are_not_utf8() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        for name in [
            "a.png",
            "b.png",
            "b.jpg",
            "c[1].png",
            "in/a.png",
            "in/deep/b.png",
            "in/deep/.c.png",
        ] {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), "").unwrap();
        }
        for text in [
            "*.png",
            "?.png",
            "[ab].*",
            "**/*.png",
            "in/**",
            "*/a.png",
            "in/./*.png",
            "none/*",
            "**",
            "*/deep/../*.png",
            "c[[]1].png",
            "in/deep/*",
            "*",
        ] {
            let pattern = root.join(text);
            let theirs = glob::glob(pattern.to_str().unwrap()).unwrap();
            let mut theirs: Vec<PathBuf> = theirs.map(Result::unwrap).collect();
            theirs.sort();
            theirs.dedup();
            let ours = find(&pattern).unwrap();
            // A final `**` means the folders, which its own folder is the first of.
            let ours: Vec<PathBuf> = match text.ends_with("**") {
                true => ours.paths[1..].to_vec(),
                false => ours.paths,
            };
            assert_eq!(ours, theirs, "{text}");
        }
        assert!(find(Path::new("a[")).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_that_are_not_utf8_match() {
        use std::os::unix::ffi::OsStrExt;
        let of = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join(of(b"caf\xe9"));
        fs::create_dir(&folder).unwrap();
        let file = folder.join(of(b"pi\xf1a.png"));
        fs::write(&file, "").unwrap();
        for text in [
            &b"*/*.png"[..],
            b"caf?/pi?a.png",
            b"caf\xe9/*",
            b"c*/pi\xf1*",
            b"**/*.png",
        ] {
            let pattern = place.path().join(of(text));
            assert_eq!(find(&pattern).unwrap().paths, [&*file], "{pattern:?}");
        }
    }
}
