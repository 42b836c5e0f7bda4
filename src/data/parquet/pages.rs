//! Unpacked pages, checked before their values are read: some encodings state once more how many there are, and the
//! parquet crate allocates as much.

use ::parquet::basic::Encoding;
use ::parquet::column::page::{Page, PageMetadata, PageReader};
use ::parquet::errors::{ParquetError, Result};

use super::thrift::Thrift;

/// The pages of a flat column.
pub(super) struct CheckedPages {
    pages: Box<dyn PageReader>,
    deepest: i16,
}

impl CheckedPages {
    /// `deepest` is the definition level of a value that is present.
    pub(super) fn new(pages: Box<dyn PageReader>, deepest: i16) -> CheckedPages {
        CheckedPages { pages, deepest }
    }

    fn check(&self, page: &Page) -> Result<()> {
        let (encoding, count) = (page.encoding(), page.num_values() as usize);
        if !matches!(
            encoding,
            Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BYTE_ARRAY
        ) {
            return Ok(());
        }
        let fits = || {
            let (lengths, behind) = lengths(values_of(page, self.deepest)?)?;
            // Beginnings that are shared with the value before, then the lengths of the rest.
            let others = match encoding {
                Encoding::DELTA_BYTE_ARRAY => self::lengths(behind)?.0,
                _ => 0,
            };
            Some(lengths.max(others) <= count)
        };
        match fits() {
            Some(true) => Ok(()),
            Some(false) => Err(ParquetError::General(format!(
                "a page holds more than the {count} values it states"
            ))),
            None => Err(ParquetError::General("a page of it cannot be read".into())),
        }
    }
}

/// The bytes behind the levels.
fn values_of(page: &Page, deepest: i16) -> Option<&[u8]> {
    match page {
        Page::DataPage {
            buf,
            num_values,
            def_level_encoding,
            ..
        } => {
            let levels = match (deepest, def_level_encoding) {
                (0, _) => 0,
                (_, Encoding::RLE) => {
                    let length = u32::from_le_bytes(*buf.first_chunk()?);
                    usize::try_from(length).ok()?.checked_add(4)?
                }
                _ => {
                    let bits = 16 - deepest.leading_zeros() as usize;
                    (*num_values as usize * bits).div_ceil(8)
                }
            };
            buf.get(levels..)
        }
        Page::DataPageV2 {
            buf,
            def_levels_byte_len,
            rep_levels_byte_len,
            ..
        } => buf.get(def_levels_byte_len.checked_add(*rep_levels_byte_len)? as usize..),
        Page::DictionaryPage { .. } => None,
    }
}

/// How many numbers a DELTA_BINARY_PACKED list states, and the bytes behind it.
fn lengths(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut rest = Thrift::new(bytes);
    let block = usize::try_from(rest.unsigned()?).ok()?;
    let parts = usize::try_from(rest.unsigned()?).ok()?;
    let count = usize::try_from(rest.unsigned()?).ok()?;
    rest.integer()?;
    let in_a_part = block.checked_div(parts)?;
    let mut left = count.saturating_sub(1);
    if left > 0 && in_a_part == 0 {
        return None;
    }
    while left > 0 {
        rest.integer()?;
        for &bits in rest.take(parts)? {
            // Of parts that are not needed, no number is there.
            if left > 0 {
                rest.take(usize::from(bits).checked_mul(in_a_part)? / 8)?;
                left = left.saturating_sub(in_a_part);
            }
        }
    }
    Some((count, rest.rest()))
}

impl Iterator for CheckedPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        if let Some(page) = &page {
            self.check(page)?;
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No pages; what is to be checked comes from the tests.
    struct NoPages;

    impl Iterator for NoPages {
        type Item = Result<Page>;

        fn next(&mut self) -> Option<Self::Item> {
            None
        }
    }

    impl PageReader for NoPages {
        fn get_next_page(&mut self) -> Result<Option<Page>> {
            Ok(None)
        }

        fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
            Ok(None)
        }

        fn skip_next_page(&mut self) -> Result<()> {
            Ok(())
        }

        fn at_record_boundary(&mut self) -> Result<bool> {
            Ok(true)
        }
    }

    fn checked(encoding: Encoding, deepest: i16, values: &[u8]) -> Option<String> {
        let page = Page::DataPage {
            buf: ::bytes::Bytes::copy_from_slice(values),
            num_values: 2,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let pages = CheckedPages::new(Box::new(NoPages), deepest);
        pages.check(&page).err().map(|error| error.to_string())
    }

    /// Blocks of 128 numbers of one part, without bits: two, and 2³³.
    const TWO: &[u8] = b"\x80\x01\x01\x02\0\0\0";
    const MANY: &[u8] = b"\x80\x01\x01\x80\x80\x80\x80\x20\0\0\0";
    /// The same many in one block.
    const ONE_BLOCK: &[u8] = b"\x80\x80\x80\x80\x80\x01\x01\x80\x80\x80\x80\x20\0\0\0";

    #[test]
    fn more_values_than_a_page_states_are_refused_before_they_are_read() {
        use Encoding::{DELTA_BYTE_ARRAY, DELTA_LENGTH_BYTE_ARRAY, PLAIN};
        let too_many = Some("Parquet error: a page holds more than the 2 values it states".into());
        let damaged = Some("Parquet error: a page of it cannot be read".into());
        assert_eq!(checked(PLAIN, 0, ONE_BLOCK), None);
        assert_eq!(checked(DELTA_LENGTH_BYTE_ARRAY, 0, TWO), None);
        assert_eq!(checked(DELTA_LENGTH_BYTE_ARRAY, 0, ONE_BLOCK), too_many);
        assert_eq!(checked(DELTA_LENGTH_BYTE_ARRAY, 0, MANY), damaged);
        let twice = [TWO, TWO].concat();
        assert_eq!(checked(DELTA_BYTE_ARRAY, 0, &twice), None);
        let second = [TWO, ONE_BLOCK].concat();
        assert_eq!(checked(DELTA_BYTE_ARRAY, 0, &second), too_many);
        let levels = [b"\x02\0\0\0\x04\x01", ONE_BLOCK].concat();
        assert_eq!(checked(DELTA_LENGTH_BYTE_ARRAY, 1, &levels), too_many);
        for length in 0..TWO.len() {
            assert_eq!(checked(DELTA_LENGTH_BYTE_ARRAY, 0, &TWO[..length]), damaged);
        }
    }
}
