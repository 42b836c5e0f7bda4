//! What is printed: results on stdout, messages on stderr.

use std::io::{self, IsTerminal, Write};

/// Writes a result to stdout.
pub(super) fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Writes a message to stderr; a stderr that is closed is no reason to stop.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
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
