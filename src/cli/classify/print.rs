//! The answers of `classify` as text, JSON and CSV, written as they come.

use std::io::{self, IsTerminal};

use serde_json::{Value, json};

use super::abstain::not_sure;
use crate::classify::{Answer, Found, Nearest, Prediction};
use crate::cli::output::{columns, say_csv, say_part};
use crate::cli::wrap::wrap;
use crate::metrics::Threshold;
use crate::names::{self, cell, printable, shown, visible};
use crate::report::text;

/// The answer below the threshold of `--abstain`.
const NOT_SURE: &str = "not sure";

/// What is said of a picture whose features are far from those of all training pictures.
const UNKNOWN: &str = "unlike anything it learned";

/// Columns of the CSV; JSON has the same names.
const COLUMNS: [&str; 5] = ["filename", "index", "label", "prob", "error"];

/// Further columns where the weights recognise unknown pictures: whether it is one, and its distance as a multiple of
/// the one from where on it is.
const OF_UNKNOWN: [&str; 2] = ["unknown", "distance"];

/// Further columns where neighbours are wanted: what they vote for, its share, the nearest and how similar it is.
const OF_NEIGHBOURS: [&str; 4] = ["vote", "vote_share", "nearest", "similarity"];

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Plain,
    Json,
    Csv,
}

/// What is written of every picture beside its labels.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Beside {
    /// The confidence below which there is no answer.
    pub threshold: Option<Threshold>,
    /// Whether the weights recognise pictures unlike anything they learned.
    pub unknown: bool,
    /// Whether neighbours are wanted.
    pub neighbours: bool,
}

/// Writes answers to stdout, one after the other, as one document.
pub(super) struct Printer {
    format: Format,
    beside: Beside,
    begun: bool,
    /// Answers that have been written.
    count: usize,
}

impl Printer {
    pub(super) fn new(format: Format, beside: Beside) -> Self {
        Self {
            format,
            beside,
            begun: false,
            count: 0,
        }
    }

    /// Whether a part of the document has been written.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Writes further answers at once, so that whoever reads them needs not wait for the next.
    pub(super) fn print(&mut self, answers: &[Answer]) -> anyhow::Result<()> {
        let part = self.part(answers)?;
        self.write(&part)
    }

    /// Completes the document.
    pub(super) fn end(&mut self) -> anyhow::Result<()> {
        let text = self.part(&[])?;
        let end = match self.format {
            Format::Json => "]\n",
            Format::Plain | Format::Csv => "",
        };
        self.write(&(text + end))
    }

    fn write(&self, text: &str) -> anyhow::Result<()> {
        match self.format {
            Format::Plain => say_part(&wrap(&printable(text), columns()))?,
            Format::Json => say_part(text)?,
            Format::Csv => say_csv(text)?,
        }
        Ok(())
    }

    /// The next part of the document, its beginning included where it has none yet.
    fn part(&mut self, answers: &[Answer]) -> anyhow::Result<String> {
        let head = !std::mem::replace(&mut self.begun, true);
        let before = self.count;
        self.count += answers.len();
        match self.format {
            Format::Plain => Ok(plain(answers, self.beside.threshold)),
            Format::Json => Ok(json(answers, self.beside.threshold, head, before)),
            Format::Csv => {
                let on_terminal = io::stdout().is_terminal();
                csv(answers, self.beside, head, on_terminal)
            }
        }
    }
}

/// The answers as text; what failed has none.
fn plain(answers: &[Answer], threshold: Option<Threshold>) -> String {
    let mut out = String::new();
    for answer in answers {
        let Ok(found) = &answer.outcome else {
            continue;
        };
        let predictions = &found.predictions;
        out += &format!("{}\n", shown(&answer.filename));
        if not_sure(threshold, predictions) {
            out += &format!("  {NOT_SURE}\n");
        }
        if let Some(distance) = found.distance
            && found.is_unknown() == Some(true)
        {
            out += &format!("  {UNKNOWN} (distance {distance:.2}, limit 1)\n");
        }
        for p in predictions {
            out += &format!(
                "  {:>8}  {}\n",
                text::percent(f64::from(p.prob)),
                visible(&p.label)
            );
        }
        if let Some(nearest) = &found.nearest {
            out += &neighbours(nearest);
        }
    }
    out
}

