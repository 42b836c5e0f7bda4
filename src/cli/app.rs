//! The program: parses the command line, runs the command, and returns its exit code.

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use super::advice;
use super::calibrate::{self, CalibrateArgs};
use super::classify::{self, ClassifyArgs};
use super::compare::{self, CompareArgs};
use super::data::{self, DataArgs};
use super::devices::{self, DevicesArgs, ProbeArgs};
use super::done::Done;
use super::eval::{self, EvalArgs};
use super::export::{self, ExportArgs};
use super::flags::Settings;
use super::output::{is_broken_pipe, note};
use super::plot::{self, PlotArgs};
use super::shell::quoted;
use super::train::{self, TrainArgs};
use crate::device;
use crate::names::{printable, shown};

/// Vision Transformer image classifier: train on your own pictures, classify, compare with a CNN.
#[derive(Debug, Parser)]
#[command(name = "vitrine", version = version(), arg_required_else_help = true, max_term_width = 100)]
// Aliases and scripts put their flags first: what is typed after them wins.
#[command(args_override_self = true)]
struct Cli {
    /// Threads to compute and decode on; default: one per core.
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
    Export(ExportArgs),
    Compare(CompareArgs),
    Devices(DevicesArgs),
    Data(DataArgs),
    Plot(PlotArgs),
    #[command(name = "__probe", hide = true)]
    Probe(ProbeArgs),
}

fn version() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("VITRINE_COMMIT"), ")")
}

/// Prints what is wrong with the command line, or the help or version that was asked for.
fn misused(error: &clap::Error) -> u8 {
    let arguments = || std::env::args_os().skip(1);
    let mut tips = Vec::new();
    if error.kind() == ErrorKind::InvalidUtf8 {
        let odd = arguments().filter(|argument| argument.to_str().is_none());
        let odd: Vec<String> = odd.map(shown).collect();
        tips.push(format!(
            "only paths may hold bytes that are not UTF-8; found {}",
            odd.join(", ")
        ));
    }
    let is_taken_for_flag = |argument: &OsString| {
        argument.as_encoded_bytes().starts_with(b"-") && Path::new(argument).exists()
    };
    if error.kind() == ErrorKind::UnknownArgument
        && let Some(path) = arguments().find(is_taken_for_flag)
    {
        let path = quoted(Path::new(&path));
        tips.push(format!("for the file or folder of that name write {path}"));
    }
    let text = error.to_string();
    if tips.is_empty() && printable(&text) == text {
        // With colours, and help on stdout.
        let _ = error.print();
    } else {
        note(text.trim_end());
        for tip in tips {
            note(&format!("  tip: {tip}"));
        }
    }
    // Of clap: 0 for help, 2 for wrong usage.
    error.exit_code() as u8
}

/// Parses the command line, runs the command, and turns what comes of it into an exit code:
/// 0 success, 1 failure, 2 usage, 130 interrupted.
pub fn main() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    if matches!(&cli.command, Command::Classify(args) if args.are_few()) {
        device::disable_huge_pages();
    }
    if let Ok(program) = std::env::current_exe() {
        device::probe_with(program);
    }
    if let Some(threads) = cli.threads
        && let Err(error) = device::set_threads(threads as usize)
    {
        note(&format!("error: --threads {threads}: {error}"));
        return 1;
    }
    let settings = match &cli.command {
        Command::Train(args) => args.settings.clone(),
        Command::Eval(args) if args.strict => Settings::of([("data.strict", true.into())]),
        _ => Settings::default(),
    };
    let result = match cli.command {
        Command::Train(args) => train::run(&args),
        Command::Eval(args) => eval::run(args),
        Command::Calibrate(args) => calibrate::run(args),
        Command::Classify(args) => classify::run(args),
        Command::Export(args) => export::run(args),
        Command::Compare(args) => compare::run(&args, cli.threads),
        Command::Devices(args) => devices::run(&args).map(|()| Done::Success),
        Command::Data(args) => data::run(args),
        Command::Plot(args) => plot::run(args),
        Command::Probe(args) => return devices::probe(&args),
    };
    match result {
        Ok(done) => done.code(),
        Err(error) if is_broken_pipe(&error) => 0,
        Err(error) => {
            note(&format!("error: {}", advice::message(&error, &settings)));
            1
        }
    }
}
