//! The Vision Transformer as a graph.
//!
//! What the batch's size is stands nowhere in it: shapes keep the first axis as it is, and the tokens before
//! the patches come from padding, to which one table adds tokens and positions.

use super::build::{Builder, Value, ints};
use super::format::Attribute;
use crate::model::vit::position;
use crate::model::{Pooling, Position, VitConfig};
use crate::ops::Activation;

/// Logits of normalised pictures: the mean of both heads' where there are two.
pub(super) fn vit(b: &mut Builder, config: &VitConfig, images: Value) -> Value {
    b.within("Vit", |b| {
        let mut x = embed(b, config, images);
        for i in 0..config.depth {
            let read = tokens_read(config).filter(|_| i + 1 == config.depth);
            x = b.within(&format!("blocks.{i}"), |b| block(b, config, x, read));
        }
        heads(b, config, x)
    })
}

/// How many of the last block's tokens, from the first, the heads read, where not all.
fn tokens_read(config: &VitConfig) -> Option<usize> {
    let class_token = config.pooling == Pooling::ClassToken;
    class_token.then_some(1 + usize::from(config.distillation_token))
}

/// Tokens before the first block, `[batch, N, D]`.
fn embed(b: &mut Builder, config: &VitConfig, images: Value) -> Value {
    let (patches, width) = (config.grid() * config.grid(), config.embed_dim);
    let prefix = config.prefix();
    let x = b.within("patch_embedding", |b| {
        let mut map = images;
        let mut side = config.image_size;
        for (i, (_, stride)) in config.stem_layers().into_iter().enumerate() {
            let normed = b.conv_norm(&format!("stem.{i}"), map, stride);
            map = b.relu(normed);
            side /= stride;
        }
        b.within("projection", |b| {
            // A linear map of patches is a convolution whose stride is its kernel.
            let (shape, weight) = b.take("weight");
            let patch = side / config.grid();
            let channels = shape[0] / (patch * patch);
            let mut filters = Vec::with_capacity(weight.len());
            for output in 0..width {
                filters.extend(weight[output..].iter().step_by(width));
            }
            let filters = b.constant("weight", vec![width, channels, patch, patch], &filters);
            let bias = b.tensor("bias");
            b.conv(&[map, filters, bias], patch, patch, 0)
        })
    });
    let x = b.reshape(x, &[0, width as i64, patches as i64]);
    let mut x = b.transpose(x, &[0, 2, 1]);
    if let Some(table) = table(b, config) {
        if prefix > 0 {
            let before = b.list(&[0, prefix as i64, 0, 0, 0, 0]);
            x = b.node("Pad", &[x, before], &[]);
        }
        let table = b.table("Vit.tokens", vec![1, prefix + patches, width], &table);
        x = b.add(x, table);
    }
    x
}

/// What is added to the tokens: the learned ones themselves, with their positions, and the positions of
/// the patches.
fn table(b: &mut Builder, config: &VitConfig) -> Option<Vec<f32>> {
    let (grid, width) = (config.grid(), config.embed_dim);
    let mut table = Vec::new();
    if config.pooling.has_class_token() {
        table.extend(b.take("class_token").1);
    }
    let class_token = table.len();
    if config.distillation_token {
        table.extend(b.take("distillation_token").1);
    }
    if config.registers > 0 {
        table.extend(b.take("register_tokens").1);
    }
    match config.position {
        Position::Learned => {
            let (_, positions) = b.take("position_embedding");
            let (first, of_patches) = positions.split_at(class_token);
            table
                .iter_mut()
                .zip(first)
                .for_each(|(token, position)| *token += position);
            table.extend(of_patches);
        }
        Position::Sinusoidal1d => table.extend(position::sinusoidal_1d(grid, grid, width)),
        Position::Sinusoidal2d => table.extend(position::sinusoidal_2d(grid, grid, width)),
        Position::Rope2d | Position::None if table.is_empty() => return None,
        Position::Rope2d | Position::None => {
            table.resize((config.prefix() + grid * grid) * width, 0.0);
        }
    }
    Some(table)
}

/// One block, whose result has the first `read` tokens alone where that is a number.
fn block(b: &mut Builder, config: &VitConfig, x: Value, read: Option<usize>) -> Value {
    let normed = layer_norm(b, config, "norm1", x);
    let x = match read {
        Some(read) => b.narrow(x, 0, read),
        None => x,
    };
    let mixed = b.within("attention", |b| attention(b, config, normed, read));
    let factors = |b: &mut Builder, name: &str| (config.layer_scale > 0.0).then(|| b.take(name).1);
    let scale = factors(b, "layer_scale1");
    let mixed = b.linear_scaled("attention.projection", mixed, scale.as_deref());
    let x = b.add(x, mixed);
    let normed = layer_norm(b, config, "norm2", x);
    let scale = factors(b, "layer_scale2");
    let hidden = b.linear("mlp.fc1", normed);
    let hidden = b.within("mlp", |b| match config.activation {
        Activation::Gelu => b.gelu(hidden),
        Activation::GeluTanh => b.gelu_tanh(hidden),
    });
    let hidden = b.linear_scaled("mlp.fc2", hidden, scale.as_deref());
    b.add(x, hidden)
}