/// The neighbours of a picture as text.
fn neighbours(nearest: &Nearest) -> String {
    let mut out = match &nearest.vote {
        Some((label, share)) => format!(
            "  its neighbours: {} ({} of the vote)\n",
            visible(label),
            text::percent(f64::from(*share))
        ),
        None => "  its neighbours:\n".to_owned(),
    };
    for one in &nearest.neighbours {
        let label = one.label.as_deref().unwrap_or("–");
        out += &format!(
            "  {:>8.3}  {}  {}\n",
            one.similarity,
            visible(label),
            visible(&one.name)
        );
    }
    out
}

/// The answers as elements of a JSON array, one a line, after `before` others.
fn json(answers: &[Answer], threshold: Option<Threshold>, head: bool, before: usize) -> String {
    let mut out = String::new();
    if head {
        out.push('[');
    }
    for (i, answer) in answers.iter().enumerate() {
        if before + i > 0 {
            out += ",\n";
        }
        out += &element(answer, threshold).to_string();
    }
    out
}

/// One answer as JSON. `file` and `score` are what `filename` and `prob` were called before.
fn element(answer: &Answer, threshold: Option<Threshold>) -> Value {
    let filename = names::text(&answer.filename);
    let mut one = json!({ "filename": filename, "file": filename });
    let found = answer.outcome.as_ref();
    let predictions = found.map_or(&[][..], |found| &found.predictions);
    let fields = |p: &Prediction| json!({ "index": p.index, "label": p.label, "prob": p.prob, "score": p.prob });
    one["predictions"] = predictions.iter().map(fields).collect();
    if let Err(error) = &answer.outcome {
        one["error"] = error.reason().into();
    } else if let Some(row) = threshold {
        one["not_sure"] = not_sure(threshold, predictions).into();
        one["threshold"] = row.confidence.into();
    }
    if let Ok(found) = &answer.outcome
        && let Some(is_unknown) = found.is_unknown()
    {
        one["unknown"] = is_unknown.into();
        one["distance"] = found.distance.into();
    }
    if let Ok(Found {
        nearest: Some(nearest),
        ..
    }) = &answer.outcome
    {
        let vote = nearest.vote.as_ref();
        one["neighbours"] = json!(nearest.neighbours);
        one["vote"] = vote.map(|(label, _)| label.as_str()).into();
        one["vote_share"] = vote.map(|(_, share)| *share).into();
    }
    one
}

