//! Everything a resume needs, as one file that is written whole or not at all.
//!
//! Model, average, optimizer, position and history change together, so they live in one file:
//! a set of files could be left half old, half new by a power cut.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::average::Average;
use super::optimizer::Optimizer;
use super::part::Part;
use super::progress::Progress;
use crate::checkpoint::{self, CheckpointError, HostTensor, TensorFile};

/// File name of the state within `checkpoint/`.
pub(super) const FILE: &str = "state.safetensors";

const OPTIMIZER: &str = "optimizer.";
const AVERAGE: &str = "ema.";

/// What a state says of itself.
#[derive(Serialize, Deserialize)]
struct StateMeta {
    #[serde(flatten)]
    progress: Progress,
    /// The recipe of the training.
    #[serde(default)]
    recipe: Option<String>,
    /// Names of what the optimizer has kept so far: a tensor that had no gradient yet has no moments.
    #[serde(default)]
    moments: Option<BTreeSet<String>>,
}

/// Writes the state of a training by `recipe` into `folder`.
///
/// # Errors
///
/// [`CheckpointError::Write`]; the previous state is then untouched.
pub(super) fn save(
    folder: &Path,
    progress: &Progress,
    recipe: &str,
    parts: &[Part],
    optimizer: &Optimizer,
    average: Option<&Average>,
) -> Result<(), CheckpointError> {
    let mut tensors: Vec<HostTensor> = Vec::new();
    for part in parts {
        let values = part.module.values().into_iter();
        for ((path, value), (_, shape)) in values.zip(part.module.shapes()) {
            tensors.push((part.tensor(&path), shape, checkpoint::host(value)));
        }
    }
    let mut add = |prefix: &str, name: &str, value: Tensor<1>| {
        let values = checkpoint::host(value);
        tensors.push((format!("{prefix}{name}"), vec![values.len()], values));
    };
    let mut moments = BTreeSet::new();
    for (name, value) in optimizer.state() {
        add(OPTIMIZER, &name, value);
        moments.insert(name);
    }
    for (name, value) in average.map(Average::state).unwrap_or_default() {
        add(AVERAGE, name, value.clone());
    }
    let progress = Progress {
        optimizer_updates: optimizer.updates(),
        ema_updates: average.map_or(0, Average::updates),
        ..progress.clone()
    };
    let meta = StateMeta {
        progress,
        recipe: Some(recipe.to_owned()),
        moments: Some(moments),
    };
    checkpoint::write_tensors(&folder.join(FILE), &tensors, &meta)
}

/// Writes the state of a run that has found its weights and needs nothing to go on.
///
/// # Errors
///
/// As `save`: [`CheckpointError::Write`].
pub fn save_finished(
    folder: &Path,
    progress: &Progress,
    recipe: &str,
) -> Result<(), CheckpointError> {
    let meta = StateMeta {
        progress: progress.clone(),
        recipe: Some(recipe.to_owned()),
        moments: None,
    };
    checkpoint::write_tensors(&folder.join(FILE), &[], &meta)
}

/// A state read back, before it is put into a model.
#[derive(Debug)]
pub struct Saved {
    /// Where the training stood.
    pub progress: Progress,
    /// The recipe that it was trained by; earlier versions did not note it.
    pub recipe: Option<String>,
    file: TensorFile,
}

impl Saved {
    /// Opens the state in `folder`.
    ///
    /// # Errors
    ///
    /// What [`TensorFile`] says of a missing or broken file; [`CheckpointError::Mismatch`] where something is
    /// missing of what the optimizer kept, or is not of the size of its tensor.
    pub fn open(folder: &Path) -> Result<Self, CheckpointError> {
        let path: PathBuf = folder.join(FILE);
        let file = TensorFile::open(&path)?;
        let StateMeta {
            progress,
            recipe,
            moments,
        } = file.meta()?;
        check_moments(&file, moments.as_ref())?;
        Ok(Self {
            progress,
            recipe,
            file,
        })
    }

    /// Puts the state into freshly made parts, their optimizer and their average.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Mismatch`] where the state belongs to other parts: where one of their
    /// tensors is missing or of another shape, or where the state has one that no part has.
    pub fn restore(
        &self,
        parts: &mut [Part],
        optimizer: &mut Optimizer,
        average: Option<&mut Average>,
        device: &Device,
    ) -> Result<(), CheckpointError> {
        let taken = RefCell::new(HashSet::new());
        for part in &mut *parts {
            let mut values = HashMap::new();
            for (path, shape) in part.module.shapes() {
                let name = part.tensor(&path);
                values.insert(path, self.file.values_of(&name, &shape)?);
                taken.borrow_mut().insert(name);
            }
            part.module.replace(&mut |path| {
                let values = values.remove(path)?;
                Some(Tensor::from_floats(values.as_slice(), device))
            });
        }
        let find = |prefix: &'static str| {
            let taken = &taken;
            move |name: &str| {
                let name = format!("{prefix}{name}");
                // A tensor that cannot be read has been refused with the file.
                let values = self.file.values(&name).ok().flatten()?;
                taken.borrow_mut().insert(name);
                Some(values)
            }
        };
        optimizer.restore(self.progress.optimizer_updates, device, find(OPTIMIZER));
        if let Some(average) = average {
            for (name, value) in average.state() {
                let name = format!("{AVERAGE}{name}");
                self.file.values_of(&name, &value.dims())?;
            }
            average.restore(self.progress.ema_updates, device, find(AVERAGE));
        }
        self.file.holds_only(&taken.into_inner())
    }
}

