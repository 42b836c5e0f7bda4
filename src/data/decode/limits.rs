//! What is decoded at most.

use super::error::DecodeError;
use crate::data::budget::{self, Part};

/// Limits above which a picture is not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Largest number of pixels.
    pub max_pixels: u64,
    /// Largest size of the decoded picture in its own pixel format, in bytes, and largest memory that the decoder may
    /// allocate beside it.
    pub max_bytes: u64,
}

impl Default for DecodeLimits {
    /// 100 megapixels, twice those of a good camera, and 1 GiB, enough for them even with 16 bits and alpha.
    fn default() -> Self {
        DecodeLimits {
            max_pixels: 100_000_000,
            max_bytes: 1 << 30,
        }
    }
}

impl DecodeLimits {
    /// # Errors
    ///
    /// [`DecodeError::TooManyPixels`].
    pub(super) fn check_pixels(&self, width: u32, height: u32) -> Result<(), DecodeError> {
        if u64::from(width) * u64::from(height) > self.max_pixels {
            return Err(DecodeError::TooManyPixels {
                width,
                height,
                limit_megapixels: self.max_pixels / 1_000_000,
            });
        }
        Ok(())
    }

    /// # Errors
    ///
    /// [`DecodeError::TooMuchMemory`].
    pub(super) fn check_bytes(&self, bytes: u64) -> Result<(), DecodeError> {
        if bytes > self.max_bytes {
            return Err(self.too_much_memory());
        }
        Ok(())
    }

    /// Takes the memory that a decoder and what follows it need, and waits until there is as much. Gives what was taken.
    ///
    /// # Errors
    ///
    /// [`DecodeError::TooMuchMemory`] where it is more than there is for all pictures.
    pub(super) fn take(&self, bytes: u64) -> Result<u64, DecodeError> {
        if bytes > budget::DECODED {
            return Err(DecodeError::TooMuchMemory {
                limit_mib: budget::DECODED >> 20,
            });
        }
        Ok(budget::take(Part::Decoded, bytes))
    }

    /// [`DecodeError::TooMuchMemory`].
    pub(super) fn too_much_memory(&self) -> DecodeError {
        DecodeError::TooMuchMemory {
            limit_mib: self.max_bytes >> 20,
        }
    }
}
