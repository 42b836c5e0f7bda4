//! The bytes of one picture → RGB, eight bits a channel.
//!
//! The format is recognised by content, never by a file's name. Every picture becomes RGB by these rules:
//!
//! - EXIF orientation is applied, so that pictures are upright.
//! - Greyscale becomes three equal channels; a palette is looked up.
//! - 16-bit channels are rounded to the nearest of 256 levels; floating-point ones are clamped to 0..=1 first. A TIFF whose
//!   floating-point values are plainly of another range is refused.
//! - Transparent pictures are composed over white, the background that most of them were drawn for.
//! - CMYK becomes RGB without a profile, as if each ink took its own colour away.
//! - Of an animation, the first frame is used; of a TIFF of several pages, the first that is no thumbnail and no mask.
//! - What is of a kind that no decoder here reads right is refused by name, never shown otherwise: camera raw, whose file
//!   holds previews that could be read, too.
//!
//! What is resized to a much smaller size is not decoded as a whole where its format allows.
//!
//! A picture that is too large by its header is refused before memory is allocated for it ([`DecodeLimits`]); compressed
//! profiles and texts are not unpacked. A truncated file is an error; its missing part is not filled with grey.
//!
//! `tests/support/pictures/compare.py` compares many kinds with what Pillow shows.

mod colour;
mod error;
mod exr;
mod format;
mod gif;
mod jpeg;
mod limits;
mod png;
mod reduced;
mod rgb;
mod scaled;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod tiff;
mod tiff_directory;
mod tiff_tags;
mod whole;

pub use error::DecodeError;
pub(super) use format::guess_format;
pub(crate) use format::is_picture_head;
pub use limits::DecodeLimits;
pub(super) use reduced::Reduced;
pub use rgb::decode;
pub(super) use rgb::{decode_exactly, decode_reduced};
#[cfg(test)]
pub(super) use tiff::MOST_JPEGS;
#[cfg(test)]
pub(super) use tiff_directory::{MOST_DIRECTORIES, MOST_ENTRIES};