/// softmax(QKᵀ/√d)·V, heads joined, of the first `read` tokens where that is a number.
fn attention(b: &mut Builder, config: &VitConfig, x: Value, read: Option<usize>) -> Value {
    let (tokens, width) = (config.tokens(), config.embed_dim);
    let (heads, head_dim) = (config.num_heads, width / config.num_heads);
    let queries = read.unwrap_or(tokens);
    let [query, key, value] = match read {
        None => {
            let all = b.linear("qkv", x);
            b.split(all, [width; 3], 2)
        }
        Some(read) => b.within("qkv", |b| {
            let (_, weight) = b.take("weight");
            let (_, bias) = b.take("bias");
            let columns = |from: usize, to: usize| -> Vec<f32> {
                let rows = weight.chunks(3 * width);
                rows.flat_map(|row| &row[from..to]).copied().collect()
            };
            let first = b.narrow(x, 0, read);
            let weight = (vec![width, width], &*columns(0, width));
            let query = b.linear_of(first, ".query", weight, (vec![width], &bias[..width]));
            let weight = (vec![width, 2 * width], &*columns(width, 3 * width));
            let rest = (vec![2 * width], &bias[width..]);
            let both = b.linear_of(x, ".key_value", weight, rest);
            let [key, value] = b.split(both, [width; 2], 2);
            [query, key, value]
        }),
    };
    let apart = |b: &mut Builder, x: Value, count: usize| {
        b.reshape(x, &[0, count as i64, heads as i64, head_dim as i64])
    };
    let mut query = apart(b, query, queries);
    let mut key = apart(b, key, tokens);
    let value = apart(b, value, tokens);
    if config.qk_norm {
        let normed = |b: &mut Builder, x: Value, gamma: &str, beta: &str| {
            let beta = config.qk_norm_bias.then_some(beta);
            b.layer_norm(x, gamma, beta, config.norm_epsilon)
        };
        query = normed(b, query, "query_norm", "query_norm_bias");
        key = normed(b, key, "key_norm", "key_norm_bias");
    }
    if config.position == Position::Rope2d {
        query = rotate(b, config, query, queries);
        key = rotate(b, config, key, tokens);
    }
    let query = b.transpose(query, &[0, 2, 1, 3]);
    let key = b.transpose(key, &[0, 2, 3, 1]);
    let value = b.transpose(value, &[0, 2, 1, 3]);
    let scale = b.number((head_dim as f32).sqrt().recip());
    let query = b.mul(query, scale);
    let scores = b.node("MatMul", &[query, key], &[]);
    let weights = b.node("Softmax", &[scores], &[("axis", Attribute::Int(-1))]);
    let mixed = b.node("MatMul", &[weights, value], &[]);
    let mixed = b.transpose(mixed, &[0, 2, 1, 3]);
    b.reshape(mixed, &[0, queries as i64, width as i64])
}

/// Turns the pairs of channels i and i + d/2 of the first `count` tokens, `[batch, count, h, d]`.
fn rotate(b: &mut Builder, config: &VitConfig, x: Value, count: usize) -> Value {
    let head_dim = config.embed_dim / config.num_heads;
    if count <= config.prefix() {
        // Where these stand is nowhere.
        return x;
    }
    let half = head_dim / 2;
    let table = position::rotations(&position::places(config.grid()), config.prefix(), head_dim);
    let rows = table.chunks(head_dim);
    let cosines = rows
        .clone()
        .flat_map(|row| row[..half].repeat(2))
        .collect::<Vec<_>>();
    let sines = rows.flat_map(|row| {
        let negative = row[half..].iter().map(|sine| -sine);
        negative.chain(row[half..].iter().copied())
    });
    let sines = sines.collect::<Vec<_>>();
    let shape = vec![count, 1, head_dim];
    let cosines = b.table("Vit.cosines", shape.clone(), &cosines);
    let sines = b.table("Vit.sines", shape, &sines);
    let [first, second] = b.split(x, [half; 2], 3);
    let swapped = b.node("Concat", &[second, first], &[("axis", Attribute::Int(3))]);
    let straight = b.mul(x, cosines);
    let across = b.mul(swapped, sines);
    b.add(straight, across)
}

/// Logits of the last block's tokens.
fn heads(b: &mut Builder, config: &VitConfig, x: Value) -> Value {
    let tokens = tokens_read(config).unwrap_or(config.tokens());
    let width = config.embed_dim as i64;
    let normed = match config.norm_after_pooling {
        // A mean is normed, and a distillation token: neither needs the norm of all tokens.
        true => x,
        false => layer_norm(b, config, "norm", x),
    };
    let after = |b: &mut Builder, pooled: Value| match config.norm_after_pooling {
        true => layer_norm(b, config, "norm", pooled),
        false => pooled,
    };
    let one = |b: &mut Builder, index: usize| {
        let token = match tokens {
            1 => normed,
            _ => b.narrow(normed, index, index + 1),
        };
        let token = b.reshape(token, &[0, width]);
        after(b, token)
    };
    let mean = |b: &mut Builder| {
        let patches = match config.prefix() {
            0 => normed,
            prefix => b.narrow(normed, prefix, tokens),
        };
        let axes = [("axes", ints(&[1])), ("keepdims", Attribute::Int(0))];
        let mean = b.node("ReduceMean", &[patches], &axes);
        after(b, mean)
    };
    let features = match config.pooling {
        Pooling::ClassToken => one(b, 0),
        Pooling::Mean => mean(b),
        Pooling::ClassTokenAndMean => {
            let both = [one(b, 0), mean(b)];
            b.node("Concat", &both, &[("axis", Attribute::Int(1))])
        }
    };
    let logits = b.head("head", features, 1.0);
    if !config.distillation_token {
        return logits;
    }
    let token = one(b, usize::from(config.pooling.has_class_token()));
    let distilled = b.head("distillation_head", token, 1.0);
    let sum = b.add(logits, distilled);
    let half = b.number(0.5);
    b.mul(sum, half)
}

fn layer_norm(b: &mut Builder, config: &VitConfig, name: &str, x: Value) -> Value {
    b.within(name, |b| {
        b.layer_norm(x, "gamma", Some("beta"), config.norm_epsilon)
    })
}
