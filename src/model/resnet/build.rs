//! Which of the two networks a configuration is.

use burn::tensor::Device;

use super::config::{ResnetConfig, ResnetVariant};
use super::resnet9::Resnet9;
use super::resnet18::Resnet18;

impl ResnetConfig {
    pub(crate) fn build<M: From<Resnet18> + From<Resnet9>>(&self, device: &Device) -> M {
        match self.variant {
            ResnetVariant::Resnet18 => Resnet18::new(self, device).into(),
            ResnetVariant::Resnet9 => Resnet9::new(self, device).into(),
        }
    }
}
