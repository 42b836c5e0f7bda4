//! What each learned tensor is, declared where it is made.
//!
//! Weight decay, Muon, layer-wise learning rates, freezing, fresh heads and the drawing of weights
//! read these declarations; nothing reads how a path is spelt.

use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, Linear};

/// What a tensor is to its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The linear map from pixels to tokens.
    Embedding,
    /// Learned positions, one row a position.
    Position,
    /// The class token.
    ClassToken,
    /// The distillation token.
    DistillationToken,
    /// Register tokens.
    RegisterToken,
    /// Scale or shift of a norm.
    Norm,
    /// Factors on the channels of a residual branch.
    LayerScale,
    /// What is added to the outputs of a matrix or a convolution.
    Bias,
    /// A matrix between two layers, `[inputs, outputs]`.
    Matrix,
    /// A convolution that sees pixels, `[outputs, 3, k, k]`.
    FirstConvolution,
    /// A convolution between two layers, `[outputs, inputs, k, k]`.
    Convolution,
    /// A running mean or variance of a batch norm; no gradient reaches it.
    Statistic,
    /// Weight or bias of the classifier.
    Head,
    /// Weight or bias of the classifier that learns from a teacher.
    DistillationHead,
}

impl Role {
    /// Whether the tensor belongs to a classifier.
    pub fn is_head(self) -> bool {
        matches!(self, Self::Head | Self::DistillationHead)
    }

    /// Whether the tensor is the distillation token or of its head, which only models with
    /// `distillation_token` have.
    pub fn is_for_distillation(self) -> bool {
        matches!(self, Self::DistillationToken | Self::DistillationHead)
    }

    /// Whether weight decay applies to a tensor of this rank: to the weights of matrices and
    /// convolutions, and not to norms, layer scales, biases, positions and learned tokens.
    pub fn decays(self, rank: usize) -> bool {
        match self {
            Self::Embedding | Self::Matrix | Self::FirstConvolution | Self::Convolution => true,
            Self::Head | Self::DistillationHead => rank >= 2,
            Self::Position
            | Self::ClassToken
            | Self::DistillationToken
            | Self::RegisterToken
            | Self::Norm
            | Self::LayerScale
            | Self::Bias
            | Self::Statistic => false,
        }
    }
}

/// A tensor's declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Field names from the model down, joined by dots.
    pub path: String,
    /// What it is.
    pub role: Role,
    /// How deep it lies: 0 is the embedding or stem, the largest is the head's.
    pub layer: usize,
    /// How many matrices lie side by side in it: 3 for queries, keys and values, else 1.
    pub split: usize,
    /// Whether its first filters begin by passing one channel each through.
    pub starts_as_identity: bool,
}

/// A module that says what its tensors are.
pub trait Declare {
    /// Declares every float tensor and every flag of the module.
    fn declare(&self, to: &mut Declarations);
}

/// What has been declared of a module so far, and where in it the next declaration stands.
#[derive(Debug, Default)]
pub struct Declarations {
    path: Vec<String>,
    layer: usize,
    tensors: Vec<Declared>,
    /// Whether a batch norm moves its statistics: the flag that goes with them.
    flags: Vec<Declared>,
}

impl Declarations {
    /// What is declared next lies in this layer.
    pub fn layer(&mut self, layer: usize) -> &mut Self {
        self.layer = layer;
        self
    }

    /// A tensor of the field `name`.
    pub fn tensor(&mut self, name: &str, role: Role) {
        let declared = self.declaration(name, role);
        self.tensors.push(declared);
    }

    /// A tensor that not every configuration has.
    pub fn optional<T>(&mut self, name: &str, tensor: &Option<T>, role: Role) {
        if tensor.is_some() {
            self.tensor(name, role);
        }
    }

    /// A linear layer; a head's bias is the head's too.
    pub fn linear(&mut self, name: &str, layer: &Linear, role: Role) {
        self.within(name, |to| {
            to.tensor("weight", role);
            let bias = if role.is_head() { role } else { Role::Bias };
            to.optional("bias", &layer.bias, bias);
        });
    }

    /// A linear layer that is `split` layers of the same inputs, their outputs side by side.
    pub fn split_linear(&mut self, name: &str, layer: &Linear, role: Role, split: usize) {
        let first = self.tensors.len();
        self.linear(name, layer, role);
        for declared in &mut self.tensors[first..] {
            declared.split = split;
        }
    }

    /// A convolution.
    pub fn convolution(&mut self, name: &str, layer: &Conv2d, role: Role) {
        self.within(name, |to| {
            to.tensor("weight", role);
            to.optional("bias", &layer.bias, Role::Bias);
        });
    }

    /// A batch norm.
    pub fn batch_norm(&mut self, name: &str, _layer: &BatchNorm) {
        self.within(name, |to| {
            to.tensor("gamma", Role::Norm);
            to.tensor("beta", Role::Norm);
            to.tensor("running_mean", Role::Statistic);
            to.tensor("running_var", Role::Statistic);
            let flag = to.declaration("training", Role::Statistic);
            to.flags.push(flag);
        });
    }

    /// A module in the field `name`.
    pub fn module(&mut self, name: &str, module: &impl Declare) {
        self.within(name, |to| module.declare(to));
    }

    /// The convolutions that `declare` declares begin by passing their input through.
    pub fn starting_as_identity(&mut self, declare: impl FnOnce(&mut Self)) {
        let first = self.tensors.len();
        declare(self);
        for declared in &mut self.tensors[first..] {
            declared.starts_as_identity = declared.role == Role::Convolution;
        }
    }

