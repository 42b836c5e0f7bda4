//! One Parquet file: its metadata, and the values of a column of one row group.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use ::parquet::data_type::{ByteArray, DataType};
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::ParquetMetaData;
use ::parquet::file::reader::{FileReader, SerializedFileReader};

use super::limits;
use super::pages::CheckedPages;
use crate::data::bytes::Bytes;
use crate::data::error::DataError;
use crate::data::foreign;
use crate::panics::catch_silently;

/// An open file.
pub(super) struct Table {
    pub path: PathBuf,
    bytes: Bytes,
    reader: SerializedFileReader<::bytes::Bytes>,
}

/// The values of a column, by the kind that the file stores. A missing value is `None`.
pub(super) enum Values {
    Flags(Vec<Option<bool>>),
    Integers(Vec<Option<i64>>),
    Floats(Vec<Option<f64>>),
    Bytes(Vec<Option<ByteArray>>),
}

impl Table {
    /// Maps the file and reads its footer.
    ///
    /// # Errors
    ///
    /// [`DataError::Corrupt`] where it is damaged or states what its size does not justify, [`DataError::Foreign`] where
    /// it is no Parquet file.
    pub(super) fn open(path: &Path) -> Result<Table, DataError> {
        let bytes = Bytes::map(path)?;
        if let Some(foreign) = foreign::by_bytes(&bytes) {
            return Err(foreign.error(path));
        }
        let refused = |reason| DataError::corrupt(path, reason);
        limits::check_footer(&bytes).map_err(refused)?;
        let shared = ::bytes::Bytes::from_owner(bytes.clone());
        let reader = guarded(path, || SerializedFileReader::new(shared))?;
        limits::check_rows(reader.metadata(), bytes.len()).map_err(refused)?;
        Ok(Table {
            path: path.into(),
            bytes,
            reader,
        })
    }

    pub(super) fn metadata(&self) -> &ParquetMetaData {
        self.reader.metadata()
    }

    /// The index of the first row of each row group.
    pub(super) fn first_rows(&self) -> Vec<usize> {
        let mut rows = 0;
        let groups = self.metadata().row_groups().iter();
        groups
            .map(|group| {
                let first = rows;
                // Checked when the file was opened.
                rows += usize::try_from(group.num_rows()).unwrap_or(0);
                first
            })
            .collect()
    }

    /// Checks what the metadata states of a column.
    ///
    /// # Errors
    ///
    /// [`DataError::Corrupt`] where a row group would unpack to more than its size justifies.
    pub(super) fn check_column(&self, column: usize) -> Result<(), DataError> {
        for group in self.metadata().row_groups() {
            limits::check_stated(group.column(column))
                .map_err(|reason| DataError::corrupt(&self.path, reason))?;
        }
        Ok(())
    }

    /// Reads a flat column of one row group.
    ///
    /// # Errors
    ///
    /// [`DataError::Corrupt`] where it is damaged, or states what its size does not justify.
    pub(super) fn values(&self, group: usize, column: usize) -> Result<Values, DataError> {
        let metadata = self.metadata().row_group(group);
        let chunk = metadata.column(column);
        let rows = usize::try_from(metadata.num_rows()).unwrap_or(0);
        let shared = limits::check_pages(&self.bytes, chunk, rows)
            .map_err(|reason| DataError::corrupt(&self.path, reason))?;
        let packed = usize::try_from(chunk.compressed_size()).unwrap_or(0);
        let reading = Reading {
            rows,
            deepest: chunk.column_descr().max_def_level(),
            most: shared.then(|| limits::unpacked_limit(packed)),
        };
        guarded(&self.path, || {
            let row_group = self.reader.get_row_group(group)?;
            let pages = row_group.get_column_page_reader(column)?;
            let description = chunk.column_descr_ptr();
            let pages = CheckedPages::new(pages, description.max_def_level());
            Ok(match get_column_reader(description, Box::new(pages)) {
                ColumnReader::BoolColumnReader(mut column) => {
                    Values::Flags(reading.values(&mut column, |_| 1)?)
                }
                ColumnReader::Int32ColumnReader(mut column) => {
                    let values = reading.values(&mut column, |_| 1)?;
                    Values::Integers(values.into_iter().map(|v| v.map(i64::from)).collect())
                }
                ColumnReader::Int64ColumnReader(mut column) => {
                    Values::Integers(reading.values(&mut column, |_| 1)?)
                }
                ColumnReader::FloatColumnReader(mut column) => {
                    let values = reading.values(&mut column, |_| 1)?;
                    Values::Floats(values.into_iter().map(|v| v.map(f64::from)).collect())
                }
                ColumnReader::DoubleColumnReader(mut column) => {
                    Values::Floats(reading.values(&mut column, |_| 1)?)
                }
                ColumnReader::ByteArrayColumnReader(mut column) => {
                    Values::Bytes(reading.values(&mut column, ByteArray::len)?)
                }
                _ => return Err(ParquetError::General("a column changed its type".into())),
            })
        })
    }
}

/// How a flat column is read.
struct Reading {
    rows: usize,
    /// The definition level of a value that is present.
    deepest: i16,
    /// The most that all values may take, where they may take more than what is stored.
    most: Option<usize>,
}

impl Reading {
    fn values<T: DataType>(
        &self,
        column: &mut ColumnReaderImpl<T>,
        size: impl Fn(&T::T) -> usize,
    ) -> Result<Vec<Option<T::T>>, ParquetError> {
        let (mut values, mut levels) = (Vec::new(), Vec::new());
        let (mut read, mut taken) = (0, 0);
        while read < self.rows {
            let at_once = self.most.map_or(self.rows - read, |_| 1);
            let before = values.len();
            let (records, ..) =
                column.read_records(at_once, Some(&mut levels), None, &mut values)?;
            if records == 0 {
                return Err(ParquetError::EOF(format!("{read} of {} rows", self.rows)));
            }
            taken += values[before..].iter().map(&size).sum::<usize>();
            if self.most.is_some_and(|most| taken > most) {
                let reason = format!("{taken} bytes in {read} rows, more than its size justifies");
                return Err(ParquetError::General(reason));
            }
            read += records;
        }
        if self.deepest == 0 {
            return Ok(values.into_iter().map(Some).collect());
        }
        let mut values = values.into_iter();
        let value = |&level: &i16| (level == self.deepest).then(|| values.next()).flatten();
        Ok(levels.iter().map(value).collect())
    }
}

/// Runs the parquet crate's reader, and turns its panics into errors: it panics on some damaged files (seen with a
/// damaged dictionary page).
pub(super) fn guarded<T>(
    path: &Path,
    read: impl FnOnce() -> Result<T, ParquetError>,
) -> Result<T, DataError> {
    catch_silently(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(ParquetError::General("a page of it cannot be read".into())))
        .map_err(|error| {
            DataError::corrupt(
                path,
                format!("truncated or damaged Parquet file: {error}; fetch it again"),
            )
        })
}
