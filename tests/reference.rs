//! Our networks against published implementations: timm's `VisionTransformer`, and torchvision's
//! ResNet-18, which is timm's too.
//!
//! The fixtures hold random weights and what those make of them;
//! `tests/support/make_reference_fixtures.py` wrote them.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData, Tolerance};
use safetensors::SafeTensors;
use vitrine::model::{
    Init, ModelConfig, Pass, Pooling, Position, ResnetConfig, ResnetStem, ResnetVariant, Stem,
    VitConfig, parameters,
};
use vitrine::ops::{Activation, Precision};

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
fn timm_name(path: &str, config: &VitConfig) -> String {
    let mut name = path.strip_prefix("Vit.").unwrap().to_owned();
    if config.norm_after_pooling && name.starts_with("norm.") {
        name = format!("fc_{name}");
    }
    for (ours, theirs) in [
        ("patch_embedding", "patch_embed"),
        ("position_embedding", "pos_embed"),
        ("class_token", "cls_token"),
        ("distillation_token", "dist_token"),
        ("distillation_head", "head_dist"),
        ("register_tokens", "reg_token"),
        ("attention", "attn"),
        ("projection", "proj"),
        ("query_norm_bias", "q_norm.bias"),
        ("key_norm_bias", "k_norm.bias"),
        ("query_norm", "q_norm.weight"),
        ("key_norm", "k_norm.weight"),
        ("gamma", "weight"),
        ("beta", "bias"),
        ("layer_scale1", "ls1.gamma"),
        ("layer_scale2", "ls2.gamma"),
    ] {
        name = name.replace(ours, theirs);
    }
    name
}

/// One of timm's tensors, in our layout: a linear weight is `[inputs, outputs]` here, and the patch
/// embedding's convolution is such a weight once `[C, P, P]` is one axis. A distillation token has a
/// position there and none here.
fn ours(
    tensors: &Tensors,
    kind: &str,
    path: &str,
    config: &VitConfig,
    device: &Device,
) -> Tensor<1> {
    let of = |path| {
        let name = format!("{kind}/{}", timm_name(path, config));
        tensors.get(&name).unwrap_or_else(|| panic!("no {name}"))
    };
    let (shape, numbers) = of(path);
    let mut numbers = numbers.clone();
    let second = config.embed_dim..2 * config.embed_dim;
    if config.distillation_token && path.ends_with("position_embedding") {
        numbers.drain(second.clone());
    }
    if path.ends_with("distillation_token") && kind == "weight" {
        let (_, positions) = of("Vit.position_embedding");
        for (token, position) in numbers.iter_mut().zip(&positions[second]) {
            *token += position;
        }
    }
    let count = numbers.len();
    let flat = Tensor::<1>::from_data(TensorData::new(numbers, [count]), device);
    if path.ends_with(".weight") {
        return flat
            .reshape([shape[0], count / shape[0]])
            .transpose()
            .reshape([count]);
    }
    flat
}

/// A model of the larger fixtures.
fn larger() -> VitConfig {
    VitConfig {
        image_size: 12,
        patch_size: 4,
        embed_dim: 18,
        depth: 2,
        num_heads: 3,
        mlp_dim: 36,
        num_classes: 5,
        pooling: Pooling::ClassToken,
        position: Position::Learned,
        stem: Stem::Linear,
        stem_depth: 0,
        registers: 0,
        drop_path: 0.0,
        distillation_token: false,
        init: Init::Xavier,
        layer_scale: 0.0,
        qk_norm: false,
        qk_norm_bias: false,
        norm_epsilon: 1e-6,
        norm_after_pooling: false,
        activation: Activation::Gelu,
    }
}

/// A model of the smaller fixtures.
fn smaller() -> VitConfig {
    VitConfig {
        image_size: 6,
        patch_size: 3,
        embed_dim: 8,
        num_heads: 2,
        mlp_dim: 12,
        num_classes: 3,
        ..larger()
    }
}

/// Asserts that both are equal to 1e-5, absolute or relative.
fn same(found: Tensor<2>, (shape, expected): &(Vec<usize>, Vec<f32>)) {
    let expected = TensorData::new(expected.clone(), shape.clone());
    let tolerance = Tolerance::<f32>::absolute(1e-5).set_relative(1e-5);
    found.into_data().assert_approx_eq(&expected, tolerance);
}

/// The mean negative log-probability of class 2.
fn loss(logits: Tensor<2>) -> Tensor<1> {
    -log_softmax(logits, 1).narrow(1, 2, 1).mean()
}

fn images(tensors: &Tensors, device: &Device) -> Tensor<4> {
    let (shape, pixels) = &tensors["images"];
    Tensor::from_data(TensorData::new(pixels.clone(), shape.clone()), device)
}

fn check(name: &str, vit: VitConfig) {
    let config = ModelConfig::Vit(vit.clone());
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
        Some(ours(&tensors, "weight", path, &vit, &plain))
    });
    assert_eq!(replaced, count, "every tensor of timm's has its place");

    let images = images(&tensors, &device);
    let pass = || Pass::inference(Precision::F32);
    let logits = model.forward(images.clone(), &mut pass());
    same(logits.clone(), &tensors["logits"]);
    same(
        model.valid().forward(images.inner(), &mut pass()),
        &tensors["logits"],
    );

    let mut gradients = loss(logits).backward();
    let gradients = parameters::take_gradients(&model, &mut gradients);
    for (parameter, gradient) in parameters::trainable(&model).iter().zip(gradients) {
        let expected = ours(&tensors, "gradient", parameter.path(), &vit, &plain).into_data();
        // In units of the largest: those of an embedding that is almost nothing are large.
        let largest = expected.iter::<f32>().fold(1.0_f32, |m, x| m.max(x.abs()));
        let tolerance = Tolerance::absolute(1e-5 * largest).set_relative(1e-5);
        let found = gradient.unwrap().into_data();
        found.assert_approx_eq::<f32>(&expected, tolerance);
    }
}

