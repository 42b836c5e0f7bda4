//! What holds for whole models.
#![allow(clippy::unwrap_used)]

use super::attention::Attention;
use super::norm::LayerNorm;
use super::*;
use burn::module::{ModuleVisitor, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Bool, TensorData, Tolerance};

fn flex() -> Device {
    Device::flex()
}

/// A small, odd ViT.
fn tiny() -> VitConfig {
    VitConfig {
        image_size: 15,
        patch_size: 5,
        embed_dim: 12,
        depth: 3,
        num_heads: 3,
        mlp_dim: 10,
        num_classes: 7,
        pooling: Pooling::ClassToken,
        position: Position::Learned,
        stem: Stem::Linear,
        registers: 0,
        drop_path: 0.0,
        distillation_token: false,
        init: Init::Xavier,
        layer_scale: 0.0,
        qk_norm: false,
    }
}

/// Normally distributed numbers that do not depend on the other tests.
fn random<const R: usize>(shape: [usize; R], device: &Device) -> Tensor<R> {
    let elements = shape.iter().product();
    let mut bits = 1_u64;
    let values: Vec<f32> = (0..elements)
        .map(|_| {
            bits = init::mix(bits);
            (init::unit(bits) * 3.4 - 1.7) as f32
        })
        .collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Gives zeros (the head) and ones something to do.
fn stirred(config: &ModelConfig, device: &Device) -> Model {
    parameters::replace(config.init(3, device), |path, shape| {
        let elements = shape.iter().product();
        let noise = random([elements], &device.clone().without_autodiff()) * 0.2;
        let positive = path.ends_with("gamma") || path.ends_with("running_var");
        Some(if positive { noise + 1.0 } else { noise })
    })
}

fn values<const R: usize>(tensor: Tensor<R>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().unwrap()
}

fn trainable_count(config: &ModelConfig) -> u64 {
    let model = config.init(0, &flex().autodiff());
    let parameters = parameters::trainable(&model);
    parameters
        .iter()
        .map(|p| p.shape.iter().product::<usize>() as u64)
        .sum()
}

#[test]
fn published_parameter_counts() {
    for (name, size, classes, expected) in [
        ("vit-tiny", 224, 1000, 5_717_416),
        ("vit-small", 224, 1000, 22_050_664),
        ("vit-base", 224, 1000, 86_567_656),
        ("vit-w1", 32, 10, 1_806_154),
        // Published with the whitening filters (288), and without a bias of the head (10).
        ("airbench", 32, 10, 1_972_792 - 288 + 10),
        ("resnet18", 32, 10, 11_173_962),
        ("resnet18", 224, 1000, 11_689_512),
    ] {
        let config = ModelConfig::preset(name, size, None, classes).unwrap();
        assert_eq!(config.parameters(), expected, "{name} at {size}");
        assert_eq!(config.name(), name);
    }
}

#[test]
fn published_flops() {
    let gigaflops = |name, size, classes| {
        ModelConfig::preset(name, size, None, classes)
            .unwrap()
            .flops() as f64
            / 1e9
    };
    // The papers and timm count multiply-adds: 1.26 and 17.6 G with attention, 1.82 G, 0.56 G.
    assert!((gigaflops("vit-tiny", 224, 1000) / 2.0 - 1.26).abs() < 0.01);
    assert!((gigaflops("vit-base", 224, 1000) / 2.0 - 17.57).abs() < 0.05);
    assert!((gigaflops("resnet18", 224, 1000) / 2.0 - 1.82).abs() < 0.01);
    assert!((gigaflops("resnet18", 32, 10) / 2.0 - 0.556).abs() < 0.002);
    assert!((gigaflops("vit-w1", 32, 10) - 0.2466).abs() < 0.0001);
}

#[test]
fn the_formula_counts_what_is_built() {
    for preset in presets() {
        // The larger ones differ from these in their numbers alone.
        if ["vit-base", "vit-small", "resnet18"].contains(&preset.name) {
            continue;
        }
        for (size, classes) in [(28, 3), (32, 10), (100, 2)] {
            let config = ModelConfig::preset(preset.name, size, None, classes).unwrap();
            assert_eq!(
                trainable_count(&config),
                config.parameters(),
                "{} at {size}",
                preset.name
            );
        }
    }
    for size in [16, 96] {
        let mut config = ModelConfig::preset("resnet18", size, None, 5).unwrap();
        let ModelConfig::Resnet(resnet) = &mut config else {
            unreachable!()
        };
        resnet.width = 6;
        assert_eq!(trainable_count(&config), config.parameters());
    }
    for stem in [Stem::Linear, Stem::Convolutional] {
        for pooling in [Pooling::ClassToken, Pooling::Mean] {
            for position in [Position::Learned, Position::Sinusoidal1d, Position::None] {
                let (image_size, patch_size) = (16, 4);
                let vit = VitConfig {
                    stem,
                    pooling,
                    position,
                    registers: 2,
                    distillation_token: stem == Stem::Linear,
                    image_size,
                    patch_size,
                    ..tiny()
                };
                let config = ModelConfig::Vit(vit);
                config.validate().unwrap();
                assert_eq!(trainable_count(&config), config.parameters(), "{config:?}");
            }
        }
    }
}

/// [`tiny`] with every lever that has weights or changes a formula.
fn levers() -> VitConfig {
    VitConfig {
        position: Position::Rope2d,
        registers: 2,
        init: Init::Mimetic,
        layer_scale: 0.1,
        qk_norm: true,
        ..tiny()
    }
}

#[test]
fn levers_count_as_they_are_built() {
    let base = ModelConfig::Vit(tiny()).parameters();
    let of = |vit: VitConfig| {
        let config = ModelConfig::Vit(vit);
        config.validate().unwrap();
        assert_eq!(trainable_count(&config), config.parameters(), "{config:?}");
        config.parameters() as i64 - base as i64
    };
    let (depth, width, head_dim) = (3, 12, 4);
    let layer_scale = VitConfig {
        layer_scale: 1e-4,
        ..tiny()
    };
    assert_eq!(of(layer_scale), depth * 2 * width);
    let qk_norm = VitConfig {
        qk_norm: true,
        ..tiny()
    };
    assert_eq!(of(qk_norm), depth * 2 * head_dim);
    let rope = VitConfig {
        position: Position::Rope2d,
        ..tiny()
    };
    assert_eq!(
        of(rope),
        -(10 * width),
        "learned positions of 9 patches and the class token"
    );
    let mimetic = VitConfig {
        init: Init::Mimetic,
        ..tiny()
    };
    assert_eq!(of(mimetic), 0);
    of(levers());
}

#[test]
fn a_layer_scale_of_almost_nothing_makes_the_encoder_the_identity() {
    let of = |layer_scale| {
        let config = ModelConfig::Vit(VitConfig {
            layer_scale,
            ..levers()
        });
        let Model::Vit(vit) = config.init(3, &flex()) else {
            unreachable!()
        };
        let tokens = random([2 * 12, 12], &flex());
        let after = vit.encode(tokens.clone(), 2, None, None, &mut still());
        values((after - tokens).abs().max())[0]
    };
    assert!(of(1e-7) < 1e-6);
    assert!(of(1.0) > 0.1);
}

/// Scores depend on how far apart two patches are, not on where they are.
#[test]
fn rotary_positions_are_relative() {
    let (width, heads, grid) = (24, 3, 3);
    let attention = drawn(Attention::new(width, heads, true, &flex()));
    let norm = LayerNorm::new(width, &flex());
    let x = random([2 * grid * grid, width], &flex()) * 3.0;
    let weights = |shift: [f64; 2], of_first: [f64; 2]| {
        let mut places = position::places(grid);
        for place in &mut places {
            *place = [place[0] + shift[0], place[1] + shift[1]];
        }
        places[0] = [places[0][0] + of_first[0], places[0][1] + of_first[1]];
        let table = position::rotations(&places, 0, width / heads);
        let table = TensorData::new(table, [grid * grid, width / heads]);
        let table = Tensor::<2>::from_data(table, &flex());
        values(attention.weights(&norm, x.clone(), 2, Some(&table), None))
    };
    let difference = |a: &[f32], b: &[f32]| {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    let here = weights([0.0, 0.0], [0.0, 0.0]);
    assert!(difference(&here, &weights([4.0, -2.5], [0.0, 0.0])) < 1e-5);
    assert!(difference(&here, &weights([0.0, 0.0], [1.0, 0.0])) > 1e-3);
    assert!(difference(&here, &weights([0.0, 0.0], [0.0, 1.0])) > 1e-3);
}

#[test]
fn class_and_register_tokens_are_not_turned() {
    let config = ModelConfig::Vit(levers());
    let Model::Vit(vit) = stirred(&config, &flex()) else {
        unreachable!()
    };
    let tokens = random([12, 12], &flex()) * 2.0;
    let rotation = vit.rotation.clone().unwrap();
    let still = values(rotation.clone().narrow(0, 0, 3));
    for row in still.chunks(4) {
        assert_eq!(row, [1.0, 1.0, 0.0, 0.0]);
    }
    let block = &vit.blocks[0];
    let of = |rotation| {
        let weights = block
            .attention
            .weights(&block.norm1, tokens.clone(), 1, rotation, None);
        // How the prefix looks at itself does not depend on the patches' places but for the sum.
        let weights = weights.narrow(2, 0, 3).narrow(3, 0, 3);
        values(weights.clone() / weights.sum_dim(3))
    };
    for (a, b) in of(Some(&rotation)).iter().zip(of(None)) {
        assert!((a - b).abs() < 1e-5, "{a}, not {b}");
    }
}

#[test]
fn configurations_from_before_the_levers_read_as_without_them() {
    let mut json = serde_json::to_value(tiny()).unwrap();
    let fields = json.as_object_mut().unwrap();
    for lever in ["init", "layer_scale", "qk_norm"] {
        assert!(fields.remove(lever).is_some());
    }
    assert_eq!(serde_json::from_value::<VitConfig>(json).unwrap(), tiny());
}

#[test]
fn every_family_gives_logits_and_features() {
    let mut configs = vec![ModelConfig::Vit(tiny()), ModelConfig::Vit(levers())];
    for (registers, pooling) in [(3, Pooling::Mean), (2, Pooling::ClassToken)] {
        for position in [
            Position::Sinusoidal1d,
            Position::Sinusoidal2d,
            Position::None,
        ] {
            let stem = Stem::Convolutional;
            let (image_size, patch_size, drop_path) = (24, 8, 0.2);
            configs.push(ModelConfig::Vit(VitConfig {
                registers,
                distillation_token: registers == 3,
                pooling,
                position,
                stem,
                image_size,
                patch_size,
                drop_path,
                ..tiny()
            }));
        }
    }
    for (variant, image_size) in [
        (ResnetVariant::Resnet9, 29),
        (ResnetVariant::Resnet18, 13),
        (ResnetVariant::Resnet18, 97),
    ] {
        configs.push(ModelConfig::Resnet(ResnetConfig {
            variant,
            image_size,
            num_classes: 7,
            width: 3,
        }));
    }
    for (depth, residual, stem_kernel, whiten) in [
        (2, false, 2, true),
        (3, true, 3, true),
        (1, false, 2, false),
    ] {
        configs.push(ModelConfig::Airbench(AirbenchConfig {
            image_size: 29,
            num_classes: 7,
            widths: [3, 5, 4],
            depth,
            residual,
            stem_kernel,
            whiten,
        }));
    }
    for config in configs {
        config.validate().unwrap();
        assert_eq!(trainable_count(&config), config.parameters());
        let size = config.image_size();
        let device = flex().autodiff();
        let model = config.init(1, &device);
        let images = random([3, 3, size, size], &device);
        let logits = model.forward(
            images.clone(),
            &mut Pass::training(Precision::F32, &mut Noise::new(1, 1)),
        );
        assert_eq!(logits.dims(), [3, 7], "{config:?}");
        // The head starts as zeros, so every class is as likely as any other.
        let loss = -log_softmax(logits, 1).mean();
        assert_eq!(loss.clone().into_scalar::<f32>(), 7f32.ln(), "{config:?}");
        let mut gradients = loss.backward();
        let gradients = parameters::take_gradients(&model, &mut gradients);
        assert_eq!(gradients.len(), parameters::trainable(&model).len());
        assert!(gradients.iter().all(Option::is_some), "{config:?}");
        let model = model.valid();
        let features = model.features(images.clone().inner(), &mut still());
        assert_eq!(features.dims(), [3, model.width()]);
        let outputs = model.outputs(images.inner(), true, &mut still());
        let map = outputs.map.unwrap();
        let [batch, pixels, width] = map.dims();
        assert_eq!((batch, width), (3, model.width()));
        assert_eq!(pixels.isqrt().pow(2), pixels, "{config:?}");
        // What the features are pooled from, except where a class token gathers them.
        let pooled = match &config {
            ModelConfig::Vit(vit) if vit.pooling == Pooling::ClassToken => continue,
            ModelConfig::Resnet(resnet) if resnet.variant == ResnetVariant::Resnet9 => {
                map.max_dim(1)
            }
            ModelConfig::Airbench(_) => map.max_dim(1),
            _ => map.mean_dim(1),
        };
        pooled
            .reshape([3, width])
            .into_data()
            .assert_approx_eq::<f32>(&features.into_data(), Tolerance::default());
    }
}

#[test]
fn training_and_inference_take_different_paths_to_the_same_logits() {
    for vit in [tiny(), levers()] {
        let config = ModelConfig::Vit(VitConfig {
            drop_path: 0.5,
            ..vit
        });
        let model = stirred(&config, &flex().autodiff());
        let images = random([4, 3, 15, 15], &flex().autodiff());
        let training = model.forward(images.clone(), &mut still()).into_data();
        let inference = model
            .valid()
            .forward(images.inner(), &mut still())
            .into_data();
        assert!(training.iter::<f32>().any(|logit| logit.abs() > 0.1));
        training.assert_approx_eq(&inference, Tolerance::<f32>::absolute(2e-5));
    }
}

#[test]
fn gradients_reach_the_positions_of_smaller_pictures_with_dropped_tokens() {
    let config = ModelConfig::Vit(VitConfig {
        registers: 1,
        ..tiny()
    });
    let model = stirred(&config, &flex().autodiff());
    // Four patches where the table has nine, and two of them dropped.
    let images = random([4, 3, 10, 10], &flex().autodiff());
    let loss = |model: &Model| {
        let mut noise = Noise::new(5, 8).dropping_tokens(0.5);
        let pass = &mut Pass::training(Precision::F32, &mut noise);
        model.forward(images.clone(), pass).square().sum()
    };
    let is_table = |path: &str| path.ends_with("position_embedding");
    let mut gradients = loss(&model).backward();
    let place = parameters::trainable(&model)
        .iter()
        .position(|info| is_table(&info.path))
        .unwrap();
    let gradient = parameters::take_gradients(&model, &mut gradients)
        .swap_remove(place)
        .unwrap();
    let norm = gradient.clone().square().sum().sqrt().into_scalar::<f32>();
    assert!(norm > 1e-2, "{norm}");
    let (_, table) = parameters::values(&model.valid())
        .into_iter()
        .find(|(path, _)| is_table(path))
        .unwrap();
    // Along the gradient the loss must rise by its norm.
    let moved = |by: f32| {
        let along = table.clone() + gradient.clone() * (by / norm);
        let model = parameters::replace(model.clone(), |path, _| {
            is_table(path).then(|| along.clone())
        });
        loss(&model).into_scalar::<f32>()
    };
    let slope = (moved(0.01) - moved(-0.01)) / 0.02;
    assert!((slope / norm - 1.0).abs() < 0.02, "{slope}, not {norm}");
}

#[test]
fn every_kind_of_position_takes_smaller_pictures_and_dropped_tokens() {
    for position in [
        Position::Learned,
        Position::Sinusoidal1d,
        Position::Sinusoidal2d,
        Position::None,
    ] {
        for pooling in [Pooling::ClassToken, Pooling::Mean] {
            let config = ModelConfig::Vit(VitConfig {
                position,
                pooling,
                ..tiny()
            });
            let model = stirred(&config, &flex());
            let draw = |side: usize, share: f64, step: u64| {
                let mut noise = Noise::new(1, step).dropping_tokens(share);
                let pass = &mut Pass::training(Precision::F32, &mut noise);
                values(model.forward(random([2, 3, side, side], &flex()), pass))
            };
            assert_eq!(draw(10, 0.0, 1).len(), 2 * 7);
            assert_eq!(draw(10, 0.0, 1), draw(10, 0.0, 2));
            assert_eq!(draw(15, 0.4, 1), draw(15, 0.4, 1));
            assert_ne!(draw(15, 0.4, 1), draw(15, 0.4, 2));
        }
    }
}

#[test]
fn drop_path_acts_in_training_alone() {
    let config = ModelConfig::Vit(VitConfig {
        drop_path: 0.9,
        ..tiny()
    });
    let model = stirred(&config, &flex());
    let images = random([6, 3, 15, 15], &flex());
    let draw = |pass: &mut Pass| values(model.forward(images.clone(), pass));
    let quiet = draw(&mut still());
    assert_eq!(quiet, draw(&mut still()));
    let noisy = || draw(&mut Pass::training(Precision::F32, &mut Noise::new(5, 8)));
    assert_ne!(quiet, noisy());
    assert_eq!(noisy(), noisy());
}

#[test]
fn attention_rows_sum_to_one() {
    let attention = drawn(Attention::new(10, 5, false, &flex()));
    let norm = LayerNorm::new(10, &flex());
    let x = random([2 * 7, 10], &flex()) * 3.0;
    let weights = attention.weights(&norm, x, 2, None, None);
    assert_eq!(weights.dims(), [2, 5, 7, 7]);
    for sum in values(weights.sum_dim(3)) {
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    }
}

#[test]
fn a_masked_token_is_not_looked_at() {
    let attention = drawn(Attention::new(12, 2, false, &flex()));
    let norm = LayerNorm::new(12, &flex());
    let (batch, tokens) = (3, 5);
    let x = random([batch * tokens, 12], &flex());
    // Nobody may look at token 4.
    let allowed: Vec<bool> = (0..tokens * tokens).map(|i| i % tokens != 4).collect();
    let mask =
        Tensor::<4, Bool>::from_data(TensorData::new(allowed, [1, 1, tokens, tokens]), &flex());
    let weights = attention.weights(&norm, x.clone(), batch, None, Some(&mask));
    let of_last = values(weights.clone().narrow(3, 4, 1));
    assert!(of_last.iter().all(|&weight| weight == 0.0));
    for sum in values(weights.sum_dim(3)) {
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    }
    // So it may be anything, as far as the others go.
    let other = x.clone().reshape([batch, tokens, 12]);
    let last = random([batch, 1, 12], &flex()) * 7.0 + 1.0;
    let other = other
        .slice_assign([0..batch, 4..5], last)
        .reshape([batch * tokens, 12]);
    let others = |x| {
        let y = crate::ops::attention::attention(
            x,
            attention.heads(batch, None),
            &norm.scale(),
            &patch::affine(&attention.qkv),
            &attention.query_key(None),
            &patch::affine(&attention.projection),
            Some(&mask),
            None,
            Precision::F32,
            None,
        );
        values(y.reshape([batch, tokens, 12]).narrow(1, 0, 4))
    };
    assert_eq!(others(x), others(other));
}

#[test]
fn without_positions_the_encoder_commutes_with_a_permutation() {
    let config = ModelConfig::Vit(VitConfig {
        position: Position::None,
        ..tiny()
    });
    let Model::Vit(vit) = stirred(&config, &flex()) else {
        unreachable!()
    };
    let tokens = random([2, 6, 12], &flex());
    let order = Tensor::from_data([3, 0, 5, 1, 4, 2], &flex());
    let encode = |tokens: Tensor<3>| {
        let x = vit.encode(tokens.reshape([2 * 6, 12]), 2, None, None, &mut still());
        x.reshape([2, 6, 12])
    };
    let before = encode(tokens.clone().select(1, order.clone()));
    let after = encode(tokens).select(1, order);
    before
        .into_data()
        .assert_approx_eq(&after.into_data(), Tolerance::<f32>::absolute(1e-5));
}

#[test]
fn with_positions_the_place_of_a_patch_matters() {
    for position in [
        Position::Learned,
        Position::Sinusoidal1d,
        Position::Sinusoidal2d,
        Position::Rope2d,
        Position::None,
    ] {
        let config = ModelConfig::Vit(VitConfig { position, ..tiny() });
        let model = stirred(&config, &flex());
        let images = random([1, 3, 15, 15], &flex());
        // Rows of patches in another order.
        let rows: Vec<i32> = (5..15).chain(0..5).collect();
        let moved = images
            .clone()
            .select(2, Tensor::from_data(rows.as_slice(), &flex()));
        let (a, b) = (
            values(model.forward(images, &mut still())),
            values(model.forward(moved, &mut still())),
        );
        let difference = a
            .iter()
            .zip(&b)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert_eq!(
            difference > 1e-4,
            position != Position::None,
            "{position:?} {difference}"
        );
    }
}

#[test]
fn patches_are_flattened_channel_first() {
    let (channels, size, patch) = (2, 6, 3);
    let pixels: Vec<f32> = (0..channels * size * size).map(|i| i as f32).collect();
    let image = Tensor::<4>::from_data(TensorData::new(pixels, [1, channels, size, size]), &flex());
    let patches = values(crate::ops::embedding::patches(image, patch));
    for (i, &value) in patches.iter().enumerate() {
        let (token, c, y, x) = (i / 18, i / 9 % 2, i / 3 % 3, i % 3);
        let (row, column) = (token / 2 * 3 + y, token % 2 * 3 + x);
        assert_eq!(value as usize, c * 36 + row * 6 + column);
    }
}

#[test]
fn a_distillation_token_has_a_head_of_its_own_and_does_not_count_in_the_mean() {
    for pooling in [Pooling::Mean, Pooling::ClassToken] {
        let config = ModelConfig::Vit(VitConfig {
            pooling,
            registers: 2,
            distillation_token: true,
            ..tiny()
        });
        let Model::Vit(vit) = stirred(&config, &flex()) else {
            unreachable!()
        };
        let images = random([2, 3, 15, 15], &flex());
        let outputs = vit.outputs(images.clone(), true, &mut still());
        // By way of the tokens: class token, distillation token, registers, patches.
        let tokens = vit.encode(
            vit.embed(images.clone(), &still()),
            2,
            None,
            None,
            &mut still(),
        );
        let first = usize::from(pooling == Pooling::ClassToken);
        assert_eq!(tokens.dims(), [2 * (first + 1 + 2 + 9), 12]);
        let normed = vit.norm.forward(tokens).reshape([2, first + 12, 12]);
        let own = normed.clone().narrow(1, first, 1).reshape([2, 12]);
        let head = vit.distillation_head.as_ref().unwrap();
        let same = |a: Tensor<2>, b: Tensor<2>| {
            a.into_data()
                .assert_approx_eq::<f32>(&b.into_data(), Tolerance::default());
        };
        same(outputs.distillation.clone().unwrap(), head.forward(own));
        let patches = normed.clone().narrow(1, first + 3, 9);
        same(
            outputs.map.clone().unwrap().reshape([18, 12]),
            patches.clone().reshape([18, 12]),
        );
        let pooled = match pooling {
            Pooling::Mean => patches.mean_dim(1),
            Pooling::ClassToken => normed.narrow(1, 0, 1),
        };
        same(
            outputs.head.clone(),
            vit.head.forward(pooled.reshape([2, 12])),
        );
        let mean = (outputs.head.clone() + outputs.distillation.clone().unwrap()) / 2.0;
        same(Model::Vit(vit).forward(images, &mut still()), mean);
    }
}

#[test]
fn vit_gradients_equal_differences() {
    let plain = [Stem::Linear, Stem::Convolutional].map(|stem| (stem, tiny()));
    for (stem, vit) in plain.into_iter().chain([(Stem::Linear, levers())]) {
        gradients_equal_differences(&ModelConfig::Vit(VitConfig {
            stem,
            image_size: 12,
            patch_size: 4,
            registers: 1,
            distillation_token: stem == Stem::Linear,
            ..vit
        }));
    }
}

#[test]
fn weights_depend_on_seed_and_name_alone() {
    let config = ModelConfig::Vit(tiny());
    let weights = |seed| {
        let model = config.init(seed, &flex());
        let all: Vec<(String, Vec<f32>)> = parameters::values(&model)
            .into_iter()
            .map(|(path, tensor)| (path, values(tensor)))
            .collect();
        all
    };
    let here = weights(1);
    let there = std::thread::spawn(move || {
        let config = ModelConfig::Vit(VitConfig { depth: 4, ..tiny() });
        let model = config.init(1, &flex().autodiff());
        let all: Vec<(String, Vec<f32>)> = parameters::values(&model)
            .into_iter()
            .map(|(path, tensor)| (path, values(tensor)))
            .collect();
        all
    });
    // A deeper model on another thread and an autodiff device draws the same blocks.
    let there = there.join().unwrap();
    for (path, values) in &here {
        let (_, other) = there.iter().find(|(other, _)| other == path).unwrap();
        assert_eq!(values, other, "{path}");
    }
    assert_ne!(here, weights(2));
    let (_, position) = here
        .iter()
        .find(|(path, _)| path.ends_with("position_embedding"))
        .unwrap();
    let deviation = (position.iter().map(|p| p * p).sum::<f32>() / position.len() as f32).sqrt();
    assert!((deviation - 0.02).abs() < 0.004, "{deviation}");
    let (_, block0) = here
        .iter()
        .find(|(path, _)| path.ends_with("0.mlp.fc1.weight"))
        .unwrap();
    let (_, block1) = here
        .iter()
        .find(|(path, _)| path.ends_with("1.mlp.fc1.weight"))
        .unwrap();
    assert_ne!(block0, block1);
}

#[test]
fn weight_decay_is_for_matrices() {
    let config = VitConfig {
        distillation_token: true,
        ..levers()
    };
    let model = ModelConfig::Vit(config).init(0, &flex().autodiff());
    let mut decayed: Vec<String> = parameters::trainable(&model)
        .into_iter()
        .filter(|parameter| parameter.decays)
        .map(|parameter| parameter.path.replace(|c: char| c.is_ascii_digit(), "#"))
        .collect();
    decayed.dedup();
    decayed.sort();
    decayed.dedup();
    assert_eq!(
        decayed,
        [
            "Vit.blocks.#.attention.projection.weight",
            "Vit.blocks.#.attention.qkv.weight",
            "Vit.blocks.#.mlp.fc#.weight",
            "Vit.distillation_head.weight",
            "Vit.head.weight",
            "Vit.patch_embedding.projection.weight",
        ]
    );
}

#[test]
fn presets_take_a_patch_size_that_fits() {
    for (size, patch) in [
        (28, 4),
        (30, 3),
        (32, 4),
        (64, 8),
        (96, 16),
        (100, 10),
        (224, 16),
    ] {
        let ModelConfig::Vit(config) = ModelConfig::preset("vit-micro", size, None, 10).unwrap()
        else {
            unreachable!()
        };
        assert_eq!(config.patch_size, patch, "at {size}");
        let halves = patch.is_power_of_two();
        assert_eq!(config.stem == Stem::Convolutional, halves, "at {size}");
    }
}

#[test]
fn errors_say_what_to_do() {
    let message = |name, size, patch, classes| {
        ModelConfig::preset(name, size, patch, classes)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        message("vit-tinny", 224, None, 10),
        "--model \"vit-tinny\" is not a model, did you mean \"vit-tiny\"?; known models are \
         vit-micro, vit-w1, vit-tiny, vit-small, vit-base, resnet9, airbench, resnet18"
    );
    assert_eq!(
        message("vit-w1", 32, Some(5), 10),
        "--patch-size 5 does not divide --image-size 32: expected one of 2, 4, 8, 16, 32"
    );
    assert_eq!(
        message("vit-w1", 31, None, 10),
        "--patch-size 4 does not divide --image-size 31: expected one of 31"
    );
    assert_eq!(
        message("resnet9", 32, Some(4), 10),
        "--patch-size does not apply to resnet9, which has no patches: leave it out"
    );
    assert_eq!(
        message("vit-w1", 32, Some(0), 10),
        "patch_size is 0: expected 1 to 32"
    );
    assert_eq!(
        message("resnet9", 4, None, 10),
        "image_size is 4: expected 8 to 4096"
    );
    assert_eq!(
        message("vit-w1", 32, None, 0),
        "num_classes is 0: expected 1 to 1000000"
    );
    assert_eq!(
        message("vit-w1", 4096, Some(2), 10),
        "the number of tokens is 4194304: expected 1 to 16384"
    );
    let refuse = |config: VitConfig| ModelConfig::Vit(config).validate().unwrap_err().to_string();
    assert_eq!(
        refuse(VitConfig {
            num_heads: 5,
            ..tiny()
        }),
        "num_heads 5 does not divide embed_dim 12: expected a divisor"
    );
    assert_eq!(
        refuse(VitConfig {
            drop_path: 1.0,
            ..tiny()
        }),
        "drop_path is 1: expected from 0 to below 1"
    );
    assert_eq!(
        refuse(VitConfig {
            layer_scale: -0.1,
            ..tiny()
        }),
        "layer_scale is -0.1: expected from 0 to 1"
    );
    assert_eq!(
        refuse(VitConfig {
            position: Position::Rope2d,
            num_heads: 2,
            ..tiny()
        }),
        "position = \"rope-2d\" cannot work with heads of 6 channels (embed_dim / num_heads): \
         expected a multiple of 4"
    );
    assert_eq!(
        refuse(VitConfig {
            qk_norm: true,
            num_heads: 12,
            ..tiny()
        }),
        "qk_norm cannot work with heads of 1 channels (embed_dim / num_heads): expected 2 or more"
    );
    assert!(
        refuse(VitConfig {
            drop_path: f32::NAN,
            ..tiny()
        })
        .contains("NaN")
    );
    assert!(
        refuse(VitConfig {
            stem: Stem::Convolutional,
            ..tiny()
        })
        .contains("patches of 5")
    );
    let huge = VitConfig {
        embed_dim: 16_380,
        depth: 256,
        mlp_dim: 65_536,
        ..tiny()
    };
    assert!(refuse(huge).starts_with("the number of parameters is"));
}

#[test]
fn configurations_survive_serialisation_and_refuse_unknown_keys() {
    for preset in presets() {
        let config = ModelConfig::preset(preset.name, 32, None, 10).unwrap();
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<ModelConfig>(&json).unwrap(), config);
        let toml = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<ModelConfig>(&toml).unwrap(), config);
        let misspelt = json.replace("image_size", "img_size");
        assert!(serde_json::from_str::<ModelConfig>(&misspelt).is_err());
        let more = json.replacen('{', "{\"dept\":3,", 1);
        assert!(
            serde_json::from_str::<ModelConfig>(&more).is_err(),
            "{more}"
        );
        assert_eq!(config.clone().with_num_classes(3).num_classes(), 3);
    }
}

