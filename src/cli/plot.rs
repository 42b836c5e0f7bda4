//! `vitrine plot`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::done::Done;
use super::interrupt;
use super::output::{note, say};
use crate::compare::{self, Entry};
use crate::device::{self, DeviceChoice};
use crate::names::{self, shown};
use crate::run::{self, RunDir};

/// Redraw the plots of runs.
///
/// Redraws all plots of each run except `train_batch`. `predictions` needs the data of the run and is
/// left out if it is gone. Several runs also get one plot together.
#[derive(Debug, Args)]
pub(super) struct PlotArgs {
    /// Run directories.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Picture format.
    #[arg(long, default_value = "png", value_name = "FORMAT")]
    format: Format,
    /// File of the plot of several runs together, without its ending.
    #[arg(long, default_value = "compare", value_name = "STEM")]
    together: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Png,
    Svg,
}

/// Runs the command.
pub(super) fn run(args: PlotArgs) -> anyhow::Result<Done> {
    interrupt::nothing_to_save(
        "stopped; each plot is drawn anew or as it was; the same command draws all",
    );
    let extension = match args.format {
        Format::Png => "png",
        Format::Svg => "svg",
    };
    let dirs = args
        .runs
        .iter()
        .map(|path| RunDir::open(path))
        .collect::<Result<Vec<_>, _>>()?;
    // Only the prediction grid runs the model.
    let device = device::select(DeviceChoice::Auto)?;
    let mut written = Vec::new();
    let mut done = Done::Success;
    for dir in &dirs {
        let redrawn = run::redraw(dir, extension, &device)?;
        written.extend(redrawn.written);
        if let Some(why) = redrawn.without_predictions {
            note(&format!("{}: no predictions: {why}", shown(dir.root())));
            done = Done::Partly;
        }
    }
    if dirs.len() > 1 {
        let path = args.together.with_extension(extension);
        let entries: Vec<Entry> = dirs
            .iter()
            .map(|dir| Entry {
                model: names::text(dir.root()),
                seed: 0,
                is_seedless: false,
                dir: dir.clone(),
            })
            .collect();
        compare::draw(&entries, &path)?;
        written.push(path);
    }
    for path in written {
        say(&shown(&path))?;
    }
    Ok(done)
}
