//! The training, validation and test splits: cut, written to lists and read back.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use std::path::Path;

use super::error::DataError;
use super::sample::{Sample, SplitName};
use super::source::Dataset;
use crate::random;

/// The three splits of a data set. No sample is in two of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splits {
    /// For training.
    pub train: Vec<Sample>,
    /// For validation: it chooses the best checkpoint.
    pub val: Vec<Sample>,
    /// For the final measurement.
    pub test: Vec<Sample>,
    /// Which of val and test the source does not have, so that they were cut from train.
    pub cut: Vec<SplitName>,
    /// The class names of the data set; the written lists contain them.
    pub classes: Vec<String>,
}

impl Dataset {
    /// The splits that the source has; `val_fraction` and `test_fraction` of train, each in `[0, 1)`, are cut off for
    /// those that it does not have.
    ///
    /// The cut is stratified and depends on `seed` and the samples' names alone: the pictures of each class are sorted by
    /// a seeded hash of their names. So neither the order of files on disk nor a picture added later reshuffles the
    /// others. A class of three pictures or more is in every split.
    ///
    /// # Errors
    ///
    /// [`DataError::NoTrain`], [`DataError::Fraction`], or [`DataError::TooFew`] when a split would be empty.
    pub fn split(
        &self,
        seed: u64,
        val_fraction: f64,
        test_fraction: f64,
    ) -> Result<Splits, DataError> {
        let sound = |fraction: f64| (0.0..1.0).contains(&fraction);
        if !sound(val_fraction) || !sound(test_fraction) || val_fraction + test_fraction >= 1.0 {
            return Err(DataError::Fraction {
                val: val_fraction,
                test: test_fraction,
            });
        }
        let all = self.given(SplitName::Train);
        if all.is_empty() {
            let given = SplitName::ALL
                .iter()
                .filter(|split| !self.given(**split).is_empty());
            return Err(DataError::NoTrain {
                origin: self.origin.clone(),
                given: given.map(SplitName::to_string).collect(),
            });
        }
        let missing: Vec<(SplitName, f64)> = [
            (SplitName::Test, test_fraction),
            (SplitName::Val, val_fraction),
        ]
        .into_iter()
        .filter(|(split, _)| self.given(*split).is_empty())
        .collect();
        let mut part_of = vec![SplitName::Train; all.len()];
        for class in by_class(all, seed).values() {
            let mut start = 0;
            for &(split, fraction) in &missing {
                let wanted = (class.len() as f64 * fraction).round() as usize;
                let least = usize::from(class.len() >= 3 && fraction > 0.0);
                // At least one picture stays in train, whatever the fractions round to.
                let end = (start + wanted.max(least)).min(class.len() - 1);
                class[start..end]
                    .iter()
                    .for_each(|&index| part_of[index] = split);
                start = end;
            }
        }
        let part = |split: SplitName| -> Vec<Sample> {
            let cut = all
                .iter()
                .zip(&part_of)
                .filter(|(_, part)| **part == split)
                .map(|(sample, _)| sample);
            let given = if split == SplitName::Train {
                &[]
            } else {
                self.given(split)
            };
            given.iter().chain(cut).cloned().collect()
        };
        let splits = Splits {
            train: part(SplitName::Train),
            val: part(SplitName::Val),
            test: part(SplitName::Test),
            cut: missing.iter().rev().map(|(split, _)| *split).collect(),
            classes: self.classes.clone(),
        };
        for (split, fraction) in missing {
            if fraction > 0.0 && splits.get(split).is_empty() {
                return Err(DataError::TooFew {
                    origin: self.origin.clone(),
                    pictures: all.len(),
                    split,
                    fraction,
                });
            }
        }
        Ok(splits)
    }
}

