//! Pictures on disk → samples → batches: everything up to the model's input.
//!
//! Read in this order: `recognise` knows a data set by its content and [`source`] opens it; [`split`] says which samples are
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
mod extensions;
mod files;
mod folder;
mod idx;
pub mod info;
mod listing;
pub mod loader;
mod parquet;
mod patches;
pub mod pictures;
pub mod preprocess;
mod recognise;
pub mod sample;
pub mod source;
pub mod split;
pub mod verify;

pub use augment::{AugmentConfig, Flip, Policy};
pub use decode::{DecodeError, DecodeLimits, decode};
pub use error::DataError;
pub use extensions::is_picture_name;
pub use folder::picture_files;
pub use listing::SourceKind;
pub use loader::{Batch, Batches, EvalLoader, Shard, Targets, TrainLoader, View};
pub use patches::patch_covariance;
pub use pictures::{Pictures, PicturesOptions};
pub use preprocess::{Preprocess, Resize};
pub use sample::{RawPicture, Sample, Skipped, SplitName};
pub use source::Dataset;
pub use split::Splits;
