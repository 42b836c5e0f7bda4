//! Names that other programs leave beside pictures: bins, thumbnails, backup copies.

/// Files and folders that file managers, NAS systems, archivers and other programs make, in lower case. A name that
/// begins with a dot, such as `.git` and `.ipynb_checkpoints`, is hidden and need not stand here.
const LEFT_BY_PROGRAMS: [&str; 18] = [
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "@eadir",
    "@recently-snapshot",
    "@recycle",
    "@sharebin",
    "@tmp",
    "__macosx",
    "__pycache__",
    "lightning_logs",
    "lost+found",
    "mlruns",
    "network trash folder",
    "node_modules",
    "system volume information",
    "temporary items",
    "wandb",
];

/// Whether a path has a part that is hidden or that [another program left](is_left_by_program).
pub(super) fn is_hidden(name: &str) -> bool {
    name.split('/')
        .any(|part| part.starts_with('.') || is_left_by_program(part))
}

/// Whether a file or folder of this name is left by another program: a bin, thumbnails, an editor's backup copy.
pub(super) fn is_left_by_program(part: &str) -> bool {
    part.ends_with('~') || LEFT_BY_PROGRAMS.contains(&part.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_programs_leave() {
        for name in [
            ".git/objects/1.jpg",
            "cat/.ipynb_checkpoints/1-checkpoint.jpg",
            "cat/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg",
            "#recycle/cat/1.jpg",
            "$RECYCLE.BIN/1.jpg",
            "System Volume Information/1.jpg",
            "__MACOSX/cat/1.jpg",
            "cat/1.jpg~",
        ] {
            assert!(is_hidden(name), "{name}");
        }
        for name in [
            "cat/1.jpg",
            "recycle/1.jpg",
            "lost/found.jpg",
            "a@eaDir/1.jpg",
        ] {
            assert!(!is_hidden(name), "{name}");
        }
    }
}
