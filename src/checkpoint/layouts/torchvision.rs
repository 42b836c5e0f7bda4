//! torchvision: `vit_b_16` and its like, and `resnet18`. It saves tensors and no settings: what no
//! tensor tells is as its models of 2021 and 2016 have it.

use super::error::LayoutError;
use super::labels;
use super::names::{Name, Names, name};
use super::plan::{Plan, Resampling, Tokens};
use super::resnet;
use super::shape::{Shape, Telling, classes, side};
use super::source::Source;
use crate::data::Preprocess;
use crate::model::{ModelConfig, VitConfig};

const LAYER: &str = "encoder.layers.encoder_layer_#";

const NAMES: &[Name] = &[
    name("patch_embedding.projection", &["conv_proj.*"]),
    name("blocks.#.norm1", &["encoder.layers.encoder_layer_#.ln_1.*"]),
    name(
        "blocks.#.attention.qkv",
        &["encoder.layers.encoder_layer_#.self_attention.in_proj_*"],
    ),
    name(
        "blocks.#.attention.projection",
        &["encoder.layers.encoder_layer_#.self_attention.out_proj.*"],
    ),
    name("blocks.#.norm2", &["encoder.layers.encoder_layer_#.ln_2.*"]),
    name(
        "blocks.#.mlp.fc1",
        &[
            "encoder.layers.encoder_layer_#.mlp.0.*",
            "encoder.layers.encoder_layer_#.mlp.linear_1.*",
        ],
    ),
    name(
        "blocks.#.mlp.fc2",
        &[
            "encoder.layers.encoder_layer_#.mlp.3.*",
            "encoder.layers.encoder_layer_#.mlp.linear_2.*",
        ],
    ),
    name("norm", &["encoder.ln.*"]),
    name("head", &["heads.head.*"]),
];

/// Whether the tensors are those of one of its models.
pub(super) fn is_its(source: &Source) -> bool {
    is_vit(source) || is_resnet(source)
}

fn is_vit(source: &Source) -> bool {
    source.shapes().contains_key("encoder.pos_embedding")
}

fn is_resnet(source: &Source) -> bool {
    let shapes = source.shapes();
    let names = ["conv1.weight", "bn1.weight", "layer1.0.conv1.weight"];
    names.iter().all(|name| shapes.contains_key(name))
}

/// What to make of its tensors.
///
/// # Errors
///
/// [`LayoutError`]: they are not those of a model that vitrine has.
pub(super) fn plan(source: &Source) -> Result<Plan, LayoutError> {
    if is_resnet(source) {
        let labels = labels::assumed(classes(source, resnet::HEAD)?);
        let name = "resnet18".to_owned();
        return resnet::plan(source, "torchvision", name, Preprocess::TORCHVISION, labels);
    }
    let mlp = ["mlp.0.weight", "mlp.linear_1.weight"].map(|end| format!("{LAYER}.{end}"));
    let shape = Shape::of(
        source,
        "",
        &Telling {
            patch_embedding: "conv_proj.weight",
            mlp: &mlp.each_ref().map(String::as_str),
        },
    )?;
    let shapes = source.shapes();
    let positions = "encoder.pos_embedding";
    let rows = shapes[positions].iter().rev().nth(1).copied().unwrap_or(0);
    let grid = side(source, positions, rows.saturating_sub(1))?;
    let num_classes = classes(source, "heads.head.weight")?;
    let (classes, notes) = labels::assumed(num_classes);
    let preprocess = Preprocess::TORCHVISION.at(grid * shape.patch_size);
    let model = VitConfig {
        image_size: preprocess.image_size,
        patch_size: shape.patch_size,
        embed_dim: shape.embed_dim,
        depth: shape.depth,
        // 12, 16 and 16 of widths 768, 1024 and 1280.
        num_heads: (shape.embed_dim / 64).clamp(1, 16),
        mlp_dim: shape.mlp_dim,
        num_classes: num_classes.max(1),
        ..VitConfig::PLAIN
    };
    Ok(Plan {
        layout: "torchvision",
        name: format!("vit, patches of {}", shape.patch_size),
        model: ModelConfig::Vit(model),
        preprocess,
        classes,
        names: Names {
            names: NAMES,
            number: |block| block.to_string(),
        },
        prefix: String::new(),
        has_qkv_bias: true,
        tokens: Some(Tokens {
            class: Some("class_token".to_owned()),
            positions: positions.to_owned(),
            grid,
            resampling: Resampling::Sharp,
            ..Tokens::default()
        }),
        left_out: Vec::new(),
        notes,
    })
}
