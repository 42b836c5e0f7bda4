//! The attributes of an OpenEXR file.

use super::error::DecodeError;
use super::limits::DecodeLimits;

/// Checks the pixels that are stored, which may be many more than are shown.
///
/// # Errors
///
/// [`DecodeError::TooManyPixels`] and [`DecodeError::TooMuchMemory`].
pub(super) fn check_windows(bytes: &[u8], limits: &DecodeLimits) -> Result<(), DecodeError> {
    const MAGIC_AND_VERSION: usize = 8;
    let mut rest = bytes.get(MAGIC_AND_VERSION..).unwrap_or_default();
    // Each part of the picture has a list of attributes, which ends with an empty name; so do the lists.
    while rest.first().is_some_and(|&byte| byte != 0) {
        let mut channels = 1;
        let mut pixels = 0;
        loop {
            let Some((name, kind_and_value)) = until_zero(rest) else {
                // Cut off; the decoder says so.
                return Ok(());
            };
            rest = kind_and_value;
            if name.is_empty() {
                break;
            }
            let Some((_, value)) = until_zero(rest) else {
                return Ok(());
            };
            let Some((size, value)) = value.split_first_chunk::<4>() else {
                return Ok(());
            };
            let Some((value, behind)) = value.split_at_checked(u32::from_le_bytes(*size) as usize)
            else {
                return Ok(());
            };
            rest = behind;
            match name {
                b"channels" => channels = channels_in(value),
                b"dataWindow" => {
                    let (width, height) = size_of(value);
                    limits.check_pixels(width, height)?;
                    pixels = u64::from(width) * u64::from(height);
                }
                _ => {}
            }
        }
        limits.check_bytes(pixels.saturating_mul(channels * 4))?;
    }
    Ok(())
}

/// The bytes before and behind the first zero.
fn until_zero(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// The size of a window: the first and the last column and row, as x, y, x, y.
fn size_of(window: &[u8]) -> (u32, u32) {
    let number = |index: usize| {
        let bytes = window.get(index * 4..index * 4 + 4)?;
        Some(i64::from(i32::from_le_bytes(bytes.try_into().ok()?)))
    };
    let size = |first: usize| match (number(first), number(first + 2)) {
        (Some(first), Some(last)) => u32::try_from((last - first + 1).max(0)).unwrap_or(u32::MAX),
        _ => 0,
    };
    (size(0), size(1))
}

/// How many channels a list has: each is a name and sixteen bytes.
fn channels_in(mut list: &[u8]) -> u64 {
    let mut count = 0;
    while let Some((name, behind)) = until_zero(list) {
        if name.is_empty() {
            break;
        }
        count += 1;
        list = behind.get(16..).unwrap_or_default();
    }
    count
}
