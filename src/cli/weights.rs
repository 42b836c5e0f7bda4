//! `vitrine weights`, and what is said while weights are fetched.

use std::sync::{Mutex, PoisonError};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::done::Done;
use super::interrupt;
use super::output::{columns, interactive, note, say, tell};
use super::shell::program;
use crate::hub::{self, Cached, Event, KNOWN, Repo, Settings, Snapshot, Want};
use crate::names::{self, shown};
use crate::report::text::{self, Table};
use crate::stop::Stop;

/// List and fetch pretrained weights.
#[derive(Debug, Args)]
pub(super) struct WeightsArgs {
    #[command(subcommand)]
    command: WeightsCommand,
}

#[derive(Debug, Subcommand)]
enum WeightsCommand {
    /// List names worth starting from, and which of them are here; asks nobody.
    List {
        /// List everything in the cache instead.
        #[arg(long)]
        cached: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Fetch a repository's weights into the cache that Python's tools use, too, or bring them up to date.
    Fetch {
        /// Repository: hf:OWNER/NAME, or hf:OWNER/NAME@REVISION for a branch, tag or commit.
        #[arg(value_name = "REPOSITORY")]
        name: String,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
pub(super) fn run(args: WeightsArgs) -> anyhow::Result<Done> {
    match args.command {
        WeightsCommand::List { cached, json } => list(cached, json),
        WeightsCommand::Fetch { name, json } => fetch(&name, json),
    }
}

fn list(only_cached: bool, as_json: bool) -> anyhow::Result<Done> {
    let settings = Settings::from_env()?;
    let cached = hub::cached(settings.cache())?;
    match (only_cached, as_json) {
        (true, true) => {
            say(&json!(cached.iter().map(cached_json).collect::<Vec<_>>()).to_string())?
        }
        (true, false) => list_cached(&settings, &cached)?,
        (false, true) => say(&known_json(&cached).to_string())?,
        (false, false) => list_known(&cached)?,
    }
    Ok(Done::Success)
}

fn list_known(cached: &[Cached]) -> anyhow::Result<()> {
    let mut table = Table::new(&[
        "name",
        "parameters",
        "pixels",
        "ImageNet top-1",
        "licence",
        "trained by, on",
        "here",
    ]);
    for known in KNOWN {
        table.row(vec![
            format!("hf:{}", known.id),
            format!("{:.1} M", known.parameters_m),
            known.image_size.to_string(),
            known
                .top1
                .map_or_else(|| "–".to_owned(), |top1| format!("{:.1} %", 100.0 * top1)),
            known.licence.to_owned(),
            known.source.to_owned(),
            is_here(known.id, cached).map_or("", |()| "yes").to_owned(),
        ]);
    }
    say(&table.text(columns()))?;
    note(&format!(
        "start from one with: {} train --data DATA --init {}",
        program(),
        format_args!("hf:{}", KNOWN[0].id)
    ));
    Ok(())
}

/// Whether the cache has weights of a repository.
fn is_here(id: &str, cached: &[Cached]) -> Option<()> {
    let has = |cached: &Cached| cached.id == id && cached.has_weights;
    cached.iter().any(has).then_some(())
}

fn known_json(cached: &[Cached]) -> serde_json::Value {
    let known = KNOWN.iter().map(|known| {
        json!({
            "name": format!("hf:{}", known.id),
            "source": known.source,
            "parameters_m": known.parameters_m,
            "image_size": known.image_size,
            "imagenet_top1": known.top1,
            "licence": known.licence,
            "cached": is_here(known.id, cached).is_some(),
        })
    });
    json!(known.collect::<Vec<_>>())
}

fn list_cached(settings: &Settings, cached: &[Cached]) -> anyhow::Result<()> {
    if cached.is_empty() {
        tell(&format!("no models in {}", shown(settings.cache())))?;
        return Ok(());
    }
    let mut table = Table::new(&["name", "revision", "commit", "files", "size", "safetensors"]);
    for cached in cached {
        table.row(vec![
            format!("hf:{}", cached.id),
            cached.revisions.join(", "),
            cached.commit.chars().take(12).collect(),
            cached.files.to_string(),
            megabytes(cached.bytes),
            if cached.has_weights { "yes" } else { "no" }.to_owned(),
        ]);
    }
    say(&table.text(columns()))?;
    tell(&format!("in {}", shown(settings.cache())))?;
    Ok(())
}

fn cached_json(cached: &Cached) -> serde_json::Value {
    json!({
        "name": format!("hf:{}", cached.id),
        "commit": cached.commit,
        "revisions": cached.revisions,
        "files": cached.files,
        "bytes": cached.bytes,
        "has_safetensors": cached.has_weights,
        "folder": names::text(&cached.folder),
    })
}

fn fetch(name: &str, as_json: bool) -> anyhow::Result<Done> {
    let repo = Repo::parse(name)?;
    let settings = Settings::from_env()?;
    let stop = Stop::default();
    let snapshot = hub::open(&repo, &settings, Want::Latest, &stop, &mut show)?;
    if as_json {
        say(&snapshot_json(&snapshot).to_string())?;
        return Ok(Done::Success);
    }
    let mut table = Table::new(&["file", "size"]);
    for (name, bytes) in &snapshot.files {
        table.row(vec![name.clone(), megabytes(*bytes)]);
    }
    say(&table.text(columns()))?;
    tell(&format!("{}, {}", snapshot.repo, licence(&snapshot)))?;
    tell(&format!("in {}", shown(&snapshot.folder)))?;
    note(&format!(
        "start from it with: {} train --data DATA --init {repo}",
        program()
    ));
    Ok(Done::Success)
}

fn snapshot_json(snapshot: &Snapshot) -> serde_json::Value {
    let files = snapshot.files.iter();
    json!({
        "name": snapshot.repo.to_string(),
        "commit": snapshot.commit,
        "folder": names::text(&snapshot.folder),
        "licence": snapshot.licence,
        "files": files
            .map(|(name, bytes)| json!({ "name": name, "bytes": bytes }))
            .collect::<Vec<_>>(),
        "fetched_bytes": snapshot.fetched,
    })
}

fn licence(snapshot: &Snapshot) -> String {
    match &snapshot.licence {
        Some(licence) => format!("licence {licence}"),
        None => "whose card states no licence".to_owned(),
    }
}

fn megabytes(bytes: u64) -> String {
    match bytes {
        0..100_000 => format!("{} bytes", text::count(bytes)),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// The bar of the file that is being fetched, with the file's name.
static BAR: Mutex<Option<(String, ProgressBar)>> = Mutex::new(None);

/// Says what is fetched, whichever command needs it.
pub(super) fn show(event: Event<'_>) {
    let mut shown = BAR.lock().unwrap_or_else(PoisonError::into_inner);
    match event {
        Event::Arrived {
            repo,
            file,
            bytes,
            of,
        } => {
            interrupt::nothing_to_save(
                "stopped; what has arrived stays in the cache: the same command continues from there",
            );
            let is_new = shown.as_ref().is_none_or(|(known, _)| known != file);
            if is_new {
                if let Some((_, bar)) = shown.take() {
                    bar.finish_and_clear();
                }
                let size = of.map_or_else(String::new, |of| format!(", {}", megabytes(of)));
                let bar = match interactive() {
                    true => bar(of),
                    false => {
                        note(&format!("fetching {file} of {repo}{size}"));
                        ProgressBar::hidden()
                    }
                };
                bar.set_message(file.to_owned());
                *shown = Some((file.to_owned(), bar));
            }
            if let Some((_, bar)) = &*shown {
                bar.set_position(bytes);
            }
        }
        Event::Waits { repo, file } => {
            note(&format!(
                "another process fetches {file} of {repo}: waiting for it"
            ));
        }
        Event::Fetched(snapshot) => {
            if let Some((_, bar)) = shown.take() {
                bar.finish_and_clear();
            }
            note(&format!(
                "fetched {} of {}, {}",
                megabytes(snapshot.fetched),
                snapshot.repo,
                licence(snapshot)
            ));
            interrupt::nothing_to_save(
                "stopped; nothing was written: the same command begins again",
            );
        }
    }
}

fn bar(bytes: Option<u64>) -> ProgressBar {
    let bar = match bytes {
        Some(bytes) => ProgressBar::new(bytes),
        None => ProgressBar::no_length(),
    };
    let template = "{msg} [{wide_bar}] {bytes}/{total_bytes}, {bytes_per_sec}, ETA {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
