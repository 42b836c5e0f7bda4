//! timm: `VisionTransformer` and `VisionTransformerDistilled` without the parts that vitrine lacks,
//! and `resnet18`.
//!
//! Its `config.json` names an architecture and not its sizes: those are read off the tensors, and
//! what no tensor tells (heads, activation) follows from the name as timm 1.0 has it, unless
//! `model_args` say otherwise.

use serde_json::Value;

use super::names::NAMES;
use crate::checkpoint::layouts::error::LayoutError;
use crate::checkpoint::layouts::labels;
use crate::checkpoint::layouts::plan::{Plan, Resampling, Tokens};
use crate::checkpoint::layouts::resnet;
use crate::checkpoint::layouts::shape::{Shape, Telling, agree, classes, side};
use crate::checkpoint::layouts::source::{Settings, Source};
use crate::data::Preprocess;
use crate::model::{ModelConfig, Pooling, VitConfig};
use crate::ops::Activation;

/// Whether `config.json` is one of timm's.
pub(in crate::checkpoint::layouts) fn is_its(config: &Settings) -> bool {
    config.get("architecture").is_some()
}

/// What to make of a folder that timm wrote.
///
/// # Errors
///
/// [`LayoutError`]: the architecture is not one that vitrine has, or settings and tensors differ.
pub(in crate::checkpoint::layouts) fn plan(
    source: &Source,
    config: &Settings,
) -> Result<Plan, LayoutError> {
    let architecture = config.text("architecture")?.unwrap_or_default().to_owned();
    let pretrained = match config.get("pretrained_cfg") {
        Some(nested) => nested,
        // Files of before 2023 have all keys at one level.
        None => &config.json,
    };
    let preprocess = Preprocess::from_timm(pretrained)
        .map_err(|invalid| LayoutError::setting(&config.path, invalid))?;
    let name = match pretrained.get("tag").and_then(Value::as_str) {
        Some(tag) if !tag.is_empty() => format!("{architecture}.{tag}"),
        _ => architecture.clone(),
    };
    if architecture == "resnet18" {
        let outputs = classes(source, resnet::HEAD)?;
        let labels = labels::of_timm(config, pretrained, outputs)?;
        return resnet::plan(source, "timm", name, preprocess, labels);
    }
    vit(source, config, pretrained, &architecture, name, preprocess)
}

fn vit(
    source: &Source,
    config: &Settings,
    pretrained: &Value,
    architecture: &str,
    name: String,
    preprocess: Preprocess,
) -> Result<Plan, LayoutError> {
    let known = [
        "vit_",
        "deit_",
        "deit3_",
        "flexivit_",
        "eva_large_patch14_",
        "test_vit",
    ];
    let other = [
        "_rpn_",
        "_clip_",
        "_xp_",
        "vit_relpos",
        "vit_srelpos",
        "_rope",
    ];
    if !known.iter().any(|begins| architecture.starts_with(begins))
        || other.iter().any(|part| architecture.contains(part))
    {
        return Err(config.wrong(
            "architecture",
            architecture,
            "a plain Vision Transformer of timm (vit_*, deit_*, deit3_*, flexivit_*) or resnet18",
        ));
    }
    let shape = Shape::of(
        source,
        "",
        &Telling {
            patch_embedding: "patch_embed.proj.weight",
            mlp: &["blocks.#.mlp.fc1.weight"],
        },
    )?;
    let shapes = source.shapes();
    let has = |name: &str| shapes.contains_key(name);
    let none = Value::Null;
    let arguments = config.get("model_args").unwrap_or(&none);
    let argument = |key: &str| config.number_in(arguments, key);
    agree(
        config,
        "model_args.embed_dim",
        argument("embed_dim")?,
        shape.embed_dim,
    )?;
    agree(config, "model_args.depth", argument("depth")?, shape.depth)?;
    agree(
        config,
        "num_features",
        config.number("num_features")?,
        shape.embed_dim,
    )?;
    for (key, told, what, found) in [
        (
            "embed_dim",
            width(architecture),
            "of width",
            shape.embed_dim,
        ),
        (
            "patch_size",
            patch(architecture),
            "with patches of",
            shape.patch_size,
        ),
    ] {
        if argument(key)?.is_none() && told.is_some_and(|told| told != found) {
            let expected = format!("one {what} {found}, as the tensors have it");
            return Err(config.wrong("architecture", architecture, expected));
        }
    }
    let num_heads = match argument("num_heads")? {
        Some(heads) => heads,
        None => heads(architecture, shape.embed_dim),
    };

    let pool = match arguments.get("global_pool").filter(|v| !v.is_null()) {
        Some(Value::String(pool)) => pool.as_str(),
        Some(other) => return Err(config.wrong("model_args.global_pool", other, "a text")),
        None => config.text("global_pool")?.unwrap_or("token"),
    };
    let has_class = has("cls_token");
    let pooling = match pool {
        "token" | "" if has_class => Pooling::ClassToken,
        "avg" | "" => Pooling::Mean,
        _ => return Err(config.wrong("global_pool", pool, "token (with a class token) or avg")),
    };
    let has_distillation = has("dist_token");
    let two_heads = has("head_dist.weight");
    if arguments
        .get("pool_include_prefix")
        .and_then(Value::as_bool)
        == Some(true)
    {
        return Err(config.wrong("model_args.pool_include_prefix", true, "false"));
    }
    let extra = [
        has_class && pooling == Pooling::Mean,
        has_distillation && !two_heads,
    ];
    let registers = shapes
        .get("reg_token")
        .map_or(0, |shape| shape.iter().rev().nth(1).copied().unwrap_or(1))
        + extra.iter().filter(|&&extra| extra).count();

    let prefix = registers
        + usize::from(pooling == Pooling::ClassToken)
        + usize::from(has_distillation && two_heads);
    let Some(rows) = shapes
        .get("pos_embed")
        .map(|s| s.iter().rev().nth(1).copied().unwrap_or(0))
    else {
        let reason = "it has no tensor pos_embed: expected learned positions";
        return Err(LayoutError::tensors(&source.path, reason));
    };
    let image_size = preprocess.image_size;
    let grid = grid(source, rows, prefix, image_size / shape.patch_size)?;

    let scaled = has("blocks.0.ls1.gamma");
    let tanh = match arguments.get("act_layer").and_then(Value::as_str) {
        Some("gelu") => false,
        Some("gelu_tanh") => true,
        Some(other) => {
            return Err(config.wrong("model_args.act_layer", other, "gelu or gelu_tanh"));
        }
        None => is_tanh(architecture),
    };
    let after = has("fc_norm.weight");
    let num_classes = classes(source, "head.weight")?;
    let told = config.get("num_classes").and_then(Value::as_u64);
    if told.is_some_and(|told| told != num_classes as u64) {
        let found = told.unwrap_or_default();
        let expected = format!("{num_classes}, as the tensors have it");
        return Err(config.wrong("num_classes", found, expected));
    }
    let (classes, notes) = labels::of_timm(config, pretrained, num_classes)?;
    let model = VitConfig {
        image_size,
        patch_size: shape.patch_size,
        embed_dim: shape.embed_dim,
        depth: shape.depth,
        num_heads,
        mlp_dim: shape.mlp_dim,
        num_classes: num_classes.max(1),
        pooling,
        registers,
        distillation_token: has_distillation && two_heads,
        // What is learned replaces it: only that there is one counts.
        layer_scale: if scaled { 1e-5 } else { 0.0 },
        qk_norm: has("blocks.0.attn.q_norm.weight"),
        qk_norm_bias: has("blocks.0.attn.q_norm.bias"),
        norm_after_pooling: after,
        activation: if tanh {
            Activation::GeluTanh
        } else {
            Activation::Gelu
        },
        ..VitConfig::PLAIN
    };
    let token = |name: &str| has(name).then(|| name.to_owned());
    Ok(Plan {
        layout: "timm",
        name,
        model: ModelConfig::Vit(model),
        preprocess,
        classes,
        names: NAMES,
        prefix: String::new(),
        has_qkv_bias: has("blocks.0.attn.qkv.bias"),
        tokens: Some(Tokens {
            class: token("cls_token"),
            distillation: token("dist_token"),
            registers: token("reg_token"),
            positions: "pos_embed".to_owned(),
            grid,
            resampling: Resampling::Smoothed,
        }),
        left_out: Vec::new(),
        notes,
    })
}

