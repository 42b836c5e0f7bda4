//! A data set that has been opened, whatever it is stored as.
//!
//! `recognise.rs` finds out what lies at a path; each kind has a file of its own, which hands over what it lists.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use super::error::DataError;
use super::listing::{Container, Entry, Listing, SourceKind};
use super::recognise::{open_file, open_folder, short_name};
use super::sample::Location;
use super::sample::{RawPicture, Sample, Skipped, SplitName};
use super::{embedded, folder};
use crate::names::{self, composed};

/// A data set that has been opened: its classes, its labelled pictures, and the means to read them.
pub struct Dataset {
    /// A short name, for run directories: `cifar10`, `flowers`.
    pub name: String,
    /// The path it was opened from as text, in which `\xE9` stands for a byte that is not UTF-8; or `embedded`.
    pub origin: String,
    /// What it is stored as.
    pub kind: SourceKind,
    /// Class names; a sample's label is an index into them.
    pub classes: Vec<String>,
    /// Files and folders that were found and cannot be used.
    pub skipped: Vec<Skipped>,
    /// What was understood where it is not plain, and what is not read on purpose: a sentence each.
    pub notes: Vec<String>,
    parts: [Vec<Sample>; 3],
    containers: Vec<Box<dyn Container>>,
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataset")
            .field("name", &self.name)
            .field("origin", &self.origin)
            .field("kind", &self.kind)
            .field("classes", &self.classes)
            .field("pictures", &self.parts.each_ref().map(Vec::len))
            .finish_non_exhaustive()
    }
}

/// Gives classes whose names differ only in their Unicode form one name, the composed one, and returns these names.
fn compose_equal_classes(listings: &mut [Listing]) -> BTreeSet<String> {
    let mut forms: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for class in listings.iter().flat_map(|listing| &listing.classes) {
        let composed = names::composed(class).into_owned();
        forms.entry(composed).or_default().insert(class);
    }
    forms.retain(|_, forms| forms.len() > 1);
    let several: BTreeSet<String> = forms.into_keys().collect();
    for class in listings.iter_mut().flat_map(|listing| &mut listing.classes) {
        let composed = names::composed(class);
        if several.contains(&*composed) {
            *class = composed.into_owned();
        }
    }
    several
}

/// A sentence about classes whose names differ only in case, blanks, `-` and `_`; `None` where there are none.
fn similar_classes(classes: &[String]) -> Option<String> {
    const SHOWN: usize = 5;
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for class in classes {
        let name = composed(class);
        let letters = name.chars().filter(|c| !matches!(c, ' ' | '-' | '_'));
        let plain: String = letters.flat_map(char::to_lowercase).collect();
        groups.entry(plain).or_default().push(class);
    }
    // `A` and `a` are different letters, `-1` and `1` different numbers.
    let is_word = |name: &str| name.chars().count() > 1 && name.chars().any(char::is_alphabetic);
    groups.retain(|plain, names| names.len() > 1 && is_word(plain));
    let shown: Vec<String> = groups
        .values()
        .take(SHOWN)
        .map(|names| names.join(" and "))
        .collect();
    (!shown.is_empty()).then(|| {
        format!(
            "classes with almost the same name: {}{}; put their pictures into one folder if they are one class",
            shown.join(", "),
            match groups.len() - shown.len() {
                0 => String::new(),
                more => format!(" and {more} more such groups"),
            }
        )
    })
}

impl Dataset {
    /// Opens the data set at `path`, whichever of the known kinds it is. No picture is decoded.
    ///
    /// # Errors
    ///
    /// When there is nothing at `path`, nothing known, no picture, or a damaged container.
    pub fn open(path: &Path) -> Result<Dataset, DataError> {
        let listings = if !path.exists() {
            return Err(DataError::Missing { path: path.into() });
        } else if path.is_dir() {
            open_folder(path)?
        } else {
            vec![open_file(path, None)?]
        };
        let name = match listings[0].kind {
            SourceKind::Cifar10 => "cifar10".into(),
            SourceKind::Cifar100 => "cifar100".into(),
            _ => short_name(path),
        };
        Dataset::assemble(name, names::text(path), listings)
    }

