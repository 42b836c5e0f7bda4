//! The bytes of one picture → RGB, eight bits a channel.
//!
//! What the bytes are is told by their content, never by a file's name. Every picture becomes RGB by one rule:
//!
//! - EXIF orientation is applied, so that pictures stand as they were taken.
//! - Greyscale becomes three equal channels; a palette is looked up.
//! - 16-bit channels are rounded to the nearest of 256 levels; floating-point ones are clamped to 0..=1 first.
//! - Alpha is composed over white, on which most pictures with transparency were drawn to be seen.
//! - Of an animation, the first frame counts.
//!
//! It refuses what a header says is too large before anything is allocated for it ([`DecodeLimits`]), and it refuses a
//! truncated file rather than fill its end with grey. It does not resize (`preprocess` does).

mod error;
mod format;
mod jpeg;
mod rgb;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use error::DecodeError;
pub use format::format_name;
pub use rgb::{DecodeLimits, decode};
