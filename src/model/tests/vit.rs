//! What holds for Vision Transformers.

use burn::tensor::Bool;

use super::*;
use crate::model::layers::affine;
use crate::model::network::Network;
use crate::model::norm::LayerNorm;
use crate::model::vit::attention::Attention;
use crate::model::vit::position;
use crate::ops::attention::add_attention;
use crate::ops::branch::Branch;

const POOLINGS: [Pooling; 3] = [
    Pooling::ClassToken,
    Pooling::Mean,
    Pooling::ClassTokenAndMean,
];

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
    let qk_norm_bias = VitConfig {
        qk_norm: true,
        qk_norm_bias: true,
        ..tiny()
    };
    assert_eq!(of(qk_norm_bias), depth * 4 * head_dim);
    let both = VitConfig {
        pooling: Pooling::ClassTokenAndMean,
        ..tiny()
    };
    assert_eq!(of(both), 7 * width, "a head of twice as many inputs");
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
    let attention = drawn(Attention::new(
        &VitConfig {
            embed_dim: width,
            num_heads: heads,
            qk_norm: true,
            ..tiny()
        },
        &flex(),
    ));
    let norm = LayerNorm::new(width, 1e-6, &flex());
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
    for lever in ["init", "layer_scale", "qk_norm", "stem_depth"] {
        assert!(fields.remove(lever).is_some());
    }
    assert_eq!(serde_json::from_value::<VitConfig>(json).unwrap(), tiny());
}