    /// The Fashion-MNIST sample that this program carries: 10,000 training and 2,000 test pictures of 10 classes.
    pub fn embedded() -> Dataset {
        let assembled = Dataset::assemble(
            "fashion-mnist-sample".into(),
            "embedded".into(),
            vec![embedded::fashion_mnist_sample()],
        );
        assembled.expect("the bundled data set is complete")
    }

    fn assemble(
        name: String,
        origin: String,
        mut listings: Vec<Listing>,
    ) -> Result<Dataset, DataError> {
        let kind = listings[0].kind;
        let one_of_two_forms = compose_equal_classes(&mut listings);
        let are_equal = || {
            let mut classes = listings.iter().map(|listing| &listing.classes);
            classes.all(|classes| *classes == listings[0].classes)
        };
        let classes = if one_of_two_forms.is_empty() && are_equal() {
            listings[0].classes.clone()
        } else {
            folder::in_order(
                listings
                    .iter()
                    .flat_map(|listing| listing.classes.iter().cloned())
                    .collect(),
            )
        };
        // The first of several of one name, as a search would find.
        let names = classes.iter().cloned().enumerate();
        let label_of: HashMap<String, usize> =
            names.rev().map(|(label, name)| (name, label)).collect();
        let mut dataset = Dataset {
            name,
            origin,
            kind,
            classes,
            skipped: Vec::new(),
            notes: Vec::new(),
            parts: Default::default(),
            containers: Vec::new(),
        };
        for (container, listing) in listings.into_iter().enumerate() {
            // The union holds every listing's classes.
            let labels: Vec<usize> = listing
                .classes
                .iter()
                .map(|class| label_of[class.as_str()])
                .collect();
            for Entry {
                name,
                split,
                label,
                entry,
            } in listing.entries
            {
                let location = Location { container, entry };
                let label = labels[label];
                dataset.parts[split.index()].push(Sample {
                    name,
                    label,
                    location,
                });
            }
            dataset.skipped.extend(listing.skipped);
            dataset.notes.extend(listing.notes);
            dataset.containers.push(listing.container);
        }
        if dataset.parts.iter().all(Vec::is_empty) {
            let path = names::path(&dataset.origin);
            return Err(DataError::NoPictures { path, files: 0 });
        }
        if !one_of_two_forms.is_empty() {
            let classes: Vec<String> = one_of_two_forms.into_iter().collect();
            dataset.notes.push(format!(
                "folders of one name in two Unicode forms are one class: {}",
                classes.join(", ")
            ));
        }
        dataset.notes.extend(similar_classes(&dataset.classes));
        Ok(dataset)
    }

