//! The arguments of `compare`.

use std::path::PathBuf;

use clap::{ArgAction, Args};

use crate::cli::lists;
use crate::data::SplitName;
use crate::device::DeviceChoice;

/// Train models under one budget and compare them, or compare finished runs.
///
/// Prints and writes a table, McNemar's test of every pair on the same pictures, and the curves.
#[derive(Debug, Args)]
pub(in crate::cli) struct CompareArgs {
    /// Finished run directories; those that differ only in their seed count as one model.
    #[arg(value_name = "RUN", conflicts_with_all = ["models", "init", "budget", "seeds", "recipe", "set", "dry_run"])]
    pub runs: Vec<PathBuf>,
    /// Models to train, such as vit-w1,resnet9.
    #[arg(
        long,
        action = ArgAction::Set,
        value_delimiter = ',',
        value_name = "NAMES",
        required_unless_present_any = ["runs", "init"]
    )]
    pub models: Vec<String>,
    /// Weights whose model is trained in three ways: a probe on their features, fine-tuning, from scratch.
    #[arg(long, value_name = "RUN|WEIGHTS")]
    pub init: Option<PathBuf>,
    /// Data set; default: that of the runs, or the bundled sample.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Budget of each training: epochs=N, time=30m or flops=1e15; default: that of the recipe.
    #[arg(long, value_name = "BUDGET")]
    pub budget: Option<String>,
    /// Trainings per model, with seeds 0, 1, …; a probe, which no seed changes, is fitted once
    #[arg(long, default_value_t = 1, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub seeds: u32,
    /// train, val or test; default: test, or val if there is no test split.
    #[arg(long, value_name = "SPLIT")]
    pub split: Option<SplitName>,
    /// Recipe for all models, over the defaults of each family.
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// Set any recipe key for all models; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Batch size of the evaluation.
    #[arg(short, long, default_value_t = 128, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch_size: u32,
    #[arg(
        long,
        default_value = "auto",
        value_name = "DEVICE",
        help = lists::fill("Device: {devices}; auto uses a GPU if present")
    )]
    pub device: DeviceChoice,
    /// Folder of the results and of the trained runs; an earlier comparison there is continued.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print what would be trained, and how long it would take.
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
