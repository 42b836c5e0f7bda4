//! Weights of one data set as the start of a training on another.

use std::collections::{HashMap, HashSet};

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

use super::codes::is_scale;
use super::error::CheckpointError;
use super::file::TensorFile;
use super::meta::{FAMILIARITY, WeightsMeta};
use crate::model::parameters;
use crate::model::parameters::declared;
use crate::model::role::{Declare, Declared, Role};
use crate::model::vit::position;

/// What becomes of each tensor when a training starts from weights.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fit {
    /// How many are taken.
    pub taken: usize,
    /// Those of them that are interpolated to another size of pictures.
    pub resampled: Vec<String>,
    /// Those of the model that the file does not give, and that are drawn.
    pub fresh: Vec<String>,
    /// Those of the file that are not taken.
    pub left_out: Vec<String>,
}

impl TensorFile {
    /// A module with the tensors of this file, whose metadata is `meta`, and what became of each.
    ///
    /// Heads stay as they are unless `keep_heads`, and so does a distillation token that the
    /// file lacks: whoever starts draws what is [`fresh`](Fit::fresh). Learned positions are interpolated where the module's `grid`, the patches along a
    /// side of its pictures, is another than the file's. Everything else must fit.
    ///
    /// # Errors
    ///
    /// `Corrupt`, or `Start` with the first tensor that does not fit.
    pub fn start<M: Module + Declare>(
        &self,
        meta: &WeightsMeta,
        undrawn: M,
        grid: Option<usize>,
        keep_heads: bool,
        device: &Device,
    ) -> Result<(M, Fit), CheckpointError> {
        let (mut found, fit) = self.fitting(meta, &undrawn, grid, keep_heads, device)?;
        let filled = parameters::replace(undrawn, |path, _| {
            let values = found.remove(path)?;
            let shape = [values.len()];
            Some(Tensor::from_data(TensorData::new(values, shape), device))
        });
        Ok((filled, fit))
    }

    /// What [`start`](Self::start) will do, if it will work.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub fn check_start(
        &self,
        meta: &WeightsMeta,
        undrawn: &(impl Module + Declare),
        grid: Option<usize>,
        keep_heads: bool,
        device: &Device,
    ) -> Result<Fit, CheckpointError> {
        let (_found, fit) = self.fitting(meta, undrawn, grid, keep_heads, device)?;
        Ok(fit)
    }

    /// What a module takes from this file, by path.
    fn fitting(
        &self,
        meta: &WeightsMeta,
        model: &(impl Module + Declare),
        grid: Option<usize>,
        keep_heads: bool,
        device: &Device,
    ) -> Result<(HashMap<String, Vec<f32>>, Fit), CheckpointError> {
        let mut fit = Fit::default();
        let tensors = self.tensors()?;
        let unfit = |reason: String| CheckpointError::Start {
            path: self.path().to_owned(),
            reason,
        };
        let taken = |declared: &Declared| {
            let role = declared.role;
            let new = role.is_for_distillation() && tensors.tensor(&declared.path).is_err();
            (keep_heads || !role.is_head()) && !new
        };
        let declared = declared(model);
        let mut found = HashMap::new();
        let shapes = parameters::shapes(model);
        for (declared, (path, shape)) in declared.iter().zip(&shapes) {
            if !taken(declared) {
                fit.fresh.push(path.clone());
                continue;
            }
            let Ok(view) = tensors.tensor(path) else {
                return Err(unfit(format!("it has no tensor {path}")));
            };
            let mut values = self.floats(&tensors, path, &view)?;
            if view.shape() != shape.as_slice() {
                match (declared.role, meta.model.grid(), grid, &shape[..]) {
                    (Role::Position, Some(old), Some(new), &[_, width])
                        if view.shape().last() == Some(&width)
                            && values.len() >= old * old * width =>
                    {
                        values = positions_for(&values, old, new, width);
                        fit.resampled.push(path.clone());
                    }
                    _ => {
                        return Err(unfit(format!(
                            "its tensor {path} is {:?}, expected {shape:?}",
                            view.shape()
                        )));
                    }
                }
            }
            if values.len() != shape.iter().product::<usize>() {
                return Err(unfit(format!(
                    "its tensor {path} is {:?}, which does not give {shape:?}",
                    view.shape()
                )));
            }
            found.insert(path.clone(), values);
        }
        // A head that is not kept may be one that the model does not have.
        let theirs = self::declared(&meta.model.init_constant(device));
        let dropped = theirs
            .iter()
            .filter(|tensor| !keep_heads && tensor.role.is_head());
        let known = declared.iter().chain(dropped);
        let known = known.map(|tensor| tensor.path.as_str());
        // Statistics of the other training pictures are of no use to this one.
        let known: HashSet<&str> = known.chain(FAMILIARITY).collect();
        let names = tensors.names().into_iter();
        let left = |name: &&str| !found.contains_key(*name) && !is_scale(&tensors, name);
        fit.left_out = names.clone().filter(left).map(str::to_owned).collect();
        fit.left_out.sort();
        fit.taken = found.len();
        let unknown = names.filter(|name| !known.contains(name) && !is_scale(&tensors, name));
        if let Some(name) = unknown.min() {
            return Err(unfit(format!("its tensor {name} has no place here")));
        }
        Ok((found, fit))
    }
}

