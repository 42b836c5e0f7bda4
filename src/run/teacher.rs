//! The teacher that a recipe names: found, checked against the data, and loaded.

use std::path::PathBuf;

use serde::Serialize;

use super::dir::open_weights;
use super::error::RunError;
use crate::checkpoint::{self, WeightsMeta};
use crate::data::Preprocess;
use crate::device::Selected;
use crate::hub::Repo;
use crate::names;
use crate::ops::{Precision, PrecisionChoice};
use crate::recipe::Recipe;
use crate::train::{Distillation, Teacher};

/// A teacher whose file is whole and whose classes are the student's.
#[derive(Debug, Clone)]
pub struct PlannedTeacher {
    /// Its weights file, or the name of its repository on a hub.
    pub weights: PathBuf,
    /// The file's SHA-256, as `sha256sum` prints it.
    pub sha256: String,
    /// The file's metadata.
    pub meta: WeightsMeta,
}

/// The teacher's entry in `run.json`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TeacherInfo {
    weights: String,
    sha256: String,
    model: String,
    val_top1: Option<f64>,
    flops_per_image: u64,
    device: String,
}

impl PlannedTeacher {
    /// The teacher of a recipe, if it has one; the data at `origin` has these classes.
    ///
    /// # Errors
    ///
    /// [`RunError`]: there are no whole weights at its path, their hash is not the recipe's, or
    /// their classes are not those of the data.
    pub(super) fn find(
        recipe: &Recipe,
        origin: &str,
        classes: &[String],
    ) -> Result<Option<Self>, RunError> {
        let Some(path) = &recipe.distillation.teacher else {
            return Ok(None);
        };
        let file = open_weights(path)?;
        // The folder of a repository says less than its name.
        let weights = match Repo::is_named(path) {
            true => path.clone(),
            false => file.path().to_owned(),
        };
        let meta = checkpoint::meta(&file)?;
        let sha256 = file.sha256();
        if let Some(expected) = &recipe.distillation.sha256
            && *expected != sha256
        {
            return Err(RunError::OtherTeacher {
                path: weights,
                found: sha256,
                expected: expected.clone(),
            });
        }
        if !names::all_same(&meta.classes, classes) {
            return Err(RunError::TeacherClasses {
                difference: difference(&meta.classes, classes),
                path: weights,
                origin: origin.to_owned(),
                teacher: meta.classes,
                data: classes.to_vec(),
            });
        }
        Ok(Some(Self {
            weights,
            sha256,
            meta,
        }))
    }

    /// Loads it for a student with this preprocessing and this precision.
    ///
    /// # Errors
    ///
    /// [`checkpoint::CheckpointError`] where the tensors do not fit the model.
    pub(super) fn load(
        &self,
        recipe: &Recipe,
        student: &Preprocess,
        precision: Precision,
        device: &Selected,
    ) -> Result<Distillation, RunError> {
        let device = &device.device;
        // bf16 where the student computes in it too and the teacher's own device is faster so.
        let precision = match precision {
            Precision::F32 | Precision::Int8 => Precision::F32,
            Precision::Bf16 => PrecisionChoice::Auto
                .for_training(device)
                .unwrap_or_default(),
        };
        let checkpoint = checkpoint::load(&open_weights(&self.weights)?, device)?;
        Ok(Distillation {
            config: recipe.distillation.config.clone(),
            teacher: Teacher::new(checkpoint, student, precision, device),
        })
    }

    /// Its entry in `run.json`.
    pub(super) fn info(&self, device: &Selected) -> TeacherInfo {
        TeacherInfo {
            weights: names::text(&self.weights),
            sha256: self.sha256.clone(),
            model: self.meta.name.clone(),
            val_top1: self.meta.val_top1,
            flops_per_image: self.meta.model.flops(),
            device: device.name.clone(),
        }
    }
}

/// The first class that differs, as text.
fn difference(teacher: &[String], data: &[String]) -> String {
    let differs = |i: &usize| match (teacher.get(*i), data.get(*i)) {
        (Some(teacher), Some(data)) => !names::same(teacher, data),
        _ => true,
    };
    let at = (0..teacher.len().max(data.len()))
        .find(differs)
        .unwrap_or_default();
    let name = |classes: &[String]| match classes.get(at) {
        Some(name) => format!("{name:?}"),
        None => "missing".to_owned(),
    };
    format!(
        "class {at} is {} there and {} here",
        name(teacher),
        name(data)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let classes = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let differ = |a: &[&str], b: &[&str]| difference(&classes(a), &classes(b));
        assert_eq!(
            differ(&["ant", "bee"], &["ant", "cow"]),
            r#"class 1 is "bee" there and "cow" here"#
        );
        assert_eq!(
            differ(&["ant", "bee"], &["ant"]),
            r#"class 1 is "bee" there and missing here"#
        );
    }
}
