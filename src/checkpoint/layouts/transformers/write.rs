//! A model of ours as a class of transformers builds it.

use serde_json::{Map, Value, json};

use super::kinds::KINDS;
use crate::checkpoint::layouts::names::Names;
use crate::checkpoint::layouts::source::{CONFIG, PREPROCESSOR};
use crate::checkpoint::layouts::written::{Written, WrittenTokens, writable};
use crate::checkpoint::meta::WeightsMeta;
use crate::data::{Centre, Filter, Preprocess, Resize};
use crate::model::{ModelConfig, Pooling, VitConfig};
use crate::ops::Activation;

/// What a class of transformers builds as this model.
///
/// # Errors
///
/// What of the model no class has.
pub(in crate::checkpoint::layouts) fn written(meta: &WeightsMeta) -> Result<Written, String> {
    let ModelConfig::Vit(config) = &meta.model else {
        return Err("only Vision Transformers are written in its layout".to_owned());
    };
    writable(config)?;
    let kind = Class::of(config, !meta.classes.is_empty())?;
    let mut settings = json!({
        "hidden_size": config.embed_dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.mlp_dim,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "num_channels": 3,
        "hidden_act": match config.activation {
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu_pytorch_tanh",
        },
        "layer_norm_eps": config.norm_epsilon,
        "qkv_bias": true,
    });
    let ids = || (0..meta.classes.len()).map(|id| id.to_string());
    let names: Map<String, Value> = ids().zip(meta.classes.iter().map(|c| json!(c))).collect();
    let numbers = meta
        .classes
        .iter()
        .cloned()
        .zip((0..).map(|id: usize| json!(id)));
    let mut all = match kind.model_type {
        "siglip" => {
            settings["model_type"] = json!("siglip_vision_model");
            settings["vision_use_head"] = json!(false);
            json!({ "vision_config": settings })
        }
        "dinov2" | "dinov2_with_registers" => {
            let ratio = config.mlp_dim / config.embed_dim;
            if ratio * config.embed_dim != config.mlp_dim {
                return Err(format!(
                    "DINOv2's mlp_dim is a multiple of its width, not {} of {}",
                    config.mlp_dim, config.embed_dim
                ));
            }
            let object = settings.as_object_mut().expect("an object");
            object.remove("intermediate_size");
            settings["mlp_ratio"] = json!(ratio);
            settings["layerscale_value"] = json!(config.layer_scale);
            settings["num_register_tokens"] = json!(config.registers);
            settings
        }
        _ => settings,
    };
    all["architectures"] = json!([kind.architecture]);
    all["model_type"] = json!(kind.model_type);
    all["dtype"] = json!("float32");
    if !meta.classes.is_empty() {
        all["id2label"] = Value::Object(names);
        all["label2id"] = Value::Object(numbers.collect());
    }
    let mut notes = Vec::new();
    let preprocessor = preprocessor(&meta.preprocess, &mut notes)?;
    let prefix = kind.prefix.to_owned();
    let names = KINDS
        .iter()
        .find(|known| known.model_type == kind.model_type);
    let names = names.expect("a kind that is read").names;
    let own = |name: &str| format!("{prefix}embeddings.{name}");
    let is_siglip = kind.model_type == "siglip";
    let mut zeros = Vec::new();
    if kind.model_type.starts_with("dinov2") {
        zeros.push((own("mask_token"), vec![1, config.embed_dim]));
    }
    let two_heads = ("/classifier.", "/cls_classifier.");
    let as_distillation = config.registers == 1 && kind.model_type == "deit";
    let token = if as_distillation {
        "distillation_token"
    } else {
        "register_tokens"
    };
    Ok(Written {
        settings: vec![(CONFIG, all), (PREPROCESSOR, preprocessor)],
        names: Names {
            names,
            number: |block| block.to_string(),
        },
        instead: if config.distillation_token {
            vec![two_heads]
        } else {
            Vec::new()
        },
        tokens: Some(WrittenTokens {
            class: own("cls_token"),
            distillation: own("distillation_token"),
            registers: own(token),
            positions: own(if is_siglip {
                "position_embedding.weight"
            } else {
                "position_embeddings"
            }),
            positioned: match kind.model_type {
                "siglip" => 0,
                "deit" => 2,
                _ => 1,
            },
        }),
        zeros,
        prefix,
        notes,
    })
}