#[test]
fn logits_and_gradients_equal_timms_with_a_class_token() {
    check("vit_class_token", larger());
}

#[test]
fn logits_and_gradients_equal_timms_with_mean_pooling_and_registers() {
    let config = VitConfig {
        pooling: Pooling::Mean,
        registers: 2,
        ..larger()
    };
    check("vit_mean_registers", config);
}

#[test]
fn logits_and_gradients_equal_timms_with_a_norm_after_pooling() {
    let config = VitConfig {
        pooling: Pooling::Mean,
        registers: 1,
        norm_after_pooling: true,
        ..smaller()
    };
    check("vit_norm_after_pooling", config);
}

#[test]
fn logits_and_gradients_equal_timms_with_a_tanh_gelu_layer_scale_and_normed_queries_and_keys() {
    let config = VitConfig {
        layer_scale: 0.1,
        qk_norm: true,
        qk_norm_bias: true,
        norm_epsilon: 0.05,
        activation: Activation::GeluTanh,
        ..smaller()
    };
    check("vit_gelu_tanh", config);
}

#[test]
fn logits_and_gradients_equal_timms_with_an_epsilon_of_almost_nothing() {
    let config = VitConfig {
        norm_epsilon: 1e-12,
        ..smaller()
    };
    check("vit_epsilon", config);
}

#[test]
fn logits_and_gradients_equal_timms_with_a_distillation_token() {
    let config = VitConfig {
        distillation_token: true,
        ..smaller()
    };
    check("vit_distilled", config);
}

/// torchvision's name for one of our parameters.
fn torchvision_name(path: &str) -> String {
    let path = path.strip_prefix("Resnet18.").unwrap();
    let name = match path.strip_prefix("blocks.") {
        None => path.replace("stem", "first").replace("head", "fc"),
        Some(rest) => {
            let (block, rest) = rest.split_once('.').unwrap();
            let block: usize = block.parse().unwrap();
            format!("layer{}.{}.{rest}", block / 2 + 1, block % 2)
        }
    };
    let mut name = name.replace("gamma", "weight").replace("beta", "bias");
    for (ours, theirs) in [
        ("first.conv", "conv1"),
        ("first.norm", "bn1"),
        ("second.conv", "conv2"),
        ("second.norm", "bn2"),
        ("shortcut.conv", "downsample.0"),
        ("shortcut.norm", "downsample.1"),
    ] {
        name = name.replace(ours, theirs);
    }
    name
}

#[test]
fn logits_and_gradients_equal_torchvisions_with_the_stem_for_imagenet() {
    let config = ModelConfig::Resnet(ResnetConfig {
        variant: ResnetVariant::Resnet18,
        image_size: 33,
        num_classes: 3,
        width: 1,
        stem: ResnetStem::Imagenet,
    });
    config.validate().unwrap();
    let tensors = fixture("resnet18");
    let (device, plain) = (Device::flex().autodiff(), Device::flex());
    let ours = |kind: &str, path: &str| -> Option<Tensor<1>> {
        let (shape, values) = tensors.get(&format!("{kind}/{}", torchvision_name(path)))?;
        let flat = Tensor::<1>::from_floats(values.as_slice(), &plain);
        // A linear weight is [inputs, outputs] here; convolutions lie alike.
        Some(match shape[..] {
            [outputs, inputs] => {
                let count = values.len();
                flat.reshape([outputs, inputs]).transpose().reshape([count])
            }
            _ => flat,
        })
    };
    let mut replaced = 0;
    let model = parameters::replace(config.init(0, &device), |path, _| {
        replaced += 1;
        Some(ours("weight", path).unwrap_or_else(|| panic!("no {}", torchvision_name(path))))
    });
    let of_theirs = tensors.keys().filter(|name| name.starts_with("weight/"));
    assert_eq!(replaced, of_theirs.count());

    let images = images(&tensors, &device);
    let pass = || Pass::inference(Precision::F32);
    let inference = model.valid();
    same(
        inference.forward(images.clone().inner(), &mut pass()),
        &tensors["logits"],
    );
    let logits = model.forward(images, &mut pass());
    same(logits.clone(), &tensors["training_logits"]);
    let mut gradients = loss(logits).backward();
    let gradients = parameters::take_gradients(&model, &mut gradients);
    let mut compared = 0;
    for (parameter, gradient) in parameters::trainable(&model).iter().zip(gradients) {
        let Some(expected) = ours("gradient", parameter.path()) else {
            continue;
        };
        let tolerance = Tolerance::<f32>::absolute(1e-5).set_relative(1e-5);
        let found = gradient.unwrap().into_data();
        found.assert_approx_eq(&expected.into_data(), tolerance);
        compared += 1;
    }
    let of_theirs = tensors.keys().filter(|name| name.starts_with("gradient/"));
    assert_eq!(compared, of_theirs.count());
}