/// Patches along a side of the pictures that the positions are of: the grid of the configuration,
/// where they are as many, else the square that is left once the tokens before them are taken off.
fn grid(
    source: &Source,
    rows: usize,
    prefix: usize,
    expected: usize,
) -> Result<usize, LayoutError> {
    let patches = expected * expected;
    if [0, 1, prefix].iter().any(|tokens| patches + tokens == rows) {
        return Ok(expected);
    }
    let mut squares = [0, prefix, 1]
        .into_iter()
        .filter_map(|tokens| rows.checked_sub(tokens));
    let square = squares.find(|&n| n > 0 && n.isqrt().pow(2) == n);
    side(source, "pos_embed", square.unwrap_or(rows))
}

/// The width that the name of an architecture tells, where it tells one.
fn width(architecture: &str) -> Option<usize> {
    let widths = [
        ("tiny", 192),
        ("small", 384),
        ("base", 768),
        ("large", 1024),
    ];
    let mut words = architecture.split('_').skip(1);
    let size = words.next()?;
    let known = widths.into_iter().find(|(word, _)| *word == size);
    known.map(|(_, width)| width)
}

/// The side of a patch that the name of an architecture tells, in pixels, where it tells one.
fn patch(architecture: &str) -> Option<usize> {
    let mut words = architecture.split('_');
    words.find_map(|word| word.strip_prefix("patch")?.parse().ok())
}

/// Attention heads of an architecture, which no tensor tells: timm's are 64 wide but for these.
fn heads(architecture: &str, width: usize) -> usize {
    if architecture.starts_with("test_vit") {
        return width / 32;
    }
    if architecture.starts_with("vit_giant_patch14_reg1") {
        return 24;
    }
    match (width, architecture) {
        (768, "vit_base_patch16_gap_224") => 16,
        (1152 | 1280 | 1408 | 1536 | 1664, _) => 16,
        _ => (width / 64).max(1),
    }
}

/// Whether an architecture's MLPs have the tanh form of GELU: later SigLIP models of timm.
fn is_tanh(architecture: &str) -> bool {
    let is_siglip = architecture.contains("_siglip_");
    let begins = |start: &str| architecture.starts_with(start);
    is_siglip
        && (begins("vit_base_patch32_")
            || begins("vit_so400m_patch16_")
            || begins("vit_giantopt_")
            || (begins("vit_large_patch16_") && architecture.ends_with("_512")))
}
