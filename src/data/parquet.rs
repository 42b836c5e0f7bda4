//! Parquet as the Hugging Face hub stores image data sets: a struct `image` (or `img`) of `bytes` and `path`, an integer
//! `label`, and class names in the file's metadata.
//!
//! Labels are read when a file is opened. Pictures are read one row group at a time and cached within a limit.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::File;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ::parquet::basic::Type;
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::{ByteArray, DataType};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;

use super::error::DataError;
use super::files::{Files, base_name, folder_of};
use super::listing::{Container, Entry, Listing, SourceKind};
use super::sample::{RawPicture, Skipped, SplitName};
use crate::panics::catch_silently;

/// Size of the cache of row groups, in bytes. A smaller data set is read once; so is a larger one, nearly, when it is
/// read in order.
const CACHE_BYTES: usize = 1 << 30;

const IMAGE_COLUMNS: [&str; 2] = ["image", "img"];
const LABEL_COLUMNS: [&str; 3] = ["label", "labels", "fine_label"];

/// Whether a file of this name is read as Parquet.
pub(super) fn is_shard(name: &str) -> bool {
    name.ends_with(".parquet")
}

/// Whether one of the Parquet files on disk has pictures with labels, or cannot be opened, which listing it reports.
pub(super) fn has_pictures(files: &dyn Files) -> bool {
    let shards = (0..files.names().len()).filter(|&index| is_shard(&files.names()[index]));
    shards.filter_map(|index| files.on_disk(index)).any(|path| {
        let Ok(file) = File::open(&path) else {
            return true;
        };
        match guarded(&path, || SerializedFileReader::new(file)) {
            Ok(reader) => columns_of(&path, &reader).is_ok(),
            Err(_) => true,
        }
    })
}

/// Finds Parquet files: the path of each, and the prefix of its samples' names; `None` where there are none.
///
/// # Errors
///
/// [`DataError::Layout`] where they are inside an archive.
pub(super) fn find_shards(files: &dyn Files) -> Result<Option<Vec<(PathBuf, String)>>, DataError> {
    let mut shards = Vec::new();
    for (index, name) in files
        .names()
        .iter()
        .enumerate()
        .filter(|(_, name)| is_shard(name))
    {
        let path = files.on_disk(index).ok_or_else(|| DataError::Layout {
            path: files.root().into(),
            reason: format!("holds {name}, and Parquet is not read inside an archive; unpack it into a folder and name that"),
        })?;
        shards.push((path, name.clone()));
    }
    shards.sort_by(|a, b| a.1.cmp(&b.1));
    Ok((!shards.is_empty()).then_some(shards))
}

/// The split that a file is named for, as in `train-00000-of-00001.parquet`, or else its folder; train where neither is.
fn split_of(name: &str) -> SplitName {
    let stem = base_name(name).split(['-', '.', '_']).next();
    let folders = folder_of(name).split('/').rev();
    stem.into_iter()
        .chain(folders)
        .find_map(SplitName::from_folder)
        .unwrap_or(SplitName::Train)
}

/// The indices of the two columns, and the class names that the metadata has.
struct Columns {
    image: usize,
    label: usize,
    classes: Option<Vec<String>>,
}

/// One file. One thread at a time may use its reader: clones would share a position in the file.
struct Shard {
    path: PathBuf,
    reader: Mutex<SerializedFileReader<File>>,
    image: usize,
    /// Index of the first row of each row group.
    first_rows: Vec<usize>,
}

type Group = Arc<Vec<Option<ByteArray>>>;

#[derive(Default)]
struct Cache {
    groups: VecDeque<((usize, usize), Group, usize)>,
    bytes: usize,
}

impl Cache {
    fn find(&self, key: (usize, usize)) -> Option<Group> {
        self.groups
            .iter()
            .find(|(known, ..)| *known == key)
            .map(|(_, group, _)| Arc::clone(group))
    }

    fn keep(&mut self, key: (usize, usize), group: &Group) {
        let size = group.iter().flatten().map(ByteArray::len).sum();
        self.bytes += size;
        self.groups.push_back((key, Arc::clone(group), size));
        while self.bytes > CACHE_BYTES && self.groups.len() > 1 {
            self.bytes -= self.groups.pop_front().map_or(0, |(_, _, size)| size);
        }
    }
}