/// Whether the optimizer's tensors are those that it kept, each of the size of the tensor that it moves.
fn check_moments(
    file: &TensorFile,
    kept: Option<&BTreeSet<String>>,
) -> Result<(), CheckpointError> {
    let sizes = file.sizes()?;
    for name in kept.into_iter().flatten() {
        let name = format!("{OPTIMIZER}{name}");
        if !sizes.contains_key(&name) {
            return Err(file.mismatch(format!("tensor {name} is missing")));
        }
    }
    for (name, &found) in &sizes {
        let Some(moment) = name.strip_prefix(OPTIMIZER) else {
            continue;
        };
        let moved = moment.rsplit_once('.').map_or(moment, |(moved, _)| moved);
        match sizes.get(moved) {
            Some(&expected) if found != expected => {
                return Err(file.mismatch(format!(
                    "tensor {name} has {found} values, expected the {expected} of {moved}"
                )));
            }
            _ if kept.is_some_and(|kept| !kept.contains(moment)) => {
                return Err(file.mismatch(format!("tensor {name} is not one of the optimizer's")));
            }
            // Of a tensor that is missing a resume says so.
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::checkpoint::host_tensors;
    use crate::checkpoint::tests::tiny;
    use crate::model::{Model, ModelConfig, parameters};
    use crate::train::optimizer::{GradientSum, OptimizerConfig};
    use crate::train::part::{MODEL, Rule, model_part};
    use crate::train::progress::{Best, EpochRecord};
    use crate::train::task::Figure;

    /// Two modules that learn, each by a rule of its own.
    #[derive(Clone)]
    struct Pair {
        model: Model,
        guest: Model,
    }

    impl Pair {
        fn parts(&mut self) -> Vec<Part<'_>> {
            let guest = Part {
                name: "guest",
                module: &mut self.guest,
                rule: Rule::Own(OptimizerConfig::default()),
                averaged: true,
            };
            vec![model_part(&mut self.model), guest]
        }

        fn tensors(&self) -> [Vec<HostTensor>; 2] {
            [&self.model, &self.guest].map(host_tensors)
        }

        fn averaged(&self, average: &Average) -> [Vec<HostTensor>; 2] {
            [
                host_tensors(&average.apply(MODEL, &self.model)),
                host_tensors(&average.apply("guest", &self.guest)),
            ]
        }
    }

    fn fresh(seed: u64) -> (Pair, Optimizer, Average) {
        let device = Device::flex().autodiff();
        let resnet = ModelConfig::preset("resnet9", 8, None, 3).unwrap();
        let mut pair = Pair {
            model: tiny().init(seed, &device),
            guest: resnet.init(seed, &device),
        };
        let parts = pair.parts();
        let optimizer = Optimizer::new(OptimizerConfig::default(), &parts);
        let average = Average::new(0.9, &parts);
        (pair, optimizer, average)
    }

    /// One update whose gradient is the weights themselves.
    fn update(pair: &mut Pair, optimizer: &mut Optimizer, average: &mut Average) {
        let mut gradients = GradientSum::default();
        let values = |model: &Model| {
            let trainable = parameters::trainable(model);
            let is_trained =
                move |path: &str| trainable.iter().any(|parameter| parameter.path() == path);
            let all = parameters::values(model).into_iter();
            all.filter(move |(path, _)| is_trained(path))
        };
        let all = values(&pair.model).chain(values(&pair.guest));
        gradients.add(all.map(|(_, value)| Some(value)).collect());
        let mut parts = pair.parts();
        optimizer.step(&mut parts, gradients, 0.1);
        average.update(&parts);
    }

    const RECIPE: &str = "train.seed = 1\n";

    fn progress() -> Progress {
        Progress {
            epoch: 2,
            batch: 5,
            update: 17,
            elapsed_s: 0.1 + 0.2,
            best: Some(Best {
                epoch: 1,
                score: 1.0 / 3.0,
                loss: 0.7,
            }),
            stale: 1,
            history: vec![EpochRecord {
                epoch: 1,
                elapsed_s: 0.2,
                train_loss: 1.1,
                figures: vec![Figure {
                    column: "val/loss".to_owned(),
                    value: 0.7,
                }],
                lr: 1e-3,
                images_per_s: 10.0,
                waiting: 0.01,
                share: 0.25,
                spent: Some(0.5),
            }],
            ..Progress::default()
        }
    }

    fn saved(folder: &Path) -> (Pair, Optimizer, Average) {
        let (mut pair, mut optimizer, mut average) = fresh(1);
        update(&mut pair, &mut optimizer, &mut average);
        let parts = pair.parts();
        save(
            folder,
            &progress(),
            RECIPE,
            &parts,
            &optimizer,
            Some(&average),
        )
        .unwrap();
        (pair, optimizer, average)
    }

    #[test]
    fn a_restored_training_continues_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let (mut pair, mut optimizer, mut average) = saved(folder.path());
        let saved = Saved::open(folder.path()).unwrap();
        assert_eq!(
            Progress {
                optimizer_updates: 1,
                ema_updates: 1,
                ..progress()
            },
            saved.progress
        );
        let (mut other, mut optimizer2, mut average2) = fresh(2);
        assert_ne!(pair.tensors(), other.tensors());
        let (parts, device) = (&mut other.parts(), Device::flex());
        saved
            .restore(parts, &mut optimizer2, Some(&mut average2), &device)
            .unwrap();
        update(&mut pair, &mut optimizer, &mut average);
        update(&mut other, &mut optimizer2, &mut average2);
        assert_eq!(pair.tensors(), other.tensors());
        assert_eq!(pair.averaged(&average), other.averaged(&average2));
    }

    #[test]
    fn a_state_of_other_parts_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        saved(folder.path());
        let saved = Saved::open(folder.path()).unwrap();
        let refused = |pair: &mut Pair, with_guest: bool| {
            let mut parts = pair.parts();
            if !with_guest {
                parts.pop();
            }
            let mut optimizer = Optimizer::new(OptimizerConfig::default(), &parts);
            let restored = saved.restore(&mut parts, &mut optimizer, None, &Device::flex());
            let error = restored.unwrap_err();
            assert!(matches!(error, CheckpointError::Mismatch { .. }), "{error}");
            error.to_string()
        };
        // Another model, one part too few, and an average that nobody keeps.
        let (mut pair, ..) = fresh(2);
        let mut swapped = Pair {
            model: pair.guest.clone(),
            guest: pair.model.clone(),
        };
        let error = refused(&mut swapped, true);
        assert!(error.contains("model.Resnet9.") && error.contains("is missing"));
        assert!(refused(&mut pair, false).contains("is not one of the model's"));
        assert!(refused(&mut pair, true).contains("tensor ema."));
    }

    #[test]
    fn moments_that_are_missing_or_of_another_size_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        saved(folder.path());
        let path = folder.path().join(FILE);
        let file = TensorFile::open(&path).unwrap();
        let meta: StateMeta = file.meta().unwrap();
        assert_eq!(meta.recipe.as_deref(), Some(RECIPE));
        type Change<'a> = &'a dyn Fn(&str, Vec<f32>) -> Option<Vec<f32>>;
        let tensors = |change: Change| -> Vec<HostTensor> {
            let names = file.sizes().unwrap().into_keys();
            names
                .filter_map(|name| {
                    let values = change(&name, file.values(&name).unwrap().unwrap())?;
                    Some((name, vec![values.len()], values))
                })
                .collect()
        };
        let first = meta.moments.as_ref().unwrap().first().unwrap().clone();
        let name = format!("{OPTIMIZER}{first}");
        let missing = tensors(&|tensor, values| (tensor != name).then_some(values));
        let short = tensors(&|tensor, mut values| {
            values.truncate(values.len() - usize::from(tensor == name));
            Some(values)
        });
        let unknown = {
            let mut all = tensors(&|_, values| Some(values));
            all.push((format!("{OPTIMIZER}model.x.first"), vec![1], vec![0.0]));
            all
        };
        for (tensors, said) in [
            (&missing, format!("tensor {name} is missing")),
            (&short, format!("tensor {name} has ")),
            (
                &unknown,
                "tensor optimizer.model.x.first is not one of the optimizer's".to_owned(),
            ),
        ] {
            checkpoint::write_tensors(&path, tensors, &meta).unwrap();
            let error = Saved::open(folder.path()).unwrap_err();
            assert!(matches!(error, CheckpointError::Mismatch { .. }), "{error}");
            assert!(error.to_string().contains(&said), "{error}");
        }
        // Earlier versions did not note what they kept; sizes tell all the same.
        checkpoint::write_tensors(&path, &missing, &meta.progress).unwrap();
        assert_eq!(Saved::open(folder.path()).unwrap().recipe, None);
        checkpoint::write_tensors(&path, &short, &meta.progress).unwrap();
        Saved::open(folder.path()).unwrap_err();
    }

    #[test]
    fn a_failed_save_leaves_the_old_state() {
        let folder = tempfile::tempdir().unwrap();
        let (mut pair, optimizer, average) = saved(folder.path());
        let path = folder.path().join(FILE);
        let before = std::fs::read(&path).unwrap();
        let gone = folder.path().join("gone");
        let parts = pair.parts();
        let error = save(
            &gone,
            &progress(),
            RECIPE,
            &parts,
            &optimizer,
            Some(&average),
        )
        .unwrap_err();
        assert!(matches!(error, CheckpointError::Write { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
        std::fs::write(&path, &before[..before.len() / 2]).unwrap();
        let error = Saved::open(folder.path()).unwrap_err();
        assert!(matches!(error, CheckpointError::Corrupt { .. }), "{error}");
    }
}
