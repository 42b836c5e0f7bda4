//! Weights as an ONNX model, which other programs run: ONNX Runtime, in a browser too, OpenVINO, TensorRT,
//! and whatever else reads opset 17.
//!
//! Written by hand, for the graphs are few and known: no crate that writes ONNX names inputs and outputs, leaves
//! the batch's size open or carries metadata. Read [`export`] first. [`message`] is protobuf, [`format`] are ONNX's
//! messages in it, [`build`] makes graphs of a model's tensors, [`layers`] has the layers, [`vit`] and
//! [`convolutional`] have the families; [`file`] writes a model and reads it back.

mod build;
mod convolutional;
mod export;
mod file;
mod format;
mod layers;
mod message;
mod vit;

pub use export::{OnnxOptions, OnnxSource, OnnxWritten, save_onnx};
pub use file::onnx_data;