    /// What `declare` declares, in the field `name`.
    pub fn within(&mut self, name: &str, declare: impl FnOnce(&mut Self)) {
        self.path.push(name.to_owned());
        declare(self);
        self.path.pop();
    }

    fn declaration(&self, name: &str, role: Role) -> Declared {
        let fields = self.path.iter().map(String::as_str);
        let fields: Vec<&str> = fields.chain([name]).collect();
        Declared {
            path: fields.join("."),
            role,
            layer: self.layer,
            split: 1,
            starts_as_identity: false,
        }
    }
}

impl Declarations {
    /// Those of a module: of its tensors, and of its flags.
    pub(super) fn of(module: &impl Declare) -> [Vec<Declared>; 2] {
        let mut to = Self::default();
        module.declare(&mut to);
        [to.tensors, to.flags]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use burn::module::{Module, Param};
    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::model::families::ModelConfig;
    use crate::model::parameters::declared;
    use crate::model::preset::presets;

    fn of(name: &str, size: usize) -> Vec<Declared> {
        let config = ModelConfig::preset(name, size, None, 3).unwrap();
        declared(&config.init_constant(&Device::flex()))
    }

    #[test]
    fn a_vits_blocks_lie_between_its_embedding_and_its_head() {
        for tensor in of("vit-micro", 8) {
            let expected = match tensor.path.split('.').collect::<Vec<_>>()[1..] {
                ["blocks", i, ..] => 1 + i.parse::<usize>().unwrap(),
                ["norm", ..] | ["head", ..] => 5,
                _ => 0,
            };
            assert_eq!(tensor.layer, expected, "{}", tensor.path);
        }
    }

    #[test]
    fn every_models_layers_are_as_many_as_it_has_parts() {
        for preset in presets() {
            // Fields are visited in the order in which pictures pass them.
            let mut seen: Vec<usize> = of(preset.name, 32).iter().map(|t| t.layer).collect();
            assert!(seen.is_sorted(), "{}: {seen:?}", preset.name);
            seen.dedup();
            let all: Vec<usize> = (0..seen.len()).collect();
            assert_eq!(seen, all, "{}", preset.name);
            assert!(all.len() > 4, "{}: {all:?}", preset.name);
        }
        let layer = |tensors: &[Declared], path: &str| {
            let mut found = tensors.iter().filter(|tensor| tensor.path == path);
            found.next().unwrap().layer
        };
        let resnet9 = of("resnet9", 8);
        assert_eq!(layer(&resnet9, "Resnet9.stem.conv.weight"), 0);
        assert_eq!(layer(&resnet9, "Resnet9.branch1.second.norm.gamma"), 2);
        let resnet18 = of("resnet18", 8);
        assert_eq!(
            layer(&resnet18, "Resnet18.blocks.6.shortcut.conv.weight"),
            7
        );
        assert_eq!(layer(&resnet18, "Resnet18.head.bias"), 9);
    }

    #[test]
    fn roles_tell_heads_statistics_and_first_convolutions() {
        let with = |tensors: &[Declared], role: Role| -> Vec<String> {
            let found = tensors.iter().filter(|tensor| tensor.role == role);
            found.map(|tensor| tensor.path.clone()).collect()
        };
        for (preset, network, first) in [
            ("vit-micro", "Vit", "patch_embedding.stem.0.conv.weight"),
            ("resnet9", "Resnet9", "stem.conv.weight"),
            ("resnet18", "Resnet18", "stem.conv.weight"),
            ("airbench", "Airbench", "whitening.weight"),
        ] {
            let tensors = of(preset, 32);
            let head = [".head.weight", ".head.bias"].map(|end| format!("{network}{end}"));
            assert_eq!(with(&tensors, Role::Head), head);
            assert_eq!(
                with(&tensors, Role::FirstConvolution),
                [format!("{network}.{first}")]
            );
            // Two for each batch norm, and each has a γ and a β.
            let statistics = with(&tensors, Role::Statistic);
            assert!(statistics.len() >= 4 && statistics.len().is_multiple_of(2));
            assert!(
                statistics
                    .iter()
                    .all(|path| path.contains(".norm.running_"))
            );
        }
        let splits = of("vit-micro", 32).into_iter().filter(|t| t.split != 1);
        assert!(splits.clone().count() >= 4);
        assert!(
            splits
                .into_iter()
                .all(|t| t.split == 3 && t.path.contains(".qkv."))
        );
    }

    /// A module of two tensors, of which `declares` has a role.
    #[derive(Module, Debug)]
    struct Pair {
        first: Param<Tensor<1>>,
        second: Param<Tensor<1>>,
        declares: usize,
    }

    impl Declare for Pair {
        fn declare(&self, to: &mut Declarations) {
            for name in ["first", "second", "third"].iter().take(self.declares) {
                to.tensor(name, Role::Bias);
            }
        }
    }

    fn pair(declares: usize) -> Pair {
        let zeros = || Param::from_tensor(Tensor::zeros([2], &Device::flex()));
        Pair {
            first: zeros(),
            second: zeros(),
            declares,
        }
    }

    #[test]
    #[should_panic(expected = "the tensor second has no role")]
    fn a_tensor_without_a_role_is_refused() {
        assert_eq!(declared(&pair(2)).len(), 2);
        declared(&pair(1));
    }

    #[test]
    #[should_panic(expected = "third has a role and is no tensor")]
    fn a_role_without_a_tensor_is_refused() {
        declared(&pair(3));
    }
}
