//! Models compared on the same pictures: results, what else differs, significance, curves.

mod comparison;
mod differences;
mod entry;

pub(crate) use comparison::{compare, draw, write};
pub(crate) use entry::Entry;
