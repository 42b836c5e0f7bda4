//! `vitrine export`.

use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, ValueEnum};

use super::done::Done;
use super::named::unambiguous;
use super::output::{note, say, tell};
use super::{interrupt, lists};
use crate::checkpoint::{Layout, OnnxOptions};
use crate::device::{self, DeviceChoice};
use crate::names::{self, shown};
use crate::report::text;
use crate::run::{self, ExportFormat, Exported, LayoutExported, OnnxExported, Storage};

/// Write weights as one file to hand on, and check that it answers the same.
///
/// A .safetensors file has a run's best weights, with all that `classify` needs; it is read back, and both are
/// compared on 64 pictures: no probability may differ by more than 0.01, or 0.2 in eight bits.
///
/// An .onnx file is a model of opset 17 that other programs run, such as ONNX Runtime: any number of pictures
/// goes in, logits and probabilities come out; classes, preprocessing and temperature are in its metadata. It is
/// read back and compared, tensor by tensor.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[arg(
        value_name = "RUN|WEIGHTS",
        help = lists::fill(lists::WEIGHTS)
    )]
    weights: PathBuf,
    /// The .safetensors or .onnx file to write; one that exists is refused.
    #[arg(value_name = "FILE")]
    out: PathBuf,
    /// Halve the file: matrices in f16, biases and norms in f32.
    #[arg(long)]
    half: bool,
    /// Quarter the file: matrices in eight bits, with which `classify` and `eval` then compute on the CPU
    /// (.safetensors only).
    #[arg(long, conflicts_with = "half")]
    int8: bool,
    /// Let the model take pictures as bytes, `pixels` [batch, height, width, 3] at its own size, and normalise
    /// them itself (.onnx only).
    #[arg(long)]
    include_preprocessing: bool,
    #[arg(
        long,
        default_value = "cpu",
        value_name = "DEVICE",
        help = lists::fill("Device: {devices}; auto uses a GPU if present")
    )]
    device: DeviceChoice,
    /// Write a folder as another project does: timm's for `timm.create_model("local-dir:FOLDER",
    /// pretrained=True)`, transformers' for `AutoModelForImageClassification.from_pretrained("FOLDER")`.
    #[arg(long, value_enum, value_name = "LAYOUT", conflicts_with_all = ["half", "int8"])]
    layout: Option<LayoutChoice>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Whose layout to write.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LayoutChoice {
    Timm,
    Transformers,
}

impl From<LayoutChoice> for Layout {
    fn from(choice: LayoutChoice) -> Self {
        match choice {
            LayoutChoice::Timm => Self::Timm,
            LayoutChoice::Transformers => Self::Transformers,
        }
    }
}

/// Runs the command.
pub(super) fn run(args: ExportArgs) -> anyhow::Result<Done> {
    interrupt::nothing_to_save(&format!(
        "stopped; {} was not written; the same command begins again",
        shown(&args.out)
    ));
    unambiguous(&args.weights)?;
    if let Some(layout) = args.layout {
        return as_layout(&args, layout.into());
    }
    match ExportFormat::of(&args.out)? {
        ExportFormat::Safetensors => safetensors(&args),
        ExportFormat::Onnx => onnx(&args),
    }
}

fn safetensors(args: &ExportArgs) -> anyhow::Result<Done> {
    if args.include_preprocessing {
        bail!(
            "--include-preprocessing is for .onnx, and {} is for vitrine, which prepares pictures itself",
            shown(&args.out)
        );
    }
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

fn onnx(args: &ExportArgs) -> anyhow::Result<Done> {
    if args.int8 {
        bail!(
            "--int8 is for .safetensors: an .onnx file has f32, or f16 with --half; ONNX Runtime's `quantize_dynamic` makes eight bits of it"
        );
    }
    let device = device::select(args.device)?;
    let options = OnnxOptions {
        half: args.half,
        include_preprocessing: args.include_preprocessing,
    };
    let OnnxExported {
        from,
        bytes_before,
        image_size,
        classes,
        data,
        notes,
        written,
    } = run::export_onnx(&args.weights, &args.out, options, &device)?;
    if args.json {
        let told = serde_json::json!({
            "from": names::text(&from),
            "out": names::text(&args.out),
            "data": data.as_deref().map(names::text),
            "bytes_before": bytes_before,
            "bytes": written.bytes,
            "tensors": written.tensors,
            "nodes": written.nodes,
            "notes": notes,
        });
        say(&told.to_string())?;
        return Ok(Done::Success);
    }
    tell(&format!(
        "{}: {} bytes, {} of {}",
        shown(&args.out),
        text::count(written.bytes),
        text::percent(written.bytes as f64 / bytes_before.max(1) as f64),
        shown(&from)
    ))?;
    for left_out in &notes {
        note(&format!("note: {left_out}"));
    }
    if let Some(data) = data {
        note(&format!(
            "its weights are in {}, which has to stay beside it",
            shown(&data)
        ));
    }
    let input = match options.include_preprocessing {
        true => format!("pixels [batch, {image_size}, {image_size}, 3] of bytes"),
        false => format!("pixel_values [batch, 3, {image_size}, {image_size}]"),
    };
    note(&format!(
        "read back: {} tensors and {} operations, as written; in: {input}; out: logits and probabilities [batch, {classes}]",
        text::count(written.tensors as u64),
        text::count(written.nodes as u64),
    ));
    Ok(Done::Success)
}

fn as_layout(args: &ExportArgs, layout: Layout) -> anyhow::Result<Done> {
    let device = device::select(args.device)?;
    let LayoutExported {
        from,
        bytes,
        difference,
        notes,
    } = run::export_layout(&args.weights, &args.out, layout, &device)?;
    if args.json {
        let told = serde_json::json!({
            "from": names::text(&from),
            "out": names::text(&args.out),
            "layout": layout.name(),
            "bytes": bytes,
            "largest_relative_difference": difference,
            "notes": notes,
        });
        say(&told.to_string())?;
        return Ok(Done::Success);
    }
    tell(&format!(
        "{}: as {} writes it, {} bytes of tensors, of {}",
        shown(&args.out),
        layout.name(),
        text::count(bytes),
        shown(&from)
    ))?;
    for difference in &notes {
        note(&format!("note: {difference}"));
    }
    note(&format!(
        "read back and compared on {} pictures: no answer differs by more than {difference:.1e} of the largest",
        run::EXPORT_PICTURES
    ));
    Ok(Done::Success)
}
