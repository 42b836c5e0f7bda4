//! The blocks of a GIF (GIF89a).

use super::error::DecodeError;
use super::limits::DecodeLimits;

/// Checks the pixels of the first frame, which may be many more than are shown.
///
/// # Errors
///
/// [`DecodeError::TooManyPixels`].
pub(super) fn check_frame(bytes: &[u8], limits: &DecodeLimits) -> Result<(), DecodeError> {
    let [width, height] = first_frame(bytes).unwrap_or_default();
    limits.check_pixels(width.into(), height.into())
}

/// How many pixels the first frame has; 0 where there is none.
pub(super) fn frame_pixels(bytes: &[u8]) -> u64 {
    first_frame(bytes).map_or(0, |[width, height]| u64::from(width) * u64::from(height))
}

/// The width and height of the first frame.
fn first_frame(bytes: &[u8]) -> Option<[u16; 2]> {
    const SCREEN: usize = 13;
    let mut at = SCREEN + colours_in(*bytes.get(10)?);
    loop {
        match bytes.get(at)? {
            // A frame: where it lies, and its size.
            0x2c => {
                let size = bytes.get(at + 5..at + 9)?;
                return Some([0, 2].map(|side| u16::from_le_bytes([size[side], size[side + 1]])));
            }
            // An extension: its kind, and parts, each with its length before it, up to an empty one.
            0x21 => {
                at += 2;
                loop {
                    let length = usize::from(*bytes.get(at)?);
                    at += 1 + length;
                    if length == 0 {
                        break;
                    }
                }
            }
            _ => return None,
        }
    }
}

/// The size of the table of colours that these flags announce, in bytes.
fn colours_in(flags: u8) -> usize {
    match flags & 0x80 {
        0 => 0,
        _ => 3 << ((flags & 7) + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_frame_is_found_behind_colours_and_extensions() {
        let screen = b"GIF89a\x04\0\x04\0\x80\0\0\0\0\0\xff\xff\xff";
        let control = b"\x21\xf9\x04\0\0\0\0\0";
        let frame = b"\x2c\0\0\0\0\x10\x27\x02\0\0";
        let whole = [&screen[..], control, frame].concat();
        assert_eq!(frame_pixels(&whole), 20_000);
        for length in 0..whole.len() - 1 {
            assert_eq!(frame_pixels(&whole[..length]), 0, "{length}");
        }
    }
}
