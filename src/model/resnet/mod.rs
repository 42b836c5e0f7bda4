//! The convolutional baselines: ResNet-18 (He et al. 2016), and a ResNet-9 that trains in minutes.

mod build;
mod config;
mod resnet18;
mod resnet9;

pub use config::{ResnetConfig, ResnetStem, ResnetVariant};
pub(crate) use resnet9::LOGIT_SCALE;
pub use resnet9::Resnet9;
pub use resnet18::Resnet18;
