//! Training that starts from weights of another data set: what is frozen, and how fast the rest
//! learns.

use std::collections::HashMap;
use std::fmt;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{CheckpointError, Fit, TensorFile, WeightsMeta};
use crate::model::lora::Adapters;
use crate::model::parameters::{Parameter, declared};
use crate::model::role::{Declare, Declared};
use crate::model::{Model, ModelConfig, freeze, parameters};
use crate::names::all_same;
use crate::setting::is_default;

/// How the layers of a model that has learned already are treated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FinetuneConfig {
    /// Layer-wise learning-rate decay (Clark et al. 2020; Bao et al. 2022, BEiT): a layer learns at
    /// lr·decay^(depth + 1 − layer), the head at lr. 1 turns it off.
    pub layer_decay: f64,
    /// What does not learn at all.
    pub freeze: Freeze,
    /// Rank of the low-rank adapters (LoRA, Hu et al. 2021) that learn in place of all but the heads; 0 is without.
    #[serde(skip_serializing_if = "is_default")]
    pub lora_rank: usize,
    /// α of those adapters: what they add is multiplied by α/rank, so that another rank does not ask for another
    /// learning rate.
    #[serde(skip_serializing_if = "is_usual_alpha")]
    pub lora_alpha: f64,
}

/// α as PEFT has it where nobody says so.
const ALPHA: f64 = 8.0;

fn is_usual_alpha(alpha: &f64) -> bool {
    *alpha == ALPHA
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        Self {
            layer_decay: 1.0,
            freeze: Freeze::None,
            lora_rank: 0,
            lora_alpha: ALPHA,
        }
    }
}

/// The part of a model that stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "FreezeText", into = "FreezeText")]
pub enum Freeze {
    /// Nothing.
    None,
    /// The embedding or stem, and this many blocks or stages after it; never the head.
    Blocks(usize),
    /// Everything but the head: a linear probe.
    Backbone,
}

/// As recipes write it.
#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected \"none\", \"backbone\" or a number of blocks"
)]
enum FreezeText {
    Blocks(usize),
    Name(String),
}

impl TryFrom<FreezeText> for Freeze {
    type Error = String;

    fn try_from(text: FreezeText) -> Result<Self, String> {
        match text {
            FreezeText::Blocks(blocks) => Ok(Self::Blocks(blocks)),
            FreezeText::Name(name) => match name.as_str() {
                "none" => Ok(Self::None),
                "backbone" => Ok(Self::Backbone),
                _ => Err(format!(
                    "{name:?} is nothing to freeze: expected \"none\", \"backbone\" or a number of blocks"
                )),
            },
        }
    }
}

impl From<Freeze> for FreezeText {
    fn from(freeze: Freeze) -> Self {
        match freeze {
            Freeze::Blocks(blocks) => Self::Blocks(blocks),
            Freeze::None | Freeze::Backbone => Self::Name(freeze.to_string()),
        }
    }
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Blocks(blocks) => write!(f, "{blocks}"),
            Self::Backbone => f.write_str("backbone"),
        }
    }
}

impl FinetuneConfig {
    /// Whether low-rank adapters learn.
    pub fn adapts(&self) -> bool {
        self.lora_rank > 0
    }

    /// Whether something of the model does not learn.
    pub fn freezes(&self) -> bool {
        self.freeze != Freeze::None || self.adapts()
    }

    fn is_frozen(&self, tensor: &Declared) -> bool {
        match self.freeze {
            _ if self.adapts() => !tensor.role.is_head(),
            Freeze::None => false,
            Freeze::Blocks(blocks) => !tensor.role.is_head() && tensor.layer <= blocks,
            Freeze::Backbone => !tensor.role.is_head(),
        }
    }

    /// The model with its frozen part fixed; nothing runs backward through what lies below all that
    /// learns.
    pub fn freeze<M: Module + Declare>(&self, model: M) -> M {
        if !self.freezes() {
            return model;
        }
        freeze(model, |tensor| self.is_frozen(tensor))
    }