/// For each class, the indices of its samples, sorted by a seeded hash of their names.
fn by_class(samples: &[Sample], seed: u64) -> BTreeMap<usize, Vec<usize>> {
    let mut classes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, sample) in samples.iter().enumerate() {
        classes.entry(sample.label).or_default().push(index);
    }
    for class in classes.values_mut() {
        class.sort_by_cached_key(|&index| {
            (
                seeded_hash(seed, &samples[index].name),
                samples[index].name.clone(),
            )
        });
    }
    classes
}

/// FNV-1a over the seed and the name, finished with SplitMix64's mixer so that every bit affects the order.
fn seeded_hash(seed: u64, name: &str) -> u64 {
    random::scatter(random::hash(
        seed.to_le_bytes().into_iter().chain(name.bytes()),
    ))
}

impl Splits {
    /// One of the three.
    pub fn get(&self, split: SplitName) -> &[Sample] {
        match split {
            SplitName::Train => &self.train,
            SplitName::Val => &self.val,
            SplitName::Test => &self.test,
        }
    }

    /// Keeps a stratified, seeded `fraction`, in `(0, 1]`, of train, and at least one picture of each class. The order
    /// stays, and so do val and test.
    pub fn fraction(mut self, fraction: f64, seed: u64) -> Splits {
        let mut keep = vec![false; self.train.len()];
        for class in by_class(&self.train, seed).values() {
            let kept = ((class.len() as f64 * fraction).round() as usize).clamp(1, class.len());
            class[..kept].iter().for_each(|&index| keep[index] = true);
        }
        let mut keep = keep.into_iter();
        self.train.retain(|_| keep.next().unwrap_or(true));
        self
    }

    /// Writes `train.txt`, `val.txt` and `test.txt` into `dir`: one sample per line, its class, a tab and its name.
    ///
    /// # Errors
    ///
    /// [`DataError::Io`] when the folder cannot be created or written.
    pub fn write(&self, dir: &Path) -> Result<(), DataError> {
        fs::create_dir_all(dir).map_err(DataError::io(dir, "create"))?;
        for split in SplitName::ALL {
            let path = dir.join(format!("{split}.txt"));
            let mut text = String::new();
            for sample in self.get(split) {
                text += &format!(
                    "{}\t{}\n",
                    escape(&self.classes[sample.label]),
                    escape(&sample.name)
                );
            }
            let mut temporary = tempfile::Builder::new();
            temporary.prefix(".vitrine-");
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                // As readable as the rest of the run.
                temporary.permissions(fs::Permissions::from_mode(0o644));
            }
            let mut file = temporary
                .tempfile_in(dir)
                .map_err(DataError::io(&path, "write"))?;
            file.write_all(text.as_bytes())
                .and_then(|()| file.as_file().sync_all())
                .map_err(DataError::io(&path, "write"))?;
            file.persist(&path)
                .map_err(|error| DataError::io(&path, "write")(error.error))?;
        }
        Ok(())
    }

    /// Reads the lists that [`Splits::write`] wrote, in their order.
    ///
    /// # Errors
    ///
    /// [`DataError::Io`] when a list is missing, [`DataError::Corrupt`] when it is damaged or a sample has another class
    /// now, [`DataError::MissingSamples`] when the data set lacks a sample of it.
    pub fn read(dir: &Path, dataset: &Dataset) -> Result<Splits, DataError> {
        let known: HashMap<&str, &Sample> = dataset
            .samples()
            .map(|(_, sample)| (sample.name.as_str(), sample))
            .collect();
        let read = |split: SplitName| {
            let path = dir.join(format!("{split}.txt"));
            let text = fs::read_to_string(&path).map_err(DataError::io(&path, "read"))?;
            parse(&path, &text, &known, dataset)
        };
        let given = |split: SplitName| !dataset.given(split).is_empty();
        Ok(Splits {
            train: read(SplitName::Train)?,
            val: read(SplitName::Val)?,
            test: read(SplitName::Test)?,
            cut: [SplitName::Val, SplitName::Test]
                .into_iter()
                .filter(|split| !given(*split))
                .collect(),
            classes: dataset.classes.clone(),
        })
    }
}

