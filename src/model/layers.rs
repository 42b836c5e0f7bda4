//! How deep in a model each of its tensors lies, from the pixels to the logits.

use burn::module::{Flag, Module, ModuleMapper, Param};
use burn::tensor::Tensor;

use super::{Model, parameters};

/// The layers of one model.
///
/// A ViT's patch embedding, tokens and positions are layer 0, its blocks 1 to depth, the last norm
/// and the heads depth + 1. A CNN's stem is layer 0, each stage or block after it one more, the
/// head the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers {
    /// The unit of each layer, in order.
    units: Vec<String>,
}

impl Layers {
    /// Those of `model`.
    pub fn of(model: &Model) -> Self {
        let mut units = match model {
            Model::Vit(_) => vec![EMBEDDING.to_owned()],
            _ => Vec::new(),
        };
        for (path, _) in parameters::shapes(model) {
            let unit = unit(&path);
            let own = matches!(model, Model::Vit(_)) && !unit.starts_with(BLOCKS);
            if !own && !is_head(&path) && !units.contains(&unit) {
                units.push(unit);
            }
        }
        Self { units }
    }

    /// The last layer, which holds the head.
    pub fn last(&self) -> usize {
        self.units.len()
    }

    /// The layer of the tensor or flag at `path`.
    pub fn layer(&self, path: &str) -> usize {
        let unit = unit(path);
        match self.units.iter().position(|known| *known == unit) {
            Some(layer) => layer,
            None if is_head(path) || unit == "norm" => self.last(),
            None => 0,
        }
    }
}

/// Stands for all that comes before a ViT's first block.
const EMBEDDING: &str = "embedding";

/// How the units of blocks begin.
const BLOCKS: &str = "blocks.";

/// Whether the tensor at `path` is of a head, which knows the classes.
pub fn is_head(path: &str) -> bool {
    unit(path).ends_with("head")
}

/// The part of a model that the tensor at `path` belongs to: `Vit.blocks.3.norm1.gamma` →
/// `blocks.3`, `Resnet9.stem.conv.weight` → `stem`.
fn unit(path: &str) -> String {
    let parts: Vec<&str> = path.split('.').skip(1).collect();
    match parts.as_slice() {
        [field, index, ..] if index.parse::<usize>().is_ok() => format!("{field}.{index}"),
        [field, ..] => (*field).to_owned(),
        [] => String::new(),
    }
}

/// The model with every tensor and flag at a frozen path fixed: no gradient reaches it, nothing is
/// recorded that only it would need, and a batch norm keeps its running statistics and goes by them.
pub fn freeze<M: Module>(model: M, frozen: impl Fn(&str) -> bool) -> M {
    struct Freeze<F> {
        path: Vec<String>,
        frozen: F,
    }
    impl<F: Fn(&str) -> bool> ModuleMapper for Freeze<F> {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }

        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            match (self.frozen)(&self.path.join(".")) {
                true => param.set_require_grad(false),
                false => param,
            }
        }

        fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
            match (self.frozen)(&self.path.join(".")) {
                true => flag.with_value(false),
                false => flag,
            }
        }
    }
    model.map(&mut Freeze {
        path: Vec::new(),
        frozen,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::model::ModelConfig;

    fn layers(name: &str) -> (Layers, Vec<String>) {
        let config = ModelConfig::preset(name, 8, None, 3).unwrap();
        let model = config.init_constant(&Device::flex());
        let paths = parameters::shapes(&model).into_iter().map(|(path, _)| path);
        (Layers::of(&model), paths.collect())
    }

    #[test]
    fn a_vits_blocks_lie_between_its_embedding_and_its_head() {
        let (layers, paths) = layers("vit-micro");
        assert_eq!(layers.last(), 5);
        for path in paths {
            let expected = match path.split('.').collect::<Vec<_>>()[1..] {
                ["blocks", i, ..] => 1 + i.parse::<usize>().unwrap(),
                ["norm", ..] | ["head", ..] => 5,
                _ => 0,
            };
            assert_eq!(layers.layer(&path), expected, "{path}");
        }
        assert_eq!(layers.layer("Vit.patch_embedding.stem.0.norm.training"), 0);
    }

    #[test]
    fn a_cnns_layers_follow_the_pictures() {
        let (layers, paths) = layers("resnet9");
        assert_eq!(layers.layer("Resnet9.stem.conv.weight"), 0);
        assert_eq!(layers.layer("Resnet9.branch1.second.norm.gamma"), 2);
        assert_eq!(layers.layer("Resnet9.head.bias"), layers.last());
        // Fields are visited in the order in which pictures pass them.
        let all: Vec<usize> = paths.iter().map(|path| layers.layer(path)).collect();
        assert!(all.is_sorted(), "{all:?}");
        let (layers, _) = self::layers("resnet18");
        assert_eq!(layers.last(), 9);
        assert_eq!(layers.layer("Resnet18.blocks.7.shortcut.conv.weight"), 8);
    }

    #[test]
    fn every_models_layers_are_as_many_as_it_has_parts() {
        for preset in crate::model::presets() {
            let config = ModelConfig::preset(preset.name, 32, None, 3).unwrap();
            let model = config.init_constant(&Device::flex());
            let layers = Layers::of(&model);
            let paths = parameters::shapes(&model).into_iter().map(|(path, _)| path);
            let mut seen: Vec<usize> = paths.map(|path| layers.layer(&path)).collect();
            assert!(seen.is_sorted(), "{}: {seen:?}", preset.name);
            seen.dedup();
            let all: Vec<usize> = (0..=layers.last()).collect();
            assert_eq!(seen, all, "{}", preset.name);
            assert!(all.len() > 4, "{}: {all:?}", preset.name);
        }
    }

    #[test]
    fn what_is_frozen_has_no_gradient() {
        let device = Device::flex().autodiff();
        for name in ["vit-micro", "resnet9"] {
            let config = ModelConfig::preset(name, 8, None, 3).unwrap();
            let model = freeze(config.init(1, &device), |path| !is_head(path));
            let left: Vec<String> = parameters::trainable(&model)
                .into_iter()
                .map(|info| info.path)
                .collect();
            assert_eq!(left.len(), 2, "{left:?}");
            assert!(left.iter().all(|path| is_head(path)), "{left:?}");
        }
    }
}