struct Parquet {
    shards: Vec<Shard>,
    /// The shard and row of each entry.
    rows: Vec<(usize, usize)>,
    cache: Mutex<Cache>,
}

impl Parquet {
    fn group(&self, shard: usize, group: usize) -> Result<Group, DataError> {
        let key = (shard, group);
        let cached = || {
            self.cache
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .find(key)
        };
        if let Some(found) = cached() {
            return Ok(found);
        }
        let Shard {
            path,
            reader,
            image,
            ..
        } = &self.shards[shard];
        let reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have read it while this one waited.
        if let Some(found) = cached() {
            return Ok(found);
        }
        let read = Arc::new(guarded(path, || read_pictures(&reader, group, *image))?);
        self.cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .keep(key, &read);
        Ok(read)
    }
}

impl Container for Parquet {
    fn read(&self, entry: usize) -> Result<RawPicture<'_>, DataError> {
        let (shard, row) = self.rows[entry];
        let first_rows = &self.shards[shard].first_rows;
        let group = first_rows.partition_point(|first| *first <= row) - 1;
        let pictures = self.group(shard, group)?;
        match pictures.get(row - first_rows[group]) {
            Some(Some(bytes)) => Ok(RawPicture::Encoded(Cow::Owned(bytes.data().to_vec()))),
            _ => Err(DataError::corrupt(
                &self.shards[shard].path,
                format!("row {row} has no picture"),
            )),
        }
    }
}

/// Lists the rows of every file, given as its path and the prefix of its samples' names.
///
/// # Errors
///
/// [`DataError::Corrupt`] where a file is damaged, lacks a column, or has other classes than the files before it.
pub(super) fn list_rows(files: &[(PathBuf, String)]) -> Result<Listing, DataError> {
    let mut shards = Vec::new();
    let mut rows = Vec::new();
    let mut entries = Vec::new();
    let mut skipped = Vec::new();
    let mut classes: Option<Vec<String>> = None;
    for (path, name) in files {
        let file = File::open(path).map_err(DataError::io(path, "open"))?;
        let reader = guarded(path, || SerializedFileReader::new(file))?;
        let columns = columns_of(path, &reader)?;
        if let (Some(known), Some(own)) = (&classes, &columns.classes)
            && known != own
        {
            let reason = format!(
                "its classes are {}; expected those of the files before it, {}",
                own.join(", "),
                known.join(", ")
            );
            return Err(DataError::corrupt(path, reason));
        }
        classes = classes.or(columns.classes);
        let (labels, first_rows) = guarded(path, || labels_of(&reader, columns.label))?;
        let mut unlabelled = 0;
        for (row, label) in labels.into_iter().enumerate() {
            // The hub writes −1 where a test label is not published.
            let Some(label) = label.and_then(|label| usize::try_from(label).ok()) else {
                unlabelled += 1;
                continue;
            };
            entries.push(Entry {
                name: format!("{name}#{row}"),
                split: split_of(name),
                label,
                entry: rows.len(),
            });
            rows.push((shards.len(), row));
        }
        if unlabelled > 0 {
            skipped.push(Skipped {
                name: name.clone(),
                reason: format!("{unlabelled} rows without a label"),
            });
        }
        shards.push(Shard {
            path: path.clone(),
            reader: Mutex::new(reader),
            image: columns.image,
            first_rows,
        });
    }
    let classes = named_classes(classes, &entries, &files[0].0)?;
    let container = Box::new(Parquet {
        shards,
        rows,
        cache: Mutex::default(),
    });
    Ok(Listing {
        kind: SourceKind::Parquet,
        container,
        classes,
        entries,
        skipped,
        notes: Vec::new(),
    })
}

/// The class names from the metadata, or else the label numbers.
///
/// # Errors
///
/// [`DataError::Corrupt`] where a label has no name.
fn named_classes(
    classes: Option<Vec<String>>,
    entries: &[Entry],
    path: &Path,
) -> Result<Vec<String>, DataError> {
    /// A column with larger numbers does not hold labels, but row numbers or identifiers.
    const MOST: usize = 100_000;
    let needed = entries
        .iter()
        .map(|entry| entry.label + 1)
        .max()
        .unwrap_or(0);
    match classes {
        Some(classes) if needed <= classes.len() => Ok(classes),
        Some(classes) => {
            let reason = format!(
                "label {} found, expected less than {}, the class names given",
                needed - 1,
                classes.len()
            );
            Err(DataError::corrupt(path, reason))
        }
        None if needed > MOST => {
            let reason = format!(
                "label {} found, expected class numbers below {MOST}",
                needed - 1
            );
            Err(DataError::corrupt(path, reason))
        }
        None => Ok((0..needed).map(|label| label.to_string()).collect()),
    }
}