fn parse(
    path: &Path,
    text: &str,
    known: &HashMap<&str, &Sample>,
    dataset: &Dataset,
) -> Result<Vec<Sample>, DataError> {
    let mut samples = Vec::new();
    let mut missing = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let at_line =
            |reason: String| DataError::corrupt(path, format!("line {}: {reason}", number + 1));
        let Some((class, name)) = line.split_once('\t') else {
            return Err(at_line(format!(
                "found {line:?}, expected a class, a tab and a name"
            )));
        };
        let (class, name) = (unescape(class), unescape(name));
        match known.get(name.as_str()) {
            None => missing.push(name),
            Some(sample) if dataset.classes[sample.label] != class => {
                let now = &dataset.classes[sample.label];
                return Err(at_line(format!(
                    "{name} was of class {class}, and is of class {now} in {}",
                    dataset.origin
                )));
            }
            Some(&sample) => samples.push(sample.clone()),
        }
    }
    match missing.first() {
        None => Ok(samples),
        Some(first) => Err(DataError::MissingSamples {
            path: path.into(),
            origin: dataset.origin.clone(),
            missing: missing.len(),
            listed: missing.len() + samples.len(),
            first: first.clone(),
        }),
    }
}

/// Escapes tabs and line breaks, which a file name may hold and which separate the fields and lines of a list.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('\t', "\\t")
        .replace('\n', "\\n")
        .replace('\r', "\\r")
}

fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    plain
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Class folders with as many pictures as told.
    fn dataset(counts: &[(&str, usize)]) -> (tempfile::TempDir, Dataset) {
        let folder = tempfile::tempdir().unwrap();
        for (class, count) in counts {
            fs::create_dir_all(folder.path().join(class)).unwrap();
            for index in 0..*count {
                fs::write(folder.path().join(format!("{class}/{index}.jpg")), b"x").unwrap();
            }
        }
        let dataset = Dataset::open(folder.path()).unwrap();
        (folder, dataset)
    }

    fn names(samples: &[Sample]) -> BTreeSet<&str> {
        samples.iter().map(|sample| sample.name.as_str()).collect()
    }

    fn count(samples: &[Sample], label: usize) -> usize {
        samples
            .iter()
            .filter(|sample| sample.label == label)
            .count()
    }

    #[test]
    fn missing_splits_are_cut_stratified_and_seeded() {
        let (_folder, dataset) = dataset(&[("a", 40), ("b", 21), ("c", 3), ("d", 1)]);
        let splits = dataset.split(7, 0.1, 0.1).unwrap();
        assert_eq!(splits.cut, [SplitName::Val, SplitName::Test]);
        for (label, expected) in [[32, 4, 4], [17, 2, 2], [1, 1, 1], [1, 0, 0]]
            .into_iter()
            .enumerate()
        {
            let found = SplitName::ALL.map(|split| count(splits.get(split), label));
            assert_eq!(found, expected, "class {label}");
        }
        let all: usize = SplitName::ALL
            .iter()
            .map(|split| names(splits.get(*split)).len())
            .sum();
        assert_eq!(all, 65);
        assert_eq!(dataset.split(7, 0.1, 0.1).unwrap(), splits);
        assert_ne!(dataset.split(8, 0.1, 0.1).unwrap().val, splits.val);
    }

    #[test]
    fn given_splits_stay() {
        let (folder, _) = dataset(&[("train/a", 20), ("train/b", 20), ("test/a", 2)]);
        let splits = Dataset::open(folder.path())
            .unwrap()
            .split(0, 0.1, 0.1)
            .unwrap();
        assert_eq!(splits.cut, [SplitName::Val]);
        assert_eq!((splits.train.len(), splits.val.len()), (36, 4));
        assert_eq!(
            names(&splits.test),
            BTreeSet::from(["test/a/0.jpg", "test/a/1.jpg"])
        );
    }

    #[test]
    fn an_added_picture_moves_few() {
        let (folder, before) = dataset(&[("a", 50), ("b", 50)]);
        fs::write(folder.path().join("a/new.jpg"), b"x").unwrap();
        let after = Dataset::open(folder.path()).unwrap();
        let (before, after) = (
            before.split(0, 0.1, 0.1).unwrap(),
            after.split(0, 0.1, 0.1).unwrap(),
        );
        assert!(names(&before.val).difference(&names(&after.val)).count() <= 1);
    }

    #[test]
    fn bad_fractions_and_too_few_pictures_are_refused() {
        let (_folder, dataset) = dataset(&[("a", 2), ("b", 2)]);
        assert_eq!(
            dataset.split(0, -0.1, 0.1).unwrap_err().to_string(),
            "split fractions val -0.1 and test 0.1: expected each from 0 up to less than 1, and their sum less than 1"
        );
        assert!(matches!(
            dataset.split(0, 0.5, 0.5),
            Err(DataError::Fraction { .. })
        ));
        assert!(matches!(
            dataset.split(0, f64::NAN, 0.5),
            Err(DataError::Fraction { .. })
        ));
        assert_eq!(
            dataset
                .split(0, 0.1, 0.1)
                .unwrap_err()
                .to_string()
                .replace(&dataset.origin, "DIR"),
            "DIR: 4 training pictures are too few to cut a test split of 0.1 from; add pictures, or add a test folder"
        );
        assert!(dataset.split(0, 0.0, 0.0).unwrap().val.is_empty());
    }

    #[test]
    fn a_fraction_is_stratified_and_ordered() {
        let (_folder, dataset) = dataset(&[("a", 40), ("b", 20), ("c", 3)]);
        let whole = dataset.split(0, 0.1, 0.1).unwrap();
        let part = whole.clone().fraction(0.25, 3);
        assert_eq!([0, 1, 2].map(|label| count(&part.train, label)), [8, 4, 1]);
        assert_eq!((&part.val, &part.test), (&whole.val, &whole.test));
        assert!(part.train.is_sorted_by(|a, b| a.name < b.name));
        assert_eq!(whole.clone().fraction(1.0, 3), whole);
    }

    #[test]
    fn lists_read_back_and_name_what_is_missing() {
        let (folder, dataset) = dataset(&[("a", 20), ("b", 20)]);
        let splits = dataset.split(1, 0.1, 0.1).unwrap();
        let dir = tempfile::tempdir().unwrap();
        splits.write(&dir.path().join("splits")).unwrap();
        let dir = dir.path().join("splits");
        assert_eq!(Splits::read(&dir, &dataset).unwrap(), splits);
        assert!(
            fs::read_to_string(dir.join("val.txt"))
                .unwrap()
                .starts_with("a\ta/")
        );

        let gone = splits.val[1].name.clone();
        fs::remove_file(folder.path().join(&gone)).unwrap();
        let dataset = Dataset::open(folder.path()).unwrap();
        let error = Splits::read(&dir, &dataset).unwrap_err().to_string();
        let (list, origin) = (dir.join("val.txt"), &dataset.origin);
        assert_eq!(
            error,
            format!(
                "{}: 1 of its 4 samples are not in {origin}, the first {gone}; name the data set the run was trained on",
                list.display()
            )
        );
        fs::write(dir.join("val.txt"), "no tab\n").unwrap();
        let error = Splits::read(&dir, &dataset).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "{}: line 1: found \"no tab\", expected a class, a tab and a name",
                list.display()
            )
        );
    }

    proptest! {
        #[test]
        fn any_name_survives_the_list(name in "[\\\\\t\n\r a-z]{0,12}") {
            let line = escape(&name);
            prop_assert!(!line.contains(['\t', '\n', '\r']));
            prop_assert_eq!(unescape(&line), name);
        }
    }
}
