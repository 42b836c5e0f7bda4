//! Trains what is to be trained, compares, and prints the comparison.

use std::path::Path;

use anyhow::Context;

use super::args::CompareArgs;
use super::dry_run::{STARTS, dry_run};
use super::finished::finished;
use super::plan::plan_all;
use super::train::train_all;
use super::training::Training;
use crate::cli::done::Done;
use crate::cli::interrupt;
use crate::cli::output::{columns, note, say, tell};
use crate::compare::{self, Entry};
use crate::device;
use crate::names::shown;
use crate::ops::InferencePrecision;
use crate::report::text;
use crate::run::{self, EvaluateOptions};

/// What is to be compared.
enum Work {
    /// Runs that exist.
    Finished(Vec<Entry>),
    /// Models to train first.
    Train(Vec<Training>),
}

/// Runs the command; its trainings inherit `threads`.
pub(in crate::cli) fn run(args: &CompareArgs, threads: Option<u32>) -> anyhow::Result<Done> {
    // What is wrong with the arguments is said before a folder is made.
    let work = if args.runs.is_empty() {
        if args.dry_run {
            note(STARTS);
        }
        let plans = plan_all(args)?;
        if args.dry_run {
            return dry_run(args, &plans);
        }
        interrupt::can_be_continued();
        Work::Train(plans)
    } else {
        Work::Finished(finished(&args.runs)?)
    };
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out)
            .with_context(|| format!("cannot make {}, which --out names", shown(out)))?;
    }
    let folder = || match &args.out {
        Some(out) => Ok(out.clone()),
        None => run::next_free(Path::new("runs"), "compare"),
    };
    let (entries, trained) = match work {
        // Measured first: whoever stops that is left no empty folder.
        Work::Finished(entries) => (entries, None),
        Work::Train(plans) => {
            let folder = folder()?;
            match train_all(args, &plans, &folder, threads)? {
                Some(entries) => (entries, Some(folder)),
                None => return Ok(Done::Interrupted),
            }
        }
    };
    let device = device::select(args.device)?;
    let options = EvaluateOptions {
        precision: InferencePrecision::Auto,
        data: args.data.clone(),
        split: args.split,
        batch_size: args.batch_size as usize,
        ..EvaluateOptions::default()
    };
    let mut begin = |index: usize| {
        let dir = shown(entries[index].dir.root());
        note(&format!(
            "evaluating run {} of {}: {dir}",
            index + 1,
            entries.len()
        ));
    };
    let comparison = compare::compare(&entries, &options, &device, &mut begin)?;
    let folder = match trained {
        Some(trained) => trained,
        None => folder()?,
    };
    let written = compare::write(&comparison, &entries, &folder)?;
    if args.json {
        say(&serde_json::to_string(&comparison)?)?;
    } else {
        tell(&format!(
            "{} of the {} split\n{}",
            text::pictures(comparison.pictures),
            comparison.split,
            comparison.table().text(columns())
        ))?;
        let differences = comparison.differences();
        if !differences.is_empty() {
            tell(&format!("\n{}", differences.text(columns())))?;
        }
        for sentence in comparison.sentences() {
            tell(&sentence)?;
        }
        for said in comparison.notes() {
            tell(&format!("note: {said}"))?;
        }
    }
    for path in written {
        note(&format!("written {}", shown(&path)));
    }
    Ok(Done::Success)
}
