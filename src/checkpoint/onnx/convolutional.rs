//! The convolutional baselines as graphs.

use super::build::{Builder, Value};
use crate::model::{
    AIRBENCH_LOGIT_SCALE, AirbenchConfig, RESNET9_LOGIT_SCALE, ResnetConfig, ResnetVariant,
};

/// Logits of normalised pictures.
pub(super) fn resnet(b: &mut Builder, config: &ResnetConfig, images: Value) -> Value {
    match config.variant {
        ResnetVariant::Resnet18 => b.within("Resnet18", |b| resnet18(b, config, images)),
        ResnetVariant::Resnet9 => b.within("Resnet9", |b| resnet9(b, images)),
    }
}

fn resnet18(b: &mut Builder, config: &ResnetConfig, images: Value) -> Value {
    let imagenet = config.imagenet_stem();
    let stem = b.conv_norm("stem", images, if imagenet { 2 } else { 1 });
    let mut x = b.relu(stem);
    if imagenet {
        x = b.max_pool(x, 3, 2, 1);
    }
    for i in 0..8 {
        let halves = i > 0 && i % 2 == 0;
        let stride = if halves { 2 } else { 1 };
        x = b.within(&format!("blocks.{i}"), |b| {
            let first = b.conv_norm("first", x, stride);
            let first = b.relu(first);
            let second = b.conv_norm("second", first, 1);
            let shortcut = if halves {
                b.conv_norm("shortcut", x, stride)
            } else {
                x
            };
            let sum = b.add(second, shortcut);
            b.relu(sum)
        });
    }
    let features = pooled(b, "GlobalAveragePool", x);
    b.head("head", features, 1.0)
}

fn resnet9(b: &mut Builder, images: Value) -> Value {
    let x = b.conv_norm("stem", images, 1);
    let mut x = b.relu(x);
    for (stage, branch) in [
        ("stage1", Some("branch1")),
        ("stage2", None),
        ("stage3", Some("branch3")),
    ] {
        x = b.within(stage, |b| b.conv_pool_norm("layer", x));
        x = b.relu(x);
        let Some(branch) = branch else { continue };
        x = b.within(branch, |b| {
            let first = b.conv_norm("first", x, 1);
            let first = b.relu(first);
            let second = b.conv_norm("second", first, 1);
            let second = b.relu(second);
            b.add(x, second)
        });
    }
    let features = pooled(b, "GlobalMaxPool", x);
    b.head("head", features, RESNET9_LOGIT_SCALE)
}

/// The same of the CNN of airbench.
pub(super) fn airbench(b: &mut Builder, config: &AirbenchConfig, images: Value) -> Value {
    b.within("Airbench", |b| {
        let mut x = b.within("whitening", |b| {
            let inputs = [images, b.tensor("weight"), b.tensor("bias")];
            b.conv(&inputs, config.stem_kernel, 1, 0)
        });
        x = b.gelu(x);
        for group in 0..config.widths.len() {
            x = b.within(&format!("groups.{group}"), |b| {
                let pooled = b.conv_pool_norm("first", x);
                let first = b.gelu(pooled);
                let rest = config.depth - 1;
                (0..rest).fold(first, |x, i| {
                    let mut x = b.conv_norm(&format!("rest.{i}"), x, 1);
                    if config.residual && i + 1 == rest {
                        x = b.add(x, first);
                    }
                    b.gelu(x)
                })
            });
        }
        let features = pooled(b, "GlobalMaxPool", x);
        b.head("head", features, AIRBENCH_LOGIT_SCALE)
    })
}

/// One number a channel.
fn pooled(b: &mut Builder, op: &str, x: Value) -> Value {
    let pooled = b.node(op, &[x], &[]);
    b.node("Flatten", &[pooled], &[])
}
