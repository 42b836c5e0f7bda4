//! Models measured on the same pictures: the table, significance, curves.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::differences::{Difference, differences};
use super::entry::Entry;
use crate::checkpoint::WeightsMeta;
use crate::data::{RawPicture, SplitName};
use crate::device::Selected;
use crate::eval::{self, Predictions};
use crate::metrics::{self, McNemar, MeanInterval};
use crate::names::{all_same, marked_up};
use crate::recipe::Recipe;
use crate::report::plot::{self, Curve};
use crate::report::text::{self, Table};
use crate::run::{self, Answers, EvaluateOptions, OpenData, RunDir, RunError};
use crate::train::probe::PROBE_L2;
use crate::train::task::classification::TOP1;
use crate::train::{Budget, EpochRecord};

/// How far beyond a time budget goes without a word, as a share of it.
const OVERRUN: f64 = 0.05;

/// One row of the table: a model over its seeds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// Name.
    pub model: String,
    /// Top-1 accuracy of each seed, fractions.
    pub top1: Vec<f64>,
    /// Mean, standard deviation and 95 % interval of `top1`; with one seed, Wilson's interval.
    pub accuracy: MeanInterval,
    /// Number of parameters.
    pub parameters: u64,
    /// Floating-point operations of a forward pass on one picture.
    pub flops_per_image: u64,
    /// Seconds of training, mean over seeds.
    pub training_s: f64,
    /// Seconds of training of each seed.
    pub used_s: Vec<f64>,
    /// Seconds that each was to take, where its budget is time.
    pub budget_s: Option<f64>,
    /// Passes over the training pictures, mean over seeds.
    pub epochs_seen: f64,
    /// Training images per second, mean over seeds.
    pub training_images_per_s: f64,
    /// Pictures per second in evaluation, decoding included, mean over seeds.
    pub images_per_s: f64,
    /// Peak memory of the training process in bytes, largest over seeds.
    pub peak_memory_bytes: Option<u64>,
    /// Expected calibration error, mean over seeds.
    pub ece: f64,
    /// Seeds whose accuracy is not clearly above that of always answering the largest class.
    pub at_chance: usize,
}

/// Two models compared on the same pictures, seed by seed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Pair {
    /// The first model.
    pub a: String,
    /// The second model.
    pub b: String,
    /// The seeds of the two runs of each test.
    pub seeds: Vec<(u64, u64)>,
    /// McNemar's test for each seed that both models have; if they share none, the seeds are paired
    /// in ascending order.
    pub tests: Vec<McNemar>,
    /// What else the two differ in that leaves open where a difference comes from.
    pub confounded_by: Vec<String>,
}

/// The accuracy of always answering the largest class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Majority {
    /// The class.
    pub label: String,
    /// Its share of the pictures.
    pub top1: f64,
}

/// A whole comparison.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Comparison {
    /// Number of pictures.
    pub pictures: usize,
    /// Their split.
    pub split: String,
    /// What no model should fall below.
    pub majority: Option<Majority>,
    /// One row per model.
    pub rows: Vec<Row>,
    /// What the rows differ in beside the model.
    pub differences: Vec<Difference>,
    /// Every pair of models.
    pub pairs: Vec<Pair>,
}

