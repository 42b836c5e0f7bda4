//! Files inside an archive, read in place: `.tar` and `.zip` from a map, `.tar.gz` and its like unpacked once into memory.

mod method;
mod names;
mod tar_files;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod zip_files;

pub(super) use tar_files::{TarFiles, is_tar};
pub(super) use zip_files::{ZipFiles, is_zip};
