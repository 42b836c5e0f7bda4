//! ResNet-18 as timm and torchvision name its tensors.

use super::error::LayoutError;
use super::names::{Name, Names, name};
use super::plan::Plan;
use super::source::Source;
use crate::data::Preprocess;
use crate::model::{ModelConfig, ResnetConfig, ResnetStem, ResnetVariant};

/// Blocks are counted by stage: `layer2.0` is the third.
pub(super) const NAMES: Names = Names {
    names: TABLE,
    number: |block| format!("{}.{}", 1 + block / 2, block % 2),
};

const TABLE: &[Name] = &[
    name("stem.conv", &["conv1.*"]),
    name("stem.norm", &["bn1.*"]),
    name("blocks.#.first.conv", &["layer#.conv1.*"]),
    name("blocks.#.first.norm", &["layer#.bn1.*"]),
    name("blocks.#.second.conv", &["layer#.conv2.*"]),
    name("blocks.#.second.norm", &["layer#.bn2.*"]),
    name("blocks.#.shortcut.conv", &["layer#.downsample.0.*"]),
    name("blocks.#.shortcut.norm", &["layer#.downsample.1.*"]),
    name("head", &["fc.*"]),
];

/// The matrix of its classifier.
pub(super) const HEAD: &str = "fc.weight";

/// What to make of a source that `layout` calls `name`, whose classes and notes are given.
///
/// # Errors
///
/// [`LayoutError::Tensors`] where the first convolution is not ImageNet's.
pub(super) fn plan(
    source: &Source,
    layout: &'static str,
    name: String,
    preprocess: Preprocess,
    (classes, notes): (Vec<String>, Vec<String>),
) -> Result<Plan, LayoutError> {
    Ok(Plan {
        layout,
        name,
        model: config(source, classes.len(), preprocess.image_size)?,
        preprocess,
        classes,
        names: NAMES,
        prefix: String::new(),
        has_qkv_bias: true,
        tokens: None,
        left_out: Vec::new(),
        notes,
    })
}

/// The configuration that the tensors tell.
fn config(
    source: &Source,
    num_classes: usize,
    image_size: usize,
) -> Result<ModelConfig, LayoutError> {
    let shapes = source.shapes();
    let width = match shapes.get("conv1.weight") {
        Some(&&[width, 3, 7, 7]) => width,
        Some(other) => {
            let reason = format!("its tensor conv1.weight is {other:?}, expected [width, 3, 7, 7]");
            return Err(LayoutError::tensors(&source.path, reason));
        }
        None => {
            let reason = "it has no tensor conv1.weight";
            return Err(LayoutError::tensors(&source.path, reason));
        }
    };
    Ok(ModelConfig::Resnet(ResnetConfig {
        variant: ResnetVariant::Resnet18,
        image_size,
        num_classes: num_classes.max(1),
        width,
        stem: ResnetStem::Imagenet,
    }))
}
