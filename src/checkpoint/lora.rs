//! A file of low-rank adapters and heads alone, and what comes of it on top of the weights that it changes.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use burn::module::Module;
use burn::tensor::Tensor;

use super::error::CheckpointError;
use super::familiarity;
use super::file::{TensorFile, header_of, put, write_tensors};
use super::host::{HostTensor, host};
use super::meta::{AdaptersMeta, FAMILIARITY, Lora, WeightsMeta};
use super::weights;
use crate::device;
use crate::model::lora::{Adapters, largest_rank};
use crate::model::{Model, parameters};

/// Writes adapters and the heads of `model`; everything else is in the weights that `lora` names.
///
/// # Errors
///
/// [`CheckpointError::Write`]; the file that was there before, if any, is then untouched.
pub fn save_adapters(
    path: &Path,
    adapters: &Adapters,
    model: &Model,
    lora: &Lora,
    meta: &WeightsMeta,
) -> Result<(), CheckpointError> {
    let heads = heads(model);
    let values = parameters::values(&model.valid()).into_iter();
    let shapes = parameters::shapes(model).into_iter();
    let mut tensors: Vec<HostTensor> = shapes
        .zip(values)
        .filter(|((path, _), _)| heads.contains(path))
        .map(|((path, shape), (_, value))| (path, shape, host(value)))
        .collect();
    let values = adapters.values().into_iter();
    let parameters = adapters.parameters().into_iter();
    tensors.extend(
        parameters
            .zip(values)
            .map(|(parameter, (path, value))| (path, parameter.shape, host(value))),
    );
    let meta = AdaptersMeta {
        lora: lora.clone(),
        weights: meta.clone(),
    };
    write_tensors(path, &tensors, &meta)
}

/// Paths of a model's heads.
fn heads(model: &Model) -> HashSet<String> {
    let declared = parameters::declared(model).into_iter();
    let heads = declared.filter(|tensor| tensor.role.is_head());
    heads.map(|tensor| tensor.path).collect()
}

impl TensorFile {
    /// The whole weights that this file of adapters and `base`, which it names, come to, in memory: each matrix W is
    /// W + (α/r)·A·B, worked out in f32, the heads are this file's, and everything else is as a training that starts
    /// from `base` takes it, learned positions for other sizes included. Nothing compares the hash of `base` with
    /// that which `lora` expects: whoever opened it has.
    ///
    /// # Errors
    ///
    /// What [`TensorFile`] says of a broken file, and [`CheckpointError::Mismatch`] where both do not fit.
    pub fn merged(self, lora: Lora, base: &Self) -> Result<Self, CheckpointError> {
        let meta = weights::meta(&self)?;
        let model = self.on_top_of(base, &lora, &meta)?;
        let shapes = parameters::shapes(&model);
        let mut tensors: Vec<_> = shapes.into_iter().zip(parameters::values(&model)).collect();
        let statistics = familiarity::read(&self, &meta, model.width())?;
        for (name, shape, values) in statistics.iter().flat_map(familiarity::tensors) {
            let values = Tensor::from_floats(values.as_slice(), &device::to_describe());
            tensors.push(((name.clone(), shape), (name, values)));
        }
        tensors.sort_by(|((a, _), _), ((b, _), _)| a.cmp(b));
        let shapes = tensors.iter().map(|((path, shape), _)| (&**path, &**shape));
        let (header, places, length) = header_of(&meta, shapes);
        let mut bytes = vec![0; length];
        bytes[..header.len()].copy_from_slice(&header);
        drop(model);
        // One tensor at a time is in memory twice.
        for (((path, _), (_, value)), first) in tensors.into_iter().zip(places) {
            let values = host(value);
            if values.iter().any(|value| !value.is_finite()) {
                return Err(CheckpointError::NotFinite {
                    path: self.path().to_owned(),
                    tensor: path,
                });
            }
            put(&mut bytes[first..], &values);
        }
        Ok(self.made_whole(bytes, lora))
    }

