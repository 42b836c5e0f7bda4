//! `vitrine plot`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Done, say};
use crate::compare::{self, Entry};
use crate::device::{self, DeviceChoice};
use crate::run::{self, RunDir};

/// Redraw the plots of runs.
///
/// Draws the plots of each run again, save `train_batch`; `predictions` needs its data for that.
/// Several runs also get one plot together.
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
    for dir in &dirs {
        written.extend(run::redraw(dir, extension, &device)?);
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
    Ok(Done::Success)
}
