//! What holds for CNNs.

use burn::module::{ModuleVisitor, Param};

use super::*;

#[test]
fn running_statistics_reach_inference() {
    let config = ResnetConfig {
        variant: ResnetVariant::Resnet9,
        image_size: 8,
        num_classes: 3,
        width: 2,
        stem: ResnetStem::BySize,
    };
    let device = flex().autodiff();
    let model = stirred(&ModelConfig::Resnet(config), &device);
    let images = random([4, 3, 8, 8], &device) * 2.0 + 1.0;
    let before = values(model.valid().forward(images.clone().inner(), &mut still()));
    let _ = model.forward(images.clone(), &mut still());
    let after = values(model.valid().forward(images.clone().inner(), &mut still()));
    assert_ne!(before, after);
    // 0.9¹⁰⁰ is below 3·10⁻⁵: by then they are this batch's own, and both ways to norm are one.
    for _ in 0..100 {
        let _ = model.forward(images.clone(), &mut still());
    }
    let training = values(model.forward(images.clone(), &mut still()).inner());
    let inference = values(model.valid().forward(images.inner(), &mut still()));
    let off = |other: &[f32]| {
        let pairs = other.iter().zip(&training);
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    assert_eq!(inference.len(), 4 * 3);
    assert!(off(&inference) < 1e-3, "{inference:?}, not {training:?}");
    assert!(off(&before) > 1e-2, "{before:?} and {training:?}");
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
    assert!(
        frozen
            .iter()
            .all(|p| p.path() != "Airbench.whitening.weight")
    );
    assert!(frozen.iter().any(|p| p.path() == "Airbench.whitening.bias"));
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

#[test]
fn the_stem_is_by_size_unless_it_is_stated() {
    let with = |stem, image_size| ResnetConfig {
        variant: ResnetVariant::Resnet18,
        image_size,
        num_classes: 3,
        width: 2,
        stem,
    };
    for (stem, image_size, expected) in [
        (ResnetStem::BySize, 95, [3, 3]),
        (ResnetStem::BySize, 96, [7, 7]),
        (ResnetStem::Small, 96, [3, 3]),
        (ResnetStem::Imagenet, 16, [7, 7]),
    ] {
        let config = ModelConfig::Resnet(with(stem, image_size));
        config.validate().unwrap();
        assert_eq!(trainable_count(&config), config.parameters());
        let Model::Resnet18(model) = config.init(0, &flex()) else {
            unreachable!()
        };
        let [_, _, kernel @ ..] = model.stem.conv.weight.dims();
        assert_eq!((kernel, model.pool), (expected, expected == [7, 7]));
        let json = serde_json::to_value(&config).unwrap();
        assert_eq!(json.get("stem").is_none(), stem == ResnetStem::BySize);
        assert_eq!(serde_json::from_value::<ModelConfig>(json).unwrap(), config);
        let fields = config.fields();
        assert_eq!(
            serde_json::from_value::<ModelConfig>(fields).unwrap(),
            config
        );
    }
    let refused = ModelConfig::Resnet(ResnetConfig {
        variant: ResnetVariant::Resnet9,
        ..with(ResnetStem::Imagenet, 32)
    });
    assert_eq!(
        refused.validate().unwrap_err().to_string(),
        "stem is imagenet: expected by-size, for ResNet-9 has one stem alone"
    );
}
