//! Labels as a table holds them, numbers or names, and the classes they make.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

use super::columns::Columns;
use super::table::{Table, Values};
use crate::data::error::DataError;
use crate::data::folder;

/// A column with larger numbers, or with more names, does not hold labels, but row numbers, identifiers or texts.
pub(in crate::data) const MOST_CLASSES: usize = 100_000;

/// The label of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Label {
    Number(usize),
    Name(Arc<str>),
}

/// A longer text is no name of a class, in bytes.
pub(in crate::data) const LONGEST_NAME: usize = 4096;

/// Names that were met: a million rows of one class hold its name once.
#[derive(Default)]
struct Known(HashSet<Arc<str>>);

impl Known {
    fn label(&mut self, name: &str) -> Label {
        if let Some(known) = self.0.get(name) {
            return Label::Name(Arc::clone(known));
        }
        let new: Arc<str> = name.into();
        self.0.insert(Arc::clone(&new));
        Label::Name(new)
    }
}

/// The label of each row of a table; `None` where there is none.
///
/// # Errors
///
/// [`DataError::Corrupt`] where the column is damaged or holds something else.
pub(super) fn read(table: &Table, columns: &Columns) -> Result<Vec<Option<Label>>, DataError> {
    let mut labels = Vec::new();
    let mut known = Known::default();
    for group in 0..table.metadata().num_row_groups() {
        let first = labels.len();
        let refused = |row: usize, found: String| {
            let reason = format!(
                "column {} holds {found} in row {}, expected class numbers or names",
                columns.label_name,
                first + row
            );
            DataError::corrupt(&table.path, reason)
        };
        // The hub writes −1 where a test label is not published.
        let number = |number: i64| usize::try_from(number).ok().map(Label::Number);
        match table.values(group, columns.label)? {
            Values::Integers(values) => {
                labels.extend(values.into_iter().map(|value| value.and_then(number)));
            }
            Values::Flags(values) => {
                let mut name = |flag: bool| known.label(if flag { "true" } else { "false" });
                labels.extend(values.into_iter().map(|value| value.map(&mut name)));
            }
            // A column of integers with gaps becomes one of floats in pandas, and the gaps NaN.
            Values::Floats(values) => {
                for (row, value) in values.into_iter().enumerate() {
                    labels.push(match value.filter(|value| !value.is_nan()) {
                        None => None,
                        Some(whole) if whole.fract() == 0.0 => number(whole as i64),
                        Some(other) => return Err(refused(row, format!("the number {other}"))),
                    });
                }
            }
            Values::Bytes(values) => {
                for (row, value) in values.into_iter().enumerate() {
                    let Some(value) = value.filter(|value| !value.is_empty()) else {
                        labels.push(None);
                        continue;
                    };
                    let text = std::str::from_utf8(value.data())
                        .map_err(|_| refused(row, "bytes that are no text".into()))?;
                    if text.len() > LONGEST_NAME {
                        return Err(refused(row, format!("a text of {} bytes", text.len())));
                    }
                    labels.push(Some(known.label(text)));
                }
            }
        }
    }
    Ok(labels)
}

/// The classes that labels make, and the index of each label among them.
///
/// # Errors
///
/// [`DataError::Corrupt`] where a label has no name among `named`, those of the metadata, or labels are of two kinds.
pub(super) fn classes(
    labels: &[Label],
    named: Option<Vec<String>>,
    path: &Path,
) -> Result<(Vec<String>, Vec<usize>), DataError> {
    let refused = |reason: String| DataError::corrupt(path, reason);
    let mut numbers = BTreeSet::new();
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for label in labels {
        match label {
            Label::Number(number) => numbers.insert(*number),
            Label::Name(name) => names.insert(name),
        };
    }
    let largest = numbers.last().copied().unwrap_or(0);
    if let (Some(number), Some(name)) = (numbers.first(), names.first()) {
        return Err(refused(format!(
            "found labels as numbers ({number}) and as names ({name}); expected one of the two in all files"
        )));
    }
    if names.len() > MOST_CLASSES || largest >= MOST_CLASSES {
        return Err(refused(if largest >= MOST_CLASSES {
            format!("label {largest} found, expected class numbers below {MOST_CLASSES}")
        } else {
            format!(
                "{} different labels found, expected at most {MOST_CLASSES}",
                names.len()
            )
        }));
    }
    let classes: Vec<String> = match named {
        Some(named) if names.is_empty() => {
            if largest >= named.len() && !numbers.is_empty() {
                let reason = format!(
                    "label {largest} found, expected less than {}, the class names given",
                    named.len()
                );
                return Err(refused(reason));
            }
            let indices = labels.iter().map(|label| match label {
                Label::Number(number) => *number,
                Label::Name(_) => 0,
            });
            return Ok((named, indices.collect()));
        }
        // Names that are written out may have an order of their own.
        Some(named) if are_among(&names, &named) => named,
        // A number without a picture is no class.
        _ if names.is_empty() => numbers.iter().map(usize::to_string).collect(),
        _ => folder::in_order(names.iter().map(|name| name.to_string()).collect()),
    };
    let index_of: BTreeMap<&str, usize> = classes
        .iter()
        .enumerate()
        .map(|(index, class)| (class.as_str(), index))
        .collect();
    let indices = labels.iter().map(|label| match label {
        Label::Number(number) => index_of[number.to_string().as_str()],
        Label::Name(name) => index_of[&**name],
    });
    let indices = indices.collect();
    Ok((classes, indices))
}

fn are_among(names: &BTreeSet<&str>, known: &[String]) -> bool {
    let known: HashSet<&str> = known.iter().map(String::as_str).collect();
    names.iter().all(|name| known.contains(name))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(labels: &[Label], named: &[&str]) -> Result<(Vec<String>, Vec<usize>), String> {
        let named = named.iter().map(|name| name.to_string()).collect();
        let named = Some(named).filter(|named: &Vec<String>| !named.is_empty());
        classes(labels, named, Path::new("a")).map_err(|error| error.to_string())
    }

    fn name(name: &str) -> Label {
        Label::Name(name.into())
    }

    #[test]
    fn only_numbers_that_occur_are_classes() {
        let labels = [Label::Number(12), Label::Number(3), Label::Number(12)];
        let expected = (vec!["3".to_string(), "12".into()], vec![1, 0, 1]);
        assert_eq!(of(&labels, &[]), Ok(expected));
    }

    #[test]
    fn names_are_classes_in_order() {
        let expected = (vec!["cat".to_string(), "dog".into()], vec![1, 0]);
        assert_eq!(of(&[name("dog"), name("cat")], &[]), Ok(expected));
        let expected = (vec!["dog".to_string(), "cat".into()], vec![0, 1]);
        assert_eq!(
            of(&[name("dog"), name("cat")], &["dog", "cat"]),
            Ok(expected)
        );
    }

    #[test]
    fn two_kinds_are_refused() {
        assert_eq!(
            of(&[name("dog"), Label::Number(4)], &[]).unwrap_err(),
            "a: found labels as numbers (4) and as names (dog); expected one of the two in all files"
        );
    }
}
