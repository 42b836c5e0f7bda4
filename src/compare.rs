//! Models set side by side on the same pictures: figures, significance, curves.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::checkpoint::WeightsMeta;
use crate::data::{RawPicture, SplitName};
use crate::device::Selected;
use crate::eval::{self, Predictions};
use crate::metrics::{self, McNemar, MeanInterval};
use crate::report::plot::{self, Curve};
use crate::report::text::{self, Table};
use crate::run::{self, Answers, EvaluateOptions, OpenData, RunDir, RunError};

/// One finished run that takes part.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Under which name its figures are pooled: the model's, or the run's.
    pub model: String,
    /// Its seed.
    pub seed: u64,
    /// Where it is.
    pub dir: RunDir,
}

/// One row of the table: a model over its seeds.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its name.
    pub model: String,
    /// Top-1 of each seed, fractions.
    pub top1: Vec<f64>,
    /// Their mean, deviation and 95 % interval; over one seed, the interval is Wilson's.
    pub accuracy: MeanInterval,
    /// Parameters.
    pub parameters: u64,
    /// Forward FLOPs of one picture.
    pub flops_per_image: u64,
    /// Seconds of training, mean over seeds.
    pub training_s: f64,
    /// Training images a second, mean over seeds.
    pub training_images_per_s: f64,
    /// Pictures a second on the split, decoding included, mean over seeds.
    pub images_per_s: f64,
    /// Peak memory of the training process, largest over seeds.
    pub peak_memory_bytes: Option<u64>,
    /// Expected calibration error, mean over seeds.
    pub ece: f64,
}

/// Two models on the same pictures, seed by seed.
#[derive(Debug, Clone, Serialize)]
pub struct Pair {
    /// One.
    pub a: String,
    /// The other.
    pub b: String,
    /// Seed of each in every test.
    pub seeds: Vec<(u64, u64)>,
    /// McNemar's test of each seed that both have; where there is none, of the smallest against
    /// the smallest and so on.
    pub tests: Vec<McNemar>,
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Pictures measured on.
    pub pictures: usize,
    /// Their split.
    pub split: String,
    /// A row a model.
    pub rows: Vec<Row>,
    /// Every pair of models.
    pub pairs: Vec<Pair>,
}

/// Measures every entry on one split and sets them side by side.
///
/// # Errors
///
/// [`RunError`], where a run has no weights, or the runs do not know the same classes.
pub fn compare(
    entries: &[Entry],
    options: &EvaluateOptions,
    device: &Selected,
) -> Result<Comparison, RunError> {
    let mut answers: Vec<Measured> = Vec::with_capacity(entries.len());
    // Every run answers for the pictures of the first: the same files, in the same order.
    let mut options = options.clone();
    let mut data = OpenData::default();
    for entry in entries {
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
    let mut models: Vec<String> = Vec::new();
    for entry in entries {
        if !models.contains(&entry.model) {
            models.push(entry.model.clone());
        }
    }
    let of = |model: &str| -> Vec<usize> {
        let mut of: Vec<usize> = (0..entries.len())
            .filter(|&i| entries[i].model == model)
            .collect();
        of.sort_by_key(|&i| entries[i].seed);
        of
    };
    let rows = models
        .iter()
        .map(|model| row(model, &of(model), entries, &answers))
        .collect();
    let correct: Vec<Vec<bool>> = answers
        .iter()
        .map(|a| metrics::correct(&a.predictions.logits, &a.predictions.labels))
        .collect();
    let mut pairs = Vec::new();
    for (i, a) in models.iter().enumerate() {
        for b in &models[i + 1..] {
            let runs = by_seed(entries, &of(a), &of(b));
            let seed = |i: usize| entries[i].seed;
            pairs.push(Pair {
                a: a.clone(),
                b: b.clone(),
                seeds: runs.iter().map(|&(x, y)| (seed(x), seed(y))).collect(),
                tests: runs
                    .iter()
                    .map(|&(x, y)| metrics::mcnemar(&correct[x], &correct[y]))
                    .collect(),
            });
        }
    }
    let first = &answers[0];
    Ok(Comparison {
        pictures: first.predictions.labels.len(),
        split: first.split.to_string(),
        rows,
        pairs,
    })
}

/// What is kept of a run's [`Answers`]: not the pictures, which take far more memory.
struct Measured {
    meta: WeightsMeta,
    predictions: Predictions,
    split: SplitName,
    /// Of some of the pictures' bytes, since two data sets may call other pictures by the same names.
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
            && self.meta.classes == other.meta.classes
    }
}

/// Runs of two models that belong together: those of one seed, or else the first, the second, ….
fn by_seed(entries: &[Entry], a: &[usize], b: &[usize]) -> Vec<(usize, usize)> {
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
        // Student's interval of a few seeds knows no bounds; a share has them.
        _ => (accuracy.interval.0.max(0.0), accuracy.interval.1.min(1.0)),
    };
    let config = &answers[of[0]].meta.model;
    Row {
        model: model.to_owned(),
        accuracy,
        top1,
        parameters: config.parameters(),
        flops_per_image: config.flops(),
        training_s: mean(
            histories
                .iter()
                .map(|h| h.last().map_or(0.0, |r| r.elapsed_s))
                .collect(),
        ),
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
    pub fn table(&self) -> Table {
        let seeds = self.rows.iter().any(|r| r.top1.len() > 1);
        let mut table = Table::new(&[
            "model",
            if seeds {
                "top-1, mean ± std [95 %]"
            } else {
                "top-1 [95 %]"
            },
            "parameters",
            "FLOPs an image",
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
                text::seconds(row.training_s),
                format!("{:.0}", row.training_images_per_s),
                format!("{:.0}", row.images_per_s),
                row.peak_memory_bytes
                    .map_or("–".to_owned(), |b| format!("{} MiB", b >> 20)),
                format!("{:.3}", row.ece),
            ]);
        }
        table
    }

    /// One sentence a pair.
    pub fn sentences(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        for pair in &self.pairs {
            for (seeds, test) in pair.seeds.iter().zip(&pair.tests) {
                let seeds = match seeds {
                    (a, b) if a == b => format!("seed {a}"),
                    (a, b) => format!("seeds {a} and {b}"),
                };
                sentences.push(format!(
                    "McNemar, {} against {}, {seeds}: {} pictures only the first gets right, {} only the second; p = {:.2e}",
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
    pub fn markdown(&self, picture: &str) -> String {
        let mut out = format!(
            "# Comparison on {} pictures of the {} split\n\n{}\n",
            text::count(self.pictures as u64),
            self.split,
            self.table().markdown()
        );
        for sentence in self.sentences() {
            out += &format!("- {sentence}\n");
        }
        out + &format!("\n![Validation accuracy over epochs and over time]({picture})\n")
    }
}

/// Draws every run's validation accuracy over epochs and over time.
///
/// # Errors
///
/// [`RunError`].
pub fn draw(entries: &[Entry], path: &Path) -> Result<(), RunError> {
    let curves: Vec<Curve> = entries
        .iter()
        .map(|entry| Curve {
            model: entry.model.clone(),
            points: run::history(&entry.dir)
                .into_iter()
                .filter_map(|r| Some((r.epoch, r.elapsed_s, r.val_top1?)))
                .collect(),
        })
        .collect();
    Ok(plot::compare_curves(&curves, path)?)
}

/// Writes `compare.md`, `compare.json` and `compare.png` into `folder`.
///
/// # Errors
///
/// [`RunError`].
pub fn write(
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
