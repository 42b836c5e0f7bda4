//! Classifies the pictures and prints each answer as it comes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};

use super::abstain::threshold;
use super::args::ClassifyArgs;
use super::inputs::{has_stdin, split};
use super::list::NameList;
use super::print::{Beside, Format, Printer};
use super::progress::Progress;
use super::sources::Sources;
use crate::checkpoint::{Features, SHIPPED, backbone_sha256};
use crate::classify::{
    Answer, Answers, Classifier, Neighbours, Next, StreamError, StreamOptions, Wanted, stream,
};
use crate::cli::done::Done;
use crate::cli::interrupt::{nothing_to_save, on_interrupt};
use crate::cli::named::unambiguous;
use crate::cli::output::{is_broken_pipe, note};
use crate::cli::shell::quoted;
use crate::device;
use crate::names::{self, shown};
use crate::ops::Purpose;
use crate::report::text;
use crate::run;
use crate::stop::Stop;

/// Most pictures classified at once: enough to keep a device busy.
const BATCH: usize = 64;

/// Most pixels of model input at once, 64 pictures of 512²: small enough for any memory.
const PIXELS: usize = 1 << 24;

/// Neighbours that are named by default: what DINO's classifier takes.
const NEIGHBOURS: u32 = 20;

/// How often a wait for answers looks whether it should end.
const LOOK: Duration = Duration::from_millis(50);

/// Runs the command.
pub(in crate::cli) fn run(args: ClassifyArgs) -> anyhow::Result<Done> {
    let format = match (args.json, args.csv) {
        (true, _) => Format::Json,
        (_, true) => Format::Csv,
        _ => Format::Plain,
    };
    let has_list = args.files_from.is_some();
    let (weights, inputs) = split(args.weights, args.inputs, has_list)?;
    let list = match &args.files_from {
        Some(list) if list.as_os_str() == "-" && has_stdin(&inputs) => {
            bail!(
                "--files-from - and the input - both read standard input; write the list to a file"
            )
        }
        Some(list) => Some(NameList::open(list, args.null)?),
        None => None,
    };
    let device = device::select(args.device)?;
    // Without a name the weights that ship are meant, even if a folder here has their name.
    let file = match &weights {
        Some(weights) => {
            unambiguous(weights)?;
            run::open_weights(weights)?
        }
        None => SHIPPED[0].file(),
    };
    for assumed in file.origin().into_iter().flat_map(|origin| &origin.notes) {
        note(&format!("note: {assumed}"));
    }
    let classifier = match args.neighbours_of {
        // Pictures that are like it say something of a picture without a classifier.
        Some(_) => Classifier::of_backbone(&file, &device.device)?,
        None => Classifier::of(&file, &device.device)?,
    };
    let is_int8 = classifier.is_int8();
    let precision = run::inference_precision(args.precision, &device, is_int8, Purpose::Answers)?;
    let mut classifier = classifier.with_precision(precision);
    if let Some(path) = &args.neighbours_of {
        // The features are compared with the weights by a hash of these.
        classifier.verify()?;
        let backbone = backbone_sha256(&file, classifier.meta(), classifier.model())?;
        let features = Features::open(path).context("--neighbours-of")?;
        let neighbours = Neighbours::new(features, &backbone).with_context(|| {
            let weights = weights.as_deref().unwrap_or(file.path());
            format!(
                "--neighbours-of {}: make them with `vitrine embed {} --data DATA --out FILE.safetensors`",
                shown(path),
                quoted(weights)
            )
        })?;
        let count = args.neighbours.unwrap_or(NEIGHBOURS);
        classifier = classifier.with_neighbours(neighbours, count as usize);
    }
    let classifier = Arc::new(classifier);
    let threshold = match args.abstain {
        Some(rate) => {
            let name = weights.as_deref().unwrap_or(file.path());
            Some(threshold(&classifier, rate, name)?)
        }
        None => None,
    };
    nothing_to_save("stopped; whoever reads the answers had stopped before, and may lack the last");
    let stop = on_interrupt("stopping");
    let sources = Sources::new(inputs, list);
    let progress = Progress::new(sources.known(), has_list);
    let options = StreamOptions {
        batch_size: (PIXELS / classifier.image_size().pow(2)).clamp(1, BATCH),
        wanted: Wanted::Answers {
            top_k: args.topk as usize,
        },
    };
    let answers = stream(&classifier, sources, options)?;
    let mut output = Output {
        printer: Printer::new(
            format,
            Beside {
                threshold,
                unknown: classifier.recognises_unknown(),
                neighbours: args.neighbours_of.is_some(),
            },
        ),
        progress,
        classifier: &classifier,
        names_weights: weights.is_none(),
        count: 0,
        failed: 0,
    };
    let printed = output.print_all(answers, &stop);
    output.progress.clear();
    let stopped = stop.is_requested();
    // Whatever happened, what was begun becomes a whole document.
    if printed.is_ok() || output.printer.has_begun() {
        match output.printer.end() {
            Err(error) if stopped && is_broken_pipe(&error) => {}
            ended => printed.and(ended)?,
        }
    } else {
        printed?;
    }
    if output.failed > 0 {
        note(&format!(
            "{} of {} could not be classified",
            output.failed, output.count
        ));
    }
    if stopped {
        note(&format!(
            "stopped after {} {}; the same command begins again",
            text::count(output.count as u64),
            if output.count == 1 {
                "answer"
            } else {
                "answers"
            }
        ));
    }
    Ok(match output.failed {
        _ if stopped => Done::Interrupted,
        0 => Done::Success,
        _ => Done::Partly,
    })
}

/// Where answers go.
struct Output<'a> {
    printer: Printer,
    progress: Progress,
    classifier: &'a Classifier,
    /// Whether the first answer is preceded by a word on the weights, because nobody named them.
    names_weights: bool,
    count: usize,
    failed: usize,
}

impl Output<'_> {
    /// Prints every answer, until there are no more or `stop` is set.
    fn print_all(&mut self, mut answers: Answers, stop: &Stop) -> anyhow::Result<()> {
        while !stop.is_requested() {
            match answers.wait(LOOK).map_err(cause)? {
                Next::Answers(part) => {
                    self.print(&part)?;
                    self.progress.advance(answers.decoded());
                }
                Next::NotYet => self.progress.advance(answers.decoded()),
                Next::End => break,
            }
        }
        Ok(())
    }

    fn print(&mut self, answers: &[Answer]) -> anyhow::Result<()> {
        self.count += answers.len();
        let Self {
            printer, progress, ..
        } = self;
        let (names_weights, failed) = (&mut self.names_weights, &mut self.failed);
        let classifier = self.classifier;
        progress.aside(|| {
            for answer in answers {
                match &answer.outcome {
                    Ok(_) if std::mem::take(names_weights) => note(&shipped(classifier)),
                    Ok(_) => {}
                    Err(error) => {
                        *failed += 1;
                        note(&format!("error: {error}"));
                    }
                }
            }
            printer.print(answers)
        })?;
        Ok(())
    }
}

/// The error of the weights itself, which there is advice for.
fn cause(error: StreamError) -> anyhow::Error {
    match error {
        StreamError::Checkpoint(error) => error.into(),
        other => other.into(),
    }
}

/// What the weights that ship know.
fn shipped(classifier: &Classifier) -> String {
    format!(
        "weights: {}, which ship with vitrine and know {}; a picture of anything else is called one of these too; to use your model, name it before the pictures",
        SHIPPED[0].name,
        names::listed(classifier.classes())
    )
}
