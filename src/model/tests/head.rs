//! What the head sees, and a head of other weights.

use burn::tensor::{Device, Tensor};

use crate::model::{AirbenchConfig, Model, ModelConfig, Pass};
use crate::ops::{Precision, Prepared};

/// A model of each way from features to logits: one linear map, two whose mean counts, and a factor on either CNN's.
fn models() -> Vec<(&'static str, Model)> {
    let device = Device::flex();
    let ModelConfig::Vit(mut vit) = ModelConfig::preset("vit-micro", 8, Some(4), 3).unwrap() else {
        panic!("vit-micro is a ViT")
    };
    (vit.depth, vit.embed_dim, vit.num_heads, vit.mlp_dim) = (1, 6, 3, 5);
    vit.distillation_token = true;
    let airbench = ModelConfig::Airbench(AirbenchConfig {
        image_size: 11,
        num_classes: 3,
        widths: [3, 4, 5],
        depth: 1,
        residual: false,
        stem_kernel: 2,
        whiten: true,
    });
    let preset = |name| ModelConfig::preset(name, 8, None, 3).unwrap();
    [
        ("vit", preset("vit-micro")),
        ("vit with two heads", ModelConfig::Vit(vit)),
        ("resnet18", preset("resnet18")),
        ("resnet9", preset("resnet9")),
        ("airbench", airbench),
    ]
    .map(|(name, config)| (name, config.init(3, &device)))
    .into()
}

fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().unwrap()
}

#[test]
fn a_new_head_answers_with_its_own_weights_whatever_the_family() {
    let device = Device::flex();
    for (name, model) in models() {
        let side = if name == "airbench" { 11 } else { 8 };
        let pixels: Vec<f32> = (0..2 * 3 * side * side)
            .map(|i| ((i * 37) % 23) as f32 / 10.0 - 1.0)
            .collect();
        let images = Tensor::<1>::from_floats(&pixels[..], &device).reshape([2, 3, side, side]);
        let pass = || Pass::inference(Precision::F32);
        let features = values(model.features(images.clone(), &mut pass()));
        let (width, classes) = (model.width(), 3);
        let weight: Vec<f32> = (0..width * classes)
            .map(|i| ((i * 7) % 11) as f32 / 5.0 - 1.0)
            .collect();
        let bias = [0.5, -0.25, 2.0];
        let model = model.with_head(&weight, &bias, &device);
        let prepared = Prepared::default();
        let (logits, seen) = model.infer_with_features(images.clone(), Precision::F32, &prepared);
        // A head changes nothing of what it sees.
        assert_eq!(values(seen), features, "{name}");
        for (row, logits) in features.chunks(width).zip(values(logits).chunks(classes)) {
            for (k, logit) in logits.iter().enumerate() {
                let product = |(j, x): (usize, &f32)| x * weight[j * classes + k];
                let expected = bias[k] + row.iter().enumerate().map(product).sum::<f32>();
                let off = (logit - expected).abs();
                assert!(
                    off <= 1e-4 * (1.0 + expected.abs()),
                    "{name}: {logit} {expected}"
                );
            }
        }
        let alone = model.infer_features(images, Precision::F32, &prepared);
        assert_eq!(values(alone), features, "{name}");
    }
}
