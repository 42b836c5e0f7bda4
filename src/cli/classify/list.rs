//! The list of names that `--files-from` reads.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::names::shown;

/// The longest name that is read, in bytes; every system's paths are shorter.
const LONGEST: u64 = 1 << 16;

/// Names, one a line, or each with a NUL byte behind it. They are read as they are needed.
pub(in crate::cli) struct NameList {
    /// What error messages call it.
    path: PathBuf,
    reader: BufReader<Box<dyn Read + Send>>,
    /// What ends a name.
    end: u8,
    /// Whether reading may have to wait for whoever writes the list.
    may_wait: bool,
    count: u64,
}

/// What there is next.
#[derive(Debug)]
pub(super) enum Listed {
    Name(PathBuf),
    /// The next name is yet to be written.
    Pause,
    /// No further name can be read.
    Failed {
        list: PathBuf,
        reason: String,
    },
}

impl NameList {
    /// A list in a file, or `-` for standard input; `null` says that a NUL byte ends each name.
    pub(in crate::cli) fn open(path: &Path, null: bool) -> anyhow::Result<Self> {
        let (path, reader, may_wait): (_, Box<dyn Read + Send>, _) = if path == Path::new("-") {
            let stdin = io::stdin();
            ("standard input".into(), Box::new(stdin), true)
        } else {
            let cannot_read = || format!("cannot read {}", shown(path));
            let file = File::open(path).with_context(cannot_read)?;
            let is_file = file.metadata().with_context(cannot_read)?.is_file();
            (path.to_owned(), Box::new(file), !is_file)
        };
        Ok(Self {
            path,
            reader: BufReader::with_capacity(1 << 16, reader),
            end: if null { 0 } else { b'\n' },
            may_wait,
            count: 0,
        })
    }

    fn failed(&self, reason: impl Into<String>) -> Option<Listed> {
        Some(Listed::Failed {
            list: self.path.clone(),
            reason: reason.into(),
        })
    }

    /// The bytes up to the end of the next name, without it; `None` at the end of the list.
    fn record(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        let mut limited = self.reader.by_ref().take(LONGEST);
        if limited.read_until(self.end, &mut bytes)? == 0 {
            return Ok(None);
        }
        if bytes.last() == Some(&self.end) {
            bytes.pop();
        } else if bytes.len() as u64 == LONGEST {
            return Err(io::Error::other(format!(
                "more than {LONGEST} bytes without the end of a name"
            )));
        }
        Ok(Some(bytes))
    }

    /// The next name.
    pub(super) fn next(&mut self, paused: bool) -> Option<Listed> {
        if self.may_wait && !paused && !self.reader.buffer().contains(&self.end) {
            return Some(Listed::Pause);
        }
        loop {
            let mut bytes = match self.record() {
                Ok(Some(bytes)) => bytes,
                Ok(None) if self.count == 0 => {
                    self.count = 1;
                    return self.failed("a list without a name");
                }
                Ok(None) => return None,
                Err(error) => return self.failed(format!("cannot read it: {error}")),
            };
            if self.end == b'\n' {
                if self.count == 0 {
                    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
                        return self.failed("a list in UTF-16; save it as UTF-8");
                    }
                    if bytes.starts_with(b"\xef\xbb\xbf") {
                        bytes.drain(..3);
                    }
                }
                if bytes.last() == Some(&b'\r') {
                    bytes.pop();
                }
                if bytes.contains(&0) {
                    return self.failed(
                        "a NUL byte in a list of one name a line; --null reads names that end with NUL",
                    );
                }
            }
            if bytes.is_empty() {
                continue;
            }
            self.count += 1;
            return match from_bytes(bytes) {
                Ok(name) => Some(Listed::Name(name.into())),
                Err(shown) => self.failed(format!("{shown:?} is not UTF-8")),
            };
        }
    }
}

#[cfg(unix)]
#[allow(clippy::unnecessary_wraps)]
fn from_bytes(bytes: Vec<u8>) -> Result<OsString, String> {
    Ok(std::os::unix::ffi::OsStringExt::from_vec(bytes))
}

#[cfg(not(unix))]
fn from_bytes(bytes: Vec<u8>) -> Result<OsString, String> {
    String::from_utf8(bytes)
        .map(OsString::from)
        .map_err(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(list: &[u8], null: bool) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        std::fs::write(&path, list).unwrap();
        let mut names = NameList::open(&path, null).unwrap();
        let mut read = Vec::new();
        while let Some(name) = names.next(false) {
            match name {
                Listed::Name(name) => read.push(name.display().to_string()),
                Listed::Pause => panic!("a file never waits"),
                Listed::Failed { reason, .. } => {
                    read.push(format!("error: {reason}"));
                    break;
                }
            }
        }
        read
    }

    #[test]
    fn names_end_with_a_line_or_with_nul() {
        assert_eq!(
            read(b"a.png\n\n b c.png\r\nd.png", false),
            ["a.png", " b c.png", "d.png"]
        );
        assert_eq!(read(b"a\nb.png\0c.png\0", true), ["a\nb.png", "c.png"]);
        assert_eq!(read(b"\xef\xbb\xbfa.png\n", false), ["a.png"]);
    }

    #[test]
    fn what_is_no_list_of_names_says_so() {
        let nul =
            "error: a NUL byte in a list of one name a line; --null reads names that end with NUL";
        assert_eq!(read(b"a.png\0b.png\0", false), [nul]);
        let utf16 = "error: a list in UTF-16; save it as UTF-8";
        assert_eq!(read(b"\xff\xfea\0\n\0", false), [utf16]);
        assert_eq!(read(b"\n\n", false), ["error: a list without a name"]);
        assert_eq!(read(b"", true), ["error: a list without a name"]);
        let endless = vec![b'a'; 2 * LONGEST as usize];
        let long = "error: cannot read it: more than 65536 bytes without the end of a name";
        assert_eq!(read(&endless, false), [long]);
    }
}
