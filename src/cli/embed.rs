//! `vitrine embed`.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use anyhow::{Context, bail};
use clap::Args;

use super::classify::inputs::has_stdin;
use super::classify::list::NameList;
use super::classify::progress::Progress;
use super::classify::sources::Sources;
use super::done::Done;
use super::named::unambiguous;
use super::output::{note, say, tell};
use super::shell::quoted;
use super::{interrupt, lists};
use crate::data::SplitName;
use crate::device::{self, DeviceChoice};
use crate::names::{self, shown};
use crate::ops::InferencePrecision;
use crate::report::text;
use crate::run::{self, EmbedEvent, EmbedOptions, EmbedSource, Embedded};

/// Write what a model sees of pictures as numbers: one row of features a picture.
///
/// Features are what the model's last layer decides by: similar pictures have similar ones. For a search, a map, a
/// classifier of your own, and `vitrine classify --neighbours`.
#[derive(Debug, Args)]
#[command(override_usage = "vitrine embed --out <FILE> <RUN|WEIGHTS> [INPUT]...")]
pub(super) struct EmbedArgs {
    #[arg(
        value_name = "RUN|WEIGHTS",
        help = lists::fill(lists::WEIGHTS)
    )]
    weights: PathBuf,
    /// Picture files, folders, globs, named pipes, or - for a picture on standard input; default: the training
    /// pictures of the run.
    #[arg(value_name = "INPUT", conflicts_with_all = ["data", "split"])]
    inputs: Vec<PathBuf>,
    /// Also embed the pictures named in this file, one a line; - reads the names from standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "split"])]
    files_from: Option<PathBuf>,
    /// Names in --files-from end with a NUL byte, as `find -print0` writes them.
    #[arg(short = '0', long, requires = "files_from")]
    null: bool,
    /// Data set, instead of picture files; its labels are written too.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// train, val or test, of --data or of the run's own data, which is split as in its training; default: train.
    #[arg(long, value_name = "SPLIT")]
    split: Option<SplitName>,
    /// The file to write: .safetensors, .npy (with the names in a .csv beside it) or .csv; one that exists is refused.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Precision of matrix products: auto, f32, bf16 or int8 (on the CPU); auto is f32, and int8 for weights that
    /// were exported with --int8.
    #[arg(long, default_value = "auto", value_name = "PRECISION")]
    precision: InferencePrecision,
    /// Refuse unreadable pictures instead of leaving them out.
    #[arg(long)]
    pub strict: bool,
    #[arg(
        long,
        default_value = "auto",
        value_name = "DEVICE",
        help = lists::fill("Device: {devices}; auto uses a GPU if present")
    )]
    device: DeviceChoice,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: EmbedArgs) -> anyhow::Result<Done> {
    unambiguous(&args.weights)?;
    // What cannot be written need not be computed.
    run::feature_files(&args.out).with_context(|| "--out")?;
    interrupt::nothing_to_save(&format!(
        "stopped; {} was not written; the same command begins again",
        shown(&args.out)
    ));
    let has_list = args.files_from.is_some();
    let list = match &args.files_from {
        Some(list) if list.as_os_str() == "-" && has_stdin(&args.inputs) => {
            bail!(
                "--files-from - and the input - both read standard input; write the list to a file"
            )
        }
        Some(list) => Some(NameList::open(list, args.null)?),
        None => None,
    };
    let of_pictures = has_list || !args.inputs.is_empty();
    if !of_pictures && args.data.is_none() && !args.weights.is_dir() {
        bail!(
            "{}: no pictures to embed; name some, as in `vitrine embed {} PICTURE --out {}`, or a data set with --data",
            shown(&args.weights),
            quoted(&args.weights),
            quoted(&args.out)
        );
    }
    let device = device::select(args.device)?;
    note(&format!("device: {} ({})", device.name, device.reason));
    let sources = Sources::new(args.inputs, list);
    let known = sources.known();
    let mut progress = Progress::new(known.clone(), has_list);
    let source = match of_pictures {
        true => EmbedSource::Pictures(Box::new(sources)),
        false => EmbedSource::Data {
            path: args.data,
            split: args.split.unwrap_or(SplitName::Train),
        },
    };
    let options = EmbedOptions {
        precision: args.precision,
        strict: args.strict,
        ..EmbedOptions::default()
    };
    let embedded = run::embed(
        &args.weights,
        source,
        &options,
        &device,
        &mut |event| match event {
            EmbedEvent::Total(total) => known.store(total, Ordering::Relaxed),
            EmbedEvent::Decoded(done) => progress.advance(done),
            EmbedEvent::Failed(error) => progress.aside(|| note(&format!("error: {error}"))),
        },
    );
    progress.clear();
    let Embedded {
        features,
        skipped,
        failed,
        images_per_s,
    } = embedded?;
    for bad in skipped.iter().take(skipped.len() - failed) {
        note(&format!("skipped {bad}"));
    }
    let written = run::save_features(&features, &args.out)?;
    let about = &features.about;
    if args.json {
        let told = serde_json::json!({
            "out": written.iter().map(names::text).collect::<Vec<_>>(),
            "pictures": about.names.len(),
            "width": about.width,
            "model": about.model,
            "classes": about.classes,
            "data": about.data,
            "split": about.split,
            "skipped": skipped,
            "images_per_s": images_per_s,
        });
        say(&told.to_string())?;
    } else {
        let files: Vec<String> = written.iter().map(shown).collect();
        // A large model takes seconds for a picture.
        let decimals = usize::from(images_per_s < 10.0);
        tell(&format!(
            "{}: {}, {} features each{}; {images_per_s:.decimals$} images/s",
            files.join(", "),
            text::pictures(about.names.len()),
            about.width,
            match features.labels {
                Some(_) => format!(", labels of {} classes", about.classes.len()),
                None => String::new(),
            }
        ))?;
    }
    if failed > 0 {
        let all = about.names.len() + failed;
        note(&format!(
            "{failed} of {all} could not be read and have no row"
        ));
        return Ok(Done::Partly);
    }
    Ok(Done::Success)
}
