//! `vitrine compare`.

mod finished;
mod trainings;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::{Done, note, say};
use crate::compare::{self, Entry};
use crate::data::SplitName;
use crate::device::{self, DeviceChoice};
use crate::ops::PrecisionChoice;
use crate::recipe::Recipe;
use crate::run::{self, EvaluateOptions};
use finished::finished;
use trainings::{Trainings, plan_all, train_all};

/// Train models under one budget, or set finished runs side by side.
///
/// Prints and writes a table, McNemar's test of every pair on the same pictures, and the curves.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Finished run directories; those that differ in their seed alone count as one model.
    #[arg(value_name = "RUN", conflicts_with_all = ["models", "budget", "seeds", "recipe", "set"])]
    runs: Vec<PathBuf>,
    /// Models to train, such as vit-w1,resnet9.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAMES",
        required_unless_present = "runs"
    )]
    models: Vec<String>,
    /// Data set; without it the bundled sample, or the runs' own.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// What each training may spend: epochs=N, time=30m or flops=1e15; without it, what the recipe
    /// says.
    #[arg(long, value_name = "BUDGET")]
    budget: Option<String>,
    /// Trainings a model, with seeds 0, 1, …
    #[arg(long, default_value_t = 1, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=100))]
    seeds: u32,
    /// train, val or test; without it test, or validation where there is none.
    #[arg(long, value_name = "SPLIT")]
    split: Option<SplitName>,
    /// Recipe for all of them, over each family's own defaults.
    #[arg(long, value_name = "FILE")]
    recipe: Option<String>,
    /// Set any recipe key for all of them.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Pictures a batch when measuring.
    #[arg(short, long, default_value_t = 128, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch_size: u32,
    /// auto, cpu, wgpu[:i], vulkan[:i], metal[:i], cuda[:i] or rocm[:i].
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    device: DeviceChoice,
    /// Folder of the results, and of the runs it trains; named again, it continues there.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What is to be set side by side.
enum Work {
    /// Runs that exist.
    Finished(Vec<Entry>),
    /// Models to train first.
    Train(Vec<Trainings>),
}

/// Runs the command; `threads` is what `--threads` says, which its trainings inherit.
pub fn run(args: CompareArgs, threads: Option<u32>) -> anyhow::Result<Done> {
    // What is wrong with the question is said before a folder is made.
    let work = if args.runs.is_empty() {
        Work::Train(plan_all(&args)?)
    } else {
        Work::Finished(finished(&args.runs)?)
    };
    let folder = match &args.out {
        Some(out) => {
            std::fs::create_dir_all(out)
                .with_context(|| format!("cannot make {}, which --out names", out.display()))?;
            out.clone()
        }
        None => run::next_free(Path::new("runs"), "compare")?,
    };
    let entries = match work {
        Work::Finished(entries) => entries,
        Work::Train(plans) => match train_all(&args, &plans, &folder, threads)? {
            Some(entries) => entries,
            None => return Ok(Done::Interrupted),
        },
    };
    let device = device::select(args.device)?;
    let options = EvaluateOptions {
        precision: PrecisionChoice::Auto,
        data: args.data.clone(),
        split: args.split,
        batch_size: args.batch_size as usize,
        ..EvaluateOptions::default()
    };
    let comparison = compare::compare(&entries, &options, &device)?;
    let written = compare::write(&comparison, &entries, &folder)?;
    if args.json {
        say(&serde_json::to_string(&comparison)?)?;
    } else {
        say(&format!(
            "{} pictures of the {} split\n{}",
            comparison.pictures,
            comparison.split,
            comparison.table().text()
        ))?;
        for sentence in comparison.sentences() {
            say(&sentence)?;
        }
    }
    for path in written {
        note(&format!("written {}", path.display()));
    }
    Ok(Done::Success)
}

/// What makes two trainings different: not where their data and the weights that they know by hash
/// lie, nor how data is read.
fn difference(a: &Recipe, b: &Recipe) -> Option<(String, String, String)> {
    let mut b = b.clone();
    if a.data.path.is_some() && b.data.path.is_some() {
        b.data.path.clone_from(&a.data.path);
    }
    if a.distillation.sha256.is_some() && a.distillation.sha256 == b.distillation.sha256 {
        b.distillation.teacher.clone_from(&a.distillation.teacher);
    }
    if a.init.sha256.is_some() && a.init.sha256 == b.init.sha256 {
        b.init.weights.clone_from(&a.init.weights);
    }
    (b.data.workers, b.data.cache_mb) = (a.data.workers, a.data.cache_mb);
    a.difference(&b)
}
