//! The rows of a set of Parquet files: listed when it is opened, their pictures read one row group at a time.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ::parquet::data_type::ByteArray;

use super::columns::{self, Columns};
use super::labels::{self, Label};
use super::limits::SMALLEST;
use super::shards::{is_shard, splits_of};
use super::table::{Table, Values};
use crate::data::budget::{self, Part};
use crate::data::encoded::too_large;
use crate::data::error::DataError;
use crate::data::files::Files;
use crate::data::listing::{Container, Entry, Listing, SourceKind};
use crate::data::sample::{RawPicture, Skipped};

/// Size of the cache of row groups, in bytes. A smaller data set is read once; so is a larger one, nearly, when it is
/// read in order.
pub(in crate::data) const CACHE_BYTES: usize = 1 << 30;

/// One file, and where its pictures are.
struct Shard {
    table: Table,
    image: usize,
    first_rows: Vec<usize>,
    /// Held while a row group is read, so that it is read once.
    reading: Mutex<()>,
}

/// The pictures of a row group, or why they cannot be read.
type Group = Arc<Result<Vec<Option<ByteArray>>, String>>;

#[derive(Default)]
struct Cache {
    groups: HashMap<(usize, usize), (Group, usize)>,
    /// Their keys, the one that was read first in front.
    order: VecDeque<(usize, usize)>,
    bytes: usize,
}

impl Cache {
    fn find(&self, key: (usize, usize)) -> Option<Group> {
        self.groups.get(&key).map(|(group, _)| Arc::clone(group))
    }

