//! What is printed: results on stdout, messages on stderr. Names of files, classes and weights come
//! from elsewhere: nothing in them that a terminal would obey passes here.

use std::io::{self, IsTerminal, Write};

use crate::names::printable;

/// Writes a result to stdout.
pub(super) fn say(text: &str) -> io::Result<()> {
    say_part(text)?;
    match text.ends_with('\n') {
        true => Ok(()),
        false => say_part("\n"),
    }
}

/// Writes a part of a result to stdout.
pub(super) fn say_part(text: &str) -> io::Result<()> {
    say_exactly(&printable(text))
}

/// Writes a part of a table to stdout, exactly as it is where a program reads it.
pub(super) fn say_csv(text: &str) -> io::Result<()> {
    match io::stdout().is_terminal() {
        true => say_part(text),
        false => say_exactly(text),
    }
}

fn say_exactly(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes a message to stderr; a stderr that is closed is no reason to stop.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", printable(text));
}

/// Whether progress may redraw its line.
pub(super) fn interactive() -> bool {
    io::stderr().is_terminal()
}

/// Whether the reader of the output went away, as `head` does, which is no failure.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
