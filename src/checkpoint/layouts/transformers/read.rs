//! transformers: ViT, DeiT, the encoder of ViT-MAE, DINOv2 with and without registers, and the
//! vision tower of SigLIP with the mean of its patches.

use serde_json::{Value, json};

use super::kinds::{KINDS, Kind};

use crate::checkpoint::layouts::error::LayoutError;
use crate::checkpoint::layouts::labels;
use crate::checkpoint::layouts::names::Names;
use crate::checkpoint::layouts::plan::{Plan, Tokens};
use crate::checkpoint::layouts::shape::{Shape, Telling, agree, classes, side};
use crate::checkpoint::layouts::source::{Settings, Source};
use crate::data::Preprocess;
use crate::model::{ModelConfig, Pooling, VitConfig};
use crate::ops::Activation;

/// Whether `config.json` is one of transformers'.
pub(in crate::checkpoint::layouts) fn is_its(config: &Settings) -> bool {
    config.get("model_type").is_some()
}

/// What to make of a folder that transformers wrote.
///
/// # Errors
///
/// [`LayoutError`]: the model is not one that vitrine has, or settings and tensors differ.
pub(in crate::checkpoint::layouts) fn plan(
    source: &Source,
    config: &Settings,
) -> Result<Plan, LayoutError> {
    let model_type = config.text("model_type")?.unwrap_or_default();
    let Some(kind) = KINDS.iter().find(|kind| kind.model_type == model_type) else {
        let known: Vec<&str> = KINDS.iter().map(|kind| kind.model_type).collect();
        return Err(config.wrong("model_type", model_type, known.join(", ")));
    };
    let settings = match kind.within {
        None => &config.json,
        Some(key) => match config.get(key) {
            Some(nested) if nested.is_object() => nested,
            _ => return Err(config.wrong(key, "missing or no object", "an object of settings")),
        },
    };
    let tower = Settings {
        path: config.path.clone(),
        json: settings.clone(),
    };
    let prefix = prefix(source, kind.patch_embedding)?;
    let shape = Shape::of(
        source,
        &prefix,
        &Telling {
            patch_embedding: kind.patch_embedding,
            mlp: kind.mlp,
        },
    )?;
    agree(
        &tower,
        "hidden_size",
        tower.number("hidden_size")?,
        shape.embed_dim,
    )?;
    agree(
        &tower,
        "num_hidden_layers",
        tower.number("num_hidden_layers")?,
        shape.depth,
    )?;
    agree(
        &tower,
        "intermediate_size",
        tower.number("intermediate_size")?,
        shape.mlp_dim,
    )?;
    agree(
        &tower,
        "patch_size",
        square(&tower, "patch_size")?,
        shape.patch_size,
    )?;
    if tower.get("use_swiglu_ffn").and_then(Value::as_bool) == Some(true) {
        return Err(tower.wrong(
            "use_swiglu_ffn",
            true,
            "false: gated MLPs are not supported",
        ));
    }
    let activation = match tower.text("hidden_act")? {
        None | Some("gelu") => Activation::Gelu,
        Some("gelu_pytorch_tanh" | "gelu_new") => Activation::GeluTanh,
        Some(other) => return Err(tower.wrong("hidden_act", other, "gelu or gelu_pytorch_tanh")),
    };
    let epsilon = match tower.get("layer_norm_eps") {
        None => kind.epsilon,
        Some(value) => value
            .as_f64()
            .ok_or_else(|| tower.wrong("layer_norm_eps", value, "a number"))?,
    };
    let Some(num_heads) = tower.number("num_attention_heads")? else {
        return Err(tower.wrong("num_attention_heads", "missing", "the number of heads"));
    };

    let shapes = source.shapes();
    let has = |name: &str| shapes.contains_key(name);
    let own = |name: &str| {
        let name = format!("{prefix}embeddings.{name}");
        has(&name).then_some(name)
    };
    let heads = ["classifier.weight", "cls_classifier.weight"];
    let head = heads.into_iter().find(|name| has(name));
    let num_classes = head.map_or(Ok(0), |name| classes(source, name))?;
    let two_heads = has("distillation_classifier.weight");
    let positions = own("position_embeddings").or_else(|| own("position_embedding.weight"));
    let Some(positions) = positions else {
        let reason = format!("it has no tensor {prefix}embeddings.position_embeddings");
        return Err(LayoutError::tensors(&source.path, reason));
    };
    let tokens = Tokens {
        class: own("cls_token"),
        distillation: own("distillation_token"),
        registers: own("register_tokens"),
        grid: 0,
        positions,
        resampling: kind.resampling,
    };
    let rows = |name: &str| shapes[name].iter().rev().nth(1).copied().unwrap_or(1);
    let before = [&tokens.class, &tokens.distillation]
        .into_iter()
        .flatten()
        .count();
    let patches = rows(&tokens.positions).saturating_sub(before);
    let grid = side(source, &tokens.positions, patches)?;
    agree(
        &tower,
        "image_size",
        square(&tower, "image_size")?,
        grid * shape.patch_size,
    )?;
    let is_extra = tokens.distillation.is_some() && !two_heads;
    let registers = tokens.registers.as_deref().map_or(0, rows) + usize::from(is_extra);

    let (classes, mut notes) = labels::of_transformers(config, num_classes)?;
    let preprocess = preprocess(source, kind, grid * shape.patch_size, &mut notes)?;
    let image_size = preprocess.image_size;
    let architecture = config
        .json
        .pointer("/architectures/0")
        .and_then(Value::as_str);
    let model = VitConfig {
        image_size,
        patch_size: shape.patch_size,
        embed_dim: shape.embed_dim,
        depth: shape.depth,
        num_heads,
        mlp_dim: shape.mlp_dim,
        num_classes: num_classes.max(1),
        pooling: kind.pooling,
        registers,
        distillation_token: tokens.distillation.is_some() && two_heads,
        layer_scale: if kind.pooling == Pooling::ClassTokenAndMean {
            1.0
        } else {
            0.0
        },
        norm_epsilon: epsilon,
        activation,
        ..VitConfig::PLAIN
    };
    let first = kind
        .names
        .iter()
        .find(|name| name.ours == "blocks.#.attention.qkv");
    let has_qkv_bias = first
        .into_iter()
        .flat_map(|name| name.theirs)
        .any(|theirs| {
            let (before, _) = theirs.split_once('{').expect("queries, keys and values");
            let begins = format!("{prefix}{}", before.replace('#', "0"));
            let mut names = shapes.keys();
            names.any(|name| name.starts_with(&begins) && name.ends_with(".bias"))
        });
    let left_out = kind.left_out.iter();
    Ok(Plan {
        layout: "transformers",
        name: architecture.unwrap_or(model_type).to_owned(),
        model: ModelConfig::Vit(model),
        preprocess,
        classes,
        names: Names {
            names: kind.names,
            number: |block| block.to_string(),
        },
        has_qkv_bias,
        tokens: Some(Tokens { grid, ..tokens }),
        left_out: left_out
            .map(|&(begins, why)| (begins.replace('^', &prefix), why))
            .collect(),
        prefix,
        notes,
    })
}

