//! `results.csv` and `confusion_matrix.csv`.

use std::path::{Path, PathBuf};

use crate::checkpoint::write_atomically;
use crate::metrics::EvalReport;
use crate::train::EpochRecord;

/// A table that could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
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

/// The columns of `results.csv`; tools that read Ultralytics' file find theirs first.
const HEADER: [&str; 9] = [
    "epoch",
    "time",
    "train/loss",
    "metrics/accuracy_top1",
    "metrics/accuracy_top5",
    "val/loss",
    "lr/pg0",
    "train/images_per_s",
    "train/waiting",
];

/// Writes one row an epoch; what was not measured stays empty.
///
/// # Errors
///
/// [`CsvError`], which names the file.
pub fn write_results(path: &Path, history: &[EpochRecord]) -> Result<(), CsvError> {
    let optional = |value: Option<f64>| value.map_or_else(String::new, |v| v.to_string());
    let rows = history.iter().map(|r| {
        vec![
            r.epoch.to_string(),
            r.elapsed_s.to_string(),
            r.train_loss.to_string(),
            optional(r.val_top1),
            optional(r.val_top5),
            optional(r.val_loss),
            r.lr.to_string(),
            r.images_per_s.to_string(),
            r.waiting.to_string(),
        ]
    });
    write(path, HEADER.map(str::to_owned).to_vec(), rows)
}

/// Reads `results.csv` back.
///
/// # Errors
///
/// [`CsvError`], which names the file and the line.
pub fn read_results(path: &Path) -> Result<Vec<EpochRecord>, CsvError> {
    let wrong = |e: &dyn std::fmt::Display| CsvError::new(path, e);
    let mut reader = csv::Reader::from_path(path).map_err(|e| wrong(&e))?;
    let headings = reader.headers().map_err(|e| wrong(&e))?.clone();
    if headings.iter().ne(HEADER) {
        return Err(wrong(&format!(
            "found the columns {}, expected {}",
            headings.iter().collect::<Vec<_>>().join(","),
            HEADER.join(",")
        )));
    }
    let mut history = Vec::new();
    for (line, record) in reader.records().enumerate() {
        let record = record.map_err(|e| wrong(&e))?;
        let optional = |column: usize| record.get(column).and_then(|v| v.parse::<f64>().ok());
        let number = |column: usize| {
            optional(column).ok_or_else(|| {
                wrong(&format!(
                    "row {}: {} is no number",
                    line + 1,
                    HEADER[column]
                ))
            })
        };
        history.push(EpochRecord {
            epoch: number(0)? as usize,
            elapsed_s: number(1)?,
            train_loss: number(2)?,
            val_top1: optional(3),
            val_top5: optional(4),
            val_loss: optional(5),
            lr: number(6)?,
            images_per_s: number(7)?,
            waiting: number(8)?,
        });
    }
    Ok(history)
}

/// Writes counts, rows by true class, columns by predicted class.
///
/// # Errors
///
/// [`CsvError`], which names the file.
pub fn write_confusion(path: &Path, report: &EvalReport) -> Result<(), CsvError> {
    let mut header = vec!["true\\predicted".to_owned()];
    header.extend(report.per_class.iter().map(|c| c.label.clone()));
    let rows = report
        .confusion
        .iter()
        .zip(&report.per_class)
        .map(|(row, class)| {
            let mut cells = vec![class.label.clone()];
            cells.extend(row.iter().map(u64::to_string));
            cells
        });
    write(path, header, rows)
}

fn write(
    path: &Path,
    header: Vec<String>,
    rows: impl Iterator<Item = Vec<String>>,
) -> Result<(), CsvError> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in std::iter::once(header).chain(rows) {
        writer
            .write_record(&row)
            .map_err(|e| CsvError::new(path, e))?;
    }
    let bytes = writer.into_inner().map_err(|e| CsvError::new(path, e))?;
    write_atomically(path, &bytes).map_err(|e| CsvError::new(path, e))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn results_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.csv");
        let row = |epoch, val_top1| EpochRecord {
            epoch,
            elapsed_s: 1.25,
            train_loss: 2.0,
            val_top1,
            val_top5: None,
            val_loss: val_top1,
            lr: 1e-3,
            images_per_s: 100.5,
            waiting: 0.01,
        };
        let history = vec![row(1, Some(0.5)), row(2, None)];
        write_results(&path, &history).unwrap();
        assert_eq!(read_results(&path).unwrap(), history);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(
            "epoch,time,train/loss,metrics/accuracy_top1,metrics/accuracy_top5,val/loss,lr/pg0"
        ));
        std::fs::write(&path, "a,b\n1,2\n").unwrap();
        let error = read_results(&path).unwrap_err().to_string();
        assert!(
            error.contains("found the columns a,b, expected epoch,time"),
            "{error}"
        );
    }
}