    /// How many blocks or stages `model` has, if it is asked to freeze more.
    pub fn too_many(&self, model: &Model) -> Option<usize> {
        // After the embedding and before the head.
        let blocks = last_layer(model) - 1;
        match self.freeze {
            Freeze::Blocks(asked) if asked > blocks => Some(blocks),
            _ => None,
        }
    }

    /// The adapters of a model's matrices, where there are to be some, drawn from `seed`.
    pub fn adapters(&self, model: &Model, seed: u64) -> Option<Adapters> {
        let device = model.devices().into_iter().next()?;
        let (rank, alpha) = (self.lora_rank, self.lora_alpha);
        self.adapts()
            .then(|| Adapters::draw(model, rank, alpha, seed, &device))
    }

    /// The factor on the learning rate of each trainable tensor, in the order of
    /// [`parameters::trainable`].
    pub fn factors(&self, model: &(impl Module + Declare)) -> Vec<f64> {
        self.factors_of(&parameters::trainable(model), model)
    }

    /// The factor on the learning rate of each of these tensors, which stand in layers of `model`.
    pub(super) fn factors_of(
        &self,
        tensors: &[Parameter],
        model: &(impl Module + Declare),
    ) -> Vec<f64> {
        let last = last_layer(model);
        let above = |tensor: &Parameter| last - tensor.declared.layer;
        let decay = |tensor| self.layer_decay.powi(above(tensor) as i32);
        tensors.iter().map(decay).collect()
    }

    /// `averaged` with the frozen tensors of `model`: an average of equal numbers may differ from
    /// them in the last place.
    pub(super) fn keep_frozen<M: Module + Declare>(&self, averaged: M, model: &M) -> M {
        if !self.freezes() {
            return averaged;
        }
        let values = parameters::values(&model.valid());
        let mut frozen: HashMap<String, Tensor<1>> = declared(model)
            .iter()
            .zip(values)
            .filter_map(|(tensor, value)| self.is_frozen(tensor).then_some(value))
            .collect();
        parameters::replace(averaged, |path, _| frozen.remove(path))
    }
}

/// The layer that holds the head.
fn last_layer(model: &(impl Module + Declare)) -> usize {
    let layers = declared(model).into_iter().map(|tensor| tensor.layer);
    layers.max().unwrap_or_default()
}

/// Weights that a training starts from.
#[derive(Debug)]
pub struct Start {
    /// Their file.
    pub file: TensorFile,
    /// What it says of itself.
    pub meta: WeightsMeta,
    /// A head that was fitted for other classes than those of the weights, in place of a random one.
    pub head: Option<FittedHead>,
}

/// A linear classifier of features, as a probe finds it.
#[derive(Debug, Clone)]
pub struct FittedHead {
    /// `[F, K]`, row by row.
    pub weight: Vec<f32>,
    /// `[K]`.
    pub bias: Vec<f32>,
    /// The running statistics of batch norms that those features went by, by path.
    pub statistics: HashMap<String, Tensor<1>>,
}

impl FittedHead {
    /// `model` with this head and these statistics.
    fn give(&self, model: Model, device: &Device) -> Model {
        let model = match self.statistics.is_empty() {
            true => model,
            false => parameters::replace(model, |path, _| self.statistics.get(path).cloned()),
        };
        model.with_head(&self.weight, &self.bias, device)
    }
}

impl Start {
    /// What [`fill`](Self::fill) will do, if it will work, for a model of `config` and `classes`.
    ///
    /// # Errors
    ///
    /// As [`TensorFile::start`].
    pub fn check(
        &self,
        config: &ModelConfig,
        classes: &[String],
        device: &Device,
    ) -> Result<Fit, CheckpointError> {
        let undrawn = config.init_constant(device);
        let keep_heads = all_same(&self.meta.classes, classes);
        self.file
            .check_start(&self.meta, &undrawn, config.grid(), keep_heads, device)
    }

