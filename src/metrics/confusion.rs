//! How often each class is answered with each: only the cells that are not empty, so that memory grows with the
//! pictures and not with the square of the classes.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Up to this many classes a confusion matrix is written and drawn whole: every cell of it.
pub const WHOLE: usize = 1000;

/// Counts of pictures by true and predicted class.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Confusion {
    classes: usize,
    cells: BTreeMap<(usize, usize), u64>,
}

impl Confusion {
    /// Nothing counted yet.
    pub fn new(classes: usize) -> Self {
        Self {
            classes,
            cells: BTreeMap::new(),
        }
    }

    /// Counts a picture of class `label` that was answered with class `predicted`.
    pub(super) fn add(&mut self, label: usize, predicted: usize) {
        *self.cells.entry((label, predicted)).or_default() += 1;
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Whether it has few enough classes to be written and drawn whole.
    pub fn is_whole(&self) -> bool {
        self.classes <= WHOLE
    }

    /// True class, predicted class and count of each cell that is not empty, row by row.
    pub fn cells(&self) -> impl Iterator<Item = (usize, usize, u64)> {
        let cells = self.cells.iter();
        cells.map(|(&(label, predicted), &count)| (label, predicted, count))
    }

    /// Pictures of class `label` that were answered with class `predicted`.
    pub fn get(&self, label: usize, predicted: usize) -> u64 {
        self.cells.get(&(label, predicted)).copied().unwrap_or(0)
    }

    /// The counts of one true class, in the order of the predicted classes.
    pub fn row(&self, label: usize) -> Vec<u64> {
        let mut row = vec![0; self.classes];
        for (&(_, predicted), &count) in self.cells.range((label, 0)..(label + 1, 0)) {
            row[predicted] = count;
        }
        row
    }

    /// Pictures of each class.
    pub fn support(&self) -> Vec<u64> {
        self.sums(|label, _| label)
    }

    /// Answers with each class.
    pub fn answered(&self) -> Vec<u64> {
        self.sums(|_, predicted| predicted)
    }

    fn sums(&self, of: impl Fn(usize, usize) -> usize) -> Vec<u64> {
        let mut sums = vec![0; self.classes];
        for (label, predicted, count) in self.cells() {
            sums[of(label, predicted)] += count;
        }
        sums
    }

    /// All pictures; `None` where there are more than a number holds, as only a file can claim.
    pub(super) fn total(&self) -> Option<u64> {
        self.cells
            .values()
            .try_fold(0_u64, |sum, count| sum.checked_add(*count))
    }
}

/// As it stands in a file: whole up to [`WHOLE`] classes, else only the cells that are not empty.
#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confusion: Option<Vec<Vec<u64>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confusion_cells: Option<Cells>,
}

#[derive(Serialize, Deserialize)]
struct Cells {
    classes: usize,
    cells: Vec<(usize, usize, u64)>,
}

impl Serialize for Confusion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rows = || (0..self.classes).map(|label| self.row(label)).collect();
        let cells = || Cells {
            classes: self.classes,
            cells: self.cells().collect(),
        };
        Written {
            confusion: self.is_whole().then(rows),
            confusion_cells: (!self.is_whole()).then(cells),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Confusion {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let (classes, found) = match Written::deserialize(from)? {
            Written {
                confusion: Some(rows),
                ..
            } => {
                let classes = rows.len();
                let mut cells = Vec::new();
                for (label, row) in rows.iter().enumerate() {
                    if row.len() != classes {
                        return Err(D::Error::custom(format!(
                            "row {} of confusion has {} counts, expected {classes}, one for each row",
                            label + 1,
                            row.len()
                        )));
                    }
                    let counted = row.iter().enumerate().filter(|(_, count)| **count > 0);
                    cells.extend(counted.map(|(predicted, count)| (label, predicted, *count)));
                }
                (classes, cells)
            }
            Written {
                confusion_cells: Some(Cells { classes, cells }),
                ..
            } => (classes, cells),
            _ => return Err(D::Error::missing_field("confusion")),
        };
        let mut cells = BTreeMap::new();
        for (label, predicted, count) in found {
            if label >= classes || predicted >= classes {
                return Err(D::Error::custom(format!(
                    "confusion_cells has a cell of class {}, expected one below {classes}",
                    label.max(predicted)
                )));
            }
            if count > 0 && cells.insert((label, predicted), count).is_some() {
                return Err(D::Error::custom(format!(
                    "confusion_cells has two cells of classes {label} and {predicted}"
                )));
            }
        }
        Ok(Self { classes, cells })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn counted(classes: usize, cells: &[(usize, usize)]) -> Confusion {
        let mut confusion = Confusion::new(classes);
        for &(label, predicted) in cells {
            confusion.add(label, predicted);
        }
        confusion
    }

    #[test]
    fn sums_and_rows_by_hand() {
        let confusion = counted(3, &[(0, 0), (0, 2), (2, 2), (0, 2)]);
        assert_eq!(confusion.support(), [3, 0, 1]);
        assert_eq!(confusion.answered(), [1, 0, 3]);
        assert_eq!(confusion.row(0), [1, 0, 2]);
        assert_eq!((confusion.get(0, 2), confusion.get(1, 1)), (2, 0));
        assert_eq!(confusion.total(), Some(4));
    }

    #[test]
    fn many_classes_are_written_as_the_cells_that_are_not_empty() {
        for (classes, key) in [(WHOLE, "confusion"), (WHOLE + 1, "confusion_cells")] {
            let confusion = counted(classes, &[(0, classes - 1), (7, 7)]);
            let json = serde_json::to_value(&confusion).unwrap();
            assert_eq!(json.as_object().unwrap().keys().collect::<Vec<_>>(), [key]);
            assert_eq!(
                serde_json::from_value::<Confusion>(json).unwrap(),
                confusion
            );
        }
        let json = serde_json::to_string(&counted(100_000, &[(0, 99_999)])).unwrap();
        assert_eq!(
            json,
            r#"{"confusion_cells":{"classes":100000,"cells":[[0,99999,1]]}}"#
        );
    }

    #[test]
    fn what_is_no_matrix_is_refused() {
        let read = |json: &str| serde_json::from_str::<Confusion>(json).map_err(|e| e.to_string());
        for (json, reason) in [
            (
                r#"{"confusion":[[1,2],[3]]}"#,
                "row 2 of confusion has 1 counts, expected 2",
            ),
            (
                r#"{"confusion":[[1,2,3]]}"#,
                "row 1 of confusion has 3 counts",
            ),
            (
                r#"{"confusion_cells":{"classes":4,"cells":[[0,4,1]]}}"#,
                "a cell of class 4, expected one below 4",
            ),
            (
                r#"{"confusion_cells":{"classes":4,"cells":[[0,1,1],[0,1,2]]}}"#,
                "two cells of classes 0 and 1",
            ),
            ("{}", "missing field `confusion`"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(reason), "{json}: {error}");
        }
        assert_eq!(read(r#"{"confusion":[]}"#).unwrap(), Confusion::new(0));
        let large = format!(r#"{{"confusion":[[{0},{0}],[0,0]]}}"#, u64::MAX);
        assert_eq!(read(&large).unwrap().total(), None);
    }
}
