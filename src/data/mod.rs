//! Pictures on disk → samples → batches: everything up to the model's input.
//!
//! Read in this order: `recognise` finds out by content which kind of data set lies at a path, `layout` what the folders
//! around the pictures mean, and `source` opens it;
//! `split` assigns samples to training, validation and test; `decode` turns the bytes of one sample into
//! RGB; `preprocess` resizes and normalises it; `augment` changes it at random; `pictures` keeps decoded pictures
//! in memory; `loader` makes batches of them.
//!
//! This floor knows no model, and it prints nothing.

mod archive;
mod augment;
mod budget;
mod bytes;
mod cifar;
mod decode;
#[cfg(test)]
mod documented;
pub(crate) mod download;
mod embedded;
mod encoded;
mod error;
mod extensions;
mod files;
mod folder;
mod foreign;
mod idx;
pub(crate) mod info;
mod layout;
mod leftovers;
mod listing;
mod loader;
mod masks;
mod outputs;
mod packed;
mod parquet;
mod patches;
mod pictures;
mod preprocess;
mod recognise;
mod sample;
mod source;
mod split;
mod split_lists;
mod split_names;
pub(crate) mod verify;
mod webdataset;

pub use augment::{AugmentConfig, Flip, Policy};
pub(crate) use budget::one_picture;
pub use decode::{DecodeError, DecodeLimits, decode};
pub(crate) use encoded::{read_file, read_picture};
pub use error::DataError;
pub(crate) use extensions::is_picture_name;
pub(crate) use folder::{PictureFiles, picture_files};
pub use listing::SourceKind;
pub use loader::{Batch, Batches, EvalLoader, Shard, Targets, TrainLoader, View};
pub(crate) use patches::patch_covariance;
pub use pictures::{Pictures, PicturesOptions};
pub(crate) use preprocess::check_resize_to;
pub use preprocess::{Centre, Filter, Preprocess, Resize};
pub use sample::{RawPicture, Sample, Skipped, SplitName};
pub use source::Dataset;
pub use split::Splits;
pub use split_lists::SplitLists;
