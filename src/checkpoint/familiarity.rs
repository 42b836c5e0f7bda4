//! Statistics of the features of training pictures, in the weights file that makes such features.

use super::error::CheckpointError;
use super::file::TensorFile;
use super::host::HostTensor;
use super::meta::{FAMILIARITY, MEANS, WHITENING, WeightsMeta};
use crate::metrics::{Familiarity, FamiliarityLimit};

/// What the metadata says of the statistics, if there are any.
pub(super) fn limit(meta: &WeightsMeta) -> Option<FamiliarityLimit> {
    meta.calibration.as_ref()?.familiarity
}

/// The statistics in a file whose model makes `width` features; `None` where its metadata knows of none.
///
/// # Errors
///
/// `Corrupt`, or `Mismatch` where a tensor is missing, of another shape, or known to no metadata.
pub(super) fn read(
    file: &TensorFile,
    meta: &WeightsMeta,
    width: usize,
) -> Result<Option<Familiarity>, CheckpointError> {
    let sizes = file.sizes()?;
    if limit(meta).is_none() {
        return match FAMILIARITY.iter().find(|name| sizes.contains_key(**name)) {
            None => Ok(None),
            Some(name) => Err(file.mismatch(format!(
                "tensor {name} without calibration.familiarity in the metadata"
            ))),
        };
    }
    // Classes without a training picture have no mean.
    let found = sizes.get(MEANS).map_or(0, |size| size / width.max(1));
    let rows = found.clamp(1, meta.classes.len().max(1));
    let whitening = file.values_of(WHITENING, &[width, width])?;
    let means = file.values_of(MEANS, &[rows, width])?;
    Ok(Some(Familiarity::of_parts(width, whitening, means)))
}