/// What stands before the names of the encoder's tensors.
fn prefix(source: &Source, ends: &str) -> Result<String, LayoutError> {
    let prefix = |name: &str| {
        let prefix = name.strip_suffix(ends)?;
        (prefix.is_empty() || prefix.ends_with('.')).then(|| prefix.to_owned())
    };
    let found = source.tensors().find_map(|stored| prefix(&stored.name));
    found.ok_or_else(|| {
        LayoutError::tensors(
            &source.path,
            format!("it has no tensor that ends in {ends}"),
        )
    })
}

/// A size that is a number, or a list of two that are alike.
fn square(settings: &Settings, key: &str) -> Result<Option<usize>, LayoutError> {
    match settings.get(key) {
        Some(Value::Array(sides)) => match &sides[..] {
            [height, width] if height == width => settings.number_in(&json!({ key: height }), key),
            _ => Err(settings.wrong(key, Value::from(sides.clone()), "one number, or two alike")),
        },
        _ => settings.number(key),
    }
}

/// How pictures are prepared; without a file that says it, as the library's class for the model does.
fn preprocess(
    source: &Source,
    kind: &Kind,
    image_size: usize,
    notes: &mut Vec<String>,
) -> Result<Preprocess, LayoutError> {
    if let Some(preprocessor) = &source.preprocessor {
        return Preprocess::from_transformers(&preprocessor.json, kind.model_type)
            .map_err(|invalid| LayoutError::setting(&preprocessor.path, invalid));
    }
    notes.push(format!(
        "there is no preprocessor_config.json: pictures are prepared as transformers does by default for {}, at {image_size} pixels",
        kind.model_type
    ));
    let default = Preprocess::from_transformers(&json!({}), kind.model_type)
        .map_err(|invalid| LayoutError::setting(&source.path, invalid))?;
    Ok(default.at(image_size))
}
