//! The binary versions of CIFAR-10 and CIFAR-100 (Krizhevsky 2009), in a folder or in the original `.tar.gz`.
//!
//! A record is its label (CIFAR-100: the coarse label, then the fine one, which is used) and 3072 bytes: 32 × 32 red,
//! then green, then blue.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;

use super::bytes::Bytes;
use super::error::DataError;
use super::files::{Files, lines_of};
use super::listing::{Container, Entry, Listing, SourceKind};
use super::sample::{RawPicture, SplitName};
use crate::names::{base_name, folder_of};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;

const CIFAR10: [&str; 10] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];

const CIFAR100: &str = "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus \
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup \
    dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion \
    lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear \
    pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew \
    skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television \
    tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm";

/// Which of the two it is, and which of the files belong to it, as indices.
pub(super) struct Layout {
    kind: SourceKind,
    batches: Vec<(usize, SplitName)>,
    class_names: Option<usize>,
}

impl Layout {
    /// The index of the first of its files.
    pub(super) fn first(&self) -> usize {
        self.batches[0].0
    }

    fn label_bytes(&self) -> usize {
        if self.kind == SourceKind::Cifar100 {
            2
        } else {
            1
        }
    }
}

/// Finds CIFAR's files by their names, in whichever folder they lie; `None` where there are none.
pub(super) fn find_batches(names: &[String]) -> Option<Layout> {
    let is_batch =
        |name: &str| base_name(name).starts_with("data_batch_") && name.ends_with(".bin");
    let ten = names
        .iter()
        .find(|name| is_batch(name) || base_name(name) == "test_batch.bin");
    // `train.bin` alone is too common a name to be taken for CIFAR-100.
    let is_hundred = |name: &str| matches!(base_name(name), "train.bin" | "test.bin");
    let all: HashSet<&str> = match names.iter().any(|name| is_hundred(name)) {
        true => names.iter().map(String::as_str).collect(),
        false => HashSet::new(),
    };
    let is_beside = |name: &str, other: &str| all.contains(&*format!("{}{other}", folder_of(name)));
    let hundred = names.iter().find(|name| match base_name(name) {
        "train.bin" => is_beside(name, "test.bin") || is_beside(name, "fine_label_names.txt"),
        "test.bin" => is_beside(name, "fine_label_names.txt"),
        _ => false,
    });
    let (kind, folder) = match (ten, hundred) {
        (Some(first), _) => (SourceKind::Cifar10, folder_of(first)),
        (None, Some(first)) => (SourceKind::Cifar100, folder_of(first)),
        (None, None) => return None,
    };
    let beside = |index: &usize| folder_of(&names[*index]) == folder;
    let mut batches: Vec<(usize, SplitName)> = (0..names.len())
        .filter(beside)
        .filter_map(|index| {
            let split = match (kind, base_name(&names[index])) {
                (SourceKind::Cifar10, "test_batch.bin") | (SourceKind::Cifar100, "test.bin") => {
                    SplitName::Test
                }
                (SourceKind::Cifar10, _) if is_batch(&names[index]) => SplitName::Train,
                (SourceKind::Cifar100, "train.bin") => SplitName::Train,
                _ => return None,
            };
            Some((index, split))
        })
        .collect();
    batches.sort_by(|a, b| names[a.0].cmp(&names[b.0]));
    let meta = if kind == SourceKind::Cifar10 {
        "batches.meta.txt"
    } else {
        "fine_label_names.txt"
    };
    let class_names = (0..names.len())
        .filter(beside)
        .find(|&index| base_name(&names[index]) == meta);
    Some(Layout {
        kind,
        batches,
        class_names,
    })
}

struct Cifar {
    /// For each file, the index of its first record among all, and its bytes.
    batches: Vec<(usize, Bytes)>,
    label_bytes: usize,
}

impl Container for Cifar {
    fn read(&self, entry: usize) -> Result<RawPicture<'_>, DataError> {
        let batch = self.batches.partition_point(|(first, _)| *first <= entry) - 1;
        let (first, bytes) = &self.batches[batch];
        let record = self.label_bytes + 3 * PLANE;
        let start = (entry - first) * record + self.label_bytes;
        let planes = &bytes[start..start + 3 * PLANE];
        let mut data = Vec::with_capacity(3 * PLANE);
        for pixel in 0..PLANE {
            data.extend([
                planes[pixel],
                planes[PLANE + pixel],
                planes[2 * PLANE + pixel],
            ]);
        }
        Ok(RawPicture::Pixels {
            width: SIDE as u32,
            height: SIDE as u32,
            channels: 3,
            data: Cow::Owned(data),
        })
    }
}

/// Lists the records of every file.
///
/// # Errors
///
/// [`DataError::Corrupt`] where a file has a wrong size, a label out of range, or a wrong number of class names.
pub(super) fn list_records(files: &dyn Files, layout: &Layout) -> Result<Listing, DataError> {
    let classes = class_names(files, layout)?;
    let label_bytes = layout.label_bytes();
    let mut batches = Vec::new();
    let mut entries = Vec::new();
    for &(index, split) in &layout.batches {
        let bytes = files.bytes(index)?;
        let labels = labels_of(&files.path(index), &bytes, label_bytes, classes.len())?;
        let base = base_name(&files.names()[index]);
        let first = entries.len();
        entries.extend(labels.into_iter().enumerate().map(|(record, label)| Entry {
            name: format!("{base}#{record}"),
            split,
            label,
            entry: first + record,
        }));
        batches.push((first, bytes));
    }
    Ok(Listing {
        kind: layout.kind,
        container: Box::new(Cifar {
            batches,
            label_bytes,
        }),
        classes,
        entries,
        skipped: Vec::new(),
        notes: Vec::new(),
    })
}