/// Learned positions for another grid, at least `old`²; what comes before the patches' stays.
fn positions_for(values: &[f32], old: usize, new: usize, width: usize) -> Vec<f32> {
    let patches = old * old * width;
    let (first, grid) = values.split_at(values.len() - patches);
    let mut positions = first.to_vec();
    positions.extend(position::resample(grid, old, new, width));
    positions
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::checkpoint::tests::{meta, saved};
    use crate::checkpoint::{HostTensor, host_tensors};
    use crate::model::ModelConfig;

    fn tensor<'a>(tensors: &'a [HostTensor], name: &str) -> &'a HostTensor {
        tensors.iter().find(|t| t.0 == name).unwrap()
    }

    /// The tiny ViT's weights as the start of `change`d ones.
    fn start(
        change: impl FnOnce(&mut ModelConfig),
        keep_heads: bool,
    ) -> Result<[Vec<HostTensor>; 3], String> {
        let (_folder, path, model) = saved();
        let meta = meta();
        let mut config = meta.model.clone();
        change(&mut config);
        let fresh = config.init(9, &Device::flex().autodiff());
        let file = TensorFile::open(&path).unwrap();
        let (started, fit) = file
            .start(
                &meta,
                config.init_constant(&Device::flex().autodiff()),
                config.grid(),
                keep_heads,
                &Device::flex(),
            )
            .map_err(|e| e.to_string().replace(&path.display().to_string(), "FILE"))?;
        let is_fresh = |path: &str| fit.fresh.iter().any(|fresh| fresh == path);
        let started = started.drawn(9, &Device::flex(), &is_fresh);
        Ok([model, fresh.valid(), started.valid()].map(|model| host_tensors(&model)))
    }

    fn vit(config: &mut ModelConfig) -> &mut crate::model::VitConfig {
        let ModelConfig::Vit(vit) = config else {
            panic!("the tiny model is a ViT")
        };
        vit
    }

    #[test]
    fn the_head_is_fresh_and_the_rest_is_taken() {
        let [old, fresh, started] = start(|config| vit(config).num_classes = 5, false).unwrap();
        let heads = ["Vit.head.", "Vit.distillation_head."];
        for (tensor_of_start, of_fresh) in started.iter().zip(&fresh) {
            let name = &tensor_of_start.0;
            let from = if heads.iter().any(|head| name.starts_with(head)) {
                of_fresh
            } else {
                tensor(&old, name)
            };
            assert_eq!(tensor_of_start, from);
        }
        assert_eq!(tensor(&started, "Vit.head.bias").1, [5]);
        // A head of the same classes may stay.
        let [old, _, started] = start(|_| {}, true).unwrap();
        assert_eq!(started, old);
    }

    #[test]
    fn positions_follow_the_grid_and_the_class_token_keeps_its_own() {
        let name = "Vit.position_embedding";
        let [old, _, started] = start(|config| vit(config).image_size = 12, false).unwrap();
        let (old, new) = (tensor(&old, name), tensor(&started, name));
        assert_eq!((&old.1[..], &new.1[..]), (&[5, 6][..], &[10, 6][..]));
        assert_eq!(new.2[..6], old.2[..6]);
        assert_eq!(new.2[6..], position::resample(&old.2[6..], 2, 3, 6));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let begin = "FILE cannot be the start of this model: ";
        let refused = |change: fn(&mut ModelConfig)| {
            let told = start(change, false).unwrap_err();
            let told = told.strip_prefix(begin).unwrap();
            told.to_owned()
        };
        assert_eq!(
            refused(|config| vit(config).mlp_dim = 7),
            "its tensor Vit.blocks.0.mlp.fc1.weight is [6, 5], expected [6, 7]"
        );
        assert_eq!(
            refused(|config| vit(config).depth = 2),
            "it has no tensor Vit.blocks.1.norm1.gamma"
        );
        assert_eq!(
            refused(|config| vit(config).registers = 0),
            "its tensor Vit.register_tokens has no place here"
        );
    }
}
