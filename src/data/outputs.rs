//! Folders of results among the pictures, known by the files in them: run directories above all.

use std::collections::BTreeSet;
use std::path::Path;

use super::files::{Files, Kept};
use crate::names::folder_of;

/// Folders known by the files in them: those that must be there, those of which one must, and what it is.
const MARKED: [(&[&str], &[&str], &str); 5] = [
    // A recipe alone may be the user's own.
    (
        &["recipe.toml"],
        &[
            "run.json",
            "results.csv",
            "weights/last.safetensors",
            "checkpoint/lock",
        ],
        "a run directory",
    ),
    (
        &["metrics.json", "confusion_matrix.csv"],
        &[],
        "the results of `vitrine eval`",
    ),
    (
        &["compare.json", "compare.md"],
        &[],
        "the results of `vitrine compare`",
    ),
    (
        &["args.yaml"],
        &["results.csv", "weights/last.pt", "weights/best.pt"],
        "the results of another trainer",
    ),
    (&["pyvenv.cfg"], &[], "a Python environment"),
];

/// What the folder with this prefix (empty, or with a final `/`) is known as by the files in it.
fn marked(names: &BTreeSet<&str>, prefix: &str) -> Option<&'static str> {
    let has = |file: &&str| names.contains(format!("{prefix}{file}").as_str());
    MARKED
        .iter()
        .find(|(all, any, _)| all.iter().all(has) && (any.is_empty() || any.iter().any(has)))
        .map(|(_, _, what)| *what)
}

/// Whether `folder` is a run directory.
pub(super) fn is_run(folder: &Path) -> bool {
    let (all, any, _) = MARKED[0];
    let has = |file: &&str| folder.join(file).is_file();
    all.iter().all(has) && any.iter().any(has)
}

/// The files that lie in no such folder; a note names what is left out.
pub(super) fn without_outputs(files: Box<dyn Files>) -> Box<dyn Files> {
    let marks = |name: &str| {
        MARKED
            .iter()
            .any(|(all, _, _)| name == all[0] || name.ends_with(&format!("/{}", all[0])))
    };
    let places: BTreeSet<&str> = files
        .names()
        .iter()
        .filter(|name| marks(name))
        .map(|name| folder_of(name))
        // The folder that was named is meant, whatever it is.
        .filter(|prefix| !prefix.is_empty())
        .collect();
    if places.is_empty() {
        return files;
    }
    let names: BTreeSet<&str> = files.names().iter().map(String::as_str).collect();
    let mut left: Vec<(&str, &str)> = Vec::new();
    for prefix in places {
        let inside = left
            .last()
            .is_some_and(|(outer, _)| prefix.starts_with(outer));
        if let (false, Some(what)) = (inside, marked(&names, prefix)) {
            left.push((prefix, what));
        }
    }
    let Some((first, what)) = left.first() else {
        return files;
    };
    let note = format!(
        "left out {first}, {what}{}",
        match left.len() - 1 {
            0 => String::new(),
            more => format!(
                " (and {more} more such folder{})",
                if more == 1 { "" } else { "s" }
            ),
        }
    );
    let is_left = |name: &str| {
        // The prefixes are sorted and none is inside another, so only the one before the name can hold it.
        let after = left.partition_point(|(prefix, _)| *prefix <= name);
        after > 0 && name.starts_with(left[after - 1].0)
    };
    let kept: Vec<usize> = (0..files.names().len())
        .filter(|&index| !is_left(&files.names()[index]))
        .collect();
    let mut aside = files.aside().clone();
    aside.empty_folders.retain(|folder| !is_left(folder));
    aside.notes.push(note);
    let names = kept
        .iter()
        .map(|&index| files.names()[index].clone())
        .collect();
    Box::new(Kept {
        files,
        kept,
        names,
        aside,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_known_by_what_they_hold() {
        let known = |files: &[&str]| marked(&files.iter().copied().collect(), "x/");
        assert_eq!(
            known(&["x/recipe.toml", "x/run.json"]),
            Some("a run directory")
        );
        assert_eq!(known(&["x/recipe.toml", "x/cat/1.jpg", "run.json"]), None);
        assert_eq!(
            known(&["x/args.yaml", "x/weights/best.pt"]),
            Some("the results of another trainer")
        );
        assert_eq!(known(&["x/pyvenv.cfg"]), Some("a Python environment"));
    }
}