/// A pass without noise.
fn still() -> Pass<'static> {
    Pass::inference(Precision::F32)
}

/// Xavier's weights for a lone module.
fn drawn<M: Module>(module: M) -> M {
    init::draw(module, 9, &flex())
}

#[test]
fn running_statistics_reach_inference() {
    let config = ResnetConfig {
        variant: ResnetVariant::Resnet9,
        image_size: 8,
        num_classes: 3,
        width: 2,
    };
    let device = flex().autodiff();
    let model = stirred(&ModelConfig::Resnet(config), &device);
    let images = random([4, 3, 8, 8], &device) * 2.0 + 1.0;
    let before = values(model.valid().forward(images.clone().inner(), &mut still()));
    let _ = model.forward(images.clone(), &mut still());
    let after = values(model.valid().forward(images.inner(), &mut still()));
    assert_ne!(before, after);
    struct Frozen(usize);
    impl ModuleVisitor for Frozen {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 += usize::from(!param.val().is_require_grad());
        }
    }
    let mut frozen = Frozen(0);
    model.visit(&mut frozen);
    assert_eq!(
        frozen.0, 16,
        "a mean and a variance for each of eight norms"
    );
}

/// A small, odd airbench.
fn small_airbench() -> AirbenchConfig {
    AirbenchConfig {
        image_size: 13,
        num_classes: 7,
        widths: [5, 8, 6],
        depth: 3,
        residual: true,
        stem_kernel: 2,
        whiten: true,
    }
}

