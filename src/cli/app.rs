//! The program: parses the command line, runs the command, and returns its exit code.

use std::ffi::OsString;

use clap::{CommandFactory, Parser, Subcommand};

use super::advice;
use super::calibrate::{self, CalibrateArgs};
use super::classify::{self, ClassifyArgs};
use super::compare::{self, CompareArgs};
use super::completions::{self, CompletionsArgs};
use super::data::{self, DataArgs};
use super::devices::{self, DevicesArgs};
use super::done::Done;
use super::embed::{self, EmbedArgs};
use super::eval::{self, EvalArgs};
use super::export::{self, ExportArgs};
use super::flags::Settings;
use super::interrupt;
use super::man::{self, ManArgs};
use super::output::{is_broken_pipe, note};
use super::plot::{self, PlotArgs};
use super::train::{self, TrainArgs};
use super::usage;
use super::weights::{self, WeightsArgs};
use crate::device::{self, PROBE_COMMAND};
use crate::ops::precision::check_instructions;
use crate::run;

/// Vision Transformer image classifier: train on your own pictures, classify, compare with a CNN.
#[derive(Debug, Parser)]
#[command(name = "vitrine", version = version(), arg_required_else_help = true, max_term_width = 100)]
// Aliases and scripts put their flags first: what is typed after them wins.
#[command(args_override_self = true)]
struct Cli {
    /// Threads to compute on, and as many to decode on; default: one per core.
    #[arg(long, global = true, display_order = 900, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=4096))]
    threads: Option<u32>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
// One command is parsed in a lifetime: its size does not matter.
#[allow(clippy::large_enum_variant)]
enum Command {
    Train(TrainArgs),
    Eval(EvalArgs),
    Calibrate(CalibrateArgs),
    #[command(visible_alias = "predict")]
    Classify(ClassifyArgs),
    Embed(EmbedArgs),
    Export(ExportArgs),
    Compare(CompareArgs),
    Devices(DevicesArgs),
    Data(DataArgs),
    Weights(WeightsArgs),
    Plot(PlotArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

fn version() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("VITRINE_COMMIT"), ")")
}

/// Parses the command line, runs the command, and turns what comes of it into an exit code:
/// 0 success, 1 failure, 2 usage, 130 interrupted by Ctrl-C, 143 by SIGTERM.
pub fn main() -> u8 {
    let words: Vec<OsString> = std::env::args_os().collect();
    // Not a command of clap's: completions and manual pages would show it.
    if let [_, command, device] = words.as_slice()
        && command == PROBE_COMMAND
    {
        return devices::probe(device);
    }
    let cli = match Cli::try_parse_from(&words) {
        Ok(cli) => cli,
        Err(error) => return usage::refuse(error, &Cli::command(), &words),
    };
    if let Err(error) = check_instructions() {
        note(&format!("error: {error}"));
        return 2;
    }
    if let Err(error) = interrupt::listen("stopped; nothing was written") {
        note(&format!("error: cannot wait for Ctrl-C: {error}"));
        return 1;
    }
    if matches!(&cli.command, Command::Classify(args) if args.are_few()) {
        device::disable_huge_pages();
    }
    if let Ok(program) = std::env::current_exe() {
        device::probe_with(program);
    }
    run::tell_of_fetches(weights::tell_of);
    if let Some(threads) = cli.threads
        && let Err(error) = device::set_threads(threads as usize)
    {
        note(&format!("error: --threads {threads}: {error}"));
        return 1;
    }
    let settings = match &cli.command {
        Command::Train(args) => args.settings.clone(),
        Command::Eval(args) => Settings::of_data(args.data.as_deref(), args.strict),
        Command::Calibrate(args) => Settings::of_data(args.data.as_deref(), false),
        Command::Embed(args) => Settings::of_data(args.data.as_deref(), args.strict),
        Command::Compare(args) => Settings::of_data(args.data.as_deref(), false),
        _ => Settings::default(),
    };
    let result = match cli.command {
        Command::Train(args) => train::run(&args),
        Command::Eval(args) => eval::run(args),
        Command::Calibrate(args) => calibrate::run(args),
        Command::Classify(args) => classify::run(args),
        Command::Embed(args) => embed::run(args),
        Command::Export(args) => export::run(args),
        Command::Compare(args) => compare::run(&args, cli.threads),
        Command::Devices(args) => devices::run(&args).map(|()| Done::Success),
        Command::Data(args) => data::run(args),
        Command::Weights(args) => weights::run(args),
        Command::Plot(args) => plot::run(args),
        Command::Completions(args) => completions::run(&args, Cli::command()),
        Command::Man(args) => man::run(&args, Cli::command()),
    };
    match result {
        Ok(Done::Success) => 0,
        Ok(Done::Partly) => 1,
        Ok(Done::Interrupted) => interrupt::code(),
        Err(error) if is_broken_pipe(&error) => 0,
        Err(error) => {
            note(&format!("error: {}", advice::message(&error, &settings)));
            1
        }
    }
}
