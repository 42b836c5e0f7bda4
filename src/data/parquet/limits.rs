//! What a file's size justifies: checked before the parquet crate reads, because it trusts what the file states.

use std::io::{self, Read};

use ::parquet::basic::Compression;
use ::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

use flate2::read::MultiGzDecoder;

use super::thrift::{I32, LIST, STRUCT, Thrift};
use crate::data::budget;

/// So many rows may be in any file; more only as many as pictures of this size, in bytes, fit into it. A row of labels
/// without pictures takes less than a byte, but no picture is smaller.
pub(in crate::data) const ROWS: usize = 1 << 16;
pub(in crate::data) const SMALLEST: usize = 16;

/// So deep may columns lie within each other.
const DEPTH: usize = 64;

/// What a column of a row group may unpack to, by the bytes it takes. Pictures are compressed already; rows of the same
/// picture, or uncompressed drawings, shrink well.
pub(super) fn unpacked_limit(packed: usize) -> usize {
    usize::try_from(budget::justified(packed as u64)).unwrap_or(usize::MAX)
}

/// Checks the footer, where one is in its place. Everything else is left to the parquet crate.
pub(super) fn check_footer(bytes: &[u8]) -> Result<(), String> {
    if bytes.ends_with(b"PARE") {
        return Err("it is encrypted; write it without encryption".into());
    }
    let Some((before, [a, b, c, d, b'P', b'A', b'R', b'1'])) = bytes.split_last_chunk::<8>() else {
        return Ok(());
    };
    let len = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
    let Some(start) = before.len().checked_sub(len) else {
        return Ok(());
    };
    check_metadata(&before[start..]).ok_or_else(|| damaged("its footer cannot be read"))
}

fn damaged(what: &str) -> String {
    format!("truncated or damaged Parquet file: {what}; fetch it again")
}

fn check_metadata(footer: &[u8]) -> Option<()> {
    let mut thrift = Thrift::new(footer);
    let mut fits = true;
    thrift.fields(&mut |thrift, number, kind| {
        // FileMetaData: 2 is its schema, a list of SchemaElement, of which 5 is the number of children.
        if (number, kind) != (2, LIST) {
            return Some(false);
        }
        let (_, len) = thrift.list()?;
        let mut open: Vec<usize> = Vec::new();
        for _ in 0..len {
            let mut children = 0;
            thrift.fields(&mut |thrift, number, kind| {
                if (number, kind) != (5, I32) {
                    return Some(false);
                }
                children = usize::try_from(thrift.integer()?).ok()?;
                Some(true)
            })?;
            while open.last() == Some(&0) {
                open.pop();
            }
            if let Some(siblings) = open.last_mut() {
                *siblings -= 1;
            }
            if children > 0 {
                open.push(children);
            }
            fits &= children <= len && open.len() <= DEPTH;
        }
        Some(true)
    })?;
    fits.then_some(())
}

/// Checks the number of rows against the file's size, in bytes.
pub(super) fn check_rows(metadata: &ParquetMetaData, bytes: usize) -> Result<(), String> {
    let mut rows: usize = 0;
    for group in metadata.row_groups() {
        let stated = usize::try_from(group.num_rows())
            .map_err(|_| damaged(&format!("a row group states {} rows", group.num_rows())))?;
        rows = rows.saturating_add(stated);
    }
    if rows > (bytes / SMALLEST).max(ROWS) {
        let reason = format!("it states {rows} rows in {bytes} bytes");
        return Err(damaged(&reason));
    }
    Ok(())
}

/// Checks what the metadata states of a column of a row group.
pub(super) fn check_stated(chunk: &ColumnChunkMetaData) -> Result<(), String> {
    check_size(
        usize::try_from(chunk.uncompressed_size()).unwrap_or(usize::MAX),
        usize::try_from(chunk.compressed_size()).unwrap_or(0),
        &chunk.column_path().string(),
    )
}

