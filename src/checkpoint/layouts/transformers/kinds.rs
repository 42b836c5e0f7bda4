//! The kinds of model of transformers that are read, and what it calls their tensors.
//!
//! Each table holds the names that files have (first) and those that modules have since version 5.

use crate::checkpoint::layouts::names::{Name, name};
use crate::checkpoint::layouts::plan::Resampling;
use crate::model::Pooling;

/// What a kind of model is made of.
pub(super) struct Kind {
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// Whether the settings of the vision tower may be those of a part.
    pub within: Option<&'static str>,
    pub names: &'static [Name],
    /// As in [`Telling`](crate::checkpoint::layouts::shape::Telling).
    pub patch_embedding: &'static str,
    pub mlp: &'static [&'static str],
    pub pooling: Pooling,
    pub epsilon: f64,
    pub resampling: Resampling,
    /// As in [`Plan`](crate::checkpoint::layouts::plan::Plan); `^` stands for the prefix.
    pub left_out: &'static [(&'static str, &'static str)],
}

const VIT: &[Name] = &[
    name(
        "patch_embedding.projection",
        &["embeddings.patch_embeddings.projection.*"],
    ),
    name(
        "blocks.#.norm1",
        &[
            "encoder.layer.#.layernorm_before.*",
            "layers.#.layernorm_before.*",
        ],
    ),
    name(
        "blocks.#.attention.qkv",
        &[
            "encoder.layer.#.attention.attention.{query,key,value}.*",
            "layers.#.attention.{q_proj,k_proj,v_proj}.*",
        ],
    ),
    name(
        "blocks.#.attention.projection",
        &[
            "encoder.layer.#.attention.output.dense.*",
            "layers.#.attention.o_proj.*",
        ],
    ),
    name(
        "blocks.#.norm2",
        &[
            "encoder.layer.#.layernorm_after.*",
            "layers.#.layernorm_after.*",
        ],
    ),
    name(
        "blocks.#.mlp.fc1",
        &["encoder.layer.#.intermediate.dense.*", "layers.#.mlp.fc1.*"],
    ),
    name(
        "blocks.#.mlp.fc2",
        &["encoder.layer.#.output.dense.*", "layers.#.mlp.fc2.*"],
    ),
    name("norm", &["layernorm.*"]),
    name("head", &["/classifier.*", "/cls_classifier.*"]),
    name("distillation_head", &["/distillation_classifier.*"]),
];

const DINOV2: &[Name] = &[
    name(
        "patch_embedding.projection",
        &["embeddings.patch_embeddings.projection.*"],
    ),
    name("blocks.#.norm1", &["encoder.layer.#.norm1.*"]),
    name(
        "blocks.#.attention.qkv",
        &[
            "encoder.layer.#.attention.attention.{query,key,value}.*",
            "encoder.layer.#.attention.{q_proj,k_proj,v_proj}.*",
        ],
    ),
    name(
        "blocks.#.attention.projection",
        &[
            "encoder.layer.#.attention.output.dense.*",
            "encoder.layer.#.attention.o_proj.*",
        ],
    ),
    name(
        "blocks.#.layer_scale1",
        &["encoder.layer.#.layer_scale1.lambda1"],
    ),
    name("blocks.#.norm2", &["encoder.layer.#.norm2.*"]),
    name("blocks.#.mlp.fc1", &["encoder.layer.#.mlp.fc1.*"]),
    name("blocks.#.mlp.fc2", &["encoder.layer.#.mlp.fc2.*"]),
    name(
        "blocks.#.layer_scale2",
        &["encoder.layer.#.layer_scale2.lambda1"],
    ),
    name("norm", &["layernorm.*"]),
    name("head", &["/classifier.*"]),
];

const SIGLIP: &[Name] = &[
    name(
        "patch_embedding.projection",
        &["embeddings.patch_embedding.*"],
    ),
    name("blocks.#.norm1", &["encoder.layers.#.layer_norm1.*"]),
    name(
        "blocks.#.attention.qkv",
        &["encoder.layers.#.self_attn.{q_proj,k_proj,v_proj}.*"],
    ),
    name(
        "blocks.#.attention.projection",
        &["encoder.layers.#.self_attn.out_proj.*"],
    ),
    name("blocks.#.norm2", &["encoder.layers.#.layer_norm2.*"]),
    name("blocks.#.mlp.fc1", &["encoder.layers.#.mlp.fc1.*"]),
    name("blocks.#.mlp.fc2", &["encoder.layers.#.mlp.fc2.*"]),
    name("norm", &["post_layernorm.*"]),
    name("head", &["/classifier.*"]),
];

const MASK: (&str, &str) = (
    "^embeddings.mask_token",
    "stands for patches that are hidden",
);
const POOLER: (&str, &str) = ("^pooler.", "classifiers have no such layer");
const DECODER: (&str, &str) = ("decoder.", "of the decoder, which draws hidden patches");

const PATCHES: &str = "embeddings.patch_embeddings.projection.weight";
const VIT_MLP: &[&str] = &[
    "encoder.layer.#.intermediate.dense.weight",
    "layers.#.mlp.fc1.weight",
];

const fn vit(model_type: &'static str) -> Kind {
    Kind {
        model_type,
        within: None,
        names: VIT,
        patch_embedding: PATCHES,
        mlp: VIT_MLP,
        pooling: Pooling::ClassToken,
        epsilon: 1e-12,
        resampling: Resampling::Sharp,
        left_out: &[MASK, POOLER, DECODER],
    }
}

const fn dinov2(model_type: &'static str, resampling: Resampling) -> Kind {
    Kind {
        model_type,
        within: None,
        names: DINOV2,
        patch_embedding: PATCHES,
        mlp: &["encoder.layer.#.mlp.fc1.weight"],
        pooling: Pooling::ClassTokenAndMean,
        epsilon: 1e-6,
        resampling,
        left_out: &[MASK],
    }
}

const fn siglip(model_type: &'static str, within: Option<&'static str>) -> Kind {
    Kind {
        model_type,
        within,
        names: SIGLIP,
        patch_embedding: "embeddings.patch_embedding.weight",
        mlp: &["encoder.layers.#.mlp.fc1.weight"],
        pooling: Pooling::Mean,
        epsilon: 1e-6,
        resampling: Resampling::Sharp,
        left_out: &[
            (
                "^head.",
                "of the attention pooling, in place of which the mean is taken",
            ),
            ("text_model.", "of the text tower"),
            ("logit_", "compares pictures with texts"),
        ],
    }
}

pub(super) const KINDS: &[Kind] = &[
    vit("vit"),
    vit("deit"),
    vit("vit_mae"),
    dinov2("dinov2", Resampling::Sharp),
    dinov2("dinov2_with_registers", Resampling::Smoothed),
    siglip("siglip", Some("vision_config")),
    siglip("siglip_vision_model", None),
];
