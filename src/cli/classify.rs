//! `vitrine classify`.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;

use super::done::Done;
use super::lists;
use super::output::{note, say};
use super::weights::unambiguous;
use crate::checkpoint::{SHIPPED, Shipped, TensorFile, WeightsMeta};
use crate::classify::{Classifier, Prediction};
use crate::data;
use crate::device::{self, DeviceChoice};
use crate::metrics::Threshold;
use crate::report::text;
use crate::run;

/// Pictures classified at once: enough to keep a device busy, small enough for any memory.
const BATCH: usize = 64;

/// Inputs that are answered before large pages of memory pay.
const FEW: usize = 16;

/// The answer below the threshold of `--abstain`.
const NOT_SURE: &str = "not sure";

/// Name what pictures show.
///
/// Prints the most probable labels of each picture with their probabilities.
#[derive(Debug, Args)]
#[command(override_usage = "vitrine classify [OPTIONS] [RUN|WEIGHTS] <INPUT>...")]
pub(super) struct ClassifyArgs {
    /// Picture files, folders, globs, or - for a picture on standard input. To use your own model,
    /// name its run directory or .safetensors file before them; default: weights that ship with
    /// vitrine.
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<String>,
    /// Run directory or .safetensors file, instead of naming it before the inputs.
    #[arg(long, value_name = "RUN|WEIGHTS")]
    weights: Option<PathBuf>,
    /// Labels per picture.
    #[arg(long, default_value_t = 5, value_name = "K", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    topk: u32,
    /// Share of wrong answers you accept, as 5% or 0.05: below the threshold that the validation
    /// pictures set for it, the answer is "not sure".
    #[arg(long, value_name = "P", value_parser = error_rate, allow_negative_numbers = true)]
    abstain: Option<f64>,
    /// Print JSON.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV: filename,index,label,prob.
    #[arg(long)]
    csv: bool,
    #[arg(
        long,
        default_value = "cpu",
        value_name = "DEVICE",
        help = lists::fill("Device: {devices}; auto uses a GPU if present")
    )]
    device: DeviceChoice,
}

impl ClassifyArgs {
    /// Whether it is about a few files, and so over at once.
    pub fn are_few(&self) -> bool {
        let first_are_weights = self.weights.is_none() && weights_come_first(&self.inputs);
        let pictures = self
            .inputs
            .get(usize::from(first_are_weights)..)
            .unwrap_or_default();
        pictures.len() <= FEW && pictures.iter().all(|input| !Path::new(input).is_dir())
    }
}

/// Runs the command.
pub(super) fn run(args: ClassifyArgs) -> anyhow::Result<Done> {
    let (weights, inputs) = split_arguments(args.weights, args.inputs)?;
    let device = device::select(args.device)?;
    // What nobody named is what ships, even where a folder of that name lies here.
    let file = match &weights {
        Some(weights) => {
            unambiguous(weights)?;
            run::open_weights(weights)?
        }
        None => SHIPPED[0].file(),
    };
    let classifier = Classifier::of(&file, &device.device)?;
    let threshold = match args.abstain {
        Some(rate) => {
            let name = weights.as_deref().unwrap_or(file.path());
            Some(threshold(&classifier, rate, name)?)
        }
        None => None,
    };
    let mut failed = 0;
    let mut fail = |error: &dyn std::fmt::Display| -> anyhow::Result<()> {
        // Weights that were changed are the only error there is.
        classifier.verify()?;
        failed += 1;
        note(&format!("error: {error}"));
        Ok(())
    };
    let mut files = Vec::new();
    for input in &inputs {
        match expand(input) {
            Ok(found) => files.extend(found),
            Err(error) => fail(&error)?,
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
                Err(error) => fail(&error)?,
            }
        }
        results.extend(names.into_iter().zip(classifier.classify(&pictures)?));
    }
    for (_, predictions) in &mut results {
        predictions.truncate(args.topk as usize);
    }
    if weights.is_none() && !results.is_empty() {
        note(&format!(
            "weights: {}, which ship with vitrine and know {}; to use your model, name it before the pictures",
            SHIPPED[0].name,
            classifier.classes().join(", ")
        ));
    }
    if args.json {
        say(&json(&results, threshold))?;
    } else if args.csv {
        say(&csv(&results, threshold)?)?;
    } else if !results.is_empty() {
        say(&plain(&results, threshold))?;
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

/// The weights, if any are named, and the pictures.
fn split_arguments(
    weights: Option<PathBuf>,
    mut inputs: Vec<String>,
) -> anyhow::Result<(Option<PathBuf>, Vec<String>)> {
    if weights.is_some() {
        return Ok((weights, inputs));
    }
    if !weights_come_first(&inputs) {
        // Nobody who names a run wants the answers of what ships.
        if let Some(run) = inputs.iter().find(|input| looks_like_weights(input)) {
            bail!(
                "{run}: no pictures to classify; weights come before the pictures, as in `vitrine classify RUN {}`",
                inputs[0]
            );
        }
        return Ok((None, inputs));
    }
    let first = inputs.remove(0);
    if inputs.is_empty() {
        bail!(
            "{first}: weights, but no picture to classify; name some, as in `vitrine classify {first} PICTURE`"
        );
    }
    Ok((Some(first.into()), inputs))
}

/// Whether the first argument means weights: if it looks like some, or if pictures follow what may
/// be a run's name that was mistyped.
fn weights_come_first(inputs: &[String]) -> bool {
    let Some(first) = inputs.first() else {
        return false;
    };
    let mistyped = || !Path::new(first).is_file() && !looks_like_pictures(first);
    looks_like_weights(first) || (inputs.len() > 1 && mistyped())
}

/// Whether an argument means pictures: by its name where it is a file, by what is in
/// it where it is a folder.
fn looks_like_pictures(input: &str) -> bool {
    let path = Path::new(input);
    if path.is_dir() {
        return data::picture_files(path).is_ok_and(|files| !files.is_empty());
    }
    let is_glob = !path.exists() && input.contains(['*', '?', '[']);
    input == "-" || is_glob || data::is_picture_name(path)
}

/// Whether an argument means weights: what ships, a file of them, a run, or a folder of runs.
fn looks_like_weights(input: &str) -> bool {
    let path = Path::new(input);
    let is_run = |folder: &Path| {
        let files = ["recipe.toml", "weights/best.safetensors"];
        files.iter().any(|file| folder.join(file).is_file())
    };
    let is_file_of_weights = || {
        let open = || TensorFile::open(path)?.meta::<WeightsMeta>();
        path.is_file() && !data::is_picture_name(path) && open().is_ok()
    };
    let mut inside = path.read_dir().into_iter().flatten().flatten();
    Shipped::find(path).is_some()
        || path.extension().is_some_and(|end| end == "safetensors")
        || is_file_of_weights()
        || is_run(path)
        || inside.any(|entry| is_run(&entry.path()))
}

/// Reads an error rate, `5%` or `0.05`.
fn error_rate(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if number > 0.0 && number < scale => Ok(number / scale),
        _ => Err("expected a share of wrong answers such as 5% or 0.05, between 0 and 1".into()),
    }
}