/// Evaluates every run on the same split and compares them; `begin` is called with the index of each before its turn.
///
/// # Errors
///
/// [`RunError`]: a run has no weights, or the runs have other pictures or classes than the first.
pub(crate) fn compare(
    entries: &[Entry],
    options: &EvaluateOptions,
    device: &Selected,
    begin: &mut dyn FnMut(usize),
) -> Result<Comparison, RunError> {
    let answers = measure(entries, options, device, begin)?;
    let mut models: Vec<&str> = Vec::new();
    for entry in entries {
        if !models.contains(&entry.model.as_str()) {
            models.push(&entry.model);
        }
    }
    let first = &answers[0];
    let runs: Vec<Vec<usize>> = models.iter().map(|model| of(model, entries)).collect();
    let metas: Vec<&WeightsMeta> = answers.iter().map(|answer| &answer.meta).collect();
    let differences = differences(entries, &runs, &metas)?;
    let report = eval::report(&first.predictions, &first.meta.classes);
    Ok(Comparison {
        pictures: first.predictions.labels.len(),
        split: first.split.to_string(),
        majority: report.majority().map(|(label, top1)| Majority {
            label: label.to_owned(),
            top1,
        }),
        rows: models
            .iter()
            .zip(&runs)
            .map(|(model, of)| row(model, of, entries, &answers))
            .collect(),
        pairs: pairs(&models, entries, &answers, &differences),
        differences,
    })
}

/// Evaluates every run on the pictures of the first: the same files, in the same order.
fn measure(
    entries: &[Entry],
    options: &EvaluateOptions,
    device: &Selected,
    begin: &mut dyn FnMut(usize),
) -> Result<Vec<Measured>, RunError> {
    let mut answers: Vec<Measured> = Vec::with_capacity(entries.len());
    let mut options = options.clone();
    let mut data = OpenData::default();
    for (index, entry) in entries.iter().enumerate() {
        begin(index);
        let answer = run::answer(entry.dir.root(), &options, &mut data, device)?;
        let answer = Measured::from(answer);
        options.split = Some(answer.split);
        if let Some(first) = answers.first()
            && !first.is_of_the_pictures_of(&answer)
        {
            return Err(RunError::DifferentPictures {
                a: entries[0].dir.root().to_owned(),
                b: entry.dir.root().to_owned(),
            });
        }
        answers.push(answer);
    }
    Ok(answers)
}

/// Indices of a model's runs, by seed.
fn of(model: &str, entries: &[Entry]) -> Vec<usize> {
    let mut of: Vec<usize> = (0..entries.len())
        .filter(|&i| entries[i].model == model)
        .collect();
    of.sort_by_key(|&i| entries[i].seed);
    of
}

/// McNemar's tests of every two models.
fn pairs(
    models: &[&str],
    entries: &[Entry],
    answers: &[Measured],
    differences: &[Difference],
) -> Vec<Pair> {
    let correct: Vec<Vec<bool>> = answers
        .iter()
        .map(|a| metrics::correct(&a.predictions.logits, &a.predictions.labels))
        .collect();
    let pair = |i: usize, j: usize| {
        let (a, b) = (models[i], models[j]);
        let runs = by_seed(entries, &of(a, entries), &of(b, entries));
        let confounds = |d: &&Difference| {
            let concerns_both = d.concerns[i] && d.concerns[j];
            d.confounds && concerns_both && d.values[i] != d.values[j]
        };
        Pair {
            confounded_by: differences
                .iter()
                .filter(confounds)
                .map(|difference| difference.what.clone())
                .collect(),
            a: a.to_owned(),
            b: b.to_owned(),
            seeds: runs
                .iter()
                .map(|&(x, y)| (entries[x].seed, entries[y].seed))
                .collect(),
            tests: runs
                .iter()
                .map(|&(x, y)| metrics::mcnemar(&correct[x], &correct[y]))
                .collect(),
        }
    };
    let mut pairs = Vec::new();
    for i in 0..models.len() {
        pairs.extend((i + 1..models.len()).map(|j| pair(i, j)));
    }
    pairs
}

/// What is kept of a run's [`Answers`]: all but the pictures, which take far more memory.
struct Measured {
    meta: WeightsMeta,
    predictions: Predictions,
    split: SplitName,
    /// A hash of some pictures' bytes: two data sets may have different pictures under the same names.
    fingerprint: u64,
}

