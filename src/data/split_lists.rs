//! The lists of a run's splits: text files, written and read back.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::error::DataError;
use super::sample::{Sample, Skipped, SplitName};
use super::source::Dataset;
use super::split::Splits;
use crate::names::{self, composed, from_line, same, to_line};
use crate::whole_file;

impl Splits {
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
                    to_line(&self.classes[sample.label]),
                    to_line(&sample.name)
                );
            }
            whole_file::write(&path, text.as_bytes()).map_err(DataError::io(&path, "write"))?;
        }
        Ok(())
    }

    /// Reads the lists that [`Splits::write`] wrote, in their order, and finds their samples.
    ///
    /// # Errors
    ///
    /// As for [`SplitLists::read`] and [`SplitLists::samples`].
    pub fn read(dir: &Path, dataset: &Dataset) -> Result<Splits, DataError> {
        let lists = SplitLists::read(dir)?;
        let given = |split: SplitName| !dataset.given(split).is_empty();
        Ok(Splits {
            train: lists.samples(SplitName::Train, dataset)?,
            val: lists.samples(SplitName::Val, dataset)?,
            test: lists.samples(SplitName::Test, dataset)?,
            cut: [SplitName::Val, SplitName::Test]
                .into_iter()
                .filter(|split| !given(*split))
                .collect(),
            classes: lists.classes(dataset),
        })
    }
}

/// The lists of a run's splits as they were written. What was added to the data set since is not in them.
#[derive(Clone, Debug)]
pub struct SplitLists([List; 3]);

#[derive(Clone, Debug)]
struct List {
    path: PathBuf,
    /// Class and name of each sample.
    lines: Vec<(String, String)>,
}

impl SplitLists {
    /// Reads the lists in `dir`.
    ///
    /// # Errors
    ///
    /// [`DataError::Io`] when a list is missing, [`DataError::Corrupt`] when it is damaged.
    pub fn read(dir: &Path) -> Result<SplitLists, DataError> {
        let [train, val, test] = SplitName::ALL.map(|split| List::read(dir, split));
        Ok(SplitLists([train?, val?, test?]))
    }

    /// Whether a split has no sample.
    pub fn is_empty(&self, split: SplitName) -> bool {
        self.0[split.index()].lines.is_empty()
    }

    /// The run's classes: those of `dataset` but for new ones, whose pictures are in no list.
    pub fn classes(&self, dataset: &Dataset) -> Vec<String> {
        let new = self.new_classes(dataset);
        let new: HashSet<&str> = new.into_iter().map(|(name, _)| name).collect();
        let classes = dataset.classes.iter();
        classes
            .filter(|class| !new.contains(class.as_str()))
            .cloned()
            .collect()
    }

    /// What of `dataset` is of no class of the run.
    pub fn left_out(&self, dataset: &Dataset) -> Vec<Skipped> {
        let new = self.new_classes(dataset).into_iter();
        new.map(|(name, pictures)| Skipped {
            name: format!("class {name}"),
            reason: format!(
                "its pictures ({pictures}) are new since the run began, and the run does not know the class; train a new run to learn it"
            ),
        })
        .collect()
    }