    /// `undrawn`, the model of `meta`, with these weights; the head is the fitted one if there is one, else taken
    /// where the classes are the same. What is not taken is drawn from `seed`, with the values that
    /// [`ModelConfig::init`] gives it.
    ///
    /// # Errors
    ///
    /// As [`TensorFile::start`].
    pub fn fill(
        &self,
        undrawn: Model,
        meta: &WeightsMeta,
        seed: u64,
        device: &Device,
    ) -> Result<Model, CheckpointError> {
        let keep_heads = all_same(&self.meta.classes, &meta.classes);
        let grid = meta.model.grid();
        let (model, fit) = self
            .file
            .start(&self.meta, undrawn, grid, keep_heads, device)?;
        let is_fresh = |path: &str| fit.fresh.iter().any(|fresh| fresh == path);
        let model = model.drawn(seed, device, &is_fresh);
        Ok(match &self.head {
            Some(head) => head.give(model, device),
            None => model,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn model(name: &str) -> Model {
        let config = ModelConfig::preset(name, 8, None, 3).unwrap();
        config.init(0, &Device::flex().autodiff())
    }

    fn config(layer_decay: f64, freeze: Freeze) -> FinetuneConfig {
        FinetuneConfig {
            layer_decay,
            freeze,
            ..FinetuneConfig::default()
        }
    }

    #[test]
    fn the_learning_rate_falls_from_the_head_down() {
        let model = model("vit-micro");
        let factors = config(0.5, Freeze::None).factors(&model);
        for (info, factor) in parameters::trainable(&model).iter().zip(factors) {
            let expected = match info.path().split('.').collect::<Vec<_>>()[1..] {
                ["blocks", i, ..] => [1.0 / 16.0, 0.125, 0.25, 0.5][i.parse::<usize>().unwrap()],
                ["norm" | "head", ..] => 1.0,
                _ => 1.0 / 32.0,
            };
            assert_eq!(factor, expected, "{}", info.path());
        }
        let flat = config(1.0, Freeze::None).factors(&model);
        assert!(flat.iter().all(|&factor| factor == 1.0));
    }

    #[test]
    fn the_first_blocks_freeze_with_all_below_them() {
        let learning = |name: &str, freeze: Freeze| -> Vec<String> {
            let model = config(1.0, freeze).freeze(model(name));
            let infos = parameters::trainable(&model);
            infos
                .into_iter()
                .map(|info| info.path().to_owned())
                .collect()
        };
        let left = learning("vit-micro", Freeze::Blocks(3));
        assert!(
            left.iter().all(|path| path.starts_with("Vit.blocks.3.")
                || path.starts_with("Vit.norm.")
                || path.starts_with("Vit.head.")),
            "{left:?}"
        );
        assert_eq!(
            left.iter().filter(|path| path.contains("blocks")).count(),
            12
        );
        assert_eq!(
            learning("resnet9", Freeze::Blocks(99)),
            ["Resnet9.head.weight", "Resnet9.head.bias"]
        );
        assert_eq!(
            learning("vit-micro", Freeze::Backbone),
            ["Vit.head.weight", "Vit.head.bias"]
        );
    }

    #[test]
    fn recipes_write_it_as_a_word_or_a_number() {
        for (freeze, text) in [
            (Freeze::None, "\"none\""),
            (Freeze::Backbone, "\"backbone\""),
            (Freeze::Blocks(3), "3"),
        ] {
            assert_eq!(serde_json::to_string(&freeze).unwrap(), text);
            assert_eq!(serde_json::from_str::<Freeze>(text).unwrap(), freeze);
        }
        let error = serde_json::from_str::<Freeze>("\"half\"").unwrap_err();
        assert!(error.to_string().starts_with(
            "\"half\" is nothing to freeze: expected \"none\", \"backbone\" or a number of blocks"
        ));
    }
}
