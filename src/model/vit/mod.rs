//! The Vision Transformer (Dosovitskiy et al. 2021).
//!
//! Read [`config`] for what it is made of, then [`network`] from pictures to logits:
//! [`patch_embedding`] and [`position`] make tokens of pictures, each [`block`] of the encoder holds
//! an [`attention`] and an MLP. [`mimetic`] is another way for attention to start.

pub(crate) mod attention;
pub(crate) mod block;
pub(crate) mod config;
mod mimetic;
mod network;
mod patch_embedding;
pub(crate) mod position;

pub use config::{Init, Pooling, Position, Stem, VitConfig};
pub use network::Vit;