/// Runs the parquet crate's reader, and turns its panics into errors: it panics on some damaged files (seen with a
/// damaged dictionary page).
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, DataError> {
    let outcome = catch_silently(AssertUnwindSafe(read));
    outcome
        .unwrap_or_else(|_| Err(ParquetError::General("a page of it cannot be read".into())))
        .map_err(|error| damaged(path, &error))
}

fn damaged(path: &Path, error: &ParquetError) -> DataError {
    DataError::corrupt(
        path,
        format!("truncated or damaged Parquet file: {error}; fetch it again"),
    )
}

fn columns_of(path: &Path, reader: &SerializedFileReader<File>) -> Result<Columns, DataError> {
    let metadata = reader.metadata().file_metadata();
    let features = metadata
        .key_value_metadata()
        .and_then(|pairs| pairs.iter().find(|pair| pair.key == "huggingface"))
        .and_then(|pair| serde_json::from_str::<Value>(pair.value.as_deref()?).ok())
        .map(|value| value["info"]["features"].clone())
        .unwrap_or_default();
    let of_type = |kind: &str| -> Vec<String> {
        let is_kind = |feature: &Value| feature["_type"] == kind;
        let all = features.as_object().into_iter().flatten();
        all.filter(|(_, feature)| is_kind(feature))
            .map(|(name, _)| name.clone())
            .collect()
    };
    let schema = metadata.schema_descr();
    let leaves: Vec<(String, Type)> = (0..schema.num_columns())
        .map(|index| schema.column(index))
        // A column of lists is not usable: a row would have several pictures or labels.
        .map(|column| {
            (
                column.path().string(),
                if column.max_rep_level() == 0 {
                    column.physical_type()
                } else {
                    Type::BOOLEAN
                },
            )
        })
        .collect();
    let find = |name: String, types: &[Type]| {
        leaves
            .iter()
            .position(|(leaf, kind)| *leaf == name && types.contains(kind))
    };
    let known = |names: &[&str], kind: &str| {
        names
            .iter()
            .map(|name| name.to_string())
            .chain(of_type(kind))
            .collect::<Vec<_>>()
    };
    let image = known(&IMAGE_COLUMNS, "Image").into_iter().find_map(|name| {
        find(format!("{name}.bytes"), &[Type::BYTE_ARRAY])
            .or_else(|| find(name, &[Type::BYTE_ARRAY]))
    });
    let labels = known(&LABEL_COLUMNS, "ClassLabel");
    let label = labels
        .into_iter()
        .find_map(|name| find(name.clone(), &[Type::INT32, Type::INT64]).map(|at| (name, at)));
    let (Some(image), Some((label_name, label))) = (image, label) else {
        let found: Vec<&str> = leaves.iter().map(|(name, _)| name.as_str()).collect();
        let reason = format!(
            "found the columns {}; expected pictures in {} (a struct of bytes and path) and integers in {}",
            found.join(", "),
            IMAGE_COLUMNS.join(" or "),
            LABEL_COLUMNS.join(" or "),
        );
        return Err(DataError::corrupt(path, reason));
    };
    let names = &features[&label_name]["names"];
    let classes = names.as_array().map(|names| {
        names
            .iter()
            .filter_map(Value::as_str)
            .map(String::from)
            .collect()
    });
    Ok(Columns {
        image,
        label,
        classes,
    })
}

