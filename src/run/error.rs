//! Why a run could not be made, continued or finished.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::checkpoint::{CheckpointError, Shipped};
use crate::data::{DataError, SplitName};
use crate::recipe::RecipeError;
use crate::report::{CsvError, PlotError, ReportError};
use crate::train::TrainError;

/// Why a run could not be made, continued or finished.
#[derive(Debug, Error)]
pub enum RunError {
    /// `--out` names a file.
    #[error("{path} is a file: --out names the folder of a run")]
    NotADirectory {
        /// As given.
        path: PathBuf,
    },
    /// The folder holds something already.
    #[error(
        "{path} is not empty: name another folder with --out, or continue that run with --resume {path}"
    )]
    Taken {
        /// As given.
        path: PathBuf,
    },
    /// Someone trains into it.
    #[error("{path} is being trained by another process: wait for it, or stop it")]
    Busy {
        /// As given.
        path: PathBuf,
    },
    /// The folder is not a run.
    #[error("{path} is no run directory ({found}); {advice}")]
    NoRun {
        /// As given.
        path: PathBuf,
        /// What is there instead.
        found: &'static str,
        /// What would work.
        advice: String,
    },
    /// The run has no weights yet.
    #[error(
        "{path} holds no weights/best.safetensors: its first epoch was never finished; continue it with `vitrine train --resume {path}`"
    )]
    NoWeights {
        /// As given.
        path: PathBuf,
    },
    /// The run never saved a state.
    #[error(
        "{path} holds no saved state: it stopped before its first checkpoint; start again with `vitrine train --recipe {path}/recipe.toml`"
    )]
    NoState {
        /// As given.
        path: PathBuf,
    },
    /// A file could not be written.
    #[error("cannot write {path}: {source}; name another place with --out")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The data has other classes than the weights.
    #[error(
        "the classes differ: the weights know {} ({}), {origin} has {} ({}); name data with classes of the weights, or train on this",
        .weights.len(), .weights.join(", "), .data.len(), .data.join(", ")
    )]
    Classes {
        /// The data set.
        origin: String,
        /// Of the weights.
        weights: Vec<String>,
        /// Of the data.
        data: Vec<String>,
    },
    /// The teacher knows other classes than the student is to learn.
    #[error(
        "the teacher {path} knows {} classes ({}), {origin} has {} ({}), and {difference}: expected the same classes in the same order; train a teacher on this data, or name another with --teacher",
        .teacher.len(), listed(.teacher), .data.len(), listed(.data)
    )]
    TeacherClasses {
        /// Its weights.
        path: PathBuf,
        /// The data set.
        origin: String,
        /// Of the teacher.
        teacher: Vec<String>,
        /// Of the data.
        data: Vec<String>,
        /// The first that differs.
        difference: String,
    },
    /// The teacher's file is not the one that the recipe names.
    #[error(
        "the teacher {path} has SHA-256 {found}: expected {expected}, as distillation.sha256 has it; {}, or begin a new run",
        advice(
            path,
            "name the file that it was with --teacher (`vitrine calibrate` changes it too)"
        )
    )]
    OtherTeacher {
        /// Its weights.
        path: PathBuf,
        /// Their hash.
        found: String,
        /// The recipe's.
        expected: String,
    },
    /// Nothing of a split can be read.
    #[error("{origin} has no {split} split; it has {total} pictures there, none of them readable")]
    Unreadable {
        /// The data set.
        origin: String,
        /// Asked for.
        split: SplitName,
        /// Its pictures.
        total: usize,
    },
    /// A split that was asked for is empty.
    #[error("{origin} has no {split} split; it has {has}")]
    NoSplit {
        /// The data set.
        origin: String,
        /// Asked for.
        split: SplitName,
        /// What there is.
        has: String,
    },
    /// Nothing says which pictures the weights may be calibrated on.
    #[error(
        "{path} is a bare weights file: name its run directory, which knows its validation split, or a data set with one with --data"
    )]
    NoValidation {
        /// The weights.
        path: PathBuf,
    },
    /// The data has no validation split.
    #[error(
        "{origin} has no validation split, and a temperature is fitted on nothing else; name the run directory, which keeps the one it was trained with, or data that has a val folder"
    )]
    NothingHeldOut {
        /// The data set.
        origin: String,
    },
    /// What is inside the program cannot be written to.
    #[error(
        "{name} ships inside vitrine, calibrated: `vitrine export {name} OUT.safetensors` makes a copy that can be calibrated anew"
    )]
    ShippedIsCalibrated {
        /// The weights.
        name: &'static str,
    },
    /// The weights' answers are not numbers.
    #[error("{path} answers with logits that are not numbers: train it again with a lower --lr")]
    NotFinite {
        /// The weights.
        path: PathBuf,
    },
    /// The weights to start from are not those that the recipe names.
    #[error(
        "{path} has SHA-256 {found}: expected {expected}, as init.sha256 has it; {}",
        advice(
            path,
            "name the file that it was with --init, which also takes another"
        )
    )]
    OtherStart {
        /// The weights.
        path: PathBuf,
        /// Their hash.
        found: String,
        /// The recipe's.
        expected: String,
    },
    /// The name of a file to write says that it is something else.
    #[error(
        "{path}: weights are written to a name that ends in .safetensors, by which they are known again"
    )]
    NotSafetensors {
        /// As given.
        path: PathBuf,
    },
    /// There is a file already.
    #[error("{path} exists: name another file, or remove it first")]
    Exists {
        /// As given.
        path: PathBuf,
    },
    /// A copy of weights answers differently.
    #[error(
        "the copy {path} would answer differently and was not kept: a probability differs by {difference:.3}, expected at most 0.01; export without --half"
    )]
    Differs {
        /// The copy.
        path: PathBuf,
        /// Largest difference of a probability.
        difference: f64,
    },
    /// Two runs answered for other pictures.
    #[error(
        "{a} and {b} were measured on different pictures or classes: name one data set for both with --data and --split"
    )]
    DifferentPictures {
        /// One run.
        a: PathBuf,
        /// The other.
        b: PathBuf,
    },
    /// A file of the run does not read back.
    #[error("{path}: {reason}; `vitrine train --resume` on the finished run writes it anew")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The device cannot multiply bf16.
    #[error(
        "{device} does not compute in bf16: take --precision f32 or auto, or name another device with --device, as a run that began in bf16 must"
    )]
    Precision {
        /// The device.
        device: String,
    },
    /// Data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// Training.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Weights.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Tables and plots.
    #[error(transparent)]
    Report(#[from] ReportError),
}

impl From<PlotError> for RunError {
    fn from(error: PlotError) -> Self {
        Self::Report(ReportError::Plot(error))
    }
}

impl From<CsvError> for RunError {
    fn from(error: CsvError) -> Self {
        Self::Report(ReportError::Csv(error))
    }
}

/// Class names, the first of them where they are many.
/// What to do about weights of another hash than a recipe has: `file`, where they are one.
fn advice(weights: &Path, file: &'static str) -> &'static str {
    match Shipped::find(weights) {
        Some(_) => "another vitrine ships those; continue with the one that began",
        None => file,
    }
}

fn listed(names: &[String]) -> String {
    const FEW: usize = 20;
    let first = names.iter().take(FEW).map(String::as_str);
    let rest = (names.len() > FEW).then_some("…");
    first.chain(rest).collect::<Vec<_>>().join(", ")
}
