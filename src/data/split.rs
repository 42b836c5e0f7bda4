//! The training, validation and test splits, and how missing ones are cut from train.

use std::collections::BTreeMap;

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
    /// As [`check_classes`](Self::check_classes); [`DataError::NoTrain`], [`DataError::Fraction`], or
    /// [`DataError::TooFew`] when a split would be empty.
    pub fn split(
        &self,
        seed: u64,
        val_fraction: f64,
        test_fraction: f64,
    ) -> Result<Splits, DataError> {
        self.check_classes()?;
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
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    /// Class folders with the given numbers of pictures.
    pub(crate) fn dataset(counts: &[(&str, usize)]) -> (tempfile::TempDir, Dataset) {
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
}