    fn keep(&mut self, key: (usize, usize), group: &Group) {
        let pictures = group.iter().flatten().flatten();
        let size = pictures.map(ByteArray::len).sum();
        self.bytes += size;
        self.groups.insert(key, (Arc::clone(group), size));
        self.order.push_back(key);
        while self.bytes > CACHE_BYTES && self.order.len() > 1 {
            let first = self.order.pop_front();
            let first = first.and_then(|key| self.groups.remove(&key));
            self.bytes -= first.map_or(0, |(_, size)| size);
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
    fn group(&self, shard: usize, group: usize) -> Group {
        let key = (shard, group);
        let cache = || self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = cache().find(key) {
            return found;
        }
        let Shard {
            table,
            image,
            reading,
            ..
        } = &self.shards[shard];
        let _reading = reading.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have read it while this one waited.
        if let Some(found) = cache().find(key) {
            return found;
        }
        let stated = table.metadata().row_group(group).column(*image);
        let unpacked = u64::try_from(stated.uncompressed_size()).unwrap_or(0);
        budget::take(Part::Encoded, unpacked);
        let read = pictures(table, group, *image).map_err(|error| match error {
            DataError::Corrupt { reason, .. } => reason,
            other => other.to_string(),
        });
        let read = Arc::new(read);
        cache().keep(key, &read);
        read
    }
}

impl Container for Parquet {
    fn read(&self, entry: usize) -> Result<RawPicture<'_>, DataError> {
        let (shard, row) = self.rows[entry];
        let Shard {
            table, first_rows, ..
        } = &self.shards[shard];
        let group = first_rows.partition_point(|first| *first <= row) - 1;
        let reason = match &*self.group(shard, group) {
            Ok(pictures) => match pictures.get(row - first_rows[group]) {
                Some(Some(bytes)) if bytes.len() as u64 > budget::ENCODED => too_large(),
                Some(Some(bytes)) => {
                    return Ok(RawPicture::Encoded(Cow::Owned(bytes.data().to_vec())));
                }
                _ => format!("row {row} has no picture"),
            },
            Err(reason) => reason.clone(),
        };
        Err(DataError::corrupt(&table.path, reason))
    }
}

fn pictures(
    table: &Table,
    group: usize,
    column: usize,
) -> Result<Vec<Option<ByteArray>>, DataError> {
    match table.values(group, column)? {
        Values::Bytes(pictures) => Ok(pictures),
        _ => Err(DataError::corrupt(
            &table.path,
            "the picture column changed its type",
        )),
    }
}

/// Whether one of the Parquet files on disk has pictures with labels, or cannot be opened, which listing it reports.
pub(in crate::data) fn has_pictures(files: &dyn Files) -> bool {
    let shards = (0..files.names().len()).filter(|&index| is_shard(&files.names()[index]));
    shards
        .filter_map(|index| files.on_disk(index))
        .any(|path| match Table::open(&path) {
            Ok(table) => columns::find(&path, table.metadata().file_metadata()).is_ok(),
            Err(_) => true,
        })
}

/// Lists the rows of every file, given as its path and the prefix of its samples' names.
///
/// # Errors
///
/// [`DataError::Corrupt`] where a file is damaged, lacks a column, or has other classes than the files before it;
/// [`DataError::Layout`] where it is not clear which split a file belongs to.
pub(in crate::data) fn list_rows(files: &[(PathBuf, String)]) -> Result<Listing, DataError> {
    let splits = splits_of(files)?;
    let mut shards = Vec::new();
    let mut rows = Vec::new();
    let mut entries = Vec::new();
    let mut found: Vec<Label> = Vec::new();
    let mut skipped = Vec::new();
    let mut named: Option<Vec<String>> = None;
    for ((path, name), split) in files.iter().zip(splits) {
        let table = Table::open(path)?;
        let columns = columns::find(path, table.metadata().file_metadata())?;
        table.check_column(columns.image)?;
        if let (Some(known), Some(own)) = (&named, &columns.classes)
            && known != own
        {
            let reason = format!(
                "its classes are {}; expected those of the files before it, {}",
                own.join(", "),
                known.join(", ")
            );
            return Err(DataError::corrupt(path, reason));
        }
        let labels = labels::read(&table, &columns)?;
        check_presence(&table, &columns, labels.len())?;
        let mut unlabelled = 0;
        for (row, label) in labels.into_iter().enumerate() {
            let Some(label) = label else {
                unlabelled += 1;
                continue;
            };
            entries.push(Entry {
                name: format!("{name}#{row}"),
                split,
                // Set below, when all labels are known.
                label: 0,
                entry: rows.len(),
            });
            found.push(label);
            rows.push((shards.len(), row));
        }
        if unlabelled > 0 {
            skipped.push(Skipped {
                name: name.clone(),
                reason: format!("{unlabelled} rows without a label"),
            });
        }
        shards.push(Shard {
            first_rows: table.first_rows(),
            table,
            image: columns.image,
            reading: Mutex::default(),
        });
        named = named.or(columns.classes);
    }
    let (classes, indices) = labels::classes(&found, named, &files[0].0)?;
    for (entry, label) in entries.iter_mut().zip(indices) {
        entry.label = label;
    }
    Ok(Listing {
        kind: SourceKind::Parquet,
        container: Box::new(Parquet {
            shards,
            rows,
            cache: Mutex::default(),
        }),
        classes,
        entries,
        skipped,
        notes: Vec::new(),
    })
}

/// Checks that a table holds pictures, and not only the paths of files. Only a column that is too small for the pictures
/// of its rows is read.
fn check_presence(table: &Table, columns: &Columns, rows: usize) -> Result<(), DataError> {
    for (group, metadata) in table.metadata().row_groups().iter().enumerate() {
        let bytes = metadata.column(columns.image).uncompressed_size();
        // Where it cannot be read, its rows say so one by one.
        let holds_some = bytes >= (SMALLEST as i64).saturating_mul(metadata.num_rows())
            || pictures(table, group, columns.image)
                .map_or(true, |pictures| pictures.iter().any(Option::is_some));
        if holds_some && metadata.num_rows() > 0 {
            return Ok(());
        }
    }
    if rows == 0 {
        return Ok(());
    }
    let first = columns
        .path
        .and_then(|column| table.values(0, column).ok())
        .and_then(|values| match values {
            Values::Bytes(paths) => paths.into_iter().flatten().next(),
            _ => None,
        })
        .and_then(|path| path.as_utf8().ok().map(String::from));
    let reason = match first {
        Some(first) => format!(
            "it holds the path of each of its {rows} pictures, such as {first}, and not the picture; write the table with the bytes of the files in it, or put the files into class folders and name these"
        ),
        None => format!("none of its {rows} rows has a picture; write the table again"),
    };
    Err(DataError::corrupt(&table.path, reason))
}
