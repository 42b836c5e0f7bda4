//! The families of models, and the one place where they are distinguished.

use std::collections::HashMap;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::airbench::{Airbench, AirbenchConfig};
use super::draw;
use super::error::ModelError;
use super::family::{Family, Sizes};
use super::network::{Network, Outputs};
use super::parameters::{declared, replace};
use super::pass::Pass;
use super::resnet::{Resnet9, Resnet18, ResnetConfig};
use super::role::{Declarations, Declare, Role};
use super::vit::{Vit, VitConfig};
use crate::ops::{Precision, Prepared};
use crate::setting::Invalid;

/// Declares the families: `Family(Config) => Network(Module), …`, where `Config::build` gives one
/// of the networks. The names stand in files: the family's as `family` of a configuration, the
/// network's at the beginning of every tensor's path.
macro_rules! families {
    ($(
        $(#[$about:meta])*
        $family:ident($config:ty) => $($(#[$network_about:meta])* $network:ident($module:ty)),+;
    )+) => {
        /// A model's whole architecture, as it stands in recipes and in a weights file's metadata.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "family", rename_all = "lowercase")]
        pub enum ModelConfig {
            $($(#[$about])* $family($config),)+
        }

        impl ModelConfig {
            fn family(&self) -> &dyn Family {
                match self {
                    $(Self::$family(config) => config,)+
                }
            }

            fn build(&self, device: &Device) -> Model {
                match self {
                    $(Self::$family(config) => config.build(device),)+
                }
            }

            /// The preset `name` at these sizes; `None` where no family has it.
            pub(crate) fn find_preset(name: &str, sizes: Sizes) -> Option<Result<Self, ModelError>> {
                $(
                    let mut presets = <$config as Family>::presets().iter();
                    if let Some(preset) = presets.find(|preset| preset.name == name) {
                        let config = preset.config.sized(name, sizes);
                        return Some(config.map(Self::$family));
                    }
                )+
                None
            }

            /// Names of all presets, and what each is for, family by family, smallest first.
            pub(crate) fn preset_names() -> Vec<(&'static str, &'static str)> {
                let mut names = Vec::new();
                $(
                    let presets = <$config as Family>::presets().iter();
                    names.extend(presets.map(|preset| (preset.name, preset.about)));
                )+
                names
            }
        }

        /// A built model.
        #[derive(Module, Debug)]
        // One model lives at a time: boxing a variant would only add a hop.
        #[allow(clippy::large_enum_variant)]
        pub enum Model {
            $($($(#[$network_about])* $network($module),)+)+
        }

        impl Model {
            fn network(&self) -> &dyn Network {
                match self {
                    $($(Self::$network(network) => network,)+)+
                }
            }

            fn network_mut(&mut self) -> &mut dyn Network {
                match self {
                    $($(Self::$network(network) => network,)+)+
                }
            }

            fn network_name(&self) -> &'static str {
                match self {
                    $($(Self::$network(_) => stringify!($network),)+)+
                }
            }
        }

        $($(
            impl From<$module> for Model {
                fn from(network: $module) -> Self {
                    Self::$network(network)
                }
            }
        )+)+
    };
}

families! {
    /// A Vision Transformer.
    Vit(VitConfig) =>
        /// A Vision Transformer.
        Vit(Vit);
    /// A convolutional baseline.
    Resnet(ResnetConfig) =>
        /// ResNet-18.
        Resnet18(Resnet18),
        /// ResNet-9.
        Resnet9(Resnet9);
    /// The strong baseline for small pictures.
    Airbench(AirbenchConfig) =>
        /// The CNN of airbench.
        Airbench(Airbench);
}

/// Most parameters a configuration may ask for: 2·10⁹, which is 8 GB of weights.
pub(super) const MAX_PARAMETERS: u64 = 2_000_000_000;

impl ModelConfig {
    /// Whether the model can be built at all.
    ///
    /// # Errors
    ///
    /// The first number that is outside its range, and its range.
    pub fn validate(&self) -> Result<(), ModelError> {
        self.family().validate()?;
        let parameters = self.parameters();
        if parameters > MAX_PARAMETERS {
            let expected = format!("at most {MAX_PARAMETERS}");
            return Err(Invalid::new("the number of parameters", parameters, expected).into());
        }
        Ok(())
    }

    /// Side of the square input, in pixels.
    pub fn image_size(&self) -> usize {
        self.family().image_size()
    }

    /// Pixels by which the side of an input may differ from [`image_size`](Self::image_size), and
    /// its smallest side.
    pub fn size_step(&self) -> usize {
        self.family().size_step()
    }

    /// F, the width of the features, which is what the head sees.
    pub fn width(&self) -> usize {
        self.family().width()
    }

    /// D, the width of the feature map; F unless a ViT's head sees a class token and a mean.
    pub fn map_width(&self) -> usize {
        self.family().map_width()
    }

    /// Every field with its value, those that files leave out at their default too.
    pub(crate) fn fields(&self) -> serde_json::Value {
        let mut json = serde_json::to_value(self).expect("a configuration is plain data");
        for (name, value) in self.family().unwritten() {
            json[name] = value;
        }
        json
    }

    /// Classes, which is the number of logits.
    pub fn num_classes(&self) -> usize {
        self.family().num_classes()
    }

    /// Patches along a side of the picture; `None` for a model without patches.
    pub fn grid(&self) -> Option<usize> {
        let family = self.family();
        family.patch_size().map(|size| family.image_size() / size)
    }

    /// The setting for which every picture has to be of full size and whole, if there is one.
    pub fn needs_whole_pictures(&self) -> Option<&'static str> {
        self.family().needs_whole_pictures()
    }

    /// Side of the patches, in pixels, whose covariance [`Model::whitened`] wants; `None` for a
    /// model that whitens nothing.
    pub fn whitens(&self) -> Option<usize> {
        self.family().whitens()
    }

    /// Trainable numbers; running statistics of batch norms and a whitening layer do not count.
    pub fn parameters(&self) -> u64 {
        self.family().count(self.image_size(), 0.0).parameters
    }

    /// Floating-point operations of one forward pass over one picture.
    ///
    /// A multiply-add is 2. Counted are the products of linear layers, convolutions and
    /// attention; not counted are biases, norms, activations, softmax, pooling and additions,
    /// which are about 1 % of a Vision Transformer. A training step takes about three times as
    /// many. As papers count, every block works out every token; where the heads read a class token
    /// alone, the last block does less here (a ViT-Ti 6.5 % less in all).
    pub fn flops(&self) -> u64 {
        self.flops_of(self.image_size(), 0.0)
    }

    /// [`flops`](Self::flops) of a training picture of another size, with a share of its patches
    /// left out of the encoder.
    pub fn flops_of(&self, image_size: usize, token_drop: f64) -> u64 {
        let count = self.family().count(image_size, token_drop);
        count.multiply_adds.saturating_mul(2)
    }

    /// The family: `vit`, `resnet`, `airbench`.
    pub fn family_name(&self) -> &'static str {
        self.family().name()
    }

    /// The preset that this is, whatever its sizes of picture and patch and its classes; else the
    /// family.
    pub fn name(&self) -> &'static str {
        let sizes = Sizes {
            image_size: self.image_size(),
            patch_size: self.family().patch_size(),
            num_classes: self.num_classes(),
        };
        let alike = |name: &str| Self::find_preset(name, sizes) == Some(Ok(self.clone()));
        Self::preset_names()
            .into_iter()
            .find_map(|(name, _)| alike(name).then_some(name))
            .unwrap_or_else(|| self.family_name())
    }

    /// The model with its weights drawn from `seed`, the same bits on every device.
    ///
    /// Weights are drawn on the host, each tensor from the seed and its own path, so neither
    /// threads nor the order of fields matter. On an autodiff device the model is ready to train.
    ///
    /// # Panics
    ///
    /// On a configuration that [`ModelConfig::validate`] refuses.
    pub fn init(&self, seed: u64, device: &Device) -> Model {
        self.build(device).drawn(seed, device, &|_| true)
    }

    /// The model before any weight is drawn, to be filled from a file.
    ///
    /// # Panics
    ///
    /// On a configuration that [`ModelConfig::validate`] refuses.
    pub fn init_constant(&self, device: &Device) -> Model {
        self.build(device)
    }
}

impl Declare for Model {
    fn declare(&self, to: &mut Declarations) {
        to.within(self.network_name(), |to| self.network().declare(to));
    }
}

impl Model {
    /// The model with the tensors that are `wanted`, by their paths, drawn from `seed`: what
    /// [`ModelConfig::init`] gives them, whatever the others are.
    #[must_use]
    pub fn drawn(self, seed: u64, device: &Device, wanted: &dyn Fn(&str) -> bool) -> Self {
        let mut model = draw::draw(self, seed, device, wanted);
        model.network_mut().draw(seed, device, wanted);
        model
    }

    /// Logits of a batch of normalised pictures.
    ///
    /// Batch norm goes by the device, not by `pass`: on an autodiff device it uses the batch's
    /// statistics, so evaluate [`Module::valid`].
    ///
    /// # Shapes
    ///
    /// `images` `[B, 3, H, W]` → `[B, K]`.
    pub fn forward(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        self.outputs(images, false, pass).logits()
    }

    /// All that one forward pass gives, the map where `with_map`; as [`forward`](Self::forward).
    ///
    /// # Shapes
    ///
    /// `images` `[B, 3, H, W]` → [`Outputs`].
    pub fn outputs(&self, images: Tensor<4>, with_map: bool, pass: &mut Pass) -> Outputs {
        self.network().outputs(images, with_map, pass)
    }

    /// F, the width of the features, which is what the head sees.
    pub fn width(&self) -> usize {
        self.network().width()
    }

    /// D, the width of the feature map; F unless a ViT's head sees a class token and a mean.
    pub fn map_width(&self) -> usize {
        self.network().map_width()
    }

    /// Logits where no gradient is wanted, on a model without autodiff.
    ///
    /// It runs on a thread of the process's pool, which then shares its work out without having to
    /// be woken for each operation: that is most of the time of a single small picture.
    ///
    /// # Shapes
    ///
    /// `images` `[B, 3, H, W]` → `[B, K]`.
    pub fn infer(&self, images: Tensor<4>, precision: Precision, prepared: &Prepared) -> Tensor<2> {
        rayon::scope(|_| self.forward(images, &mut Pass::inference(precision).with(prepared)))
    }

    /// [`infer`](Self::infer), with what the head sees.
    ///
    /// # Shapes
    ///
    /// `images` `[B, 3, H, W]` → logits `[B, K]` and features `[B, F]`.
    pub fn infer_with_features(
        &self,
        images: Tensor<4>,
        precision: Precision,
        prepared: &Prepared,
    ) -> (Tensor<2>, Tensor<2>) {
        rayon::scope(|_| {
            let pass = &mut Pass::inference(precision).with(prepared);
            let outputs = self.outputs(images, false, pass);
            let features = outputs.features.clone();
            (outputs.logits(), features)
        })
    }

    /// [`features`](Self::features) where no gradient is wanted; as [`infer`](Self::infer).
    ///
    /// # Shapes
    ///
    /// `images` `[B, 3, H, W]` → `[B, F]`.
    pub fn infer_features(
        &self,
        images: Tensor<4>,
        precision: Precision,
        prepared: &Prepared,
    ) -> Tensor<2> {
        rayon::scope(|_| self.features(images, &mut Pass::inference(precision).with(prepared)))
    }

    /// The model with this head in place of its own, which may have other classes: it answers
    /// features·`weight` + `bias`. A distillation head, which sees another token, has no say.
    ///
    /// # Shapes
    ///
    /// `weight` `[F, K]`, row by row; `bias` `[K]`.
    ///
    /// # Panics
    ///
    /// On values of another number than the head's.
    #[must_use]
    pub fn with_head(self, weight: &[f32], bias: &[f32], device: &Device) -> Self {
        let declared = declared(&self);
        // The answer is the mean of both heads where there are two.
        let heads = 1 + declared.iter().any(|t| t.role == Role::DistillationHead) as usize;
        let scale = (heads as f64 / self.network().logit_scale()) as f32;
        let roles: HashMap<&str, Role> = declared.iter().map(|t| (&*t.path, t.role)).collect();
        replace(self, |path, shape| {
            let values = match (roles.get(path)?, shape.len()) {
                (Role::Head, 1) => bias.iter().map(|v| v * scale).collect(),
                (Role::Head, _) => weight.iter().map(|v| v * scale).collect(),
                (Role::DistillationHead, _) => vec![0.0; shape.iter().product()],
                _ => return None,
            };
            assert_eq!(values.len(), shape.iter().product::<usize>(), "{path}");
            Some(Tensor::from_floats(values.as_slice(), device))
        })
    }

    /// What the head sees: one vector a picture.
    ///
    /// # Shapes
    ///
    /// `images` `[B, 3, H, W]` → `[B, F]`.
    pub fn features(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        self.network().features(images, pass)
    }

    /// The model with a first layer that whitens patches of this covariance, where it has one that
    /// does ([`ModelConfig::whitens`]).
    ///
    /// # Shapes
    ///
    /// `covariance` `[n, n]` row by row, n = 3·side², in the order channel, line, column.
    ///
    /// # Panics
    ///
    /// On a covariance of patches of another size.
    #[must_use]
    pub fn whitened(mut self, covariance: &[f64], device: &Device) -> Self {
        self.network_mut().whiten(covariance, device);
        self
    }
}
