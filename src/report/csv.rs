//! `results.csv` and `confusion_matrix.csv`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::metrics::EvalReport;
use crate::names::{cell, shown, visible};
use crate::train::EpochRecord;
use crate::train::task::Figure;
use crate::whole_file;

/// A table that cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}", path = shown(path), reason = visible(reason))]
pub struct CsvError {
    path: PathBuf,
    reason: String,
}

impl CsvError {
    fn new(path: &Path, reason: impl ToString) -> Self {
        Self {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// Columns of `results.csv` before those of the task; tools that read Ultralytics' file find theirs
/// first.
const BEFORE: [&str; 3] = ["epoch", "time", "train/loss"];
/// Columns after those of the task.
const AFTER: [&str; 3] = ["lr/pg0", "train/images_per_s", "train/waiting"];
/// The last columns, which files of earlier versions lack: the share of the epoch's batches that were taken,
/// and the share of the budget that was spent at its end.
const SHARES: [&str; 2] = ["train/share", "budget/spent"];

/// The most epochs, and seconds, that a training can have had.
const MOST: f64 = 1e12;

/// A number as Rust displays it: `csv` would write 2 as `2.0` and a millionth as `1e-6`.
struct Decimal(f64);

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Writes one row per epoch; a value that was not measured stays empty. `columns` are those of the
/// task's figures.
///
/// # Errors
///
/// [`CsvError`], which names the file.
pub fn write_results(
    path: &Path,
    columns: &[&str],
    history: &[EpochRecord],
) -> Result<(), CsvError> {
    write(path, |writer| {
        writer.serialize((BEFORE, columns, AFTER, SHARES))?;
        history.iter().try_for_each(|record| {
            let before = (Decimal(record.elapsed_s), Decimal(record.train_loss));
            let figures = columns
                .iter()
                .map(|column| record.figure(column).map(Decimal));
            let after = [record.lr, record.images_per_s, record.waiting].map(Decimal);
            let shares = (Decimal(record.share), record.spent.map(Decimal));
            writer.serialize((
                record.epoch,
                before,
                figures.collect::<Vec<_>>(),
                after,
                shares,
            ))
        })
    })
}

/// Reads `results.csv`; whatever columns lie between those before and those after are figures.
///
/// # Errors
///
/// [`CsvError`], which names the file and the column or row that is wrong.
pub fn read_results(path: &Path) -> Result<Vec<EpochRecord>, CsvError> {
    let wrong = |e: csv::Error| CsvError::new(path, e);
    let mut reader = csv::Reader::from_path(path).map_err(wrong)?;
    let found: Vec<String> = reader
        .headers()
        .map_err(wrong)?
        .iter()
        .map(str::to_owned)
        .collect();
    let own = found
        .strip_suffix(&SHARES.map(str::to_owned))
        .unwrap_or(&found);
    let figures = BEFORE.len()..own.len().saturating_sub(AFTER.len());
    let columns = own.get(figures).filter(|columns| {
        own[..BEFORE.len()] == BEFORE && own[BEFORE.len() + columns.len()..] == AFTER
    });
    let Some(columns) = columns else {
        let (found, before, after) = (found.join(","), BEFORE.join(","), AFTER.join(","));
        let reason = format!("found the columns {found}, expected {before}, figures, {after}");
        return Err(CsvError::new(path, reason));
    };
    let places: HashMap<&str, usize> = found
        .iter()
        .enumerate()
        .rev()
        .map(|(at, column)| (column.as_str(), at))
        .collect();
    let record = |(index, row): (usize, Result<Vec<Option<f64>>, csv::Error>)| {
        let row = row.map_err(wrong)?;
        let bad = |reason: String| CsvError::new(path, format!("row {} {reason}", index + 1));
        let value = |column: &str| {
            let at = places.get(column);
            at.and_then(|at| row.get(*at).copied().flatten())
        };
        let needed = |column: &str| value(column).ok_or_else(|| bad(format!("has no {column}")));
        // What a loss may be is the training's matter; none of these is ever below zero or without end.
        let within = |column: &str, most: f64| {
            let found = needed(column)?;
            match (0.0..=most).contains(&found) {
                true => Ok(found),
                false => Err(bad(format!(
                    "has {column} {found:?}, expected a number from 0 to {most:?}"
                ))),
            }
        };
        let figures = columns.iter().filter_map(|column| {
            let value = value(column)?;
            let column = column.clone();
            Some(Figure { column, value })
        });
        let [epoch, time, loss] = BEFORE;
        let [lr, images_per_s, waiting] = AFTER;
        let [share, spent] = SHARES;
        Ok(EpochRecord {
            epoch: within(epoch, MOST)? as usize,
            elapsed_s: within(time, MOST)?,
            train_loss: needed(loss)?,
            figures: figures.collect(),
            lr: needed(lr)?,
            images_per_s: needed(images_per_s)?,
            waiting: needed(waiting)?,
            share: match value(share) {
                Some(_) => within(share, 1.0)?,
                None => 1.0,
            },
            spent: value(spent),
        })
    };
    let rows = reader.into_deserialize::<Vec<Option<f64>>>();
    rows.enumerate().map(record).collect()
}

/// Writes counts, rows by true class, columns by predicted class; where classes are too many for that
/// ([`Confusion::is_whole`]), one row for each cell that is not empty.
///
/// # Errors
///
/// [`CsvError`], which names the file.
///
/// [`Confusion::is_whole`]: crate::metrics::Confusion::is_whole
pub fn write_confusion(path: &Path, report: &EvalReport) -> Result<(), CsvError> {
    let labels: Vec<_> = report.per_class.iter().map(|c| cell(&c.label)).collect();
    let confusion = &report.confusion;
    write(path, |writer| {
        if !confusion.is_whole() {
            writer.write_record(["true", "predicted", "pictures"])?;
            return confusion.cells().try_for_each(|(label, predicted, count)| {
                let count = count.to_string();
                writer.write_record([&*labels[label], &*labels[predicted], &*count])
            });
        }
        let head = std::iter::once("true\\predicted");
        writer.write_record(head.chain(labels.iter().map(|label| &**label)))?;
        for (class, label) in labels.iter().enumerate() {
            writer.write_field(&**label)?;
            writer.write_record(confusion.row(class).iter().map(u64::to_string))?;
        }
        Ok(())
    })
}

fn write(
    path: &Path,
    fill: impl FnOnce(&mut csv::Writer<Vec<u8>>) -> Result<(), csv::Error>,
) -> Result<(), CsvError> {
    let mut writer = csv::WriterBuilder::new()
        .has_headers(false)
        .from_writer(Vec::new());
    fill(&mut writer).map_err(|e| CsvError::new(path, e))?;
    let bytes = writer.into_inner().map_err(|e| CsvError::new(path, e))?;
    whole_file::write(path, &bytes).map_err(|e| CsvError::new(path, e))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::train::task::classification::{TOP1, TOP5, VAL_LOSS, figures};

    #[test]
    fn results_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.csv");
        let row = |epoch, val_top1: Option<f64>| EpochRecord {
            epoch,
            elapsed_s: 1.25,
            train_loss: 2.0,
            figures: val_top1.map_or_else(Vec::new, |top1| figures(top1, None, top1)),
            lr: 1e-6,
            images_per_s: 100.5,
            waiting: 0.01,
            share: if epoch == 1 { 1.0 } else { 0.28 },
            spent: (epoch == 2).then_some(0.99),
        };
        let history = vec![row(1, Some(0.5)), row(2, None)];
        let columns = [TOP1, TOP5, VAL_LOSS];
        write_results(&path, &columns, &history).unwrap();
        assert_eq!(read_results(&path).unwrap(), history);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(
            "epoch,time,train/loss,metrics/accuracy_top1,metrics/accuracy_top5,val/loss,lr/pg0"
        ));
        // Whole numbers and small ones as they have always been written.
        let rows: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(
            rows,
            [
                "1,1.25,2,0.5,,0.5,0.000001,100.5,0.01,1,",
                "2,1.25,2,,,,0.000001,100.5,0.01,0.28,0.99"
            ]
        );
        // A file of an earlier version, without the last two columns.
        let earlier: String = text
            .lines()
            .map(|line| {
                let kept: Vec<&str> = line.rsplitn(3, ',').collect();
                kept[2].to_owned() + "\n"
            })
            .collect();
        assert!(earlier.contains("train/waiting\n1,1.25"), "{earlier}");
        std::fs::write(&path, earlier).unwrap();
        let back = read_results(&path).unwrap();
        assert_eq!((back.len(), back[1].share, back[1].spent), (2, 1.0, None));
        std::fs::write(&path, text.replace("2,1.25,2,", "2,1.25,,")).unwrap();
        let error = read_results(&path).unwrap_err().to_string();
        assert!(error.ends_with("row 2 has no train/loss"), "{error}");
        for (good, bad, column) in [
            ("2,1.25,2,", "1e308,1.25,2,", "epoch 1e308"),
            ("2,1.25,2,", "-1,1.25,2,", "epoch -1"),
            ("2,1.25,2,", "2,NaN,2,", "time NaN"),
            ("2,1.25,2,", "2,-inf,2,", "time -inf"),
            ("0.28,0.99", "1e308,0.99", "train/share 1e308"),
        ] {
            std::fs::write(&path, text.replace(good, bad)).unwrap();
            let error = read_results(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("row 2 has {column}")), "{error}");
        }
        // A loss may have been anything.
        for loss in ["1e308", "-1e308", "NaN", "inf", "5e-324"] {
            std::fs::write(&path, text.replace("2,1.25,2,", &format!("2,1.25,{loss},"))).unwrap();
            assert_eq!(read_results(&path).unwrap().len(), 2);
        }
        std::fs::write(&path, "a,b\n1,2\n").unwrap();
        let error = read_results(&path).unwrap_err().to_string();
        assert!(
            error.contains("found the columns a,b, expected epoch,time"),
            "{error}"
        );
    }

    #[test]
    fn a_class_name_is_no_formula_and_many_classes_are_a_list() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("confusion.csv");
        let named = |count: usize| -> Vec<String> {
            let first = ["=1+1".to_owned(), "b".to_owned()];
            first
                .into_iter()
                .chain((2..count).map(|i| format!("c{i}")))
                .collect()
        };
        let write = |count: usize| {
            let mut logits = vec![0.0; count];
            logits[1] = 1.0;
            let report = crate::metrics::evaluate(&logits, &[0], &[], &named(count));
            write_confusion(&path, &report).unwrap();
            std::fs::read_to_string(&path).unwrap()
        };
        assert_eq!(write(2), "true\\predicted,'=1+1,b\n'=1+1,0,1\nb,0,0\n");
        let many = crate::metrics::WHOLE + 1;
        assert_eq!(write(many), "true,predicted,pictures\n'=1+1,b,1\n");
    }
}
