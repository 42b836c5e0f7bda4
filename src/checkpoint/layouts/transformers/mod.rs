//! transformers' layout.

mod kinds;
mod read;
mod write;

pub(super) use read::{is_its, plan};
pub(super) use write::written;
