//! `[distillation]`: the teacher, and how the student learns from it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::RecipeError;
use crate::names;
use crate::setting::{Invalid, positive, within};
use crate::train::{DistillationConfig, Through};

/// The teacher, and how the student learns from it; without a teacher the section must be empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DistillationRecipe {
    /// The teacher: a weights file, a run directory (its best weights), the name of weights that
    /// ship with vitrine, or a repository on the hub as `hf:OWNER/NAME[@REVISION]`.
    #[serde(with = "names::optional_path")]
    pub teacher: Option<PathBuf>,
    /// SHA-256 of the teacher's file. A run writes it down; if it is set, another file is refused.
    pub sha256: Option<String>,
    /// How the student learns from it.
    #[serde(flatten)]
    pub config: DistillationConfig,
}

impl DistillationRecipe {
    /// Checks every number against its range.
    pub(super) fn validate(&self) -> Result<(), RecipeError> {
        let d = &self.config;
        positive("distillation.temperature", d.temperature, 1000.0)?;
        within("distillation.weight", d.weight, 0.0..=1.0)?;
        within("distillation.guidance", d.guidance, 0.0..=1e3)?;
        within("distillation.guidance_until", d.guidance_until, 0.0..=1.0)?;
        if self.teacher.is_none() {
            if self.config != DistillationConfig::default() {
                return Err(RecipeError::NoTeacher);
            }
            return Ok(());
        }
        let weight =
            |expected: &str| Err(Invalid::new("distillation.weight", d.weight, expected).into());
        if d.through == Through::Token && (d.weight == 0.0 || d.weight == 1.0) {
            return weight(
                "more than 0 and less than 1 with distillation.through = \"token\", where one head \
                 learns from the teacher and one from the labels",
            );
        }
        if d.weight == 0.0 && !d.guides(0.0) {
            return weight(
                "more than 0, or a distillation.guidance above 0: as it is, the teacher teaches \
                 nothing",
            );
        }
        Ok(())
    }

    /// Gives the student, the configuration of the model `name` in JSON, a distillation token if the
    /// teacher teaches through one.
    pub(super) fn add_token(
        &self,
        name: &str,
        student: &mut serde_json::Value,
    ) -> Result<(), RecipeError> {
        if self.teacher.is_none() {
            return Ok(());
        }
        let token = student.get_mut("distillation_token");
        let reason = match (self.config.through, token) {
            (Through::Token, Some(token)) => {
                *token = true.into();
                return Ok(());
            }
            (Through::Token, None) => format!(
                "distillation.through is \"token\", and {name} has no tokens: expected \"pooled\", or a \
                 Vision Transformer"
            ),
            (Through::Pooled, Some(token)) if *token == true => {
                "model.distillation_token is true, and the teacher does not speak through it: set \
                 distillation.through = \"token\""
                    .to_owned()
            }
            (Through::Pooled, _) => return Ok(()),
        };
        Err(RecipeError::Value { reason })
    }
}