#[test]
fn airbench_begins_whitened_and_as_the_identity() {
    let config = ModelConfig::Airbench(small_airbench());
    let n = 3 * config.whitens().unwrap().pow(2);
    // Uncorrelated pixels of variance 4: the filters must halve them.
    let covariance: Vec<f64> = (0..n * n)
        .map(|i| if i / n == i % n { 4.0 } else { 0.0 })
        .collect();
    let device = flex().autodiff();
    let model = config.init(5, &device).whitened(&covariance, &device);
    let all = parameters::values(&model.clone().valid());
    let find = |path: &str| {
        let (_, tensor) = all.iter().find(|(known, _)| known == path).unwrap();
        values(tensor.clone())
    };
    let filters = find("Airbench.whitening.weight");
    assert_eq!(filters.len(), 2 * n * n);
    for filter in filters.chunks(n) {
        let norm = filter.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!((norm - 0.5).abs() < 1e-4, "{norm}");
    }
    // 24 channels into 5 filters: each passes one through; 5 into 8: the last three are drawn.
    for (path, channels) in [("0.first", 24), ("1.first", 5), ("1.rest.0", 8)] {
        let weight = find(&format!("Airbench.groups.{path}.conv.weight"));
        for (i, filter) in weight.chunks(9 * channels).enumerate() {
            let ones = filter.iter().filter(|&&x| x == 1.0).count();
            let zeros = filter.iter().filter(|&&x| x == 0.0).count();
            if i < channels {
                assert_eq!((ones, zeros), (1, filter.len() - 1), "{path} {i}");
                assert_eq!(filter[9 * i + 4], 1.0);
            } else {
                assert_eq!(zeros, 0, "{path} {i}");
            }
        }
    }
    let frozen = parameters::trainable(&model);
    assert!(frozen.iter().all(|p| p.path != "Airbench.whitening.weight"));
    assert!(frozen.iter().any(|p| p.path == "Airbench.whitening.bias"));
    // Models without such a layer stay as they are.
    let vit = ModelConfig::Vit(tiny());
    assert_eq!(vit.whitens(), None);
    let before: Vec<_> = parameters::values(&vit.init(1, &flex()));
    let after = parameters::values(&vit.init(1, &flex()).whitened(&covariance, &flex()));
    for ((_, before), (_, after)) in before.into_iter().zip(after) {
        assert_eq!(values(before), values(after));
    }
}