/// The label of each row, and the index of the first row of each row group.
fn labels_of(
    reader: &SerializedFileReader<File>,
    column: usize,
) -> Result<(Vec<Option<i64>>, Vec<usize>), ParquetError> {
    let mut labels = Vec::new();
    let mut first_rows = Vec::new();
    for group in 0..reader.num_row_groups() {
        first_rows.push(labels.len());
        let rows = rows_of(reader, group)?;
        match reader.get_row_group(group)?.get_column_reader(column)? {
            ColumnReader::Int32ColumnReader(mut column) => {
                labels.extend(
                    read_column(&mut column, rows)?
                        .into_iter()
                        .map(|label| label.map(i64::from)),
                );
            }
            ColumnReader::Int64ColumnReader(mut column) => {
                labels.extend(read_column(&mut column, rows)?)
            }
            _ => {
                return Err(ParquetError::General(
                    "the label column changed its type".into(),
                ));
            }
        }
    }
    Ok((labels, first_rows))
}

fn read_pictures(
    reader: &SerializedFileReader<File>,
    group: usize,
    column: usize,
) -> Result<Vec<Option<ByteArray>>, ParquetError> {
    let rows = rows_of(reader, group)?;
    match reader.get_row_group(group)?.get_column_reader(column)? {
        ColumnReader::ByteArrayColumnReader(mut column) => read_column(&mut column, rows),
        _ => Err(ParquetError::General(
            "the picture column changed its type".into(),
        )),
    }
}

fn rows_of(reader: &SerializedFileReader<File>, group: usize) -> Result<usize, ParquetError> {
    let stated = reader.metadata().row_group(group).num_rows();
    usize::try_from(stated)
        .map_err(|_| ParquetError::General(format!("row group {group} states {stated} rows")))
}

