//! Classifies the pictures and prints the answers.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use super::abstain::threshold;
use super::args::ClassifyArgs;
use super::inputs::{expand, read_stdin, split};
use super::print::{csv, json, plain};
use crate::checkpoint::SHIPPED;
use crate::classify::{Classifier, Prediction};
use crate::cli::done::Done;
use crate::cli::output::{note, say, say_csv};
use crate::cli::weights::unambiguous;
use crate::device;
use crate::names;
use crate::run;

/// Pictures classified at once: enough to keep a device busy, small enough for any memory.
const BATCH: usize = 64;

/// Runs the command.
pub(in crate::cli) fn run(args: ClassifyArgs) -> anyhow::Result<Done> {
    let (weights, inputs) = split(args.weights, args.inputs)?;
    let device = device::select(args.device)?;
    // Without a name the weights that ship are meant, even if a folder here has their name.
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
    let mut failures = Failures {
        classifier: &classifier,
        count: 0,
    };
    let mut results = answer(&classifier, &inputs, &mut failures)?;
    let failed = failures.count;
    for (_, predictions) in &mut results {
        predictions.truncate(args.topk as usize);
    }
    if weights.is_none() && !results.is_empty() {
        note(&format!(
            "weights: {}, which ship with vitrine and know {}; to use your model, name it before the pictures",
            SHIPPED[0].name,
            names::listed(classifier.classes())
        ));
    }
    if args.json {
        say(&json(&results, threshold))?;
    } else if args.csv {
        say_csv(&csv(&results, threshold)?)?;
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

/// Inputs without an answer, each named as it is met.
struct Failures<'a> {
    classifier: &'a Classifier,
    count: usize,
}

impl Failures<'_> {
    fn add(&mut self, error: &dyn Display) -> anyhow::Result<()> {
        // If the weights were changed, that is the only error there is.
        self.classifier.verify()?;
        self.count += 1;
        note(&format!("error: {error}"));
        Ok(())
    }
}

/// Every picture of the inputs, by its name, with its predictions.
fn answer(
    classifier: &Classifier,
    inputs: &[PathBuf],
    failures: &mut Failures<'_>,
) -> anyhow::Result<Vec<(String, Vec<Prediction>)>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for input in inputs {
        match expand(input) {
            Ok(found) => files.extend(found),
            Err(error) => failures.add(&error)?,
        }
    }
    let mut results = Vec::new();
    for chunk in files.chunks(BATCH) {
        let mut answered = Vec::new();
        let mut pictures = Vec::new();
        for file in chunk {
            match prepare(classifier, file) {
                Ok(picture) => {
                    answered.push(names::text(file));
                    pictures.push(picture);
                }
                Err(error) => failures.add(&error)?,
            }
        }
        results.extend(answered.into_iter().zip(classifier.classify(&pictures)?));
    }
    Ok(results)
}

fn prepare(classifier: &Classifier, file: &Path) -> anyhow::Result<Vec<f32>> {
    if file == Path::new("-") {
        let bytes = read_stdin()?;
        return Ok(classifier.prepare_bytes(Path::new("standard input"), &bytes)?);
    }
    Ok(classifier.prepare(file)?)
}