    /// The model of [`merged`](Self::merged).
    fn on_top_of(
        &self,
        base: &Self,
        lora: &Lora,
        meta: &WeightsMeta,
    ) -> Result<Model, CheckpointError> {
        let device = device::to_describe();
        let undrawn = meta.model.init_constant(&device);
        let Some((matrix, side)) = largest_rank(&undrawn) else {
            return Err(self.mismatch(format!("{} has nothing to adapt", meta.name)));
        };
        let Lora { rank, alpha, .. } = *lora;
        if !((1..=side).contains(&rank) && alpha.is_finite() && alpha > 0.0) {
            return Err(self.mismatch(format!(
                "adapters of rank {rank} and alpha {alpha}, expected a rank of 1 to {side}, the smaller side of {matrix}, and an alpha above 0"
            )));
        }
        let start = base.start(
            &weights::meta(base)?,
            undrawn,
            meta.model.grid(),
            false,
            &device,
        );
        let (model, _fit) = start.map_err(|error| match error {
            CheckpointError::Start { reason, .. } => {
                let reason = format!(
                    "the weights {} that it changes: {reason}",
                    lora.base.weights
                );
                self.mismatch(reason)
            }
            other => other,
        })?;
        let mut adapters = Adapters::zeros(&model, rank, alpha, &device);
        let mut expected = parameters::shapes(&model);
        let heads = heads(&model);
        expected.retain(|(path, _)| heads.contains(path));
        expected.extend(
            adapters
                .parameters()
                .into_iter()
                .map(|tensor| (tensor.declared.path, tensor.shape)),
        );
        let mut found = HashMap::new();
        for (path, shape) in &expected {
            found.insert(path.clone(), self.values_of(path, shape)?);
        }
        let known = expected.into_iter().map(|(path, _)| path);
        self.holds_only(&known.chain(FAMILIARITY.map(str::to_owned)).collect())?;
        let mut take = |path: &str| {
            let values = found.remove(path)?;
            Some(Tensor::from_floats(values.as_slice(), &device))
        };
        let model = parameters::replace(model, |path, _| take(path));
        adapters.replace(|path, _| take(path));
        Ok(adapters.apply(&model))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use burn::tensor::Device;

    use super::*;
    use crate::checkpoint::tests::{meta, saved, tiny};
    use crate::checkpoint::{Base, Checkpoint, host_tensors, load, load_weights, save_meta};
    use crate::model::ModelConfig;

    fn lora(rank: usize) -> Lora {
        Lora {
            rank,
            alpha: 3.0,
            base: Base {
                weights: "weights.safetensors".to_owned(),
                sha256: "0".repeat(64),
            },
        }
    }

    /// Adapters whose every value is another.
    fn waving(model: &Model, rank: usize) -> Adapters {
        let mut adapters = Adapters::zeros(model, rank, 3.0, &Device::flex());
        adapters.replace(|path, value| {
            let values: Vec<f32> = (0..value.dims()[0])
                .map(|i| ((i * 5 + path.len()) as f32).cos())
                .collect();
            Some(Tensor::from_floats(values.as_slice(), &Device::flex()))
        });
        adapters
    }

    /// The file of weights, the file of adapters, and the model that both come to, for `meta`, which may differ from
    /// that of the weights.
    fn adapted(folder: &Path, base: &Path, meta: &WeightsMeta) -> (PathBuf, Model) {
        let device = Device::flex();
        let file = TensorFile::open(base).unwrap();
        let of_base = weights::meta(&file).unwrap();
        let fresh = meta.model.init(9, &device);
        let grid = meta.model.grid();
        let (start, _fit) = file.start(&of_base, fresh, grid, false, &device).unwrap();
        let model = parameters::replace(start, |path, shape| {
            let count = shape.iter().product();
            let wave = |i| (i as f32).sin();
            let values: Vec<f32> = (0..count).map(wave).collect();
            let is_head = path.contains("head");
            is_head.then(|| Tensor::from_floats(values.as_slice(), &device))
        });
        let adapters = waving(&model, 2);
        let path = folder.join("adapters.safetensors");
        let model = adapters.apply(&model);
        save_adapters(&path, &adapters, &model, &lora(2), meta).unwrap();
        (path, model)
    }

    fn merged(adapters: &Path, base: &Path) -> Result<TensorFile, CheckpointError> {
        let file = TensorFile::open(adapters)?;
        let lora = file.lora().unwrap();
        file.merged(lora, &TensorFile::open(base)?)
    }

    /// A head of other classes, and of a model that sees larger pictures.
    fn larger() -> WeightsMeta {
        let ModelConfig::Vit(mut vit) = tiny() else {
            panic!("the tiny model is a ViT")
        };
        (vit.image_size, vit.num_classes) = (12, 2);
        let mut meta = meta();
        meta.preprocess.image_size = 12;
        meta.classes.pop();
        WeightsMeta {
            model: ModelConfig::Vit(vit),
            ..meta
        }
    }

    #[test]
    fn merged_weights_are_those_that_were_trained() {
        for meta in [meta(), larger()] {
            let (folder, base, _) = saved();
            let (path, model) = adapted(folder.path(), &base, &meta);
            let whole = merged(&path, &base).unwrap();
            let Checkpoint {
                meta: read,
                model: loaded,
                ..
            } = load(&whole, &Device::flex()).unwrap();
            assert_eq!(read, meta);
            assert_eq!(host_tensors(&loaded), host_tensors(&model));
            // It is called, and as large as, the file of adapters.
            assert_eq!(whole.path(), path);
            assert_eq!(whole.size(), fs::metadata(&path).unwrap().len());
            assert_eq!(whole.sha256(), TensorFile::open(&path).unwrap().sha256());
            assert_eq!(whole.merged_of(), Some(&lora(2)));
            assert_eq!(whole.lora(), None);
        }
    }

    #[test]
    fn a_file_of_adapters_holds_nothing_else_and_is_no_whole_weights() {
        let (folder, base, model) = saved();
        let (path, _) = adapted(folder.path(), &base, &meta());
        let names = TensorFile::open(&path).unwrap().sizes().unwrap();
        let matrices = [
            "attention.projection",
            "attention.qkv",
            "mlp.fc1",
            "mlp.fc2",
        ];
        let adapters = matrices.iter().flat_map(|matrix| {
            ["a", "b"].map(|name| format!("Vit.blocks.0.{matrix}.weight.lora_{name}"))
        });
        let heads = heads(&model).into_iter();
        let mut expected: Vec<String> = adapters.chain(heads).collect();
        expected.sort();
        assert_eq!(names.into_keys().collect::<Vec<_>>(), expected);
        let error = load_weights(&path, &Device::flex()).unwrap_err();
        assert!(
            matches!(error, CheckpointError::NeedsBase { .. }),
            "{error}"
        );
        let error = error.to_string();
        assert!(
            error.ends_with("holds low-rank adapters of the weights weights.safetensors alone, which answer nothing without those"),
            "{error}"
        );
        assert_eq!(TensorFile::open(&base).unwrap().lora(), None);
    }

    #[test]
    fn what_a_file_of_adapters_says_is_replaced_and_its_tensors_stay() {
        let (folder, base, model) = saved();
        let (path, _) = adapted(folder.path(), &base, &meta());
        let before = fs::read(&path).unwrap();
        let colder = WeightsMeta {
            temperature: 0.5,
            ..meta()
        };
        let whole = merged(&path, &base).unwrap();
        save_meta(&whole, &colder, None).unwrap();
        let file = TensorFile::open(&path).unwrap();
        assert_eq!(weights::meta(&file).unwrap(), colder);
        assert_eq!(file.lora(), Some(lora(2)));
        // What was measured has gone.
        let late = save_meta(&whole, &meta(), None);
        assert!(matches!(late, Err(CheckpointError::Replaced { .. })));
        save_meta(&merged(&path, &base).unwrap(), &meta(), None).unwrap();
        assert_eq!(fs::read(&path).unwrap(), before);
        // The weights that it changes are as they were.
        assert_eq!(
            host_tensors(&load_weights(&base, &Device::flex()).unwrap().model),
            host_tensors(&model)
        );
    }

    #[test]
    fn adapters_that_do_not_fit_are_refused_in_words() {
        let (folder, base, _) = saved();
        let (path, model) = adapted(folder.path(), &base, &meta());
        let told = |path: &Path| {
            let error = merged(path, &base).unwrap_err().to_string();
            error.replace(&path.display().to_string(), "FILE")
        };
        let begin = "FILE does not fit its own model configuration: ";
        for (rank, expected) in [
            (
                0,
                "adapters of rank 0 and alpha 3, expected a rank of 1 to 5",
            ),
            (
                6,
                "adapters of rank 6 and alpha 3, expected a rank of 1 to 5",
            ),
            (
                1,
                "tensor Vit.blocks.0.attention.qkv.weight.lora_a is F32 [6, 6], expected F32 [6, 3]",
            ),
        ] {
            save_adapters(&path, &waving(&model, 2), &model, &lora(rank), &meta()).unwrap();
            let told = told(&path);
            let reason = told.strip_prefix(begin).unwrap_or(&told);
            assert!(reason.starts_with(expected), "{told}");
        }
        let deeper = WeightsMeta {
            model: match tiny() {
                ModelConfig::Vit(mut vit) => {
                    vit.depth = 2;
                    ModelConfig::Vit(vit)
                }
                other => other,
            },
            ..meta()
        };
        save_adapters(&path, &waving(&model, 2), &model, &lora(2), &deeper).unwrap();
        assert_eq!(
            told(&path),
            format!(
                "{begin}the weights weights.safetensors that it changes: it has no tensor Vit.blocks.1.norm1.gamma"
            )
        );
        let mut endless = waving(&model, 2);
        endless.replace(|_, value| Some(value * f32::MAX));
        save_adapters(&path, &endless, &model, &lora(2), &meta()).unwrap();
        assert!(told(&path).starts_with("FILE holds values that are not numbers"));
        adapted(folder.path(), &base, &meta());
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(told(&path).starts_with("FILE was changed after it was written"));
    }
}
