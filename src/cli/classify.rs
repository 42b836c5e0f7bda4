//! `vitrine classify`.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;

use super::{Done, note, say};
use crate::classify::{Classifier, Prediction};
use crate::data;
use crate::device::{self, DeviceChoice};
use crate::report::text;
use crate::run;

/// Pictures classified at once: enough to keep a device busy, small enough for any memory.
const BATCH: usize = 64;

/// Prints the most probable labels of each picture.
#[derive(Debug, Args)]
pub struct ClassifyArgs {
    /// Run directory or .safetensors file.
    #[arg(value_name = "RUN|WEIGHTS")]
    weights: PathBuf,
    /// Picture files, folders, globs, or - for a picture on standard input.
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<String>,
    /// Labels a picture.
    #[arg(long, default_value_t = 5, value_name = "K", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    topk: u32,
    /// Print JSON.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV: filename,index,label,prob.
    #[arg(long)]
    csv: bool,
    /// auto, cpu, wgpu[:i], vulkan[:i], metal[:i], cuda[:i] or rocm[:i].
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    device: DeviceChoice,
}

/// Runs the command.
pub fn run(args: ClassifyArgs) -> anyhow::Result<Done> {
    let device = device::select(args.device)?;
    let classifier = Classifier::load(&run::find_weights(&args.weights)?, &device.device)?;
    let mut failed = 0;
    let mut fail = |error: &dyn std::fmt::Display| {
        failed += 1;
        note(&format!("error: {error}"));
    };
    let mut files = Vec::new();
    for input in &args.inputs {
        match expand(input) {
            Ok(found) => files.extend(found),
            Err(error) => fail(&error),
        }
    }
    let mut results: Vec<(String, Vec<Prediction>)> = Vec::new();
    for chunk in files.chunks(BATCH) {
        let mut names = Vec::new();
        let mut pictures = Vec::new();
        for file in chunk {
            let prepared = if file == Path::new("-") {
                read_stdin().map_err(anyhow::Error::from).and_then(|bytes| {
                    Ok(classifier.prepare_bytes(Path::new("standard input"), &bytes)?)
                })
            } else {
                classifier.prepare(file).map_err(anyhow::Error::from)
            };
            match prepared {
                Ok(picture) => {
                    names.push(file.display().to_string());
                    pictures.push(picture);
                }
                Err(error) => fail(&error),
            }
        }
        results.extend(names.into_iter().zip(classifier.classify(&pictures)));
    }
    for (_, predictions) in &mut results {
        predictions.truncate(args.topk as usize);
    }
    if args.json {
        say(&json(&results))?;
    } else if args.csv {
        say(&csv(&results)?)?;
    } else if !results.is_empty() {
        say(&plain(&results))?;
    }
    if failed > 0 {
        note(&format!(
            "{failed} of {} could not be classified",
            failed + results.len()
        ));
        return Ok(Done::Partly);
    }
    Ok(Done::Success)
}

fn read_stdin() -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The files an input means: itself, the pictures below a folder, or a glob's matches.
fn expand(input: &str) -> anyhow::Result<Vec<PathBuf>> {
    let path = Path::new(input);
    if input == "-" || path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    if path.is_dir() {
        let files = data::picture_files(path)?;
        if files.is_empty() {
            bail!("{input}: no pictures in this folder");
        }
        return Ok(files);
    }
    if input.contains(['*', '?', '[']) {
        let mut files: Vec<PathBuf> = glob::glob(input)?
            .filter_map(Result::ok)
            .filter(|p| p.is_file())
            .collect();
        files.sort();
        if files.is_empty() {
            bail!("{input}: no file matches");
        }
        return Ok(files);
    }
    bail!("{input}: no such file or folder");
}

fn plain(results: &[(String, Vec<Prediction>)]) -> String {
    let mut out = String::new();
    for (file, predictions) in results {
        out += file;
        out.push('\n');
        let width = predictions
            .iter()
            .map(|p| p.label.chars().count())
            .max()
            .unwrap_or(0);
        for p in predictions {
            out += &format!(
                "  {:>8}  {:width$}\n",
                text::percent(f64::from(p.score)),
                p.label
            );
        }
    }
    out
}

fn json(results: &[(String, Vec<Prediction>)]) -> String {
    let list: Vec<_> = results
        .iter()
        .map(|(file, predictions)| serde_json::json!({ "file": file, "predictions": predictions }))
        .collect();
    serde_json::Value::Array(list).to_string()
}

fn csv(results: &[(String, Vec<Prediction>)]) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["filename", "index", "label", "prob"])?;
    for (file, predictions) in results {
        for p in predictions {
            let (index, prob) = (p.index.to_string(), format!("{:.6}", p.score));
            writer.write_record([file.as_str(), &index, &p.label, &prob])?;
        }
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}