/// Reads a flat column of `rows` rows; a missing value is `None`.
fn read_column<T: DataType>(
    column: &mut ColumnReaderImpl<T>,
    rows: usize,
) -> Result<Vec<Option<T::T>>, ParquetError> {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    let mut read = 0;
    while read < rows {
        let (records, ..) =
            column.read_records(rows - read, Some(&mut levels), None, &mut values)?;
        if records == 0 {
            return Err(ParquetError::EOF(format!("{read} of {rows} rows")));
        }
        read += records;
    }
    if levels.is_empty() {
        return Ok(values.into_iter().map(Some).collect());
    }
    // A value that is present has the maximum definition level; where none is present, no level may match.
    let deepest = if values.is_empty() {
        i16::MAX
    } else {
        levels.iter().copied().max().unwrap_or(0)
    };
    let mut values = values.into_iter();
    Ok(levels
        .iter()
        .map(|&level| {
            if level == deepest {
                values.next()
            } else {
                None
            }
        })
        .collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use ::parquet::data_type::{ByteArrayType, Int64Type};
    use ::parquet::file::metadata::KeyValue;
    use ::parquet::file::properties::WriterProperties;
    use ::parquet::file::writer::SerializedFileWriter;
    use ::parquet::schema::parser::parse_message_type;
    use proptest::prelude::*;

    use super::*;
    use crate::data::source::Dataset;

    const HUB: &str = r#"{"info": {"features": {"img": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}"#;

    /// Row groups of rows, each a picture's bytes (or none) and a label.
    fn write(path: &Path, groups: &[&[(Option<&str>, i64)]], hub: bool) {
        let schema = "message schema { optional group img { optional binary bytes; optional binary path (UTF8); } optional int64 label; }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let pairs = hub.then(|| vec![KeyValue::new("huggingface".into(), HUB.to_string())]);
        let properties = WriterProperties::builder()
            .set_key_value_metadata(pairs)
            .build();
        let mut writer =
            SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties))
                .unwrap();
        for rows in groups {
            let mut group = writer.next_row_group().unwrap();
            let levels: Vec<i16> = rows
                .iter()
                .map(|(bytes, _)| if bytes.is_some() { 2 } else { 1 })
                .collect();
            let pictures: Vec<ByteArray> = rows
                .iter()
                .filter_map(|(bytes, _)| bytes.map(ByteArray::from))
                .collect();
            let mut column = group.next_column().unwrap().unwrap();
            column
                .typed::<ByteArrayType>()
                .write_batch(&pictures, Some(&levels), None)
                .unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            column
                .typed::<ByteArrayType>()
                .write_batch(&[], Some(&vec![1; rows.len()]), None)
                .unwrap();
            column.close().unwrap();
            let labels: Vec<i64> = rows.iter().map(|(_, label)| *label).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column
                .typed::<Int64Type>()
                .write_batch(&labels, Some(&vec![1; rows.len()]), None)
                .unwrap();
            column.close().unwrap();
            group.close().unwrap();
        }
        writer.close().unwrap();
    }

    const TRAIN: [&[(Option<&str>, i64)]; 2] = [
        &[(Some("one"), 1), (None, 0)],
        &[(Some("two"), 0), (Some("none"), -1), (Some("three"), 1)],
    ];

    #[test]
    fn the_hubs_files_open_with_their_splits_and_names() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        write(
            &folder.path().join("data/train-00000-of-00001.parquet"),
            &TRAIN,
            true,
        );
        write(
            &folder.path().join("data/test-00000-of-00001.parquet"),
            &TRAIN[..1],
            true,
        );
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!(dataset.kind, SourceKind::Parquet);
        assert_eq!(dataset.classes, ["cat", "dog"]);
        let train = dataset.given(SplitName::Train);
        assert_eq!(
            train.iter().map(|sample| sample.label).collect::<Vec<_>>(),
            [1, 0, 0, 1]
        );
        assert_eq!(train[3].name, "data/train-00000-of-00001.parquet#4");
        assert_eq!(dataset.given(SplitName::Test).len(), 2);
        let read = |index: usize| match dataset.read(&train[index]) {
            Ok(RawPicture::Encoded(bytes)) => String::from_utf8(bytes.into_owned()).unwrap(),
            other => format!("{}", other.unwrap_err())
                .replace(&folder.path().display().to_string(), "DIR"),
        };
        assert_eq!(read(3), "three");
        assert_eq!(read(0), "one");
        assert_eq!(read(2), "two");
        assert_eq!(
            read(1),
            "DIR/data/train-00000-of-00001.parquet: row 1 has no picture"
        );
        assert_eq!(dataset.skipped[0].reason, "1 rows without a label");
    }

    #[test]
    fn without_names_the_labels_are_the_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pets.parquet");
        write(&path, &TRAIN, false);
        let dataset = Dataset::open(&path).unwrap();
        assert_eq!(
            (dataset.name.as_str(), &dataset.classes[..]),
            ("pets", &["0".to_string(), "1".to_string()][..])
        );
        assert_eq!(dataset.given(SplitName::Train)[0].name, "pets.parquet#0");
    }

    #[test]
    fn bad_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pets.parquet");
        let message = || {
            let error = Dataset::open(&path).unwrap_err().to_string();
            error.replace(&folder.path().display().to_string(), "DIR")
        };
        write(&path, &TRAIN, true);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let found = message();
        assert!(
            found.starts_with("DIR/pets.parquet: truncated or damaged Parquet file: "),
            "{found}"
        );
        assert!(found.ends_with("; fetch it again"), "{found}");
        write(&path, &[&[(Some("one"), 0), (Some("two"), 7)]], true);
        assert_eq!(
            message(),
            "DIR/pets.parquet: label 7 found, expected less than 2, the class names given"
        );
        write(&path, &[&[(Some("one"), 0), (Some("two"), 1 << 40)]], false);
        assert_eq!(
            message(),
            "DIR/pets.parquet: label 1099511627776 found, expected class numbers below 100000"
        );
    }

    #[test]
    fn splits_are_in_the_names() {
        assert_eq!(
            split_of("data/validation-00000-of-00002.parquet"),
            SplitName::Val
        );
        assert_eq!(split_of("plain_text/test/0000.parquet"), SplitName::Test);
        assert_eq!(split_of("0000.parquet"), SplitName::Train);
    }

    #[test]
    fn a_page_that_the_crate_panics_on_is_an_error() {
        let error = guarded(Path::new("pets.parquet"), || -> Result<(), ParquetError> {
            panic!("as the crate does")
        });
        assert_eq!(
            error.unwrap_err().to_string(),
            "pets.parquet: truncated or damaged Parquet file: Parquet error: a page of it cannot be read; fetch it again"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn damaged_files_never_panic(place in 0usize..1500, byte: u8, cut in 100usize..3000) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("pets.parquet");
            write(&path, &TRAIN, true);
            let mut bytes = fs::read(&path).unwrap();
            let place = place % bytes.len();
            bytes[place] = byte;
            bytes.truncate(cut);
            fs::write(&path, bytes).unwrap();
            if let Ok(dataset) = Dataset::open(&path) {
                for (_, sample) in dataset.samples() {
                    let _ = dataset.read(sample);
                }
            }
        }
    }
}