fn check_size(unpacked: usize, packed: usize, column: &str) -> Result<(), String> {
    if unpacked <= unpacked_limit(packed) {
        return Ok(());
    }
    Err(format!(
        "column {column} unpacks from {packed} to {unpacked} bytes in one row group, more than is held in memory for that size; write the table with smaller row groups, or fetch it again if it is damaged"
    ))
}

/// Checks a column of a row group of `rows` rows, page by page. Returns whether values may be longer than what they take
/// (one may begin as the one before it did).
pub(super) fn check_pages(
    bytes: &[u8],
    chunk: &ColumnChunkMetaData,
    rows: usize,
) -> Result<bool, String> {
    let column = chunk.column_path().string();
    let start = chunk
        .dictionary_page_offset()
        .unwrap_or(chunk.data_page_offset());
    let pages = usize::try_from(start)
        .ok()
        .zip(usize::try_from(chunk.compressed_size()).ok())
        .and_then(|(start, len)| bytes.get(start..start.checked_add(len)?))
        .ok_or_else(|| damaged(&format!("column {column} reaches past its end")))?;
    let mut thrift = Thrift::new(pages);
    let (mut unpacked, mut values, mut shared) = (0, 0, false);
    while !thrift.rest().is_empty() {
        let page = Page::read(&mut thrift)
            .ok_or_else(|| damaged(&format!("a page of column {column} cannot be read")))?;
        unpacked += page.unpacked;
        check_size(unpacked, pages.len(), &column)?;
        shared |= page.encoding == Some(DELTA_BYTE_ARRAY);
        check_packing(&page, chunk.compression())
            .map_err(|reason| damaged(&format!("a page of column {column} {reason}")))?;
        // A value of a dictionary takes a byte at least, and is the value of some row.
        let most = if page.is_dictionary {
            page.unpacked.min(rows)
        } else {
            values += page.values;
            rows - rows.min(values - page.values)
        };
        if page.values > most {
            let reason = format!(
                "a page of column {column} states {} values, expected at most {most}",
                page.values
            );
            return Err(damaged(&reason));
        }
    }
    Ok(shared)
}

/// The encoding in which a value states how many bytes it shares with the one before it.
const DELTA_BYTE_ARRAY: i64 = 7;

/// Checks that a page unpacks to no more than it states, where the crate does not.
fn check_packing(page: &Page<'_>, compression: Compression) -> Result<(), &'static str> {
    let packed = page.body.get(page.levels..).ok_or("is too short")?;
    let unpacked: Box<dyn Read> = match compression {
        Compression::GZIP(_) => Box::new(MultiGzDecoder::new(packed)),
        Compression::BROTLI(_) => Box::new(brotli::Decompressor::new(packed, 1 << 16)),
        // Where it is not of the usual kind, the crate tries this one.
        Compression::LZ4 => Box::new(lz4_flex::frame::FrameDecoder::new(packed)),
        _ => return Ok(()),
    };
    let most = page.unpacked as u64;
    match io::copy(&mut unpacked.take(most + 1), &mut io::sink()) {
        Ok(found) if found > most => Err("unpacks to more than it states"),
        // What is damaged, or of another kind, the crate says.
        _ => Ok(()),
    }
}

/// What is needed of a page's header, and the bytes behind it.
struct Page<'a> {
    body: &'a [u8],
    /// How many of them are levels, which are not compressed.
    levels: usize,
    unpacked: usize,
    values: usize,
    encoding: Option<i64>,
    is_dictionary: bool,
}

