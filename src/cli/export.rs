//! `vitrine export`.

use std::path::PathBuf;

use clap::Args;

use super::done::Done;
use super::named::unambiguous;
use super::output::{note, say, tell};
use super::{interrupt, lists};
use crate::device::{self, DeviceChoice};
use crate::names::{self, shown};
use crate::report::text;
use crate::run::{self, Exported, Storage};

/// Write weights as one file to hand on, and check that it answers the same.
///
/// Writes a run's best weights, with all that `classify` needs, reads the file back, and compares
/// both on 64 pictures: no probability may differ by more than 0.01, or 0.2 in eight bits.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[arg(
        value_name = "RUN|WEIGHTS",
        help = lists::fill("Run directory, .safetensors file, or the name of weights that ship with vitrine: {weights}")
    )]
    weights: PathBuf,
    /// The .safetensors file to write; one that exists is refused.
    #[arg(value_name = "FILE")]
    out: PathBuf,
    /// Halve the file: matrices in f16, biases and norms in f32.
    #[arg(long)]
    half: bool,
    /// Quarter the file: matrices in eight bits, with which `classify` and `eval` then compute on the CPU.
    #[arg(long, conflicts_with = "half")]
    int8: bool,
    #[arg(
        long,
        default_value = "cpu",
        value_name = "DEVICE",
        help = lists::fill("Device: {devices}; auto uses a GPU if present")
    )]
    device: DeviceChoice,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: ExportArgs) -> anyhow::Result<Done> {
    interrupt::nothing_to_save(&format!(
        "stopped; {} was not written; the same command begins again",
        shown(&args.out)
    ));
    unambiguous(&args.weights)?;
    let device = device::select(args.device)?;
    let storage = match (args.half, args.int8) {
        (true, _) => Storage::F16,
        (_, true) => Storage::Int8,
        _ => Storage::F32,
    };
    let Exported {
        from,
        bytes: (before, after),
        logit,
        probability,
    } = run::export(&args.weights, &args.out, storage, &device)?;
    if args.json {
        let told = serde_json::json!({
            "from": names::text(&from),
            "out": names::text(&args.out),
            "bytes_before": before,
            "bytes": after,
            "largest_logit_difference": logit,
            "largest_probability_difference": probability,
        });
        say(&told.to_string())?;
        return Ok(Done::Success);
    }
    tell(&format!(
        "{}: {} bytes, {} of {}",
        shown(&args.out),
        text::count(after),
        text::percent(after as f64 / before.max(1) as f64),
        shown(&from)
    ))?;
    note(&format!(
        "read back and compared on {} pictures: no logit differs by more than {logit:.2e}, no probability by more than {probability:.2e}",
        run::EXPORT_PICTURES
    ));
    Ok(Done::Success)
}
