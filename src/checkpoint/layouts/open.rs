//! The one door for weights of other projects.

use std::path::Path;

use super::convert::convert;
use super::error::LayoutError;
use super::plan::Plan;
use super::source::{CONFIG, INDEX, SINGLE, Shard, Source, is_pickle};
use super::{timm, torchvision, transformers};
use crate::checkpoint::file::{META, TensorFile};

/// Opens the weights of another project: a folder with `config.json` and `model.safetensors` (or
/// several files and their index), or one `.safetensors` file with `config.json` beside it.
/// torchvision's need no settings.
///
/// What comes of it is a file of ours in memory: whoever reads ours reads it.
///
/// # Errors
///
/// [`LayoutError`]: what is there is no model that vitrine has, or not whole.
pub fn open(path: &Path) -> Result<TensorFile, LayoutError> {
    let source = Source::open(path)?;
    let plan = plan(&source)?;
    convert(&source, plan)
}

fn plan(source: &Source) -> Result<Plan, LayoutError> {
    match &source.config {
        Some(config) if timm::is_its(config) => timm::plan(source, config),
        Some(config) if transformers::is_its(config) => transformers::plan(source, config),
        Some(config) => Err(config.wrong(
            "model_type",
            "missing, and so is architecture",
            "transformers' model_type or timm's architecture",
        )),
        None if torchvision::is_its(source) => torchvision::plan(source),
        None => Err(LayoutError::NoConfig {
            path: source.path.clone(),
        }),
    }
}

/// Whether `path` is for [`open`]: a folder as other projects write them, a pickle, or a whole
/// safetensors file that says nothing of vitrine.
pub fn is_foreign(path: &Path) -> bool {
    if path.is_dir() {
        let names = [CONFIG, SINGLE, INDEX, "pytorch_model.bin"];
        return names.iter().any(|name| path.join(name).is_file());
    }
    match is_ours(path) {
        Some(is_ours) => !is_ours,
        None => path.is_file() && is_pickle(path),
    }
}

/// Whether vitrine wrote a file; `None` where it is no whole safetensors file.
pub fn is_ours(path: &Path) -> Option<bool> {
    let shard = Shard::open(path.to_owned()).ok()?;
    Some(shard.metadata.contains(META))
}
