//! Commands and paths as a shell reads them back.

use std::path::Path;

use crate::names::visible;

/// A path as a shell reads it back.
pub(super) fn quoted(path: &Path) -> String {
    let is_plain =
        |c: char| c.is_alphanumeric() || c == std::path::MAIN_SEPARATOR || "/._-+:@%,=".contains(c);
    let bytes = path.as_os_str().as_encoded_bytes();
    // What begins with a dash would be taken for a flag.
    let here = if bytes.starts_with(b"-") { "./" } else { "" };
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && text.chars().all(is_plain) => format!("{here}{text}"),
        Ok(text) if visible(text) == text => {
            format!("'{here}{}'", text.replace('\'', "'\\''"))
        }
        _ => format!("$'{here}{}'", ansi_c(bytes)),
    }
}

/// Between `$'` and `'`, in which bash, zsh and others read escapes: control characters and bytes that
/// are not UTF-8 can be typed.
fn ansi_c(bytes: &[u8]) -> String {
    let hex =
        |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect() };
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let mut buffer = [0; 4];
            let letter: &str = c.encode_utf8(&mut buffer);
            match c {
                '\'' | '\\' => out += &format!("\\{c}"),
                _ if visible(letter) == letter => out.push(c),
                _ => out += &hex(letter.as_bytes()),
            }
        }
        out += &hex(chunk.invalid());
    }
    out
}

/// How the user can start this program again. Someone who used `cargo run` has no `vitrine` on the
/// path, and `cargo run` without the same features would build another one.
pub(super) fn program() -> String {
    let by_cargo = std::env::var_os("CARGO").and_then(|_| std::env::current_exe().ok());
    let Some(path) = by_cargo else {
        return "vitrine".to_owned();
    };
    let here = std::env::current_dir().ok();
    let shown = here.and_then(|here| Some(path.strip_prefix(here).ok()?.to_owned()));
    quoted(&shown.unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_quoted_where_a_shell_would_read_another() {
        for (path, shown) in [
            ("runs/pets-vit_1.2/猫.png", "runs/pets-vit_1.2/猫.png"),
            ("my pets", "'my pets'"),
            ("~/pets", "'~/pets'"),
            ("a$b", "'a$b'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
            ("-pets", "./-pets"),
            ("-my pets", "'./-my pets'"),
            ("re\u{1b}[31md's", r"$'re\x1b[31md\'s'"),
            ("\u{202e}a", r"$'\xe2\x80\xaea'"),
        ] {
            assert_eq!(quoted(Path::new(path)), shown);
        }
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStrExt;
            let latin = std::ffi::OsStr::from_bytes(b"caf\xe9 \\");
            assert_eq!(quoted(Path::new(latin)), r"$'caf\xe9 \\'");
        }
    }
}
