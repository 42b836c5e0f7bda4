//! A model of ours as timm builds it: `vit_tiny_patch16_224` or its distilled like with arguments for
//! all of its sizes, or `resnet18`.

use serde_json::{Value, json};

use super::names::NAMES;
use crate::checkpoint::layouts::resnet;
use crate::checkpoint::layouts::source::CONFIG;
use crate::checkpoint::layouts::written::{Written, WrittenTokens, writable};
use crate::checkpoint::meta::WeightsMeta;
use crate::data::Resize;
use crate::model::{ModelConfig, Pooling, ResnetConfig, ResnetVariant, VitConfig};
use crate::ops::Activation;

/// What `timm.create_model` builds as this model.
///
/// # Errors
///
/// What of the model timm has no argument for.
pub(in crate::checkpoint::layouts) fn written(meta: &WeightsMeta) -> Result<Written, String> {
    let (architecture, arguments, classifier, mut written) = match &meta.model {
        ModelConfig::Vit(config) => vit_written(config)?,
        ModelConfig::Resnet(config) => resnet_written(config)?,
        ModelConfig::Airbench(_) => return Err("airbench is not among its models".to_owned()),
    };
    let size = meta.preprocess.image_size;
    let resize_to = meta.preprocess.resize_to.unwrap_or(size);
    let crop_mode = match meta.preprocess.resize {
        Resize::Squash => "squash",
        Resize::ShorterEdge => "center",
        Resize::Crop => {
            let note = "timm resizes before it crops, where vitrine cropped first: pixels differ a little at the borders";
            written.notes.push(note.to_owned());
            "center"
        }
        Resize::LongerEdge => "border",
        Resize::Pad => {
            let note = "timm pads with this model's mean colour, where vitrine padded with that of ImageNet";
            written.notes.push(note.to_owned());
            "border"
        }
    };
    let pretrained = json!({
        "input_size": [3, size, size],
        "fixed_input_size": arguments.get("img_size").is_some(),
        "interpolation": meta.preprocess.filter,
        "crop_pct": crop_pct(size, resize_to),
        "crop_mode": crop_mode,
        "mean": meta.preprocess.mean,
        "std": meta.preprocess.std,
        "num_classes": meta.classes.len(),
        "first_conv": if arguments.get("patch_size").is_some() { "patch_embed.proj" } else { "conv1" },
        "classifier": classifier,
    });
    let mut config = json!({
        "architecture": architecture,
        "num_classes": meta.classes.len(),
        "num_features": meta.model.width(),
        "global_pool": arguments.get("global_pool").cloned().unwrap_or(json!("avg")),
        "label_names": meta.classes,
        "model_args": arguments,
        "pretrained_cfg": pretrained,
    });
    if meta.classes.is_empty() {
        config["label_names"] = Value::Null;
    }
    written.settings = vec![(CONFIG, config)];
    Ok(written)
}

/// The share of which `resize_to` is the floor of `size` over it.
fn crop_pct(size: usize, resize_to: usize) -> f64 {
    let share = size as f64 / resize_to as f64;
    match (size as f64 / share).floor() as usize == resize_to {
        true => share,
        false => size as f64 / (resize_to as f64 + 0.5),
    }
}

type Parts = (&'static str, Value, Value, Written);

fn resnet_written(config: &ResnetConfig) -> Result<Parts, String> {
    if config.variant != ResnetVariant::Resnet18 || config.width != 64 || !config.imagenet_stem() {
        let reason = "of its ResNets, vitrine has resnet18 with ImageNet's 7×7 stem, for pictures of 96 pixels or more";
        return Err(reason.to_owned());
    }
    let written = Written {
        settings: Vec::new(),
        names: resnet::NAMES,
        prefix: String::new(),
        instead: Vec::new(),
        tokens: None,
        zeros: Vec::new(),
        notes: Vec::new(),
    };
    Ok(("resnet18", json!({}), json!("fc"), written))
}

fn vit_written(config: &VitConfig) -> Result<Parts, String> {
    writable(config)?;
    if config.norm_epsilon != 1e-6 {
        return Err(format!(
            "its layer norms have an epsilon of 1e-6, these {:e}",
            config.norm_epsilon
        ));
    }
    if config.pooling == Pooling::ClassTokenAndMean {
        let reason = "its heads read the class token or the mean of the patches, not both; the layout of transformers has one that does";
        return Err(reason.to_owned());
    }
    if config.distillation_token && config.registers > 0 {
        return Err("its distilled models have no register tokens".to_owned());
    }
    let has_class = config.pooling == Pooling::ClassToken;
    if config.distillation_token && !has_class {
        return Err("its distilled models have a class token".to_owned());
    }
    let ratio = config.mlp_dim as f64 / config.embed_dim as f64;
    // As Python's int(width * ratio).
    let ratio = match (config.embed_dim as f64 * ratio) as usize == config.mlp_dim {
        true => ratio,
        false => (config.mlp_dim as f64 + 0.5) / config.embed_dim as f64,
    };
    let mut arguments = json!({
        "img_size": config.image_size,
        "patch_size": config.patch_size,
        "embed_dim": config.embed_dim,
        "depth": config.depth,
        "num_heads": config.num_heads,
        "mlp_ratio": ratio,
        "global_pool": if has_class { "token" } else { "avg" },
        "class_token": has_class,
        "no_embed_class": !has_class,
        "reg_tokens": config.registers,
        "fc_norm": config.norm_after_pooling,
        "qk_norm": config.qk_norm,
        "act_layer": match config.activation {
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu_tanh",
        },
    });
    if config.layer_scale > 0.0 {
        arguments["init_values"] = json!(config.layer_scale);
    }
    let (architecture, classifier) = match config.distillation_token {
        true => (
            "deit_tiny_distilled_patch16_224",
            json!(["head", "head_dist"]),
        ),
        false => ("vit_tiny_patch16_224", json!("head")),
    };
    let head_dim = config.embed_dim / config.num_heads;
    let shifts = |block: usize| {
        ["q_norm", "k_norm"]
            .map(|norm| (format!("blocks.{block}.attn.{norm}.bias"), vec![head_dim]))
    };
    let lacks_shift = config.qk_norm && !config.qk_norm_bias;
    let blocks = if lacks_shift { config.depth } else { 0 };
    let after = ("norm.", "fc_norm.");
    let written = Written {
        settings: Vec::new(),
        names: NAMES,
        prefix: String::new(),
        instead: if config.norm_after_pooling {
            vec![after]
        } else {
            Vec::new()
        },
        tokens: Some(WrittenTokens {
            class: "cls_token".to_owned(),
            distillation: "dist_token".to_owned(),
            registers: "reg_token".to_owned(),
            positions: "pos_embed".to_owned(),
            positioned: if has_class { config.prefix() } else { 0 },
        }),
        zeros: (0..blocks).flat_map(shifts).collect(),
        notes: Vec::new(),
    };
    Ok((architecture, arguments, classifier, written))
}
