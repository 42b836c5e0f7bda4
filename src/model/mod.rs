//! The models, as mathematics: pictures in, logits out.
//!
//! Read `vit` first; `resnet` and `airbench` are the convolutional baselines to compare it
//! with. Each is a folder: its configuration with presets and cost, and its network. `families`
//! is the list of them. A tensor is declared where it is made ([`role`]). Nothing here reads a file,
//! knows a label or names a backend.
//!
//! # Shape letters
//!
//! | letter | is |
//! |---|---|
//! | B | pictures in the batch |
//! | C | channels; of pictures, 3 |
//! | H × W | pixels of a picture, always square here |
//! | P | side of a patch, in pixels |
//! | N | tokens: patches, and class and register tokens where the model has them |
//! | D | width of a token (`embed_dim`), or of a feature map |
//! | F | width of the features that the head sees: D, or 2·D where it sees two tokens' worth |
//! | h, d | attention heads, and the width of one: D = h·d |
//! | K | classes |

// The families, and what tells them apart.
mod airbench;
mod families;
mod family;
mod network;
mod preset;
mod resnet;
pub(crate) mod vit;

// What they are made of.
mod convolution;
mod count;
mod error;
mod jacobi;
mod layers;
mod norm;
pub(crate) mod pass;

// Their tensors.
mod draw;
mod freeze;
pub mod lora;
pub mod parameters;
pub mod role;

pub(crate) use airbench::LOGIT_SCALE as AIRBENCH_LOGIT_SCALE;
pub use airbench::{Airbench, AirbenchConfig};
pub(crate) use convolution::BATCH_NORM_EPSILON;
pub use error::ModelError;
pub use families::{Model, ModelConfig};
pub use freeze::freeze;
pub(crate) use layers::{affine, undrawn_linear};
pub use network::Outputs;
pub use pass::{Noise, Pass};
pub use preset::{Preset, presets};
pub(crate) use resnet::LOGIT_SCALE as RESNET9_LOGIT_SCALE;
pub use resnet::{Resnet9, Resnet18, ResnetConfig, ResnetStem, ResnetVariant};
pub use role::{Declarations, Declare, Declared, Role};
pub use vit::{Init, Pooling, Position, Stem, Vit, VitConfig};

#[cfg(test)]
mod tests;
