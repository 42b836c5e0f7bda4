//! Our Vision Transformer against a published implementation: timm's `VisionTransformer`.
//!
//! The fixtures hold random weights and what timm makes of them;
//! `tests/support/make_reference_fixtures.py` wrote them.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData, Tolerance};
use safetensors::SafeTensors;
use vitrine::model::{Init, ModelConfig, Pass, Pooling, Position, Stem, VitConfig, parameters};
use vitrine::ops::Precision;

type Tensors = HashMap<String, (Vec<usize>, Vec<f32>)>;

fn fixture(name: &str) -> Tensors {
    let path = format!(
        "{}/tests/fixtures/{name}.safetensors",
        env!("CARGO_MANIFEST_DIR")
    );
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors()
        .into_iter()
        .map(|(name, view)| {
            let numbers = view.data().chunks_exact(4);
            let numbers = numbers.map(|b| f32::from_le_bytes(b.try_into().unwrap()));
            (name, (view.shape().to_vec(), numbers.collect()))
        })
        .collect()
}

/// timm's name for one of our parameters.
fn timm_name(path: &str) -> String {
    let mut name = path.strip_prefix("Vit.").unwrap().to_owned();
    for (ours, theirs) in [
        ("patch_embedding", "patch_embed"),
        ("position_embedding", "pos_embed"),
        ("class_token", "cls_token"),
        ("register_tokens", "reg_token"),
        ("attention", "attn"),
        ("projection", "proj"),
        ("gamma", "weight"),
        ("beta", "bias"),
    ] {
        name = name.replace(ours, theirs);
    }
    name
}

/// One of timm's tensors, in our layout: a linear weight is `[inputs, outputs]` here, and the patch
/// embedding's convolution is such a weight once `[C, P, P]` is one axis.
fn ours(tensors: &Tensors, kind: &str, path: &str, device: &Device) -> Tensor<1> {
    let name = format!("{kind}/{}", timm_name(path));
    let (shape, numbers) = tensors.get(&name).unwrap_or_else(|| panic!("no {name}"));
    let count = numbers.len();
    let flat = Tensor::<1>::from_data(TensorData::new(numbers.clone(), [count]), device);
    if path.ends_with(".weight") {
        return flat
            .reshape([shape[0], count / shape[0]])
            .transpose()
            .reshape([count]);
    }
    flat
}

fn check(name: &str, pooling: Pooling, registers: usize) {
    let config = ModelConfig::Vit(VitConfig {
        image_size: 12,
        patch_size: 4,
        embed_dim: 18,
        depth: 2,
        num_heads: 3,
        mlp_dim: 36,
        num_classes: 5,
        pooling,
        position: Position::Learned,
        stem: Stem::Linear,
        stem_depth: 0,
        registers,
        drop_path: 0.0,
        distillation_token: false,
        init: Init::Xavier,
        layer_scale: 0.0,
        qk_norm: false,
    });
    config.validate().unwrap();
    let tensors = fixture(name);
    let count = tensors
        .keys()
        .filter(|name| name.starts_with("weight/"))
        .count();
    let device = Device::flex().autodiff();
    let plain = Device::flex();
    let mut replaced = 0;
    let model = parameters::replace(config.init(0, &device), |path, _| {
        replaced += 1;
        Some(ours(&tensors, "weight", path, &plain))
    });
    assert_eq!(replaced, count, "every tensor of timm's has its place");

    let (shape, pixels) = &tensors["images"];
    let images = TensorData::new(pixels.clone(), shape.clone());
    let images = Tensor::<4>::from_data(images, &device);
    let (shape, logits) = &tensors["logits"];
    let expected = TensorData::new(logits.clone(), shape.clone());
    let tolerance = Tolerance::<f32>::absolute(1e-5).set_relative(1e-5);
    let logits = model.forward(images.clone(), &mut Pass::inference(Precision::F32));
    logits
        .clone()
        .into_data()
        .assert_approx_eq(&expected, tolerance);
    let inference = burn::module::Module::valid(&model)
        .forward(images.inner(), &mut Pass::inference(Precision::F32));
    inference.into_data().assert_approx_eq(&expected, tolerance);

    let loss = -log_softmax(logits, 1).narrow(1, 2, 1).mean();
    let gradients = parameters::take_gradients(&model, &mut loss.backward());
    for (parameter, gradient) in parameters::trainable(&model).iter().zip(gradients) {
        let expected = ours(&tensors, "gradient", parameter.path(), &plain);
        let found = gradient.unwrap().into_data();
        found.assert_approx_eq(&expected.into_data(), tolerance);
    }
}

#[test]
fn logits_and_gradients_equal_timms_with_a_class_token() {
    check("vit_class_token", Pooling::ClassToken, 0);
}

#[test]
fn logits_and_gradients_equal_timms_with_mean_pooling_and_registers() {
    check("vit_mean_registers", Pooling::Mean, 2);
}
