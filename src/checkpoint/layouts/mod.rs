//! Weights that other projects wrote, read as ours.
//!
//! Data moves one way: files → [`source`] → a [`plan`], which a layout makes → [`convert`] → a file
//! of ours. A layout is one file: a table of names and what it reads off settings and tensors. How a
//! tensor's numbers are laid out follows from its role.

mod convert;
mod error;
mod labels;
mod names;
mod open;
mod plan;
mod positions;
mod resnet;
mod shape;
mod source;
mod timm;
mod tokens;
mod torchvision;
mod transformers;
mod write;
mod written;

pub use error::LayoutError;
pub use open::{is_foreign, is_ours, open};
pub use write::{Layout, WITHOUT_FAMILIARITY, write_layout};