    /// Classes that have pictures and none in a list, with the number of their pictures.
    fn new_classes<'a>(&self, dataset: &'a Dataset) -> Vec<(&'a str, usize)> {
        let lines = self.0.iter().flat_map(|list| &list.lines);
        let listed: HashSet<_> = lines.map(|(class, _)| composed(class)).collect();
        let mut pictures = vec![0; dataset.classes.len()];
        for (_, sample) in dataset.samples() {
            pictures[sample.label] += 1;
        }
        let classes = dataset.classes.iter().map(String::as_str).zip(pictures);
        classes
            .filter(|(class, pictures)| *pictures > 0 && !listed.contains(&composed(class)))
            .collect()
    }

    /// The samples of a split, in the order of its list; a label is an index into
    /// [`classes`](Self::classes).
    ///
    /// # Errors
    ///
    /// [`DataError::Corrupt`] when a sample has another class now, [`DataError::MissingSamples`] when the data set lacks a
    /// sample of the list.
    pub fn samples(&self, split: SplitName, dataset: &Dataset) -> Result<Vec<Sample>, DataError> {
        let known: HashMap<&str, &Sample> = dataset
            .samples()
            .map(|(_, sample)| (sample.name.as_str(), sample))
            .collect();
        // Names that were moved between systems may have come in another Unicode form.
        let composed: HashMap<String, &Sample> = dataset
            .samples()
            .filter(|(_, sample)| !sample.name.is_ascii())
            .map(|(_, sample)| (composed(&sample.name).into_owned(), sample))
            .collect();
        let find = |name: &str| {
            let in_its_form = known.get(name);
            in_its_form
                .or_else(|| composed.get(&*names::composed(name)))
                .copied()
        };
        let classes = self.classes(dataset);
        let label_of: HashMap<&str, usize> = classes
            .iter()
            .enumerate()
            .map(|(label, class)| (class.as_str(), label))
            .collect();
        let List { path, lines } = &self.0[split.index()];
        let mut samples = Vec::new();
        let mut missing = Vec::new();
        for (number, (class, name)) in lines.iter().enumerate() {
            let Some(sample) = find(name) else {
                missing.push(name);
                continue;
            };
            let now = &dataset.classes[sample.label];
            match label_of.get(now.as_str()) {
                Some(&label) if same(now, class) => samples.push(Sample {
                    label,
                    ..sample.clone()
                }),
                _ => {
                    let reason = format!(
                        "{name} was of class {class}, and is of class {now} in {}",
                        dataset.origin
                    );
                    return Err(at_line(path, number, &reason));
                }
            }
        }
        match missing.first() {
            None => Ok(samples),
            Some(first) => Err(DataError::MissingSamples {
                path: path.clone(),
                origin: dataset.origin.clone(),
                missing: missing.len(),
                listed: lines.len(),
                first: (*first).clone(),
            }),
        }
    }
}

impl List {
    fn read(dir: &Path, split: SplitName) -> Result<List, DataError> {
        let path = dir.join(format!("{split}.txt"));
        let text = fs::read_to_string(&path).map_err(DataError::io(&path, "read"))?;
        let mut lines = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let Some((class, name)) = line.split_once('\t') else {
                let reason = format!("found {line:?}, expected a class, a tab and a name");
                return Err(at_line(&path, number, &reason));
            };
            lines.push((from_line(class), from_line(name)));
        }
        Ok(List { path, lines })
    }
}

fn at_line(path: &Path, number: usize, reason: &str) -> DataError {
    DataError::corrupt(path, format!("line {}: {reason}", number + 1))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::split::tests::dataset;
    use super::*;

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

    #[test]
    fn a_new_class_is_no_class_of_the_run() {
        let (folder, before) = dataset(&[("a", 20), ("c", 20)]);
        let splits = before.split(1, 0.1, 0.1).unwrap();
        let kept = tempfile::tempdir().unwrap();
        splits.write(kept.path()).unwrap();
        // It sorts between the two, so that the data's labels change.
        fs::create_dir(folder.path().join("b")).unwrap();
        fs::write(folder.path().join("b/0.jpg"), "x").unwrap();
        let after = Dataset::open(folder.path()).unwrap();
        assert_eq!(after.classes, ["a", "b", "c"]);
        let again = Splits::read(kept.path(), &after).unwrap();
        assert_eq!(again.classes, ["a", "c"]);
        let labelled = |splits: &Splits| -> Vec<(String, usize)> {
            let samples = splits.train.iter().chain(&splits.val).chain(&splits.test);
            samples.map(|s| (s.name.clone(), s.label)).collect()
        };
        assert_eq!(labelled(&again), labelled(&splits));
        let lists = SplitLists::read(kept.path()).unwrap();
        let left_out = lists.left_out(&after);
        assert_eq!(left_out.len(), 1);
        assert_eq!(left_out[0].name, "class b");
        assert!(lists.left_out(&before).is_empty());

        // A list is whole or not, whatever becomes of the others.
        fs::remove_file(folder.path().join(&splits.train[0].name)).unwrap();
        let after = Dataset::open(folder.path()).unwrap();
        assert!(lists.samples(SplitName::Train, &after).is_err());
        assert_eq!(
            lists.samples(SplitName::Test, &after).unwrap().len(),
            splits.test.len()
        );
    }
}