/// The statistics as tensors.
pub(super) fn tensors(familiarity: &Familiarity) -> [HostTensor; 2] {
    let width = familiarity.width();
    let (whitening, means) = (familiarity.whitening(), familiarity.means());
    let rows = means.len() / width;
    [
        (WHITENING.to_owned(), vec![width, width], whitening.to_vec()),
        (MEANS.to_owned(), vec![rows, width], means.to_vec()),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use burn::tensor::Device;

    use super::*;
    use crate::checkpoint::file::{bytes, serialize, view, write_file};
    use crate::checkpoint::tests::{load, message, meta, saved, tiny};
    use crate::checkpoint::{
        Base, Lora, backbone_sha256, host_tensors, save_adapters, save_half, save_int8, save_meta,
    };
    use crate::metrics::Calibration;
    use crate::model::Model;
    use crate::model::lora::Adapters;

    /// The statistics of the tiny model's six features, for two of its three classes.
    fn statistics() -> Familiarity {
        let whitening: Vec<f32> = (0..36).map(|i| i as f32 / 8.0).collect();
        Familiarity::of_parts(6, whitening, vec![0.5; 12])
    }

    fn calibrated() -> WeightsMeta {
        let classes = meta().classes;
        let logits = [2.0, 0.5, 0.1, 0.3, 0.7, -1.0];
        let (_, mut calibration) = Calibration::fit(&logits, &[0, 0], &classes, "set");
        calibration.familiarity = FamiliarityLimit::of(&[0.1, 0.3], 9);
        WeightsMeta {
            calibration: Some(calibration),
            ..meta()
        }
    }

    /// The tiny weights with statistics, and as they were without.
    fn with_statistics() -> (tempfile::TempDir, PathBuf, Model, Vec<u8>) {
        let (folder, path, model) = saved();
        let plain = fs::read(&path).unwrap();
        let file = TensorFile::open(&path).unwrap();
        save_meta(&file, &calibrated(), Some(&statistics())).unwrap();
        (folder, path, model, plain)
    }

    #[test]
    fn statistics_lie_beside_the_model_and_change_none_of_it() {
        let (folder, path, model, plain) = with_statistics();
        let read = load(&path).unwrap();
        assert_eq!(read.familiarity, Some(statistics()));
        assert_eq!(read.meta, calibrated());
        assert_eq!(host_tensors(&read.model), host_tensors(&model));
        let with = TensorFile::open(&path).unwrap();
        let without = folder.path().join("without");
        fs::write(&without, &plain).unwrap();
        let without = TensorFile::open(&without).unwrap();
        let hash = |file: &TensorFile| backbone_sha256(file, &read.meta, &read.model).unwrap();
        assert_eq!(hash(&with), hash(&without));
        // Another training starts from the model alone.
        let device = Device::flex();
        let undrawn = tiny().init_constant(&device);
        let fit = with.check_start(&read.meta, &undrawn, tiny().grid(), true, &device);
        let fit = fit.unwrap();
        assert_eq!(fit.left_out, FAMILIARITY);
        let started = with.start(&read.meta, undrawn, tiny().grid(), true, &device);
        assert_eq!(host_tensors(&started.unwrap().0), host_tensors(&model));
        // What is calibrated without them has none, and the same bytes as before.
        save_meta(&with, &meta(), None).unwrap();
        assert_eq!(fs::read(&path).unwrap(), plain);
    }

    #[test]
    fn copies_in_fewer_bits_keep_them_whole() {
        let (folder, _, model) = saved();
        for (name, save) in [
            ("half", save_half as fn(&_, &_, &_) -> _),
            ("int8", save_int8),
        ] {
            let path = folder.path().join(name);
            save(&path, &model, &meta()).unwrap();
            let is_int8 = load(&path).unwrap().is_int8;
            let file = TensorFile::open(&path).unwrap();
            save_meta(&file, &calibrated(), Some(&statistics())).unwrap();
            let read = load(&path).unwrap();
            assert_eq!(read.familiarity, Some(statistics()), "{name}");
            assert_eq!(read.is_int8, is_int8);
        }
    }

    #[test]
    fn adapters_have_statistics_of_what_they_come_to() {
        let (folder, base, model) = saved();
        let lora = || Lora {
            rank: 2,
            alpha: 3.0,
            base: Base {
                weights: "weights.safetensors".to_owned(),
                sha256: String::new(),
            },
        };
        let path = folder.path().join("adapters.safetensors");
        let adapters = Adapters::zeros(&model, 2, 3.0, &Device::flex());
        save_adapters(&path, &adapters, &model, &lora(), &meta()).unwrap();
        let plain = fs::read(&path).unwrap();
        let merged = || {
            let base = TensorFile::open(&base).unwrap();
            let file = TensorFile::open(&path).unwrap();
            file.merged(lora(), &base).unwrap()
        };
        save_meta(&merged(), &calibrated(), Some(&statistics())).unwrap();
        let read = crate::checkpoint::load(&merged(), &Device::flex()).unwrap();
        assert_eq!(read.familiarity, Some(statistics()));
        assert_eq!(read.meta, calibrated());
        assert_eq!(host_tensors(&read.model), host_tensors(&model));
        save_meta(&merged(), &meta(), None).unwrap();
        assert_eq!(fs::read(&path).unwrap(), plain);
    }

    /// What is said of a file whose statistics `change` has changed.
    fn refused(change: impl Fn(&mut Vec<HostTensor>, &mut WeightsMeta)) -> String {
        let (_folder, path, model) = saved();
        let mut tensors = host_tensors(&model);
        tensors.extend(super::tensors(&statistics()));
        let mut meta = calibrated();
        change(&mut tensors, &mut meta);
        let all_bytes: Vec<Vec<u8>> = tensors.iter().map(bytes).collect();
        let views = tensors.iter().zip(&all_bytes);
        let views = views.map(|(tensor, bytes)| view(tensor, bytes)).collect();
        write_file(&path, &serialize(&path, views, &meta).unwrap()).unwrap();
        let said = message(&path);
        let begin = "FILE does not fit its own model configuration: ";
        said.strip_prefix(begin).unwrap_or(&said).to_owned()
    }

    #[test]
    fn statistics_that_cannot_be_are_refused() {
        let with = |name: &'static str, change: fn(&mut HostTensor)| {
            refused(move |tensors, _| {
                change(tensors.iter_mut().find(|tensor| tensor.0 == name).unwrap());
            })
        };
        assert_eq!(
            refused(|tensors, _| tensors.retain(|tensor| tensor.0 != WHITENING)),
            "tensor familiarity.whitening is missing"
        );
        assert_eq!(
            refused(|tensors, _| tensors.retain(|tensor| tensor.0 != MEANS)),
            "tensor familiarity.means is missing"
        );
        assert_eq!(
            with(WHITENING, |tensor| tensor.1 = vec![36]),
            "tensor familiarity.whitening is F32 [36], expected F32 [6, 6]"
        );
        assert_eq!(
            with(MEANS, |tensor| tensor.1 = vec![3, 4]),
            "tensor familiarity.means is F32 [3, 4], expected F32 [2, 6]"
        );
        // More means than classes.
        assert_eq!(
            with(MEANS, |tensor| {
                tensor.1 = vec![4, 6];
                tensor.2 = vec![0.5; 24];
            }),
            "tensor familiarity.means is F32 [4, 6], expected F32 [3, 6]"
        );
        assert_eq!(
            with(MEANS, |tensor| {
                tensor.1 = vec![0, 6];
                tensor.2.clear();
            }),
            "tensor familiarity.means is F32 [0, 6], expected F32 [1, 6]"
        );
        let said = with(WHITENING, |tensor| tensor.2[7] = f32::NAN);
        assert!(
            said.contains("not numbers (tensor familiarity.whitening)"),
            "{said}"
        );
        let limit = |limit: Option<FamiliarityLimit>| {
            refused(move |_, meta| meta.calibration.as_mut().unwrap().familiarity = limit)
        };
        assert_eq!(
            limit(None),
            "tensor familiarity.means without calibration.familiarity in the metadata"
        );
        let with_limit = |threshold, share| {
            limit(Some(FamiliarityLimit {
                threshold,
                share,
                pictures: 9,
            }))
        };
        assert_eq!(
            with_limit(0.0, 0.95),
            "calibration.familiarity.threshold is 0, expected a number above 0"
        );
        assert_eq!(
            with_limit(1.0, 1.5),
            "calibration.familiarity.share is 1.5, expected a share from 0 to 1"
        );
    }
}
