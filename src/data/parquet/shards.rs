//! Which Parquet files of a folder belong together, and what split each one holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::data::error::DataError;
use crate::data::files::Files;
use crate::data::sample::SplitName;
use crate::names::{base_name, folder_of};

/// Finds Parquet files: the path of each, and the prefix of its samples' names; `None` where there are none.
///
/// # Errors
///
/// [`DataError::Layout`] where they are inside an archive.
pub(in crate::data) fn find_shards(
    files: &dyn Files,
) -> Result<Option<Vec<(PathBuf, String)>>, DataError> {
    let mut shards = Vec::new();
    for (index, name) in files
        .names()
        .iter()
        .enumerate()
        .filter(|(_, name)| is_shard(name))
    {
        let path = files.on_disk(index).ok_or_else(|| DataError::Layout {
            path: files.root().into(),
            reason: format!("holds {name}, and Parquet is not read inside an archive; unpack it into a folder and name that"),
        })?;
        shards.push((path, name.clone()));
    }
    shards.sort_by(|a, b| a.1.cmp(&b.1));
    Ok((!shards.is_empty()).then_some(shards))
}

/// Whether a file of this name is read as Parquet.
pub(in crate::data) fn is_shard(name: &str) -> bool {
    stem(name).is_some()
}

/// The name of a Parquet file without its folder and extension, which some write in upper case.
pub(in crate::data) fn stem(name: &str) -> Option<&str> {
    let base = base_name(name);
    let (stem, extension) = base.split_at_checked(base.len().checked_sub(".parquet".len())?)?;
    extension.eq_ignore_ascii_case(".parquet").then_some(stem)
}

/// The split of each file.
///
/// # Errors
///
/// [`DataError::Layout`] where a name says two splits, or a split lies in several folders side by side: these are
/// configurations, as the hub calls them, which hold the same pictures in other forms, or other pictures.
pub(super) fn splits_of(files: &[(PathBuf, String)]) -> Result<Vec<SplitName>, DataError> {
    let mut found = Vec::new();
    let mut places: BTreeMap<SplitName, BTreeSet<&str>> = BTreeMap::new();
    for (path, name) in files {
        let place = place_of(name).map_err(|part| DataError::Layout {
            path: path.clone(),
            reason: format!("{part} names more than one of train, val and test; rename it"),
        })?;
        if let Some((split, folder)) = place {
            places.entry(split).or_default().insert(folder);
        }
        found.push(place.map_or(SplitName::Train, |(split, _)| split));
    }
    match places.iter().find(|(_, folders)| folders.len() > 1) {
        None => Ok(found),
        Some((split, folders)) => {
            let shown: Vec<&str> = folders
                .iter()
                .take(4)
                .map(|folder| if folder.is_empty() { "./" } else { folder })
                .collect();
            let more = match folders.len() - shown.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            Err(DataError::Layout {
                path: root_of(&files[0]),
                reason: format!(
                    "a {split} split in each of {}{more}, which may be configurations of one set; name the folder that is meant, or put the files of all into one folder",
                    shown.join(", ")
                ),
            })
        }
    }
}

/// The folder that a file's name is relative to.
fn root_of((path, name): &(PathBuf, String)) -> PathBuf {
    path.ancestors()
        .nth(name.split('/').count())
        .unwrap_or(Path::new("."))
        .into()
}

/// The split that a file is named for, as in `train-00000-of-00001.parquet` and `pets-test.parquet`, or else its folder,
/// as in `partial-test/`; and the folder around what is named so.
///
/// # Errors
///
/// The part of the name that says two splits.
fn place_of(name: &str) -> Result<Option<(SplitName, &str)>, &str> {
    let mut clash = None;
    let mut part = stem(name).unwrap_or(base_name(name));
    let mut around = folder_of(name);
    loop {
        match split_in(part) {
            Ok(Some(split)) => return Ok(Some((split, around))),
            Ok(None) => {}
            Err(()) => clash = clash.or(Some(part)),
        }
        if around.is_empty() {
            return clash.map_or(Ok(None), Err);
        }
        let folder = around.trim_end_matches('/');
        part = base_name(folder);
        around = folder_of(folder);
    }
}

/// The split that a name, or a word of it, says.
fn split_in(name: &str) -> Result<Option<SplitName>, ()> {
    if let Some(split) = SplitName::from_folder(name) {
        return Ok(Some(split));
    }
    let words = name.split(|c: char| !c.is_alphanumeric());
    let splits: BTreeSet<SplitName> = words.filter_map(SplitName::from_folder).collect();
    match splits.len() {
        0 | 1 => Ok(splits.into_iter().next()),
        _ => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_in_the_names() {
        let split = |name| place_of(name).map(|place| place.map(|(split, _)| split));
        for (name, expected) in [
            (
                "data/validation-00000-of-00002.parquet",
                Some(SplitName::Val),
            ),
            ("plain_text/test/0000.parquet", Some(SplitName::Test)),
            ("default/partial-test/0000.parquet", Some(SplitName::Test)),
            ("pets-test.parquet", Some(SplitName::Test)),
            ("pets_valid_0.PARQUET", Some(SplitName::Val)),
            ("test-set/train-0.parquet", Some(SplitName::Train)),
            ("train-test-split/test/0.parquet", Some(SplitName::Test)),
            ("latest.parquet", None),
            ("0000.parquet", None),
        ] {
            assert_eq!(split(name), Ok(expected), "{name}");
        }
        assert_eq!(split("a/train_test.parquet"), Err("train_test"));
    }

    #[test]
    fn configurations_side_by_side_are_refused() {
        let files = |names: &[&str]| -> Vec<(PathBuf, String)> {
            let file = |name: &&str| (Path::new("set").join(name), name.to_string());
            names.iter().map(file).collect()
        };
        let error = splits_of(&files(&["large/train/0.parquet", "small/train/0.parquet"]));
        assert_eq!(
            error.map_err(|error| error.to_string()),
            Err("set: a train split in each of large/, small/, which may be configurations of one set; name the folder that is meant, or put the files of all into one folder".to_string())
        );
        for names in [
            ["data/train-0.parquet", "data/train-1.parquet"],
            ["train/a/0.parquet", "train/b/0.parquet"],
            ["a/train/0.parquet", "b/test/0.parquet"],
            ["a/0.parquet", "b/0.parquet"],
        ] {
            assert!(splits_of(&files(&names)).is_ok(), "{names:?}");
        }
    }
}