impl From<Answers> for Measured {
    fn from(answers: Answers) -> Measured {
        const PICTURES: usize = 64;
        let samples = answers.pictures.samples();
        let mut hasher = DefaultHasher::new();
        for sample in samples
            .iter()
            .step_by(samples.len().div_ceil(PICTURES).max(1))
        {
            match answers.dataset.read(sample) {
                Ok(RawPicture::Encoded(bytes)) => bytes.hash(&mut hasher),
                Ok(RawPicture::Pixels { data, .. }) => data.hash(&mut hasher),
                Err(_) => {}
            }
        }
        Measured {
            meta: answers.meta,
            predictions: answers.predictions,
            split: answers.split,
            fingerprint: hasher.finish(),
        }
    }
}

impl Measured {
    fn is_of_the_pictures_of(&self, other: &Measured) -> bool {
        self.fingerprint == other.fingerprint
            && self.predictions.names == other.predictions.names
            && self.predictions.labels == other.predictions.labels
            && all_same(&self.meta.classes, &other.meta.classes)
    }
}

/// Pairs the runs of two models: by seed, or in order if no seed is shared; one that no seed changes with every run of
/// the other.
fn by_seed(entries: &[Entry], a: &[usize], b: &[usize]) -> Vec<(usize, usize)> {
    let is_seedless = |of: &[usize]| of.iter().all(|&run| entries[run].is_seedless);
    match (is_seedless(a), is_seedless(b)) {
        (true, true) => return vec![(a[0], b[0])],
        (true, false) => return b.iter().map(|&y| (a[0], y)).collect(),
        (false, true) => return a.iter().map(|&x| (x, b[0])).collect(),
        (false, false) => {}
    }
    let alike = |&x: &usize| {
        let y = b.iter().find(|&&y| entries[y].seed == entries[x].seed)?;
        Some((x, *y))
    };
    let shared: Vec<_> = a.iter().filter_map(alike).collect();
    if shared.is_empty() {
        return a.iter().copied().zip(b.iter().copied()).collect();
    }
    shared
}

fn row(model: &str, of: &[usize], entries: &[Entry], answers: &[Measured]) -> Row {
    let reports: Vec<_> = of
        .iter()
        .map(|&i| eval::report(&answers[i].predictions, &answers[i].meta.classes))
        .collect();
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let histories: Vec<_> = of.iter().map(|&i| run::history(&entries[i].dir)).collect();
    let top1: Vec<f64> = reports.iter().map(|r| r.top1).collect();
    let mut accuracy = metrics::mean_std_interval(&top1);
    accuracy.interval = match reports.as_slice() {
        [only] => only.top1_interval,
        // Student's interval of a few seeds may leave 0 to 1.
        _ => (accuracy.interval.0.max(0.0), accuracy.interval.1.min(1.0)),
    };
    let config = &answers[of[0]].meta.model;
    // Earlier versions have recorded less.
    let used_s: Vec<f64> = of
        .iter()
        .zip(&histories)
        .map(|(&i, history)| {
            let last = history.last().map_or(0.0, |record| record.elapsed_s);
            run::recorded(&entries[i].dir, "training_s").unwrap_or(last)
        })
        .collect();
    let epochs_seen = of.iter().zip(&histories).map(|(&i, history)| {
        let shares = history.iter().map(|record| record.share).sum();
        run::recorded(&entries[i].dir, "epochs_seen").unwrap_or(shares)
    });
    let recipe = Recipe::load(&entries[of[0]].dir.recipe());
    // A probe ends where its loss does.
    let recipe = recipe.ok().filter(|recipe| recipe.init.probe.is_none());
    Row {
        model: model.to_owned(),
        accuracy,
        top1,
        parameters: config.parameters(),
        flops_per_image: config.flops(),
        training_s: mean(used_s.clone()),
        used_s,
        budget_s: match recipe.map(|recipe| recipe.budget()) {
            Some(Ok(Budget::Time(time))) => Some(time.as_secs_f64()),
            _ => None,
        },
        epochs_seen: mean(epochs_seen.collect()),
        at_chance: reports
            .iter()
            .filter(|report| run::at_chance(report, &[]).is_some())
            .count(),
        training_images_per_s: mean(
            of.iter()
                .filter_map(|&i| run::recorded(&entries[i].dir, "training_images_per_s"))
                .collect(),
        ),
        images_per_s: mean(
            of.iter()
                .map(|&i| answers[i].predictions.images_per_s)
                .collect(),
        ),
        peak_memory_bytes: of
            .iter()
            .filter_map(|&i| run::recorded(&entries[i].dir, "peak_memory_bytes"))
            .map(|bytes| bytes as u64)
            .max(),
        ece: mean(reports.iter().map(|r| r.ece).collect()),
    }
}

