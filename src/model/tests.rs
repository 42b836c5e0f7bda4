//! What holds for whole models.
#![allow(clippy::unwrap_used)]

mod cnn;
mod head;
mod vit;

use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData, Tolerance};

use super::*;
use crate::model::parameters::Parameter;
use crate::ops::{Activation, Precision, Prepared};
use crate::random;

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

/// Normally distributed numbers that do not depend on the other tests.
fn random<const R: usize>(shape: [usize; R], device: &Device) -> Tensor<R> {
    let elements = shape.iter().product();
    let mut bits = 1_u64;
    let values: Vec<f32> = (0..elements)
        .map(|_| {
            bits = random::split_mix(bits);
            ((bits >> 11) as f64 / (1_u64 << 53) as f64 * 3.4 - 1.7) as f32
        })
        .collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Gives zeros (the head) and ones something to do, and no two tensors the same numbers.
fn stirred(config: &ModelConfig, device: &Device) -> Model {
    parameters::replace(config.init(3, device), |path, shape| {
        let elements = shape.iter().product();
        let plain = device.clone().without_autodiff();
        let noise = draw::uniform(3, path, elements, 0.2);
        let noise = Tensor::<1>::from_floats(noise.as_slice(), &plain);
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
        for pooling in [
            Pooling::ClassToken,
            Pooling::Mean,
            Pooling::ClassTokenAndMean,
        ] {
            for position in [Position::Learned, Position::Sinusoidal1d, Position::None] {
                let (image_size, patch_size) = (16, 4);
                let vit = VitConfig {
                    stem,
                    pooling,
                    position,
                    stem_depth: if stem == Stem::Linear { 0 } else { 2 },
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

/// [`tiny`] in the forms of other projects' models.
fn foreign() -> [VitConfig; 3] {
    [
        VitConfig {
            pooling: Pooling::Mean,
            registers: 1,
            norm_after_pooling: true,
            activation: Activation::GeluTanh,
            ..tiny()
        },
        VitConfig {
            qk_norm: true,
            qk_norm_bias: true,
            norm_epsilon: 0.02,
            layer_scale: 0.5,
            // Else a shift of the keys changes no softmax.
            position: Position::Rope2d,
            ..tiny()
        },
        VitConfig {
            pooling: Pooling::ClassTokenAndMean,
            registers: 2,
            norm_epsilon: 1e-12,
            ..tiny()
        },
    ]
}

#[test]
fn every_family_gives_logits_and_features() {
    let mut configs = vec![ModelConfig::Vit(tiny()), ModelConfig::Vit(levers())];
    configs.extend(foreign().map(ModelConfig::Vit));
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
            stem: ResnetStem::BySize,
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
        assert_eq!(model.width(), config.width());
        let model = model.valid();
        let features = model.features(images.clone().inner(), &mut still());
        assert_eq!(features.dims(), [3, model.width()]);
        let outputs = model.outputs(images.inner(), true, &mut still());
        let map = outputs.map.unwrap();
        let [batch, pixels, width] = map.dims();
        assert_eq!((batch, width), (3, model.map_width()));
        assert_eq!(width, config.map_width());
        assert_eq!(pixels.isqrt().pow(2), pixels, "{config:?}");
        // What the features are pooled from, except where a class token gathers them.
        let pooled = match &config {
            ModelConfig::Vit(vit) if vit.pooling != Pooling::Mean => continue,
            ModelConfig::Vit(vit) if vit.norm_after_pooling => continue,
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
    for vit in foreign().into_iter().chain([tiny(), levers()]) {
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

/// What a training from other weights draws is what a training from scratch draws there.
#[test]
fn a_tensor_that_is_drawn_alone_is_as_in_a_whole_model_and_leaves_the_others() {
    let mimetic = VitConfig {
        init: Init::Mimetic,
        registers: 2,
        distillation_token: true,
        layer_scale: 0.1,
        ..tiny()
    };
    let resnet = ModelConfig::preset("resnet9", 8, None, 3).unwrap();
    for config in [
        ModelConfig::Vit(mimetic),
        ModelConfig::Airbench(small_airbench()),
        resnet,
    ] {
        let read = |model: &Model| -> Vec<(String, Vec<f32>)> {
            let all = parameters::values(model).into_iter();
            all.map(|(path, tensor)| (path, values(tensor))).collect()
        };
        let whole = read(&config.init(7, &flex()));
        let undrawn = read(&config.init_constant(&flex()));
        assert_ne!(whole, undrawn);
        for (path, _) in &whole {
            let drawn = config.init_constant(&flex());
            let drawn = drawn.drawn(7, &flex(), &|other| other == path);
            for (n, (found, values)) in read(&drawn).iter().enumerate() {
                let expected = if found == path {
                    &whole[n]
                } else {
                    &undrawn[n]
                };
                assert!(values == &expected.1, "{path} drawn alone: {found}");
            }
        }
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
        .filter(Parameter::decays)
        .map(|parameter| parameter.path().replace(|c: char| c.is_ascii_digit(), "#"))
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
        "\"vit-tinny\" is not a model, did you mean \"vit-tiny\"?; known models are \
         vit-micro, vit-w1, vit-tiny, vit-small, vit-base, resnet9, resnet18, airbench"
    );
    assert_eq!(
        message("vit-w1", 32, Some(5), 10),
        "patch_size 5 does not divide image_size 32: expected an image size that is a multiple of 5, such as 30 or 35; or a patch size of 2, 4, 8 or 16"
    );
    assert_eq!(
        message("vit-w1", 31, None, 10),
        "patch_size 4 does not divide image_size 31: expected an image size that is a multiple of 4, such as 28 or 32"
    );
    assert_eq!(
        message("resnet9", 32, Some(4), 10),
        "patch_size does not apply to resnet9, which has no patches"
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
    for (norm_epsilon, found) in [(0.0, "0"), (-1.0, "-1"), (f64::NAN, "NaN"), (1.0, "1")] {
        let vit = VitConfig {
            norm_epsilon,
            ..tiny()
        };
        let told = format!("norm_epsilon is {found}: expected from 1e-15 to 0.1");
        assert_eq!(refuse(vit), told);
    }
    assert_eq!(
        refuse(VitConfig {
            norm_after_pooling: true,
            ..tiny()
        }),
        "norm_after_pooling is true: expected false, or pooling = \"mean\": there is nothing else to \
         pool first"
    );
    assert_eq!(
        refuse(VitConfig {
            qk_norm_bias: true,
            ..tiny()
        }),
        "qk_norm_bias is true: expected false, or qk_norm = true: it is a part of that norm"
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
    }
}

/// A pass without noise.
fn still() -> Pass<'static> {
    Pass::inference(Precision::F32)
}

/// Xavier's weights for a lone module.
fn drawn<M: Module + Declare>(module: M) -> M {
    draw::draw(module, 9, &flex(), &|_| true)
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
                (path == info.path()).then(|| {
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
        // Short enough to cross hardly a kink of a ReLU, long enough for f32.
        let step = 5e-4;
        let measured = (at(step) - at(-step)) / (2.0 * step);
        assert!(
            (measured / length - 1.0).abs() < 3e-2,
            "{}: autodiff {length}, differences {measured}",
            info.path()
        );
    }
}

#[test]
fn eight_bits_answer_nearly_the_same_and_each_picture_by_itself() {
    let levers = VitConfig {
        stem: Stem::Convolutional,
        image_size: 16,
        patch_size: 4,
        embed_dim: 36,
        ..levers()
    };
    for config in [
        ModelConfig::Airbench(small_airbench()),
        ModelConfig::preset("resnet9", 13, None, 7).unwrap(),
        ModelConfig::preset("resnet18", 13, None, 7).unwrap(),
        ModelConfig::Vit(tiny()),
        ModelConfig::Vit(levers),
        ModelConfig::Vit(foreign()[0].clone()),
        ModelConfig::Vit(foreign()[1].clone()),
        ModelConfig::Vit(foreign()[2].clone()),
    ] {
        let model = stirred(&config, &flex());
        let size = config.image_size();
        let images = random([5, 3, size, size], &flex());
        let prepared = Prepared::default();
        let infer = |images: &Tensor<4>, precision, prepared: &Prepared| {
            values(model.infer(images.clone(), precision, prepared))
        };
        let wide = infer(&images, Precision::F32, &prepared);
        let narrow = infer(&images, Precision::Int8, &prepared);
        let largest = wide.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let pairs = wide.iter().zip(&narrow);
        let off = pairs.fold(0.0_f32, |off, (a, b)| off.max((a - b).abs())) / largest;
        // A weight is off by up to 1/128 of its output's largest, an activation by 1/254 of its token's range; some ten
        // layers of nobody's weights add that up.
        assert!(off > 0.0 && off < 0.1, "{off}: {config:?}");
        // Noted, packed, and taken as packed; f32 stays what it was.
        for _ in 0..2 {
            assert_eq!(infer(&images, Precision::Int8, &prepared), narrow);
            assert_eq!(infer(&images, Precision::F32, &prepared), wide);
        }
        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let alone = pool.unwrap().install(|| {
                let one = |i| infer(&images.clone().narrow(0, i, 1), Precision::Int8, &prepared);
                (0..5).flat_map(one).collect::<Vec<_>>()
            });
            assert_eq!(alone, narrow, "{threads} threads");
        }
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
