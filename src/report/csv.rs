//! `results.csv` and `confusion_matrix.csv`.

use std::path::{Path, PathBuf};

use csv::StringRecord;
use serde::{Deserialize, Serialize, Serializer};

use crate::checkpoint::write_atomically;
use crate::metrics::EvalReport;
use crate::train::EpochRecord;

/// A table that cannot be written or read.
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

/// A row of `results.csv`, its columns in order; tools that read Ultralytics' file find theirs first.
#[derive(Default, Serialize, Deserialize)]
struct Row {
    epoch: usize,
    time: Decimal,
    #[serde(rename = "train/loss")]
    train_loss: Decimal,
    #[serde(rename = "metrics/accuracy_top1")]
    val_top1: Option<Decimal>,
    #[serde(rename = "metrics/accuracy_top5")]
    val_top5: Option<Decimal>,
    #[serde(rename = "val/loss")]
    val_loss: Option<Decimal>,
    #[serde(rename = "lr/pg0")]
    lr: Decimal,
    #[serde(rename = "train/images_per_s")]
    images_per_s: Decimal,
    #[serde(rename = "train/waiting")]
    waiting: Decimal,
}

/// A number as Rust displays it: `csv` would write 2 as `2.0` and a millionth as `1e-6`.
#[derive(Default, Deserialize)]
struct Decimal(f64);

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl From<&EpochRecord> for Row {
    fn from(record: &EpochRecord) -> Self {
        Self {
            epoch: record.epoch,
            time: Decimal(record.elapsed_s),
            train_loss: Decimal(record.train_loss),
            val_top1: record.val_top1.map(Decimal),
            val_top5: record.val_top5.map(Decimal),
            val_loss: record.val_loss.map(Decimal),
            lr: Decimal(record.lr),
            images_per_s: Decimal(record.images_per_s),
            waiting: Decimal(record.waiting),
        }
    }
}

impl From<Row> for EpochRecord {
    fn from(row: Row) -> Self {
        let value = |Decimal(value)| value;
        Self {
            epoch: row.epoch,
            elapsed_s: row.time.0,
            train_loss: row.train_loss.0,
            val_top1: row.val_top1.map(value),
            val_top5: row.val_top5.map(value),
            val_loss: row.val_loss.map(value),
            lr: row.lr.0,
            images_per_s: row.images_per_s.0,
            waiting: row.waiting.0,
        }
    }
}

/// The names of a [`Row`]'s columns.
fn columns() -> Result<StringRecord, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.serialize(Row::default())?;
    let bytes = writer.into_inner().map_err(|e| e.into_error())?;
    csv::Reader::from_reader(bytes.as_slice())
        .headers()
        .cloned()
}

/// Writes one row per epoch; a value that was not measured stays empty.
///
/// # Errors
///
/// [`CsvError`], which names the file.
pub fn write_results(path: &Path, history: &[EpochRecord]) -> Result<(), CsvError> {
    write(path, |writer| {
        writer.write_record(&columns()?)?;
        history
            .iter()
            .try_for_each(|record| writer.serialize(Row::from(record)))
    })
}

/// Reads `results.csv`.
///
/// # Errors
///
/// [`CsvError`], which names the file and the column or row that is wrong.
pub fn read_results(path: &Path) -> Result<Vec<EpochRecord>, CsvError> {
    let wrong = |e: csv::Error| CsvError::new(path, e);
    let mut reader = csv::Reader::from_path(path).map_err(wrong)?;
    let (found, expected) = (reader.headers().map_err(wrong)?, columns().map_err(wrong)?);
    if *found != expected {
        let listed = |columns: &StringRecord| columns.iter().collect::<Vec<_>>().join(",");
        let (found, expected) = (listed(found), listed(&expected));
        return Err(CsvError::new(
            path,
            format!("found the columns {found}, expected {expected}"),
        ));
    }
    let rows = reader.into_deserialize::<Row>();
    rows.map(|row| row.map(EpochRecord::from).map_err(wrong))
        .collect()
}

/// Writes counts, rows by true class, columns by predicted class.
///
/// # Errors
///
/// [`CsvError`], which names the file.
pub fn write_confusion(path: &Path, report: &EvalReport) -> Result<(), CsvError> {
    let labels = report.per_class.iter().map(|class| class.label.as_str());
    write(path, |writer| {
        writer.write_record(std::iter::once("true\\predicted").chain(labels.clone()))?;
        for (label, counts) in labels.zip(&report.confusion) {
            writer.write_field(label)?;
            writer.write_record(counts.iter().map(u64::to_string))?;
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
            lr: 1e-6,
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
        // Whole numbers and small ones as they have always been written.
        let rows: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(
            rows,
            [
                "1,1.25,2,0.5,,0.5,0.000001,100.5,0.01",
                "2,1.25,2,,,,0.000001,100.5,0.01"
            ]
        );
        std::fs::write(&path, "a,b\n1,2\n").unwrap();
        let error = read_results(&path).unwrap_err().to_string();
        assert!(
            error.contains("found the columns a,b, expected epoch,time"),
            "{error}"
        );
    }
}
