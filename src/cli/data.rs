//! `vitrine data`.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use super::done::Done;
use super::output::{columns, interactive, note, say, tell};
use super::shell::{program, quoted};
use super::{interrupt, lists};
use crate::data::verify::VerifyReport;
use crate::data::{Dataset, DecodeLimits, download, info, verify};
use crate::names::{shown, visible};
use crate::report::text::{self, Table};

/// List, inspect, check or download data sets.
#[derive(Debug, Args)]
pub(super) struct DataArgs {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Debug, Subcommand)]
enum DataCommand {
    /// List the data sets that `download` knows.
    List,
    /// Show counts, classes, sizes and channel means.
    Info(Source),
    /// Check for unreadable files, duplicates, leaks between splits and imbalance; exit code 1 on errors.
    Verify(Source),
    /// Download a known data set, check it, and say how to train on it.
    Download {
        #[arg(help = lists::fill("{datasets}"))]
        name: String,
        /// Folder to put it in.
        #[arg(long, default_value = "datasets", value_name = "DIR")]
        out: PathBuf,
        /// Download from this address instead of the official one.
        #[arg(long, value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
        mirror: Option<String>,
    },
}

#[derive(Debug, Args)]
struct Source {
    /// Folder, archive or file; default: the bundled sample.
    path: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Source {
    fn open(&self) -> anyhow::Result<Dataset> {
        let dataset = match &self.path {
            Some(path) => Dataset::open(path)?,
            None => Dataset::embedded(),
        };
        dataset.check_classes()?;
        Ok(dataset)
    }
}

/// Runs the command.
pub(super) fn run(args: DataArgs) -> anyhow::Result<Done> {
    match args.command {
        DataCommand::List => list(),
        DataCommand::Info(source) => show_info(&source),
        DataCommand::Verify(source) => show_verify(&source),
        DataCommand::Download { name, out, mirror } => fetch(&name, &out, mirror.as_deref()),
    }
}

fn list() -> anyhow::Result<Done> {
    let mut table = Table::new(&["name", "what", "download"]);
    for known in download::known_datasets() {
        table.row(vec![
            known.name.to_owned(),
            known.summary.to_owned(),
            format!("{} MB", known.bytes() / 1_000_000),
        ]);
    }
    say(&table.text(columns()))?;
    Ok(Done::Success)
}

fn bar(total: u64, template: &str) -> ProgressBar {
    if !interactive() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Counts pictures on a bar while `work` looks at them.
fn counted<T>(dataset: &Dataset, work: impl FnOnce(&(dyn Fn() + Sync)) -> T) -> T {
    let total = dataset.samples().count() as u64;
    let bar = bar(total, "[{bar:30}] {pos}/{len} pictures");
    let result = work(&|| bar.inc(1));
    bar.finish_and_clear();
    result
}

fn show_info(source: &Source) -> anyhow::Result<Done> {
    let dataset = source.open()?;
    let report = counted(&dataset, |tick| {
        info::info(&dataset, &DecodeLimits::default(), tick)
    });
    if source.json {
        say(&serde_json::to_string(&report)?)?;
        return Ok(Done::Success);
    }
    tell(&format!(
        "{}: {}, {} classes",
        visible(&report.origin),
        report.kind,
        report.classes.len()
    ))?;
    let mut headings = vec!["class".to_owned()];
    headings.extend(report.counts.iter().map(|c| c.split.to_string()));
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let mut table = Table::new(&headings);
    for (i, class) in report.classes.iter().enumerate() {
        let mut row = vec![class.clone()];
        row.extend(
            report
                .counts
                .iter()
                .map(|c| text::count(c.per_class[i] as u64)),
        );
        table.row(row);
    }
    let mut total = vec!["all".to_owned()];
    total.extend(
        report
            .counts
            .iter()
            .map(|c| text::count(c.per_class.iter().sum::<usize>() as u64)),
    );
    table.row(total);
    say(&table.text(columns()))?;
    let (w, h) = (&report.widths, &report.heights);
    tell(&format!(
        "width {} to {}, median {}; height {} to {}, median {} pixels",
        w.min, w.max, w.median, h.min, h.max, h.median
    ))?;
    let formats: Vec<String> = report
        .formats
        .iter()
        .map(|(f, n)| format!("{f} {}", text::count(*n as u64)))
        .collect();
    tell(&format!("formats: {}", formats.join(", ")))?;
    let triple = |v: [f64; 3]| format!("{:.4} {:.4} {:.4}", v[0], v[1], v[2]);
    tell(&format!(
        "channel means {}, deviations {} (of 1)",
        triple(report.channel_means),
        triple(report.channel_stds)
    ))?;
    if report.unreadable > 0 {
        tell(&format!(
            "{} unreadable; `vitrine data verify` names them",
            report.unreadable
        ))?;
    }
    for left in &report.skipped {
        tell(&format!("left out: {left}"))?;
    }
    for text in &report.notes {
        tell(&format!("note: {}", visible(text)))?;
    }
    Ok(Done::Success)
}

fn show_verify(source: &Source) -> anyhow::Result<Done> {
    let dataset = source.open()?;
    let report = counted(&dataset, |tick| {
        verify::verify(&dataset, &DecodeLimits::default(), tick)
    });
    if source.json {
        say(&serde_json::to_string(&report)?)?;
    } else {
        let findings = findings(&report);
        if !findings.is_empty() {
            say(&findings.text(columns()))?;
        }
        let pictures: usize = report.counts.iter().flat_map(|c| &c.per_class).sum();
        tell(&format!(
            "{}: {}, {} classes; {} unreadable, {} leaks, {} conflicting labels, {} duplicates; largest class {:.1} times the smallest",
            visible(&report.origin),
            text::pictures(pictures),
            report.classes.len(),
            report.unreadable.len(),
            report.leaks.len(),
            report.conflicting_labels.len(),
            report.duplicates.len(),
            report.imbalance,
        ))?;
    }
    Ok(if report.has_errors() {
        Done::Partly
    } else {
        Done::Success
    })
}

fn findings(report: &VerifyReport) -> Table {
    let mut table = Table::new(&["grade", "finding", "picture", "detail"]);
    let mut row = |grade: &str, finding: &str, picture: &str, detail: String| {
        table.row(vec![
            grade.to_owned(),
            finding.to_owned(),
            picture.to_owned(),
            detail,
        ]);
    };
    for bad in &report.unreadable {
        row("error", "unreadable", &bad.name, bad.reason.clone());
    }
    for (grade, finding, groups) in [
        ("error", "in two splits", &report.leaks),
        ("error", "two labels", &report.conflicting_labels),
        ("warning", "duplicate", &report.duplicates),
    ] {
        for group in groups {
            let Some((first, others)) = group.split_first() else {
                continue;
            };
            let same: Vec<String> = others
                .iter()
                .map(|c| format!("{} ({}, {})", c.name, c.split, c.label))
                .collect();
            row(
                grade,
                finding,
                &first.name,
                format!("({}, {}) = {}", first.split, first.label, same.join(", ")),
            );
        }
    }
    for left in &report.skipped {
        row("warning", "left out", &left.name, left.reason.clone());
    }
    for text in &report.notes {
        row("note", "folders", "", text.clone());
    }
    if report.is_imbalanced() {
        row(
            "warning",
            "imbalance",
            "",
            format!("largest class {:.1} times the smallest", report.imbalance),
        );
    }
    table
}

fn fetch(name: &str, out: &std::path::Path, mirror: Option<&str>) -> anyhow::Result<Done> {
    let bar = bar(
        0,
        "[{wide_bar}] {bytes}/{total_bytes}, {bytes_per_sec}, ETA {eta}",
    );
    let path = download::download(name, mirror, out, &mut |done, total| {
        interrupt::nothing_to_save(&format!(
            "stopped; what has arrived ({:.1} MB) stays in {}: the same command continues from there",
            done as f64 / 1e6,
            shown(out.join(name))
        ));
        bar.set_length(total.unwrap_or(done));
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    say(&shown(&path))?;
    note(&format!(
        "train on it with: {} train --data {}",
        program(),
        quoted(&path)
    ));
    Ok(Done::Success)
}