/// A class of transformers.
struct Class {
    architecture: &'static str,
    model_type: &'static str,
    prefix: &'static str,
}

impl Class {
    /// The one that is the same function.
    ///
    /// # Errors
    ///
    /// What none of them has.
    fn of(config: &VitConfig, has_head: bool) -> Result<Self, String> {
        let scaled = config.layer_scale > 0.0;
        if config.qk_norm {
            return Err("none of its classes normalises queries and keys".to_owned());
        }
        if config.norm_after_pooling {
            return Err(
                "none of its classes normalises after pooling; timm's layout has it".to_owned(),
            );
        }
        if !has_head {
            return Err("only classifiers are written in its layout".to_owned());
        }
        let class = |architecture, model_type, prefix| {
            Ok(Self {
                architecture,
                model_type,
                prefix,
            })
        };
        match (config.pooling, scaled, config.distillation_token, config.registers) {
            (Pooling::ClassToken, false, false, 0) => {
                class("ViTForImageClassification", "vit", "vit.")
            }
            (Pooling::ClassToken, false, true, 0) => {
                class("DeiTForImageClassificationWithTeacher", "deit", "deit.")
            }
            (Pooling::ClassToken, false, false, 1) => {
                class("DeiTForImageClassification", "deit", "deit.")
            }
            (Pooling::Mean, false, false, 0) => {
                class("SiglipForImageClassification", "siglip", "vision_model.")
            }
            (Pooling::ClassTokenAndMean, true, false, 0) => {
                class("Dinov2ForImageClassification", "dinov2", "dinov2.")
            }
            (Pooling::ClassTokenAndMean, true, false, _) => class(
                "Dinov2WithRegistersForImageClassification",
                "dinov2_with_registers",
                "dinov2_with_registers.",
            ),
            _ => Err(
                "its classes have layer scale and register tokens only in DINOv2, whose heads read the class token and the mean; timm's layout has more"
                    .to_owned(),
            ),
        }
    }
}

/// `preprocessor_config.json`.
fn preprocessor(preprocess: &Preprocess, notes: &mut Vec<String>) -> Result<Value, String> {
    let size = preprocess.image_size;
    let resize_to = preprocess.resize_to.unwrap_or(size);
    let square = |side: usize| json!({ "height": side, "width": side });
    let (processor, resized) = match preprocess.resize {
        Resize::Squash if resize_to == size => ("ViTImageProcessor", square(size)),
        Resize::Squash => ("DeiTImageProcessor", square(resize_to)),
        Resize::ShorterEdge | Resize::Crop => {
            ("BitImageProcessor", json!({ "shortest_edge": resize_to }))
        }
        Resize::LongerEdge | Resize::Pad => {
            let reason =
                "its processors do not pad pictures: train with resize = crop or squash for it";
            return Err(reason.to_owned());
        }
    };
    if preprocess.resize == Resize::Crop {
        let note = "transformers resizes before it crops, where vitrine cropped first: pixels differ a little at the borders";
        notes.push(note.to_owned());
    }
    if preprocess.resize == Resize::ShorterEdge && preprocess.centre == Centre::Even {
        let note = "transformers cuts the middle out half a pixel further up or left where its sides are odd";
        notes.push(note.to_owned());
    }
    let mut settings = json!({
        "image_processor_type": processor,
        "do_resize": true,
        "size": resized,
        "resample": match preprocess.filter {
            Filter::Nearest => 0,
            Filter::Lanczos => 1,
            Filter::Bilinear => 2,
            Filter::Bicubic => 3,
            Filter::Box => 4,
            Filter::Hamming => 5,
        },
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": preprocess.mean,
        "image_std": preprocess.std,
    });
    if processor != "ViTImageProcessor" {
        settings["do_center_crop"] = json!(true);
        settings["crop_size"] = square(size);
    }
    Ok(settings)
}