impl Comparison {
    /// The table of models.
    pub(crate) fn table(&self) -> Table {
        let seeds = self.rows.iter().any(|r| r.top1.len() > 1);
        let mut table = Table::new(&[
            "model",
            if seeds {
                "top-1, mean ± std [95 %]"
            } else {
                "top-1 [95 %]"
            },
            "parameters",
            "FLOPs per image",
            "training",
            "train images/s",
            "eval images/s",
            "peak memory",
            "ECE",
        ]);
        for row in &self.rows {
            let accuracy = if row.top1.len() > 1 {
                format!(
                    "{} ± {} [{}, {}]",
                    text::percent(row.accuracy.mean),
                    text::percent(row.accuracy.std),
                    text::percent(row.accuracy.interval.0),
                    text::percent(row.accuracy.interval.1)
                )
            } else {
                text::percent_interval(row.accuracy.mean, row.accuracy.interval)
            };
            table.row(vec![
                row.model.clone(),
                accuracy,
                text::count(row.parameters),
                text::flops(row.flops_per_image),
                match row.budget_s {
                    Some(budget_s) => format!(
                        "{} of {}",
                        text::seconds(row.training_s),
                        text::seconds(budget_s)
                    ),
                    None => text::seconds(row.training_s),
                },
                format!("{:.0}", row.training_images_per_s),
                format!("{:.0}", row.images_per_s),
                row.peak_memory_bytes
                    .map_or("–".to_owned(), |b| format!("{} MiB", b >> 20)),
                match row.at_chance < row.top1.len() {
                    true => format!("{:.3}", row.ece),
                    false => "–".to_owned(),
                },
            ]);
        }
        if let Some(Majority { label, top1 }) = &self.majority {
            let mut cells = vec![format!("always {label:?}"), text::percent(*top1)];
            cells.resize(9, "–".to_owned());
            table.row(cells);
        }
        table
    }

    /// What the rows differ in beside the model, one column for each; without rows if it is nothing.
    pub(crate) fn differences(&self) -> Table {
        let models = self.rows.iter().map(|row| row.model.as_str());
        let headings: Vec<&str> = std::iter::once("differs").chain(models).collect();
        let mut table = Table::new(&headings);
        for difference in &self.differences {
            table.row([vec![difference.what.clone()], difference.values.clone()].concat());
        }
        table
    }