fn class_names(files: &dyn Files, layout: &Layout) -> Result<Vec<String>, DataError> {
    let built_in: Vec<&str> = match layout.kind {
        SourceKind::Cifar10 => CIFAR10.to_vec(),
        _ => CIFAR100.split_whitespace().collect(),
    };
    let Some(index) = layout.class_names else {
        return Ok(built_in.into_iter().map(String::from).collect());
    };
    let names = lines_of(files, index)?;
    if names.len() != built_in.len() {
        let reason = format!("{} class names, expected {}", names.len(), built_in.len());
        return Err(DataError::corrupt(files.path(index), reason));
    }
    Ok(names)
}

fn labels_of(
    path: &Path,
    bytes: &[u8],
    label_bytes: usize,
    classes: usize,
) -> Result<Vec<usize>, DataError> {
    let record = label_bytes + 3 * PLANE;
    if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
        let reason = format!(
            "{} bytes, expected a multiple of {record}, the size of a CIFAR record; it is truncated or of another kind",
            bytes.len()
        );
        return Err(DataError::corrupt(path, reason));
    }
    let label_of = |(index, record): (usize, &[u8])| {
        let label = usize::from(record[label_bytes - 1]);
        if label < classes {
            return Ok(label);
        }
        let reason = format!("record {index} has label {label}, expected less than {classes}");
        Err(DataError::corrupt(path, reason))
    };
    bytes
        .chunks_exact(record)
        .enumerate()
        .map(label_of)
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;
    use crate::data::source::Dataset;

    /// Records whose planes hold the label, the label + 100 and 200.
    fn records(labels: &[u8], coarse: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        for &label in labels {
            bytes.extend(coarse.then_some(19));
            bytes.push(label);
            for value in [label, label + 100, 200] {
                bytes.extend([value; PLANE]);
            }
        }
        bytes
    }

    #[test]
    fn cifar10_is_interleaved() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("data_batch_1.bin"),
            records(&[3, 9], false),
        )
        .unwrap();
        fs::write(folder.path().join("data_batch_2.bin"), records(&[0], false)).unwrap();
        fs::write(folder.path().join("test_batch.bin"), records(&[9], false)).unwrap();
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!(
            (dataset.name.as_str(), dataset.kind),
            ("cifar10", SourceKind::Cifar10)
        );
        assert_eq!(dataset.classes, CIFAR10);
        let train = dataset.given(SplitName::Train);
        let named: Vec<_> = train
            .iter()
            .map(|sample| (sample.name.as_str(), sample.label))
            .collect();
        assert_eq!(
            named,
            [
                ("data_batch_1.bin#0", 3),
                ("data_batch_1.bin#1", 9),
                ("data_batch_2.bin#0", 0)
            ]
        );
        assert_eq!(dataset.given(SplitName::Test)[0].name, "test_batch.bin#0");
        for (sample, first) in [(&train[1], [9, 109, 200]), (&train[2], [0, 100, 200])] {
            let RawPicture::Pixels {
                width,
                height,
                channels,
                data,
            } = dataset.read(sample).unwrap()
            else {
                panic!("CIFAR holds pixels")
            };
            assert_eq!((width, height, channels, data.len()), (32, 32, 3, 3072));
            assert!(data.chunks(3).all(|pixel| pixel == first));
        }
    }

    #[test]
    fn cifar100_uses_fine_labels_and_its_names() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("train.bin"), records(&[99, 5], true)).unwrap();
        fs::write(folder.path().join("test.bin"), records(&[5], true)).unwrap();
        assert_eq!(Dataset::open(folder.path()).unwrap().classes[99], "worm");
        let names: Vec<String> = (0..100).map(|index| format!("class{index}")).collect();
        fs::write(
            folder.path().join("fine_label_names.txt"),
            names.join("\r\n") + "\n\n",
        )
        .unwrap();
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!(dataset.kind, SourceKind::Cifar100);
        assert_eq!(dataset.classes, names);
        assert_eq!(dataset.given(SplitName::Train)[0].label, 99);
    }

    #[test]
    fn truncated_and_mislabelled_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data_batch_1.bin");
        let message = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            Dataset::open(folder.path())
                .unwrap_err()
                .to_string()
                .replace(&path.display().to_string(), "FILE")
        };
        let good = records(&[3, 9], false);
        assert_eq!(
            message(&good[..5000]),
            "FILE: 5000 bytes, expected a multiple of 3073, the size of a CIFAR record; it is truncated or of another kind"
        );
        assert_eq!(
            message(&records(&[3, 12], false)),
            "FILE: record 1 has label 12, expected less than 10"
        );
    }

    #[test]
    fn a_hundred_names() {
        assert_eq!(CIFAR100.split_whitespace().count(), 100);
    }
}
