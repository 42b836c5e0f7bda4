//! Commands and paths as a shell reads them back.

use std::path::Path;

/// A path as a shell reads it back.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain =
        |c: char| c.is_alphanumeric() || c == std::path::MAIN_SEPARATOR || "/._-+:@%,=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
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
        ] {
            assert_eq!(quoted(Path::new(path)), shown);
        }
    }
}