/// The threshold for an error rate, which is also said.
fn threshold(classifier: &Classifier, rate: f64, weights: &Path) -> anyhow::Result<Threshold> {
    // What is said here comes of the weights file.
    classifier.verify()?;
    let weights = weights.display();
    let Some(calibration) = classifier.calibration() else {
        bail!(
            "--abstain needs calibrated weights, and {weights} is not: run `vitrine calibrate {weights}` first"
        );
    };
    // 0.07 × 100 is 7.000000000000001.
    let percent = (1e10 * rate).round() / 1e8;
    let pictures = calibration.pictures;
    let Some(row) = calibration.threshold(rate) else {
        bail!(
            "--abstain {percent}%: no confidence keeps so few answers wrong for certain, judged by {pictures} validation pictures; accept more errors, or calibrate on more pictures"
        );
    };
    note(&format!(
        "not sure below {}: at most {percent}% of the answers wrong, with 95% confidence; {} of {pictures} validation pictures are answered ({}), {} of them wrong",
        text::percent(f64::from(row.confidence)),
        row.answered,
        text::percent(calibration.share(&row)),
        row.wrong,
    ));
    Ok(row)
}

/// Whether a picture gets no answer.
fn not_sure(threshold: Option<Threshold>, predictions: &[Prediction]) -> bool {
    let confidence = predictions.first().map_or(f32::NAN, |best| best.score);
    threshold.is_some_and(|threshold| !threshold.answers(confidence))
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

fn plain(results: &[(String, Vec<Prediction>)], threshold: Option<Threshold>) -> String {
    let mut out = String::new();
    for (file, predictions) in results {
        out += file;
        out.push('\n');
        if not_sure(threshold, predictions) {
            out += &format!("  {NOT_SURE}\n");
        }
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

fn json(results: &[(String, Vec<Prediction>)], threshold: Option<Threshold>) -> String {
    let list: Vec<_> = results
        .iter()
        .map(|(file, predictions)| {
            let mut one = serde_json::json!({ "file": file, "predictions": predictions });
            if let Some(row) = threshold {
                one["not_sure"] = not_sure(threshold, predictions).into();
                one["threshold"] = row.confidence.into();
            }
            one
        })
        .collect();
    serde_json::Value::Array(list).to_string()
}

/// What is not sure has one row, without an index: the confidence that did not suffice.
fn csv(
    results: &[(String, Vec<Prediction>)],
    threshold: Option<Threshold>,
) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["filename", "index", "label", "prob"])?;
    for (file, predictions) in results {
        if not_sure(threshold, predictions) {
            let prob = predictions.first().map(|p| format!("{:.6}", p.score));
            let prob = prob.unwrap_or_default();
            writer.write_record([file.as_str(), "", NOT_SURE, &prob])?;
            continue;
        }
        for p in predictions {
            let (index, prob) = (p.index.to_string(), format!("{:.6}", p.score));
            writer.write_record([file.as_str(), &index, &p.label, &prob])?;
        }
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn few_are_known_by_their_number_and_no_folder_is_few() {
        let weights = Some(PathBuf::from("weights"));
        let kept = tempfile::tempdir().unwrap();
        let folder = kept.path().display().to_string();
        let file = |n: usize| format!("{n}.png");
        let are_few = |weights: &Option<PathBuf>, inputs: Vec<String>| {
            ClassifyArgs {
                inputs,
                weights: weights.clone(),
                topk: 5,
                abstain: None,
                json: false,
                csv: false,
                device: DeviceChoice::Auto,
            }
            .are_few()
        };
        assert!(are_few(&weights, (0..FEW).map(file).collect()));
        assert!(!are_few(&weights, (0..=FEW).map(file).collect()));
        // The first is the weights where no flag names them, and may be a folder.
        let first = |inputs| [vec![folder.clone()], inputs].concat();
        assert!(are_few(&None, first((0..FEW).map(file).collect())));
        assert!(!are_few(&None, first((0..=FEW).map(file).collect())));
        assert!(!are_few(&None, first(vec![folder.clone()])));
        // Nothing names weights: those that ship answer.
        assert!(are_few(&None, (0..FEW).map(file).collect()));
        assert!(!are_few(&None, (0..=FEW).map(file).collect()));
        assert!(!are_few(&weights, vec![folder.clone()]));
    }
}