#[test]
fn airbench_gradients_equal_differences() {
    gradients_equal_differences(&ModelConfig::Airbench(small_airbench()));
}

/// The loss' slope along each parameter's gradient, by autodiff and by differences.
fn gradients_equal_differences(config: &ModelConfig) {
    let device = flex().autodiff();
    let model = stirred(config, &device);
    let size = config.image_size();
    let images = random([4, 3, size, size], &device);
    let slope = random([4, 7], &device);
    let loss = |model: &Model| {
        let logits = model.forward(images.clone(), &mut still());
        (logits * slope.clone()).sum() * 9.0
    };
    let mut gradients = loss(&model).backward();
    let taken = parameters::take_gradients(&model, &mut gradients);
    for (info, gradient) in parameters::trainable(&model).iter().zip(taken) {
        let gradient = values(gradient.unwrap());
        let squares: f64 = gradient.iter().map(|&g| f64::from(g).powi(2)).sum();
        // Along the gradient itself, where the slope is its length.
        let length = squares.sqrt();
        let at = |step: f64| {
            let moved = parameters::replace(model.clone(), |path, _| {
                (path == info.path).then(|| {
                    let (_, value) = parameters::values(&model)
                        .into_iter()
                        .find(|(known, _)| known == path)
                        .unwrap();
                    let along = Tensor::<1>::from_floats(gradient.as_slice(), &flex());
                    value + along * (step / length)
                })
            });
            f64::from(loss(&moved).into_scalar::<f32>())
        };
        let step = 2e-3;
        let measured = (at(step) - at(-step)) / (2.0 * step);
        assert!(
            (measured / length - 1.0).abs() < 3e-2,
            "{}: autodiff {length}, differences {measured}",
            info.path
        );
    }
}

#[test]
fn weights_are_packed_once_and_answer_the_same() {
    for config in [
        ModelConfig::Airbench(small_airbench()),
        ModelConfig::preset("resnet9", 13, None, 7).unwrap(),
        ModelConfig::preset("resnet18", 13, None, 7).unwrap(),
        ModelConfig::Vit(levers()),
    ] {
        let model = stirred(&config, &flex());
        let size = config.image_size();
        let images = random([3, 3, size, size], &flex());
        let plain = values(model.forward(images.clone(), &mut still()));
        let prepared = Prepared::default();
        // Noted, packed, and taken as packed.
        for _ in 0..3 {
            let again = model.infer(images.clone(), Precision::F32, &prepared);
            assert_eq!(values(again), plain);
        }
    }
}
