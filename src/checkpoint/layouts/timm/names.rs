//! What timm calls the tensors of a Vision Transformer.

use crate::checkpoint::layouts::names::{Name, Names, name};

const TABLE: &[Name] = &[
    name("patch_embedding.projection", &["patch_embed.proj.*"]),
    name("blocks.#.norm1", &["blocks.#.norm1.*"]),
    name("blocks.#.attention.qkv", &["blocks.#.attn.qkv.*"]),
    name("blocks.#.attention.projection", &["blocks.#.attn.proj.*"]),
    name(
        "blocks.#.attention.query_norm",
        &["blocks.#.attn.q_norm.weight"],
    ),
    name(
        "blocks.#.attention.key_norm",
        &["blocks.#.attn.k_norm.weight"],
    ),
    name(
        "blocks.#.attention.query_norm_bias",
        &["blocks.#.attn.q_norm.bias"],
    ),
    name(
        "blocks.#.attention.key_norm_bias",
        &["blocks.#.attn.k_norm.bias"],
    ),
    name("blocks.#.layer_scale1", &["blocks.#.ls1.gamma"]),
    name("blocks.#.norm2", &["blocks.#.norm2.*"]),
    name("blocks.#.mlp.fc1", &["blocks.#.mlp.fc1.*"]),
    name("blocks.#.mlp.fc2", &["blocks.#.mlp.fc2.*"]),
    name("blocks.#.layer_scale2", &["blocks.#.ls2.gamma"]),
    name("norm", &["norm.*", "fc_norm.*"]),
    name("head", &["head.*"]),
    name("distillation_head", &["head_dist.*"]),
];

pub(super) const NAMES: Names = Names {
    names: TABLE,
    number: |block| block.to_string(),
};