/// The answers as CSV. "Not sure" is one row without an index; its `prob` is the confidence that was
/// too low. What failed is one row with nothing but its name and the reason. On a terminal a name stays on its
/// line.
fn csv(
    answers: &[Answer],
    beside: Beside,
    head: bool,
    on_terminal: bool,
) -> anyhow::Result<String> {
    let threshold = beside.threshold;
    let cell = |name: &str| match on_terminal {
        true => visible(&cell(name)).into_owned(),
        false => cell(name).into_owned(),
    };
    let of_unknown: &[&str] = if beside.unknown { &OF_UNKNOWN } else { &[] };
    let of_neighbours: &[&str] = if beside.neighbours {
        &OF_NEIGHBOURS
    } else {
        &[]
    };
    let mut writer = csv::Writer::from_writer(Vec::new());
    if head {
        let columns = COLUMNS.iter().chain(of_unknown);
        writer.write_record(columns.chain(of_neighbours))?;
    }
    let prob = |p: &Prediction| format!("{:.6}", p.prob);
    for answer in answers {
        let file = names::text(&answer.filename);
        let file = cell(&file);
        let found = answer.outcome.as_ref().ok();
        let mut unknown = vec![String::new(); of_unknown.len()];
        if let (Some(found), [is_unknown, distance]) = (found, &mut unknown[..]) {
            let yes_or_no = found.is_unknown();
            *is_unknown = yes_or_no.map_or_else(String::new, |is| is.to_string());
            *distance = found
                .distance
                .map_or_else(String::new, |d| format!("{d:.6}"));
        }
        let nearest = found.and_then(|found| found.nearest.as_ref());
        let mut last = vec![String::new(); of_neighbours.len()];
        if let (Some(nearest), [vote, share, name, similarity]) = (nearest, &mut last[..]) {
            if let Some((label, weight)) = &nearest.vote {
                (*vote, *share) = (cell(label), format!("{weight:.6}"));
            }
            if let Some(first) = nearest.neighbours.first() {
                *name = cell(&first.name);
                *similarity = format!("{:.6}", first.similarity);
            }
        }
        let mut write = |own: [&str; 5]| {
            let last = unknown.iter().chain(&last).map(String::as_str);
            writer.write_record(own.into_iter().chain(last))
        };
        match &answer.outcome {
            Err(error) => {
                write([&*file, "", "", "", &cell(&error.reason())])?;
            }
            Ok(Found { predictions, .. }) if not_sure(threshold, predictions) => {
                let prob = predictions.first().map(prob).unwrap_or_default();
                write([&*file, "", NOT_SURE, &prob, ""])?;
            }
            // Neighbours alone.
            Ok(Found { predictions, .. }) if predictions.is_empty() => {
                write([&*file, "", "", "", ""])?;
            }
            Ok(Found { predictions, .. }) => {
                for p in predictions {
                    let index = p.index.to_string();
                    write([&*file, &index, &cell(&p.label), &prob(p), ""])?;
                }
            }
        }
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::classify::ClassifyError;

    fn answers() -> [Answer; 2] {
        let prediction = Prediction {
            index: 3,
            label: "a, \"b\"".into(),
            prob: 0.75,
        };
        let broken = ClassifyError::Decode {
            path: PathBuf::from("broken.png"),
            reason: "truncated PNG".into(),
        };
        [
            Answer {
                filename: "good.png".into(),
                outcome: Ok(Found {
                    predictions: vec![prediction],
                    features: Vec::new(),
                    nearest: None,
                    distance: None,
                }),
            },
            Answer {
                filename: "broken.png".into(),
                outcome: Err(broken),
            },
        ]
    }

    /// The document of `parts`, each printed on its own.
    fn document(format: Format, parts: &[&[Answer]]) -> String {
        let mut printer = Printer::new(format, Beside::default());
        let parts: String = parts
            .iter()
            .map(|part| printer.part(part).unwrap())
            .collect();
        match format {
            Format::Json => parts + &printer.part(&[]).unwrap() + "]",
            _ => parts + &printer.part(&[]).unwrap(),
        }
    }

    #[test]
    fn parts_are_one_document_however_it_is_cut_and_both_formats_have_the_same_fields() {
        let all = answers();
        let [good, broken] = &all;
        let whole = document(Format::Json, &[&all]);
        let (good, broken) = (std::slice::from_ref(good), std::slice::from_ref(broken));
        for parts in [&[good, broken][..], &[&[], good, &[], broken]] {
            let cut = document(Format::Json, parts);
            let values: [Value; 2] = [&whole, &cut].map(|text| serde_json::from_str(text).unwrap());
            assert_eq!(values[0], values[1], "{cut}");
            assert_eq!(
                document(Format::Csv, parts),
                "filename,index,label,prob,error\n\
                 good.png,3,\"a, \"\"b\"\"\",0.750000,\n\
                 broken.png,,,,truncated PNG\n"
            );
        }
        let value: Value = serde_json::from_str(&whole).unwrap();
        assert_eq!(
            value,
            json!([
                { "filename": "good.png", "file": "good.png", "predictions":
                    [{ "index": 3, "label": "a, \"b\"", "prob": 0.75, "score": 0.75 }] },
                { "filename": "broken.png", "file": "broken.png", "predictions": [],
                    "error": "truncated PNG" },
            ])
        );
        assert_eq!(document(Format::Json, &[]), "[]");
        assert_eq!(
            document(Format::Csv, &[]),
            "filename,index,label,prob,error\n"
        );
        assert_eq!(
            document(Format::Plain, &[&all]),
            "good.png\n    75.0 %  a, \"b\"\n"
        );
    }

    #[test]
    fn no_name_is_a_formula_to_a_spreadsheet() {
        let [mut good, mut broken] = answers();
        (good.filename, broken.filename) = ("-x.png".into(), "+y.png".into());
        good.outcome.as_mut().unwrap().predictions[0].label = "=cmd|'/C calc'!A0".into();
        assert_eq!(
            document(Format::Csv, &[&[good, broken]]),
            "filename,index,label,prob,error\n\
             '-x.png,3,'=cmd|'/C calc'!A0,0.750000,\n\
             '+y.png,,,,truncated PNG\n"
        );
    }

    #[test]
    fn a_name_makes_no_line_of_its_own_on_a_terminal() {
        let [mut good, _] = answers();
        good.outcome.as_mut().unwrap().predictions[0].label = "a\nb: 99.9 %  cat".into();
        let of = |on_terminal| {
            csv(
                std::slice::from_ref(&good),
                Beside::default(),
                false,
                on_terminal,
            )
            .unwrap()
        };
        assert_eq!(of(true), "good.png,3,a\\nb: 99.9 %  cat,0.750000,\n");
        assert_eq!(of(false), "good.png,3,\"a\nb: 99.9 %  cat\",0.750000,\n");
    }
}
