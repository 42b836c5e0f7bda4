//! `vitrine weights`: what there is, and fetching it.

use clap::{Args, Subcommand};
use serde_json::json;

use super::fetching::{licence, megabytes, tell_of};
use super::show::{self, ShowArgs};
use crate::cli::done::Done;
use crate::cli::output::{columns, note, say, tell};
use crate::cli::shell::program;
use crate::hub::{self, Cached, KNOWN, Repo, Settings, Snapshot, Want};
use crate::names::{self, shown};
use crate::report::text::Table;
use crate::stop::Stop;

/// List, show and fetch pretrained weights.
#[derive(Debug, Args)]
pub(in crate::cli) struct WeightsArgs {
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
    /// Show what weights are: architecture, input, classes, and what becomes of each tensor.
    Show(ShowArgs),
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
pub(in crate::cli) fn run(args: WeightsArgs) -> anyhow::Result<Done> {
    match args.command {
        WeightsCommand::List { cached, json } => list(cached, json),
        WeightsCommand::Show(args) => show::run(args),
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
    let snapshot = hub::open(&repo, &settings, Want::Latest, &stop, &mut tell_of)?;
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
