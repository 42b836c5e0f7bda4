//! `vitrine eval`.

use std::path::PathBuf;

use clap::Args;

use super::done::Done;
use super::findings::{Tried, lines};
use super::named::unambiguous;
use super::output::{columns, note, say, tell};
use super::{interrupt, lists};
use crate::data::SplitName;
use crate::device::{self, DeviceChoice};
use crate::eval::Tta;
use crate::names::{shown, visible};
use crate::ops::InferencePrecision;
use crate::report::text;
use crate::run::{self, EvaluateOptions, Evaluated, UnknownReport};

/// Measure a model on a split: accuracy, confusion, calibration.
///
/// Prints the figures with their intervals and the worst mistakes, and writes them and their plots
/// as files.
#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    #[arg(
        value_name = "RUN|WEIGHTS",
        help = lists::fill(lists::WEIGHTS)
    )]
    weights: PathBuf,
    /// Data set; default: that of the run, split as in its training, or the bundled sample for a bare
    /// weights file.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// train, val or test; default: test, else the validation split of the run, or the only split of
    /// other data. Training pictures are evaluated only with --split train.
    #[arg(long, value_name = "SPLIT")]
    split: Option<SplitName>,
    /// Batch size.
    #[arg(short, long, default_value_t = 128, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch_size: u32,
    /// Threads that make batches; 0 uses the threads of the computation.
    #[arg(
        short = 'j',
        long,
        default_value_t = 0,
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(u32).range(0..=1024)
    )]
    workers: u32,
    /// Precision of matrix products: auto, f32, bf16 or int8 (on the CPU); auto is f32, and int8 for weights that
    /// were exported with --int8.
    #[arg(long, default_value = "auto", value_name = "PRECISION")]
    precision: InferencePrecision,
    /// Also measure test-time augmentation, reported separately: the mean over mirror (the picture and its
    /// mirror image) or mirror-shift (both, and both shifted by a pixel).
    #[arg(long, value_name = "VIEWS", num_args = 0..=1, require_equals = true, default_missing_value = "mirror")]
    tta: Option<Tta>,
    /// Also measure how well pictures that show none of the classes are recognised as unlike anything the model
    /// learned: a folder of pictures, an archive or another data set. The weights must be calibrated.
    #[arg(long, value_name = "PATH")]
    unknown: Option<PathBuf>,
    /// Refuse unreadable pictures and files outside the data set's layout instead of skipping them.
    #[arg(long)]
    pub strict: bool,
    #[arg(
        long,
        default_value = "auto",
        value_name = "DEVICE",
        help = lists::fill("Device: {devices}; auto uses a GPU if present")
    )]
    device: DeviceChoice,
    /// Folder for the files; default: eval-<split>/ in the run, and no files for a bare weights file.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: EvalArgs) -> anyhow::Result<Done> {
    unambiguous(&args.weights)?;
    interrupt::nothing_to_save(
        "stopped; the weights are as they were; the same command measures again",
    );
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
        unknown: args.unknown,
        ..EvaluateOptions::default()
    };
    let Evaluated {
        report,
        findings,
        tta,
        unknown,
        split,
        data,
        skipped,
        notes,
        folder,
        unwritten,
        images_per_s,
        temperature: (temperature, fitted_on),
    } = run::evaluate(&args.weights, &options, &device)?;
    for text in &notes {
        note(&format!("note: {}", visible(text)));
    }
    for bad in &skipped {
        note(&format!("skipped {bad}"));
    }
    if let Some(pictures) = fitted_on {
        note(&match temperature {
            1.0 => format!(
                "temperature 1: on {pictures} validation pictures a fitted one did not help"
            ),
            _ => format!("temperature {temperature:.4}, fitted on {pictures} validation pictures"),
        });
    }
    if args.json {
        let mut json = serde_json::to_value(&report)?;
        json["majority"] = report
            .majority()
            .map(|(label, top1)| serde_json::json!({"label": label, "top1": top1}))
            .into();
        json["findings"] = serde_json::to_value(&findings)?;
        json["split"] = split.to_string().into();
        json["data"] = data.into();
        json["temperature"] = temperature.into();
        if let Some(tta) = &tta {
            json["tta"] = serde_json::to_value(tta)?;
        }
        if let Some(unknown) = &unknown {
            json["unknown"] = serde_json::to_value(unknown)?;
        }
        json["images_per_s"] = images_per_s.into();
        json["skipped"] = serde_json::to_value(&skipped)?;
        say(&json.to_string())?;
    } else {
        tell(&format!(
            "{} of the {split} split of {}\n{}",
            text::pictures(report.n),
            visible(&data),
            text::evaluation(&report, columns())
        ))?;
        if let Some(tta) = &tta {
            tell(&format!(
                "with test-time augmentation ({}): top-1 {}, loss {:.4}",
                tta.augmentation,
                text::percent_interval(tta.top1, tta.top1_interval),
                tta.loss
            ))?;
        }
        if let Some(unknown) = &unknown {
            tell(&recognised(unknown, split))?;
        }
        let hints = lines(
            &findings,
            Tried {
                weights: args.weights.exists().then_some(args.weights.as_path()),
                trained: false,
                started: true,
            },
        );
        tell(&format!("{hints}{images_per_s:.0} images/s"))?;
    }
    if let Some(error) = unwritten {
        return Err(error.into());
    }
    if let Some(folder) = folder {
        note(&format!("written to {}", shown(&folder)));
    }
    Ok(Done::Success)
}

/// How well unknown pictures are recognised, as text.
fn recognised(unknown: &UnknownReport, split: SplitName) -> String {
    let figures = &unknown.separation;
    format!(
        "{} of {} against those of the {split} split: AUROC {:.4}; {} pass where 95 % of the {split} split do (FPR95)\n\
         called unlike anything it learned: {} of them, {} of the {split} split",
        text::pictures(figures.unknown),
        visible(&unknown.data),
        figures.auroc,
        text::percent(figures.fpr95),
        text::percent(figures.flagged_unknown),
        text::percent(figures.flagged_known),
    )
}
