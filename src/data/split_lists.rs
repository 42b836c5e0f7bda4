//! The lists of a run's splits: text files, written and read back.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use super::error::DataError;
use super::sample::{Sample, SplitName};
use super::source::Dataset;
use super::split::Splits;
use crate::names::{self, composed, from_line, same, to_line};

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
        let read = |split: SplitName| {
            let path = dir.join(format!("{split}.txt"));
            let text = fs::read_to_string(&path).map_err(DataError::io(&path, "read"))?;
            parse(&path, &text, &find, dataset)
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

fn parse<'a>(
    path: &Path,
    text: &str,
    find: &dyn Fn(&str) -> Option<&'a Sample>,
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
        let (class, name) = (from_line(class), from_line(name));
        match find(&name) {
            None => missing.push(name),
            Some(sample) if !same(&dataset.classes[sample.label], &class) => {
                let now = &dataset.classes[sample.label];
                return Err(at_line(format!(
                    "{name} was of class {class}, and is of class {now} in {}",
                    dataset.origin
                )));
            }
            Some(sample) => samples.push(sample.clone()),
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
}
