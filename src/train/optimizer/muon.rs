//! Muon (Jordan et al. 2024, <https://kellerjordan.github.io/posts/muon/>): momentum whose
//! matrices are made orthogonal, for the matrices between the layers; AdamW for the rest.
//!
//! Burn's own `Muon` takes a matrix as one whole with its outputs in rows. Burn's linear layers
//! have theirs in columns, queries, keys and values share one weight, and convolutions are no
//! matrices to it; so its scale of the learning rate would be upside down and q, k and v would be
//! made orthogonal to each other. The iteration here is the same.

use burn::tensor::Tensor;

use super::config::OptimizerConfig;
use super::rules::Moments;
use super::slot::{GradientSum, Slot};
use crate::ops::Precision;
use crate::ops::muon::{Moving, directions};

/// Takes the gradients of the hidden matrices, moves their momentum on and returns where each is to
/// go, by slot. `rules` are the settings that slots go by.
pub(super) fn orthogonal_directions(
    rules: &[OptimizerConfig],
    slots: &mut [Slot],
    gradients: &mut GradientSum,
    precision: Precision,
) -> Vec<Option<Tensor<1>>> {
    let mut found: Vec<Option<Tensor<1>>> = gradients.0.iter().map(|_| None).collect();
    for (rule, config) in rules.iter().enumerate() {
        let mut places = Vec::new();
        let mut moving = Vec::new();
        for (i, (slot, gradient)) in slots.iter_mut().zip(&mut gradients.0).enumerate() {
            let Some(hidden) = slot.hidden.filter(|_| slot.rule == rule) else {
                continue;
            };
            let Some(gradient) = gradient.take() else {
                continue;
            };
            let momentum = match slot.moments.take() {
                Some(moments) => moments.first,
                None => gradient.zeros_like(),
            };
            places.push(i);
            moving.push(Moving {
                gradient,
                momentum,
                matrices: hidden.matrices,
            });
        }
        let moved = directions(moving, config.muon_momentum, precision);
        for (i, [direction, first]) in places.into_iter().zip(moved) {
            found[i] = Some(direction);
            let second = None;
            slots[i].moments = Some(Moments { first, second });
        }
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use burn::tensor::Device;

    use super::super::config::OptimizerKind;
    use super::super::matrices::Hidden;
    use super::*;
    use crate::checkpoint::tests::tiny;
    use crate::checkpoint::{host, host_tensors};
    use crate::model::parameters::Parameter;
    use crate::model::{ModelConfig, parameters};
    use crate::ops::muon::Matrices;
    use crate::train::part::tests::{optimizer, stepped};

    /// Numbers between −1 and 1.
    fn numbers(len: usize, seed: usize) -> Vec<f32> {
        // The last steps of SplitMix64: numbers in a row have nothing to do with each other.
        let one = |i: usize| {
            let z = ((seed << 32 | i) as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            ((z ^ (z >> 27)) % 2001) as f32 / 1000.0 - 1.0
        };
        (0..len).map(one).collect()
    }

    fn gradients(infos: &[Parameter], seed: usize) -> GradientSum {
        let one = |(i, info): (usize, &Parameter)| {
            let values = numbers(info.shape.iter().product(), seed * 100 + i);
            Some(Tensor::from_floats(values.as_slice(), &Device::flex()))
        };
        GradientSum(infos.iter().enumerate().map(one).collect())
    }

    fn config() -> OptimizerConfig {
        OptimizerConfig {
            kind: OptimizerKind::Muon,
            lr: 0.1,
            muon_lr: 0.05,
            weight_decay: 0.2,
            ..OptimizerConfig::default()
        }
    }

    #[test]
    fn hidden_matrices_are_those_between_the_layers() {
        let names = |config: ModelConfig| -> Vec<(String, Hidden)> {
            let infos = parameters::trainable(&config.init(0, &Device::flex().autodiff()));
            let one = |info: &Parameter| Some((info.path().to_owned(), Hidden::of(info)?));
            infos.iter().filter_map(one).collect()
        };
        let config = ModelConfig::preset("vit-micro", 8, None, 3).unwrap();
        let ModelConfig::Vit(sizes) = &config else {
            unreachable!()
        };
        let widening = (sizes.mlp_dim as f64 / sizes.embed_dim as f64).sqrt();
        assert!(widening > 1.0);
        let vit = names(config);
        for (path, hidden) in &vit {
            let in_block = path.contains("Vit.blocks.") && path.ends_with(".weight");
            assert!(in_block || path.contains(".stem.1."), "{path}");
            assert_eq!(hidden.matrices.parts == 3, path.contains("qkv"), "{path}");
            let square = path.contains("qkv") || path.contains("projection");
            assert_eq!(
                square,
                hidden.matrices.rows == hidden.matrices.columns,
                "{path}"
            );
            // Only the MLP's first layer has more outputs than inputs.
            let gain = if path.contains("fc1") { widening } else { 1.0 };
            assert!((hidden.gain - gain).abs() < 1e-12, "{path}");
        }
        assert!(vit.iter().any(|(path, _)| path.contains("stem.1.conv")));
        assert!(vit.iter().any(|(path, _)| path.contains("fc2")));
        let resnet = names(ModelConfig::preset("resnet9", 8, None, 3).unwrap());
        // Eight convolutions, of which the first sees pixels.
        assert_eq!(resnet.len(), 7, "{resnet:?}");
    }

    #[test]
    fn hidden_matrices_follow_muon_and_the_rest_adamw() {
        let model = tiny().init(1, &Device::flex().autodiff());
        let infos = parameters::trainable(&model);
        let mut muon = optimizer(config(), &model);
        let adamw = OptimizerConfig {
            kind: OptimizerKind::AdamW,
            ..config()
        };
        let mut adamw = optimizer(adamw, &model);
        let before = host_tensors(&model);
        // Half of the peak rate, so half of Muon's too.
        let after = host_tensors(&stepped(
            &mut muon,
            model.clone(),
            gradients(&infos, 1),
            0.05,
        ));
        let other = host_tensors(&stepped(&mut adamw, model, gradients(&infos, 1), 0.05));
        let mut seen = 0;
        for (i, info) in infos.iter().enumerate() {
            let find = |all: &[crate::checkpoint::HostTensor]| {
                let of = all
                    .iter()
                    .find(|(path, _, _)| *path == info.path())
                    .unwrap();
                of.2.clone()
            };
            let (old, new) = (find(&before), find(&after));
            let Some(hidden) = Hidden::of(info) else {
                assert_eq!(new, find(&other), "{}", info.path());
                continue;
            };
            seen += 1;
            let rate = 0.05 / 0.1 * 0.05;
            let Matrices { rows, columns, .. } = hidden.matrices;
            let direction: Vec<f64> = old
                .iter()
                .zip(&new)
                .map(|(&old, &new)| {
                    (f64::from(old) * (1.0 - rate * 0.2) - f64::from(new)) / (rate * hidden.gain)
                })
                .collect();
            // Singular values near 1: as many of them as the shorter side is long.
            let square = direction.iter().map(|x| x * x).sum::<f64>();
            let mean = square / (hidden.matrices.parts * rows.min(columns)) as f64;
            assert!((0.5..1.5).contains(&mean), "{}: {mean}", info.path());
            // And along the gradient, not against it.
            let gradient = numbers(old.len(), 100 + i);
            let along: f64 = gradient
                .iter()
                .zip(&direction)
                .map(|(&g, d)| f64::from(g) * d)
                .sum();
            assert!(along > 0.0, "{}: {along}", info.path());
        }
        assert!(seen >= 4, "{seen}");
    }

    #[test]
    fn a_restored_muon_continues_bit_for_bit() {
        let mut model = tiny().init(1, &Device::flex().autodiff());
        let infos = parameters::trainable(&model);
        let mut muon = optimizer(config(), &model);
        for seed in 0..2 {
            model = stepped(&mut muon, model, gradients(&infos, seed), 0.1);
        }
        let state: std::collections::HashMap<String, Vec<f32>> = muon
            .state()
            .into_iter()
            .map(|(name, tensor)| (name, host(tensor)))
            .collect();
        let mut restored = optimizer(config(), &model);
        restored.restore(2, &Device::flex(), |name| state.get(name).cloned());
        let one = stepped(&mut muon, model.clone(), gradients(&infos, 9), 0.1);
        let other = stepped(&mut restored, model, gradients(&infos, 9), 0.1);
        assert_eq!(host_tensors(&one), host_tensors(&other));
    }
}
