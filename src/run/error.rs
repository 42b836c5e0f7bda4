//! Why a run could not be made, continued or finished.

use std::path::PathBuf;

use thiserror::Error;

use crate::checkpoint::{CheckpointError, LayoutError};
use crate::classify::StreamError;
use crate::data::{DataError, SplitName};
use crate::hub::HubError;
use crate::names::{self, shown, visible};
use crate::recipe::RecipeError;
use crate::report::{CsvError, PlotError, ReportError};
use crate::train::TrainError;

/// Why a run could not be made, continued or finished.
#[derive(Debug, Error)]
pub enum RunError {
    /// The folder of a run is a file.
    #[error("{path} is a file", path = shown(path))]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// The folder holds something already.
    #[error("{path} is not empty", path = shown(path))]
    Taken {
        /// The path.
        path: PathBuf,
        /// Whether it is a run.
        is_run: bool,
    },
    /// Someone writes into it: a training, a calibration.
    #[error("another process trains or changes {path}: wait for it, or stop it", path = shown(path))]
    Busy {
        /// The path.
        path: PathBuf,
    },
    /// The weights that were evaluated are no longer those of the run.
    #[error(
        "{path} has been written again since it was read: these figures are of the weights before, and no file of them is kept", path = shown(path))]
    Outdated {
        /// The weights.
        path: PathBuf,
    },
    /// A folder that is to be emptied holds what no training writes.
    #[error(
        "{} was not written by a training, and {} is not emptied for a new one",
        shown(path),
        shown(run)
    )]
    NotOurs {
        /// What is there.
        path: PathBuf,
        /// The folder.
        run: PathBuf,
    },
    /// The recipe of a run is not the one that its state was trained by.
    #[error(
        "{} has {key} = {found}: expected {expected}, with which the saved state of {} was trained",
        shown(run.join("recipe.toml")),
        shown(run)
    )]
    OtherRecipe {
        /// The run.
        run: PathBuf,
        /// The first key that differs.
        key: String,
        /// Its value in the recipe.
        found: String,
        /// Its value in the state.
        expected: String,
    },
    /// The folder is not a run.
    #[error("{path} is not a run directory ({found})", path = shown(path))]
    NoRun {
        /// The path.
        path: PathBuf,
        /// What is there instead.
        found: &'static str,
        /// The newest run below `runs/`.
        newest: Option<PathBuf>,
        /// Whether the name of weights that ship would have done as well.
        or_shipped: bool,
    },
    /// The run has no weights yet.
    #[error("{path} holds no weights/best.safetensors: its first epoch was never finished", path = shown(path))]
    NoWeights {
        /// The path.
        path: PathBuf,
    },
    /// The run never saved a state.
    #[error("{path} holds no saved state to continue from", path = shown(path))]
    NoState {
        /// The path.
        path: PathBuf,
    },
    /// A run has trained for longer than it is now to train in all.
    #[error(
        "{} has already trained for {updates} updates ({}, {seconds:.0} s): expected a budget of no less",
        shown(path),
        counted(*epochs, "epoch")
    )]
    LessThanDone {
        /// The run.
        path: PathBuf,
        /// Finished epochs.
        epochs: usize,
        /// Updates taken.
        updates: u64,
        /// Seconds spent.
        seconds: f64,
    },
    /// The data set that a run was trained on is not where it was.
    #[error(
        "{}: no such file or folder, where the data set of {} is expected",
        shown(path),
        shown(run)
    )]
    DataGone {
        /// Where it was.
        path: PathBuf,
        /// The run.
        run: PathBuf,
    },
    /// A file could not be written.
    #[error("cannot write {path}: {source}", path = shown(path))]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The data has other classes than the weights.
    #[error(
        "the classes differ: the weights know {} ({}), {origin} has {} ({}); use data with the classes of the weights, or train on this data",
        .weights.len(), names::listed(weights), .data.len(), names::listed(data), origin = visible(origin))]
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
        "the teacher {path} knows {} classes ({}), {origin} has {} ({}), and {difference}: expected the same classes in the same order",
        .teacher.len(), listed(.teacher), .data.len(), listed(.data), path = shown(path), origin = visible(origin), difference = visible(difference))]
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
        "the teacher {path} has SHA-256 {found}: expected {expected}, as distillation.sha256 has it", path = shown(path))]
    OtherTeacher {
        /// Its weights.
        path: PathBuf,
        /// Their hash.
        found: String,
        /// The recipe's.
        expected: String,
    },
    /// Nothing of a split can be read.
    #[error(
        "{origin}: none of the {total} pictures of the {split} split can be read; the first: {first}",
        origin = visible(origin), first = visible(first)
    )]
    Unreadable {
        /// The data set.
        origin: String,
        /// The split that was wanted.
        split: SplitName,
        /// Its pictures.
        total: usize,
        /// The first, and why it cannot be read.
        first: String,
    },
    /// A split that was wanted is empty.
    #[error("{origin} has no {split} split; it has {has}", origin = visible(origin))]
    NoSplit {
        /// The data set.
        origin: String,
        /// The split that was wanted.
        split: SplitName,
        /// What there is.
        has: String,
    },
    /// Nothing says which pictures the weights may be calibrated on.
    #[error("{path} is a bare weights file", path = shown(path))]
    NoValidation {
        /// The weights.
        path: PathBuf,
    },
    /// The data has no validation split.
    #[error(
        "{origin} has no validation split to fit a temperature on; name the run directory, which keeps its validation split, or data with a val folder", origin = visible(origin))]
    NothingHeldOut {
        /// The data set.
        origin: String,
    },
    /// What is inside the program cannot be written to.
    #[error("{name} ships inside vitrine, calibrated")]
    ShippedIsCalibrated {
        /// The weights.
        name: &'static str,
    },
    /// The weights' answers are not numbers.
    #[error("{path} answers pictures with logits that are not numbers", path = shown(path))]
    NotFinite {
        /// The weights.
        path: PathBuf,
    },
    /// The weights to start from are not those that the recipe names.
    #[error("{path} has SHA-256 {found}: expected {expected}, as init.sha256 has it", path = shown(path))]
    OtherStart {
        /// The weights.
        path: PathBuf,
        /// Their hash.
        found: String,
        /// The recipe's.
        expected: String,
    },
    /// The weights that adapters change cannot be read.
    #[error(
        "{path} holds low-rank adapters of the weights {base}, which cannot be read ({source}); expected those with SHA-256 {expected}", path = shown(path), base = shown(base))]
    NoBase {
        /// The file of adapters.
        path: PathBuf,
        /// The weights, as it names them.
        base: PathBuf,
        /// Their hash.
        expected: String,
        /// Why not.
        source: Box<RunError>,
    },
    /// The weights that adapters change are others.
    #[error(
        "{base} has SHA-256 {found}: expected {expected}, those that the low-rank adapters {path} change", path = shown(path), base = shown(base))]
    OtherBase {
        /// The file of adapters.
        path: PathBuf,
        /// The weights.
        base: PathBuf,
        /// Their hash.
        found: String,
        /// The hash that the adapters name.
        expected: String,
    },
    /// Weights stand on weights that stand on weights.
    #[error(
        "{path} holds low-rank adapters of adapters, more than {deep} deep: export those below as whole weights first", path = shown(path))]
    TooDeep {
        /// The last file that was opened.
        path: PathBuf,
        /// How many are followed.
        deep: usize,
    },
    /// The name of a file to write says that it is something else.
    #[error("{path}: expected a name that ends in .safetensors or .onnx", path = shown(path))]
    ExportName {
        /// The path.
        path: PathBuf,
    },
    /// The name of a file of features to write says that it is something else.
    #[error("{path}: expected a name that ends in .safetensors, .npy or .csv", path = shown(path))]
    NotFeatures {
        /// The path.
        path: PathBuf,
    },
    /// No picture gave features.
    #[error("none of {total} pictures could be read: there is nothing to write")]
    NoFeatures {
        /// The pictures.
        total: usize,
    },
    /// Nothing of what is to be told from a split can be read.
    #[error(
        "{path}: none of its {total} pictures can be read; the first: {first}",
        path = shown(path), first = visible(first)
    )]
    NoneReadable {
        /// Where they are.
        path: PathBuf,
        /// The pictures.
        total: usize,
        /// The first, and why it cannot be read.
        first: String,
    },
    /// The weights lack the statistics by which they would recognise pictures unlike anything they learned.
    #[error("{path} has no statistics of the features of its training pictures", path = shown(path))]
    NoFamiliarity {
        /// The weights.
        path: PathBuf,
    },
    /// Pictures could not be read at the same time.
    #[error(transparent)]
    Stream(StreamError),
    /// There is a file already.
    #[error("{path} exists: name another file, or remove it first", path = shown(path))]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// A copy of weights answers differently.
    #[error(
        "the copy {path} would answer differently and was not kept: a probability differs by {difference:.3}, expected at most {tolerance}", path = shown(path))]
    Differs {
        /// The copy.
        path: PathBuf,
        /// Largest difference of a probability.
        difference: f64,
        /// Largest that is kept.
        tolerance: f64,
    },
    /// Two runs answered for other pictures.
    #[error("{a} and {b} were measured on different pictures or classes", a = shown(a), b = shown(b))]
    DifferentPictures {
        /// One run.
        a: PathBuf,
        /// The other.
        b: PathBuf,
    },
    /// A file of the run does not read back.
    #[error("{path}: {reason}", path = shown(path), reason = visible(reason))]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The device lacks a precision.
    #[error("{device} does not compute in {precision}")]
    Precision {
        /// The device.
        device: String,
        /// The precision.
        precision: String,
    },
    /// What other programs share cannot be written to.
    #[error("{path} lies in a cache that other programs read, too, and is not written to", path = shown(path))]
    OfHub {
        /// The repository.
        path: PathBuf,
    },
    /// Hub.
    #[error(transparent)]
    Hub(#[from] HubError),
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
    /// Weights of another project cannot be read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Tables and plots.
    #[error(transparent)]
    Report(#[from] ReportError),
}

impl RunError {
    /// Whether nothing failed: someone asked to stop.
    pub(crate) fn is_stop(&self) -> bool {
        match self {
            Self::Data(DataError::Stopped) | Self::Hub(HubError::Stopped) => true,
            Self::Train(error) => error.is_stop(),
            _ => false,
        }
    }
}

impl From<StreamError> for RunError {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Checkpoint(error) => Self::Checkpoint(error),
            other => Self::Stream(other),
        }
    }
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

fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Class names, the first of them where they are many.
fn listed(names: &[String]) -> String {
    const FEW: usize = 20;
    let rest = if names.len() > FEW { ", …" } else { "" };
    names::listed(&names[..names.len().min(FEW)]) + rest
}
