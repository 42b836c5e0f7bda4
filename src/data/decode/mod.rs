//! The bytes of one picture → RGB, eight bits a channel.
//!
//! The format is recognised by content, never by a file's name. Every picture becomes RGB by these rules:
//!
//! - EXIF orientation is applied, so that pictures are upright.
//! - Greyscale becomes three equal channels; a palette is looked up.
//! - 16-bit channels are rounded to the nearest of 256 levels; floating-point ones are clamped to 0..=1 first.
//! - Transparent pictures are composed over white, the background that most of them were drawn for.
//! - Of an animation, the first frame is used.
//!
//! A picture that is too large by its header is refused before memory is allocated for it ([`DecodeLimits`]). A truncated
//! file is an error; its missing part is not filled with grey.

mod error;
mod format;
mod jpeg;
mod rgb;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use error::DecodeError;
pub use rgb::{DecodeLimits, decode};
