//! `vitrine eval`.

use std::path::PathBuf;

use clap::Args;

use super::{Done, note, one_meaning, say};
use crate::data::SplitName;
use crate::device::{self, DeviceChoice};
use crate::eval::Tta;
use crate::ops::PrecisionChoice;
use crate::report::text;
use crate::run::{self, EvaluateOptions, Evaluated};

/// Measure a model on a split: accuracy, confusion, calibration.
///
/// Prints the figures with their intervals and the worst mistakes, and writes them and their plots
/// as files.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// Run directory, .safetensors file, or the name of weights that ship (cifar10-vit, cifar10-cnn).
    #[arg(value_name = "RUN|WEIGHTS")]
    weights: PathBuf,
    /// Data set; without it, the one the run was trained on, split as it was then, and for a bare
    /// weights file the bundled sample.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// train, val or test; without it test, else the run's validation split or the only split of
    /// other data; what a run may have learned from only if named.
    #[arg(long, value_name = "SPLIT")]
    split: Option<SplitName>,
    /// Pictures a batch.
    #[arg(short, long, default_value_t = 128, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch_size: u32,
    /// Threads that make batches; 0 shares the process's own, one a core.
    #[arg(
        short = 'j',
        long,
        default_value_t = 0,
        value_name = "N",
        allow_negative_numbers = true
    )]
    workers: u32,
    /// Operands of matrix products: auto (which is f32), f32 or bf16.
    #[arg(long, default_value = "auto", value_name = "PRECISION")]
    precision: PrecisionChoice,
    /// Also measure the mean over views of each picture, reported apart: mirror (the picture and its
    /// mirror image), or mirror-shift (both, and both moved by a pixel).
    #[arg(long, value_name = "VIEWS", num_args = 0..=1, require_equals = true, default_missing_value = "mirror")]
    tta: Option<Tta>,
    /// Refuse unreadable pictures, and what the data set's layout leaves out, instead of skipping them.
    #[arg(long)]
    strict: bool,
    /// auto, cpu, wgpu[:i], vulkan[:i], metal[:i], cuda[:i] or rocm[:i].
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    device: DeviceChoice,
    /// Folder for the files; without it eval-<split>/ in the run, and none for a bare weights file.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: EvalArgs) -> anyhow::Result<Done> {
    one_meaning(&args.weights)?;
    let device = device::select(args.device)?;
    note(&format!("device: {} ({})", device.name, device.reason));
    let options = EvaluateOptions {
        data: args.data,
        split: args.split,
        batch_size: args.batch_size as usize,
        workers: args.workers as usize,
        precision: args.precision,
        strict: args.strict,
        cache_mb: None,
        out: args.out,
        tta: args.tta,
    };
    let Evaluated {
        report,
        tta,
        split,
        data,
        skipped,
        folder,
        images_per_s,
        temperature: (temperature, fitted_on),
    } = run::evaluate(&args.weights, &options, &device)?;
    for bad in &skipped {
        note(&format!("skipped {}: {}", bad.name, bad.reason));
    }
    if let Some(pictures) = fitted_on {
        note(&format!(
            "temperature {temperature:.4}, fitted on {pictures} validation pictures"
        ));
    }
    if args.json {
        let mut json = serde_json::to_value(&report)?;
        json["split"] = split.to_string().into();
        json["data"] = data.into();
        json["temperature"] = temperature.into();
        if let Some(tta) = &tta {
            json["tta"] = serde_json::to_value(tta)?;
        }
        json["images_per_s"] = images_per_s.into();
        json["skipped"] = serde_json::to_value(&skipped)?;
        say(&json.to_string())?;
    } else {
        say(&format!(
            "{} pictures of the {split} split of {data}\n{}",
            text::count(report.n as u64),
            text::evaluation(&report)
        ))?;
        if let Some(tta) = &tta {
            say(&format!(
                "with test-time augmentation ({}): top-1 {}, loss {:.4}",
                tta.augmentation,
                text::percent_interval(tta.top1, tta.top1_interval),
                tta.loss
            ))?;
        }
        say(&format!("{images_per_s:.0} images/s"))?;
    }
    if let Some(folder) = folder {
        note(&format!("written to {}", folder.display()));
    }
    Ok(Done::Success)
}