    /// What to know before a winner is read from the table.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for row in &self.rows {
            let (model, seeds) = (&row.model, row.top1.len());
            if let Some(budget_s) = row.budget_s {
                let longest = row.used_s.iter().copied().fold(0.0, f64::max);
                if longest > (1.0 + OVERRUN) * budget_s {
                    notes.push(format!(
                        "{model} took {} of a budget of {}: one of its updates takes longer than that",
                        text::seconds(longest),
                        text::seconds(budget_s)
                    ));
                }
            }
            if row.epochs_seen < 1.0 {
                notes.push(format!(
                    "{model} saw only {:.0} % of its training pictures: its budget says little about it",
                    100.0 * row.epochs_seen
                ));
            }
            if let (Some(Majority { label, top1 }), 1..) = (&self.majority, row.at_chance) {
                let which = match row.at_chance {
                    n if n < seeds => format!(" with {n} of {seeds} seeds"),
                    _ => String::new(),
                };
                notes.push(format!(
                    "{model}{which} is at chance: not clearly better than always answering {label:?} ({}). A low \
                     calibration error (ECE {:.3}) means nothing there",
                    text::percent(*top1),
                    row.ece
                ));
            }
        }
        for pair in &self.pairs {
            if !pair.confounded_by.is_empty() {
                notes.push(format!(
                    "{} and {} also differ in {}: accuracies and p-values are those of these runs, not of the models",
                    pair.a,
                    pair.b,
                    pair.confounded_by.join(", ")
                ));
            }
        }
        notes
    }

    /// One sentence per McNemar test.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        for pair in &self.pairs {
            for (seeds, test) in pair.seeds.iter().zip(&pair.tests) {
                let seeds = match seeds {
                    (a, b) if a == b => format!("seed {a}"),
                    (a, b) => format!("seeds {a} and {b}"),
                };
                let warning = match pair.confounded_by.is_empty() {
                    true => "",
                    false => " (of these runs, which differ in more than the model)",
                };
                sentences.push(format!(
                    "McNemar, {} against {}, {seeds}: {} pictures only the first gets right, {} only the second; p = {:.2e}{warning}",
                    pair.a,
                    pair.b,
                    test.only_a,
                    test.only_b,
                    test.p_value
                ));
            }
        }
        sentences
    }

    /// `compare.md`.
    pub(crate) fn markdown(&self, picture: &str) -> String {
        let mut out = format!(
            "# Comparison on {} pictures of the {} split\n\n{}\n",
            text::count(self.pictures as u64),
            self.split,
            self.table().markdown()
        );
        if !self.differences.is_empty() {
            out += &format!("{}\n", self.differences().markdown());
        }
        for sentence in self.sentences().into_iter().chain(self.notes()) {
            out += &format!("- {}\n", marked_up(&sentence));
        }
        out + &format!("\n![Validation accuracy over epochs and over time]({picture})\n")
    }
}

/// Draws the validation accuracy of every run over epochs and over time.
///
/// # Errors
///
/// [`RunError`].
pub(crate) fn draw(entries: &[Entry], path: &Path) -> Result<(), RunError> {
    let curves: Vec<Curve> = entries
        .iter()
        .map(|entry| Curve {
            model: entry.model.clone(),
            points: points(&entry.dir),
        })
        .collect();
    Ok(plot::compare_curves(&curves, path)?)
}

/// Epoch, seconds and validation top-1 of a run's epochs. A probe is one point, after its one pass: the rows of its
/// history are strengths of its penalty.
fn points(dir: &RunDir) -> Vec<(usize, f64, f64)> {
    let history = run::history(dir);
    let point = |r: &EpochRecord| Some((r.epoch, r.elapsed_s, r.figure(TOP1)?));
    let is_probe = |r: &EpochRecord| r.figure(PROBE_L2).is_some();
    match history.last() {
        Some(last) if is_probe(last) => {
            let best = run::recorded(dir, "best_epoch");
            let best = history.iter().find(|r| Some(r.epoch as f64) == best);
            let top1 = best.unwrap_or(last).figure(TOP1);
            top1.map(|top1| (1, last.elapsed_s, top1))
                .into_iter()
                .collect()
        }
        _ => history.iter().filter_map(point).collect(),
    }
}

/// Writes `compare.md`, `compare.json` and `compare.png` into `folder`.
///
/// # Errors
///
/// [`RunError`].
pub(crate) fn write(
    comparison: &Comparison,
    entries: &[Entry],
    folder: &Path,
) -> Result<[PathBuf; 3], RunError> {
    let paths = ["compare.md", "compare.json", "compare.png"].map(|name| folder.join(name));
    run::write(&paths[0], comparison.markdown("compare.png").as_bytes())?;
    let json = serde_json::to_string_pretty(comparison).expect("a comparison is plain data");
    run::write(&paths[1], json.as_bytes())?;
    draw(entries, &paths[2])?;
    Ok(paths)
}
