//! What the segments of a JPEG tell without decoding it.

/// The segments of a JPEG: the marker of each, and the position of its length field.
fn segments(bytes: &[u8]) -> impl Iterator<Item = (u8, usize)> + '_ {
    let mut at = 2;
    std::iter::from_fn(move || {
        // Stray bytes between segments occur in practice, and fill bytes of 0xff are allowed.
        loop {
            at += bytes.get(at..)?.iter().position(|&byte| byte == 0xff)?;
            let marker = *bytes.get(at + 1)?;
            match marker {
                0xff => at += 1,
                0x00 | 0x01 | 0xd0..=0xd8 => at += 2,
                0xd9 => {
                    at = bytes.len();
                    return Some((marker, at));
                }
                _ => {
                    let length = usize::from(u16::from_be_bytes([
                        *bytes.get(at + 2)?,
                        *bytes.get(at + 3)?,
                    ]));
                    let start = at + 2;
                    at = start + length.max(2);
                    return Some((marker, start));
                }
            }
        }
    })
}

/// Whether the picture's data is followed by `end of image`. Within a scan 0xff is always escaped, so going from segment
/// to segment finds the picture's own end, not that of a thumbnail within a segment.
pub(super) fn has_end(bytes: &[u8]) -> bool {
    let mut scans = 0;
    for (marker, _) in segments(bytes) {
        match marker {
            0xda => scans += 1,
            0xd9 => return scans > 0,
            _ => {}
        }
    }
    false
}

/// Whether there is an EXIF segment before the picture's data. The decoder's own method parses the whole header again,
/// which takes a third of the time of decoding a 32×32 picture.
pub(super) fn has_exif(bytes: &[u8]) -> bool {
    segments(bytes)
        .take_while(|&(marker, _)| marker != 0xda)
        .any(|(marker, start)| {
            marker == 0xe1 && bytes.get(start + 2..start + 6) == Some(b"Exif".as_slice())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_the_pictures_own() {
        let scan = [0xff, 0xda, 0, 2, 1, 0xff, 0, 2, 0xff, 0xd0, 3];
        let whole = [&[0xff, 0xd8], &scan[..], &[0xff, 0xd9]].concat();
        assert!(has_end(&whole));
        assert!(has_end(&[&whole[..], b"trailing bytes"].concat()));
        for length in 0..whole.len() {
            assert!(!has_end(&whole[..length]), "{length} bytes");
        }
        // An end within a segment is not the picture's, and neither is one before any scan.
        let comment = [0xff, 0xd8, 0xff, 0xfe, 0, 4, 0xff, 0xd9];
        assert!(!has_end(&[&comment[..], &scan[..]].concat()));
        assert!(!has_end(&[0xff, 0xd8, 0xff, 0xd9]));
    }

    #[test]
    fn exif_is_found_before_the_data_only() {
        let exif = [0xff, 0xe1, 0, 8, b'E', b'x', b'i', b'f', 0, 0];
        let scan = [0xff, 0xda, 0, 2, 7];
        assert!(has_exif(&[&[0xff, 0xd8], &exif[..], &scan[..]].concat()));
        assert!(!has_exif(&[&[0xff, 0xd8], &scan[..], &exif[..]].concat()));
        assert!(!has_exif(&[0xff, 0xd8, 0xff, 0xe1]));
    }
}
