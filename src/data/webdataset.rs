//! WebDataset: pictures with their classes in files beside them, `000.jpg` and `000.cls`, in tar archives or unpacked.
//!
//! Files with one key, the path up to the first dot of the last part, are one sample. Its class is what `KEY.cls` says,
//! a number or a word; in an archive without such files, what `KEY.json` says under `cls`, `label`, `class` or
//! `class_name`. The pictures are listed as if they lay in class folders.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::extensions::archive_stem;
use super::files::{Aside, Files, Kept};
use super::folder::is_candidate;
use super::sample::Skipped;
use crate::names::{self, base_name, folder_of};

/// Of a class no more is read: it becomes the name of a folder.
const LONGEST_CLASS: usize = 255;
/// A longer file of JSON is no description of one picture, in bytes.
const LONGEST_JSON: usize = 1 << 20;

/// Keys of a sample's JSON under which its class is looked for.
const JSON_KEYS: [&str; 4] = ["cls", "label", "class", "class_name"];

/// The key of a sample and what kind of file of it this is: `a/000` and `jpg` of `a/000.jpg`.
fn split(name: &str) -> Option<(&str, &str)> {
    let folder = folder_of(name).len();
    let dot = folder + name[folder..].find('.')?;
    Some((&name[..dot], &name[dot + 1..]))
}

/// The files, where they are those of a WebDataset as its pictures in class folders.
pub(super) fn in_class_folders(files: Box<dyn Files>) -> Box<dyn Files> {
    let names = files.names();
    let with_kind = |kind: &str| -> HashMap<&str, usize> {
        let of_kind = |(index, name): (usize, &'_ String)| {
            let (key, found) = split(name)?;
            found
                .eq_ignore_ascii_case(kind)
                .then_some((index, key.len()))
        };
        let found: Vec<_> = names.iter().enumerate().filter_map(of_kind).collect();
        found
            .into_iter()
            .map(|(index, key)| (&names[index][..key], index))
            .collect()
    };
    let (mut labels, mut kind) = (with_kind("cls"), "cls");
    if labels.is_empty() && !names.is_empty() && files.on_disk(0).is_none() && is_flat(names) {
        (labels, kind) = (with_kind("json"), "json");
    }
    // A picture whose kind has a dot, such as `seg.png`, is another one of its sample.
    let pictures: Vec<(usize, &str)> = (0..names.len())
        .filter_map(|index| Some((index, split(&names[index])?)))
        .filter(|(index, (_, found))| !found.contains('.') && is_candidate(&*files, *index))
        .map(|(index, (key, _))| (index, key))
        .collect();
    let is_json = kind == "json";
    let class_of = |key: &str| {
        let index = *labels.get(key)?;
        Some(class_in(&*files, index, is_json).ok_or(index))
    };
    // A file of JSON beside a picture may say anything: all of them say a class, or it is not meant.
    let classes: Vec<_> = pictures.iter().map(|(_, key)| class_of(key)).collect();
    let are_meant = match is_json {
        true => classes.iter().all(|class| matches!(class, Some(Ok(_)))),
        false => classes.iter().any(Option::is_some),
    };
    if classes.is_empty() || !are_meant {
        return files;
    }
    // Shards may number their samples alike.
    let stem = match files.on_disk(0) {
        Some(_) => String::new(),
        None => {
            let archive = names::text(files.root());
            let name = base_name(&archive);
            format!("{}/", archive_stem(name).unwrap_or(name))
        }
    };
    let mut aside = files.aside().clone();
    let mut kept: Vec<(String, usize)> = Vec::new();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for ((index, key), class) in pictures.iter().zip(classes) {
        let name = &names[*index];
        let reason = match class {
            Some(Ok(class)) if seen.insert(key) => {
                kept.push((format!("{class}/{stem}{name}"), *index));
                continue;
            }
            Some(Ok(_)) => format!("the sample {key} has another picture"),
            Some(Err(label)) => format!("{} names no class", names[label]),
            None => format!(
                "no {} with its class lies beside it",
                base_name(&format!("{key}.{kind}"))
            ),
        };
        aside.left_out.push(Skipped {
            name: name.clone(),
            reason,
        });
    }
    if kept.is_empty() {
        return files;
    }
    aside.notes.push(format!(
        "classes are those of files such as {}, as in WebDataset",
        labels
            .values()
            .min()
            .map_or("", |&index| names[index].as_str())
    ));
    kept.sort();
    let (names, kept) = kept.into_iter().unzip();
    Box::new(Kept {
        files,
        kept,
        names,
        aside: Aside {
            empty_folders: Vec::new(),
            ..aside
        },
    })
}

fn is_flat(names: &[String]) -> bool {
    names.iter().all(|name| !name.contains('/'))
}

