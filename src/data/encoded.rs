//! The bytes of one picture, never more of them than a picture can have.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::budget::{self, ENCODED, Part};
use super::decode::is_picture_head;

/// The most that is read of what does not begin as a picture.
pub(crate) const MAX_UNRECOGNISED: u64 = 64 << 20;

/// Reads one picture to its end. What is no picture may have no end; decoding its beginning tells what
/// was found.
///
/// # Errors
///
/// The system's, and one for a picture that is too large.
pub(crate) fn read_picture(from: impl Read) -> io::Result<Vec<u8>> {
    read_of_about(from, 0)
}

/// [`read_picture`], which allocates for so many bytes at first.
fn read_of_about(mut from: impl Read, length: u64) -> io::Result<Vec<u8>> {
    // One more, so that the end is found without growing.
    let mut bytes = Vec::with_capacity(length as usize + 1);
    from.by_ref()
        .take(MAX_UNRECOGNISED)
        .read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < MAX_UNRECOGNISED || !is_picture_head(&bytes) {
        return Ok(bytes);
    }
    from.take(ENCODED + 1 - MAX_UNRECOGNISED)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > ENCODED {
        return Err(io::Error::other(too_large()));
    }
    Ok(bytes)
}

/// [`read_picture`] of a file, which takes its share of the memory.
///
/// # Errors
///
/// As there.
pub(crate) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    budget::take(Part::Encoded, length);
    // A larger one is read only as far as it takes to see that it is no picture.
    read_of_about(file, length.min(MAX_UNRECOGNISED))
}

/// What is said of a picture of more than [`ENCODED`] bytes.
pub(super) fn too_large() -> String {
    format!(
        "it is larger than {} MiB, the most that is read of a picture",
        ENCODED >> 20
    )
}
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

    #[test]
    fn a_picture_is_read_to_its_end_and_what_has_none_only_at_its_beginning() {
        let picture = [PNG, &[7; 5000]].concat();
        assert_eq!(read_picture(picture.as_slice()).unwrap(), picture);
        let large = MAX_UNRECOGNISED + 9;
        let picture = PNG.chain(io::repeat(7).take(large));
        assert_eq!(read_picture(picture).unwrap().len() as u64, large + 8);
        let beginning = read_picture(io::repeat(b'a')).unwrap();
        assert_eq!(beginning.len() as u64, MAX_UNRECOGNISED);
        assert!(read_picture(io::empty()).unwrap().is_empty());
    }

    #[test]
    fn what_begins_as_a_picture_and_has_no_end_is_refused() {
        let error = read_picture(PNG.chain(io::repeat(0))).unwrap_err();
        assert!(error.to_string().starts_with("it is larger than 1024 MiB"));
    }
}
