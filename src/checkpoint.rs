//! Weights on disk: one safetensors file that carries everything inference needs.
//!
//! The model's configuration, its class names, its preprocessing and its temperature travel in
//! the file's metadata, so that nothing of it is a flag at inference. Files are written whole or
//! not at all. This module refuses to guess: a tensor that is missing, unknown, of another shape,
//! or changed since it was written is an error.

mod codes;
mod error;
mod familiarity;
mod features;
mod file;
mod float16;
mod host;
mod int8;
mod layouts;
mod lora;
mod meta;
mod onnx;
mod origin;
mod shipped;
mod start;
mod weights;
mod widen;

pub use error::CheckpointError;
pub use features::{Features, FeaturesMeta, backbone_sha256};
pub use file::{HashCheck, TensorFile, write_tensors};
pub use float16::save_half;
pub use host::{HostTensor, host, host_tensors};
pub use int8::save_int8;
pub use layouts::{
    Layout, LayoutError, WITHOUT_FAMILIARITY, is_foreign, is_ours, open as open_foreign,
    write_layout,
};
pub use lora::save_adapters;
pub use meta::{Base, Lora, WeightsMeta};
pub use onnx::{OnnxOptions, OnnxSource, OnnxWritten, onnx_data, save_onnx};
pub use origin::{Origin, Taken};
pub use shipped::{SHIPPED, Shipped};
pub use start::Fit;
pub use weights::{
    Checkpoint, begin_to_load, begin_to_load_backbone, load, load_weights, meta, save_meta,
    save_weights,
};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests;
