//! `vitrine plot`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Done, note, say};
use crate::compare::{self, Entry};
use crate::device::{self, DeviceChoice};
use crate::run::{self, RunDir};

/// Redraw the plots of runs.
///
/// Draws the plots of each run again, save `train_batch`; `predictions` needs its data for that, and is
/// left out where they are gone. Several runs also get one plot together.
#[derive(Debug, Args)]
pub struct PlotArgs {
    /// Run directories.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Picture format.
    #[arg(long, default_value = "png", value_name = "FORMAT")]
    format: Format,
    /// Where the plot of several runs together goes.
    #[arg(long, default_value = "compare", value_name = "STEM")]
    together: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Png,
    Svg,
}

/// Runs the command.
pub fn run(args: PlotArgs) -> anyhow::Result<Done> {
    let extension = match args.format {
        Format::Png => "png",
        Format::Svg => "svg",
    };
    let dirs = args
        .runs
        .iter()
        .map(|path| RunDir::open(path))
        .collect::<Result<Vec<_>, _>>()?;
    // Only the prediction grid asks the model again.
    let device = device::select(DeviceChoice::Auto)?;
    let mut written = Vec::new();
    let mut done = Done::Success;
    for dir in &dirs {
        let redrawn = run::redraw(dir, extension, &device)?;
        written.extend(redrawn.written);
        if let Some(why) = redrawn.without_predictions {
            note(&format!("{}: no predictions: {why}", dir.root().display()));
            done = Done::Partly;
        }
    }
    if dirs.len() > 1 {
        let path = args.together.with_extension(extension);
        let entries: Vec<Entry> = dirs
            .iter()
            .map(|dir| Entry {
                model: dir.root().display().to_string(),
                seed: 0,
                dir: dir.clone(),
            })
            .collect();
        compare::draw(&entries, &path)?;
        written.push(path);
    }
    for path in written {
        say(&path.display().to_string())?;
    }
    Ok(done)
}
