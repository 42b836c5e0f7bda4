//! Pictures on disk → samples → batches: everything up to the model's input.
//!
//! Read in this order: [`source`] recognises a data set by its content and opens it; [`split`] says which samples are
//! for training, validation and test; `decode` turns the bytes of one sample into RGB; `preprocess` brings it to the
//! model's size; `augment` varies it; `pictures` keeps what is decoded; `loader` makes batches of it.
//!
//! This floor knows no model, and it prints nothing.

mod archive;
pub mod augment;
mod bytes;
mod cifar;
pub mod decode;
pub mod download;
mod embedded;
mod error;
mod files;
mod folder;
mod idx;
pub mod loader;
mod parquet;
pub mod pictures;
pub mod preprocess;
pub mod sample;
pub mod source;
pub mod split;
pub mod verify;

pub use error::DataError;
pub use sample::{RawPicture, Sample, Skipped, SplitName};
pub use source::{Dataset, SourceKind};
pub use split::Splits;
