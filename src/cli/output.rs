//! What is printed: results on stdout, messages on stderr. Names of files, classes and weights come
//! from elsewhere: nothing in them that a terminal would obey passes here.

use std::io::{self, IsTerminal, Write};

use super::wrap::wrap;
use crate::names::printable;

/// Writes a result for a person to stdout, in lines that fit its terminal.
pub(super) fn tell(text: &str) -> io::Result<()> {
    let text = wrap(&printable(text), columns());
    say_exactly(text.strip_suffix('\n').unwrap_or(&text))?;
    say_exactly("\n")
}

/// Writes a result for a program to stdout.
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
    let text = wrap(&printable(text), error_columns());
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// How many columns stdout has; a file or a pipe has no limit.
pub(super) fn columns() -> usize {
    columns_of(&io::stdout())
}

/// How many columns stderr has.
pub(super) fn error_columns() -> usize {
    columns_of(&io::stderr())
}

#[cfg(unix)]
fn columns_of(stream: &(impl IsTerminal + std::os::fd::AsFd)) -> usize {
    match stream.is_terminal() {
        true => usable(terminal_size::terminal_size_of(stream)),
        false => usize::MAX,
    }
}

#[cfg(windows)]
fn columns_of(stream: &(impl IsTerminal + std::os::windows::io::AsHandle)) -> usize {
    match stream.is_terminal() {
        true => usable(terminal_size::terminal_size_of(stream)),
        false => usize::MAX,
    }
}

/// The columns that `COLUMNS` tells, else those of the terminal, else the usual number.
fn usable(size: Option<(terminal_size::Width, terminal_size::Height)>) -> usize {
    const USUAL: usize = 80;
    /// Lines shorter than this help nobody.
    const FEWEST: usize = 20;
    let told = std::env::var("COLUMNS")
        .ok()
        .and_then(|told| told.parse().ok());
    let columns = told.or_else(|| size.map(|(width, _)| usize::from(width.0)));
    columns.unwrap_or(USUAL).max(FEWEST)
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