/// The class that a file names; `None` where it names none that could be a folder's.
fn class_in(files: &dyn Files, index: usize, is_json: bool) -> Option<String> {
    let most = if is_json { LONGEST_JSON } else { LONGEST_CLASS };
    if files.size(index) > most as u64 {
        return None;
    }
    let bytes: Cow<'_, [u8]> = files.read(index).ok()?;
    let text = match is_json {
        false => names::text_of_bytes(bytes.trim_ascii()),
        true => {
            let value: Value = serde_json::from_slice(&bytes).ok()?;
            match JSON_KEYS.iter().find_map(|key| value.get(key))? {
                Value::String(class) => class.trim().to_owned(),
                Value::Number(class) if !class.is_f64() => class.to_string(),
                _ => return None,
            }
        }
    };
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let class = match text.trim_start_matches('0') {
        "" if is_number => "0",
        digits if is_number => digits,
        _ => &text,
    };
    let fits = (1..=LONGEST_CLASS).contains(&class.len())
        && !class.contains('/')
        && !class.chars().any(char::is_control)
        && !matches!(class, "." | "..");
    fits.then(|| class.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::sample::SplitName;
    use super::super::source::Dataset;

    type File<'a> = (&'a str, &'a str);

    fn tar(path: &Path, files: &[File<'_>]) {
        let mut builder = tar::Builder::new(fs::File::create(path).unwrap());
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            builder
                .append_data(&mut header, name, text.as_bytes())
                .unwrap();
        }
        builder.finish().unwrap();
    }

    fn open(files: &[File<'_>]) -> Dataset {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("set.tar");
        tar(&path, files);
        Dataset::open(&path).unwrap()
    }

    fn names(dataset: &Dataset, split: SplitName) -> Vec<(&str, &str)> {
        let samples = dataset.given(split).iter();
        samples
            .map(|sample| (dataset.classes[sample.label].as_str(), sample.name.as_str()))
            .collect()
    }

    #[test]
    fn classes_are_what_stands_beside_the_pictures() {
        let dataset = open(&[
            ("000.jpg", "x"),
            ("000.cls", "10\n"),
            ("000.json", "{\"label\": 3}"),
            ("000.seg.png", "x"),
            ("001.jpg", "x"),
            ("001.cls", "02"),
            ("002.jpg", "x"),
            ("002.cls", "\n"),
            ("003.png", "x"),
            ("004.jpg", "x"),
            ("004.cls", "0"),
            ("004.png", "x"),
        ]);
        assert_eq!(dataset.classes, ["0", "2", "10"]);
        assert_eq!(
            names(&dataset, SplitName::Train),
            [
                ("0", "0/set/004.jpg"),
                ("10", "10/set/000.jpg"),
                ("2", "2/set/001.jpg")
            ]
        );
        let left: Vec<_> = dataset.skipped.iter().map(ToString::to_string).collect();
        assert_eq!(
            left,
            [
                "002.jpg: 002.cls names no class",
                "003.png: no 003.cls with its class lies beside it",
                "004.png: the sample 004 has another picture",
            ]
        );
        assert_eq!(
            dataset.notes,
            ["classes are those of files such as 000.cls, as in WebDataset"]
        );
        // Words, in folders; and JSON where there is nothing else.
        let dataset = open(&[
            ("a/1.jpg", "x"),
            ("a/1.cls", "maine coon"),
            ("b/1.jpg", "x"),
            ("b/1.cls", "pug"),
        ]);
        assert_eq!(
            names(&dataset, SplitName::Train),
            [
                ("maine coon", "maine coon/set/a/1.jpg"),
                ("pug", "pug/set/b/1.jpg")
            ]
        );
        let dataset = open(&[
            ("1.jpg", "x"),
            ("1.json", "{\"label\": 7}"),
            ("2.jpg", "x"),
            ("2.json", "{\"label\": \"emu\"}"),
        ]);
        assert_eq!(dataset.classes, ["7", "emu"]);
    }

    #[test]
    fn shards_are_read_together_by_their_splits() {
        let place = tempfile::tempdir().unwrap();
        let write = |name: &str, classes: [&str; 2]| {
            let [one, two] = classes;
            tar(
                &place.path().join(name),
                &[
                    ("000.jpg", "x"),
                    ("000.cls", one),
                    ("001.jpg", "x"),
                    ("001.cls", two),
                ],
            );
        };
        write("pets-train-000000.tar", ["0", "1"]);
        write("pets-train-000001.tar", ["1", "0"]);
        write("pets-validation-000000.tar", ["0", "1"]);
        let dataset = Dataset::open(place.path()).unwrap();
        assert_eq!(
            names(&dataset, SplitName::Train),
            [
                ("0", "train/0/pets-train-000000/000.jpg"),
                ("1", "train/1/pets-train-000000/001.jpg"),
                ("0", "train/0/pets-train-000001/001.jpg"),
                ("1", "train/1/pets-train-000001/000.jpg"),
            ]
        );
        assert_eq!(dataset.given(SplitName::Val).len(), 2);

        // Without splits, in numbered shards.
        let place = tempfile::tempdir().unwrap();
        for shard in ["00000.tar", "00001.tar"] {
            tar(
                &place.path().join(shard),
                &[("a.jpg", "x"), ("a.cls", shard)],
            );
        }
        let dataset = Dataset::open(place.path()).unwrap();
        assert_eq!(dataset.given(SplitName::Train).len(), 2);
        assert_eq!(dataset.classes, ["00000.tar", "00001.tar"]);
    }

    #[test]
    fn it_lies_unpacked_too_and_other_files_beside_pictures_are_no_classes() {
        let place = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("1.jpg", "x"),
            ("1.cls", "3"),
            ("2.jpg", "x"),
            ("2.cls", "4"),
        ] {
            fs::write(place.path().join(name), text).unwrap();
        }
        let dataset = Dataset::open(place.path()).unwrap();
        assert_eq!(
            names(&dataset, SplitName::Train),
            [("3", "3/1.jpg"), ("4", "4/2.jpg")]
        );
        // JSON of another use, in class folders.
        let dataset = open(&[
            ("cat/1.jpg", "x"),
            ("cat/1.json", "{\"label\": \"box\"}"),
            ("dog/2.jpg", "x"),
        ]);
        assert_eq!(dataset.classes, ["cat", "dog"]);
    }
}