#[test]
fn what_a_foreign_model_needs_is_written_where_it_is_not_the_default() {
    let names = [
        "qk_norm_bias",
        "norm_epsilon",
        "norm_after_pooling",
        "activation",
    ];
    let plain = ModelConfig::Vit(tiny());
    let json = serde_json::to_value(&plain).unwrap();
    assert!(names.iter().all(|name| json.get(name).is_none()), "{json}");
    let fields = plain.fields();
    assert!(names.iter().all(|name| fields.get(name).is_some()));
    assert_eq!(
        serde_json::from_value::<ModelConfig>(fields).unwrap(),
        plain
    );
    for vit in foreign() {
        let config = ModelConfig::Vit(vit);
        let json = serde_json::to_value(&config).unwrap();
        assert!(names.iter().any(|name| json.get(name).is_some()) || json["pooling"] != "mean");
        assert_eq!(serde_json::from_value::<ModelConfig>(json).unwrap(), config);
        let fields = config.fields();
        assert_eq!(
            serde_json::from_value::<ModelConfig>(fields).unwrap(),
            config
        );
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
        .position(|info| is_table(info.path()))
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
        for pooling in POOLINGS {
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

fn plain_attention(embed_dim: usize, num_heads: usize) -> Attention {
    let config = VitConfig {
        embed_dim,
        num_heads,
        ..tiny()
    };
    drawn(Attention::new(&config, &flex()))
}

#[test]
fn attention_rows_sum_to_one() {
    let attention = plain_attention(10, 5);
    let norm = LayerNorm::new(10, 1e-6, &flex());
    let x = random([2 * 7, 10], &flex()) * 3.0;
    let weights = attention.weights(&norm, x, 2, None, None);
    assert_eq!(weights.dims(), [2, 5, 7, 7]);
    for sum in values(weights.sum_dim(3)) {
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    }
}

#[test]
fn a_masked_token_is_not_looked_at() {
    let attention = plain_attention(12, 2);
    let norm = LayerNorm::new(12, 1e-6, &flex());
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
        let branch = Branch {
            norm: norm.scale(),
            first: affine(&attention.qkv),
            second: affine(&attention.projection),
            keep: None,
            precision: Precision::F32,
            prepared: None,
        };
        let heads = attention.heads(batch, None);
        let y = add_attention(x, &branch, heads, &attention.query_key(None), Some(&mask));
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
    let patches = values(crate::ops::embedding::patches(image, [patch; 2]));
    for (i, &value) in patches.iter().enumerate() {
        let (token, c, y, x) = (i / 18, i / 9 % 2, i / 3 % 3, i % 3);
        let (row, column) = (token / 2 * 3 + y, token % 2 * 3 + x);
        assert_eq!(value as usize, c * 36 + row * 6 + column);
    }
}

#[test]
fn a_distillation_token_has_a_head_of_its_own_and_does_not_count_in_the_mean() {
    for pooling in POOLINGS {
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
        let first = usize::from(pooling.has_class_token());
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
        let class_token = || normed.clone().narrow(1, 0, 1);
        let pooled = match pooling {
            Pooling::Mean => patches.mean_dim(1),
            Pooling::ClassToken => class_token(),
            Pooling::ClassTokenAndMean => Tensor::cat(vec![class_token(), patches.mean_dim(1)], 2),
        };
        let pooled = pooled.reshape([2, vit.width()]);
        same(vit.features(images.clone(), &mut still()), pooled.clone());
        same(outputs.head.clone(), vit.head.forward(pooled));
        let mean = (outputs.head.clone() + outputs.distillation.clone().unwrap()) / 2.0;
        same(Model::Vit(vit).forward(images, &mut still()), mean);
    }
}

#[test]
fn vit_gradients_equal_differences() {
    let plain = [Stem::Linear, Stem::Convolutional].map(|stem| (stem, tiny()));
    let linear = foreign().into_iter().chain([levers()]);
    for (stem, vit) in plain
        .into_iter()
        .chain(linear.map(|vit| (Stem::Linear, vit)))
    {
        gradients_equal_differences(&ModelConfig::Vit(VitConfig {
            stem,
            stem_depth: if stem == Stem::Linear { 0 } else { 1 },
            image_size: 12,
            patch_size: 4,
            registers: 1,
            distillation_token: stem == Stem::Linear,
            ..vit
        }));
    }
}

#[test]
fn a_norm_after_pooling_leaves_the_map_as_it_is() {
    let [after, ..] = foreign();
    assert!(after.norm_after_pooling);
    let Model::Vit(vit) = stirred(&ModelConfig::Vit(after), &flex()) else {
        unreachable!()
    };
    let images = random([2, 3, 15, 15], &flex());
    let outputs = vit.outputs(images.clone(), true, &mut still());
    let map = outputs.map.unwrap();
    assert_eq!(map.dims(), [2, 9, 12]);
    let embedded = vit.embed(images.clone(), &still());
    let tokens = vit.encode(embedded, 2, None, None, &mut still());
    let patches = tokens.reshape([2, 10, 12]).narrow(1, 1, 9);
    map.clone()
        .into_data()
        .assert_approx_eq::<f32>(&patches.into_data(), Tolerance::default());
    let normed = vit.norm.forward(map.mean_dim(1).reshape([2, 12]));
    let features = vit.features(images, &mut still());
    features
        .into_data()
        .assert_approx_eq::<f32>(&normed.into_data(), Tolerance::default());
}

/// Patches of 14 and of 32, all kinds of tokens before them, heads of 64, 80 and 88 channels in odd
/// numbers: in training and inference, and in every precision.
#[test]
fn sizes_of_other_projects_work_in_every_precision() {
    for (image_size, patch_size, num_heads, head_dim) in [
        (224, 14, 3, 64),
        (64, 32, 1, 80),
        (224, 32, 5, 88),
        (48, 16, 3, 80),
    ] {
        let width = num_heads * head_dim;
        let config = ModelConfig::Vit(VitConfig {
            image_size,
            patch_size,
            embed_dim: width,
            depth: 2,
            num_heads,
            mlp_dim: 2 * width,
            registers: 4,
            distillation_token: true,
            layer_scale: 1e-5,
            qk_norm: patch_size == 32,
            qk_norm_bias: patch_size == 32,
            ..tiny()
        });
        config.validate().unwrap();
        assert_eq!(trainable_count(&config), config.parameters());
        let trained = stirred(&config, &flex().autodiff());
        let images = random([2, 3, image_size, image_size], &flex());
        let run = |precision| {
            let pass = &mut Pass::inference(precision);
            let logits = trained.forward(images.clone().autodiff(), pass);
            let mut gradients = logits.clone().square().sum().backward();
            let gradients = parameters::take_gradients(&trained, &mut gradients);
            let gradients = gradients.into_iter().flat_map(|of| values(of.unwrap()));
            (values(logits.inner()), gradients.collect::<Vec<f32>>())
        };
        let far = |found: &[f32], expected: &[f32]| {
            let length = |of: &mut dyn Iterator<Item = f32>| -> f64 {
                of.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
            };
            let difference = &mut found.iter().zip(expected).map(|(a, b)| a - b);
            length(difference) / length(&mut expected.iter().copied())
        };
        let (wide, gradients) = run(Precision::F32);
        let (narrow, narrow_gradients) = run(Precision::Bf16);
        let inferred = |precision| {
            let model = trained.valid();
            values(model.infer(images.clone(), precision, &Prepared::default()))
        };
        assert!(far(&inferred(Precision::F32), &wide) < 1e-5, "{config:?}");
        for (found, expected, within) in [
            (&narrow, &wide, 0.03),
            (&narrow_gradients, &gradients, 0.1),
            (&inferred(Precision::Bf16), &wide, 0.03),
            (&inferred(Precision::Int8), &wide, 0.1),
        ] {
            let far = far(found, expected);
            assert!(far < within, "{far} of {within}: {config:?}");
        }
    }
}