impl<'a> Page<'a> {
    /// Reads a header (struct PageHeader), and steps over the page.
    fn read(thrift: &mut Thrift<'a>) -> Option<Page<'a>> {
        let (mut unpacked, mut packed) = (None, None);
        let mut page = Page {
            body: &[],
            levels: 0,
            unpacked: 0,
            values: 0,
            encoding: None,
            is_dictionary: false,
        };
        thrift.fields(&mut |thrift, number, kind| {
            match (number, kind) {
                (2, I32) => unpacked = Some(thrift.integer()?),
                (3, I32) => packed = Some(thrift.integer()?),
                // The headers of data, dictionaries and data in version 2: 1 is the number of values. The encoding is 2 in
                // the first two, and 4 in the last.
                (5 | 7 | 8, STRUCT) => {
                    page.is_dictionary = number == 7;
                    let encoding = if number == 8 { 4 } else { 2 };
                    thrift.fields(&mut |thrift, field, kind| {
                        let are_levels = number == 8 && matches!(field, 5 | 6);
                        if kind != I32 || (field != 1 && field != encoding && !are_levels) {
                            return Some(false);
                        }
                        let value = thrift.integer()?;
                        if field == 1 {
                            page.values = usize::try_from(value).ok()?;
                        } else if are_levels {
                            let length = usize::try_from(value).ok()?;
                            page.levels = page.levels.checked_add(length)?;
                        } else {
                            page.encoding = Some(value);
                        }
                        Some(true)
                    })?;
                }
                _ => return Some(false),
            }
            Some(true)
        })?;
        page.unpacked = usize::try_from(unpacked?).ok()?;
        page.body = thrift.take(usize::try_from(packed?).ok()?)?;
        Some(page)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A footer of schema elements with these numbers of children, and what ends a file.
    fn footer(children: &[u8]) -> Vec<u8> {
        let mut footer = vec![0x29, 0xfc, children.len() as u8];
        for &number in children {
            footer.extend([0x55, 2 * number, 0]);
        }
        footer.push(0);
        let len = footer.len() as u32;
        [&b"PAR1"[..], &footer, &len.to_le_bytes(), b"PAR1"].concat()
    }

    #[test]
    fn columns_lie_within_each_other_only_so_deep() {
        assert_eq!(check_footer(&footer(&[2, 1, 0, 0])), Ok(()));
        assert_eq!(check_footer(&footer(&[1; 60])), Ok(()));
        let refused = Err(damaged("its footer cannot be read"));
        assert_eq!(check_footer(&footer(&[1; 100])), refused);
        assert_eq!(check_footer(&footer(&[9, 0])), refused);
    }

    #[test]
    fn a_column_unpacks_to_what_its_size_justifies() {
        assert_eq!(check_size(200 << 20, 1000, "image"), Ok(()));
        assert_eq!(check_size(1 << 30, 100 << 20, "image"), Ok(()));
        let error = check_size(6 << 30, 200_000, "image").unwrap_err();
        assert!(
            error.starts_with(
                "column image unpacks from 200000 to 6442450944 bytes in one row group, more than "
            ),
            "{error}"
        );
    }

    #[test]
    fn pages_that_unpack_to_more_than_they_state_are_refused() {
        let zeros = vec![0; 5000];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::copy(&mut zeros.as_slice(), &mut gzip).unwrap();
        let mut brotli = Vec::new();
        brotli::CompressorReader::new(zeros.as_slice(), 4096, 1, 20)
            .read_to_end(&mut brotli)
            .unwrap();
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        io::copy(&mut zeros.as_slice(), &mut lz4).unwrap();
        for (compression, packed) in [
            (
                Compression::GZIP(Default::default()),
                gzip.finish().unwrap(),
            ),
            (Compression::BROTLI(Default::default()), brotli),
            (Compression::LZ4, lz4.finish().unwrap()),
        ] {
            let body = [b"levels", &packed[..]].concat();
            let stated = |unpacked| {
                let page = Page {
                    body: &body,
                    levels: 6,
                    unpacked,
                    values: 1,
                    encoding: None,
                    is_dictionary: false,
                };
                check_packing(&page, compression)
            };
            assert_eq!(stated(5000), Ok(()), "{compression}");
            let error = Err("unpacks to more than it states");
            assert_eq!(stated(4999), error, "{compression}");
        }
    }
}