    /// Checks that something can be learned from the data: there are at least two classes, and none that only
    /// validation or test has. To evaluate weights, less will do.
    ///
    /// # Errors
    ///
    /// [`DataError::OneClass`] and [`DataError::UnknownClasses`].
    pub fn check_classes(&self) -> Result<(), DataError> {
        let labels_of = |samples: &[Sample]| {
            samples
                .iter()
                .map(|sample| sample.label)
                .collect::<BTreeSet<_>>()
        };
        let named = |labels: &BTreeSet<usize>| {
            labels
                .iter()
                .map(|&label| self.classes[label].clone())
                .collect::<Vec<_>>()
        };
        let path = names::path(&self.origin);
        let train = labels_of(self.given(SplitName::Train));
        if !train.is_empty() {
            for split in [SplitName::Val, SplitName::Test] {
                let unknown = &labels_of(self.given(split)) - &train;
                if !unknown.is_empty() {
                    let (unknown, train) = (named(&unknown), named(&train));
                    return Err(DataError::UnknownClasses {
                        path,
                        split,
                        unknown,
                        train,
                    });
                }
            }
        }
        let shown: BTreeSet<usize> = self.parts.iter().flat_map(|part| labels_of(part)).collect();
        match named(&shown).as_slice() {
            [class] => Err(DataError::OneClass {
                path,
                class: class.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// One picture as it is stored. Any number of threads may read at once.
    ///
    /// # Errors
    ///
    /// When the file is gone, empty, or damaged within its archive. Whether its bytes are a picture is not checked here.
    pub fn read(&self, sample: &Sample) -> Result<RawPicture<'_>, DataError> {
        let raw = self.containers[sample.location.container].read(sample.location.entry)?;
        match &raw {
            RawPicture::Encoded(bytes) if bytes.is_empty() => Err(DataError::Unreadable {
                name: sample.name.clone(),
                reason: "empty file (0 bytes)".into(),
            }),
            _ => Ok(raw),
        }
    }

    /// The path of a sample that is a file of its own; `None` for one inside an archive or another file.
    pub fn file(&self, sample: &Sample) -> Option<PathBuf> {
        self.containers[sample.location.container].file(sample.location.entry)
    }

    /// The samples of a split that the source has, in a stable order; empty where it has no such split.
    pub fn given(&self, split: SplitName) -> &[Sample] {
        &self.parts[split.index()]
    }

    /// Every sample with its split: train, then val, then test.
    pub fn samples(&self) -> impl Iterator<Item = (SplitName, &Sample)> {
        SplitName::ALL
            .into_iter()
            .flat_map(|split| self.given(split).iter().map(move |sample| (split, sample)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::super::split::Splits;
    use super::*;

    /// "é" as one character, and as two, as macOS has it.
    const FORMS: [&str; 2] = ["caf\u{e9}", "cafe\u{301}"];

    fn folder(names: &[String]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        folder
    }

    #[test]
    fn two_unicode_forms_of_a_name_are_one_class() {
        let [one, two] = FORMS;
        let of = |train: &str, val: &str| {
            let names = [
                format!("train/{train}/1.png"),
                "train/tea/1.png".to_owned(),
                format!("val/{val}/1.png"),
            ];
            let folder = folder(&names);
            Dataset::open(folder.path()).unwrap()
        };
        for (train, val, name) in [(one, two, one), (two, one, one), (two, two, two)] {
            let dataset = of(train, val);
            assert_eq!(dataset.classes, [name, "tea"]);
            let label = |split: SplitName| dataset.given(split)[0].label;
            assert_eq!((label(SplitName::Train), label(SplitName::Val)), (0, 0));
        }
        // Side by side.
        let names = [one, two, "tea"].map(|class| format!("{class}/1.png"));
        let folder = folder(&names);
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!(dataset.classes, [one, "tea"]);
        assert_eq!(dataset.given(SplitName::Train).len(), 3);
        let note = format!("folders of one name in two Unicode forms are one class: {one}");
        assert!(dataset.notes.contains(&note), "{:?}", dataset.notes);
    }

    #[test]
    fn lists_know_a_name_in_its_other_form() {
        let [one, two] = FORMS;
        let lists = tempfile::tempdir().unwrap();
        let of = |class: &str| {
            let names: Vec<String> = (0..20)
                .flat_map(|i| [format!("{class}/{i}.png"), format!("tea/{i}.png")])
                .collect();
            let folder = folder(&names);
            Dataset::open(folder.path()).unwrap()
        };
        let splits = of(two).split(0, 0.1, 0.1).unwrap();
        splits.write(lists.path()).unwrap();
        let moved = of(one);
        let read = Splits::read(lists.path(), &moved).unwrap();
        assert_eq!(read.train.len(), splits.train.len());
        assert!(read.train.iter().all(|sample| !sample.name.contains(two)));
    }
}
