//! The command line: arguments in, library calls, text out. The only floor that prints or exits.

mod advice;
mod calibrate;
mod classify;
mod compare;
mod data;
mod devices;
mod eval;
mod export;
mod interrupt;
mod plot;
mod progress;
mod train;

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use clap::{Parser, Subcommand};

use crate::checkpoint::Shipped;

/// Vision Transformer image classifier: train on your own pictures, classify, compare with a CNN.
#[derive(Debug, Parser)]
#[command(name = "vitrine", version = version(), arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    /// Threads to compute and decode on; without it, one a core.
    #[arg(long, global = true, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=4096))]
    threads: Option<u32>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
// One command is parsed in a lifetime: its size does not matter.
#[allow(clippy::large_enum_variant)]
enum Command {
    Train(Box<train::TrainArgs>),
    Eval(eval::EvalArgs),
    Calibrate(calibrate::CalibrateArgs),
    #[command(visible_alias = "predict")]
    Classify(classify::ClassifyArgs),
    Export(export::ExportArgs),
    Compare(compare::CompareArgs),
    Devices(devices::DevicesArgs),
    Data(data::DataArgs),
    Plot(plot::PlotArgs),
    #[command(name = "__probe", hide = true)]
    Probe(devices::ProbeArgs),
}

fn version() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("VITRINE_COMMIT"), ")")
}

/// How a command that did not fail ended.
enum Done {
    /// As asked.
    Success,
    /// It did all it could and named what it could not.
    Partly,
    /// Someone pressed Ctrl-C; the state is saved.
    Interrupted,
}

/// Parses the command line, runs the command, and turns what comes of it into an exit code:
/// 0 success, 1 failure, 2 usage, 130 interrupted.
pub fn main() -> u8 {
    let cli = Cli::parse();
    if matches!(&cli.command, Command::Classify(args) if args.are_few()) {
        crate::device::small_pages();
    }
    if let Ok(program) = std::env::current_exe() {
        crate::device::probe_with(program);
    }
    if let Some(threads) = cli.threads
        && let Err(error) = crate::device::set_threads(threads as usize)
    {
        note(&format!("error: --threads {threads}: {error}"));
        return 1;
    }
    let result = match cli.command {
        Command::Train(args) => train::run(*args),
        Command::Eval(args) => eval::run(args),
        Command::Calibrate(args) => calibrate::run(args),
        Command::Classify(args) => classify::run(args),
        Command::Export(args) => export::run(args),
        Command::Compare(args) => compare::run(args, cli.threads),
        Command::Devices(args) => devices::run(&args).map(|()| Done::Success),
        Command::Data(args) => data::run(args),
        Command::Plot(args) => plot::run(args),
        Command::Probe(args) => return devices::probe(&args),
    };
    match result {
        Ok(Done::Success) => 0,
        Ok(Done::Partly) => 1,
        Ok(Done::Interrupted) => 130,
        Err(error) if is_broken_pipe(&error) => 0,
        Err(error) => {
            note(&format!("error: {}", advice::message(&error)));
            1
        }
    }
}

/// A reader that went away, as `head` does, is no failure of ours.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// Writes a result to stdout.
fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Writes a message to stderr; a stderr that is closed is no reason to stop.
fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Refuses a name of weights that ship where there is a file or folder of that name too.
fn one_meaning(weights: &Path) -> anyhow::Result<()> {
    if Shipped::find(weights).is_some() && weights.exists() {
        let name = weights.display();
        anyhow::bail!(
            "{name}: weights that ship with vitrine have this name, and so has what lies here; write ./{name} for the latter, or rename it"
        );
    }
    Ok(())
}

/// A path as a shell reads it back.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain =
        |c: char| c.is_alphanumeric() || c == std::path::MAIN_SEPARATOR || "/._-+:@%,=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// Whether progress may redraw its line.
fn interactive() -> bool {
    io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_quoted_where_a_shell_would_read_another() {
        for (path, shown) in [
            ("runs/pets-vit_1.2/猫.png", "runs/pets-vit_1.2/猫.png"),
            ("my pets", "'my pets'"),
            ("~/pets", "'~/pets'"),
            ("a$b", "'a$b'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(Path::new(path)), shown);
        }
    }
}
