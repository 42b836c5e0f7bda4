//! Parquet as the Hugging Face hub stores image data sets: a struct `image` (or `img`) of `bytes` and `path`, a
//! `label`, and class names in the file's metadata. Plain bytes and other usual names of the columns are read too.
//!
//! Labels are read when a file is opened. Pictures are read one row group at a time and cached within a limit.

mod columns;
mod labels;
mod limits;
mod pages;
mod rows;
mod shards;
mod table;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod thrift;

#[cfg(test)]
pub(super) use labels::{LONGEST_NAME, MOST_CLASSES};
#[cfg(test)]
pub(super) use limits::{ROWS, SMALLEST};
#[cfg(test)]
pub(super) use rows::CACHE_BYTES;
pub(super) use rows::{has_pictures, list_rows};
pub(super) use shards::{find_shards, is_shard, stem};
