//! `vitrine completions`.

use clap::{Args, Command};
use clap_complete::Shell;

use super::done::Done;
use super::output::say;

/// Print completions of commands and flags for a shell.
///
/// The shell reads them from a file: for bash `vitrine completions bash >
/// ~/.local/share/bash-completion/completions/vitrine`, for zsh a file `_vitrine` in a folder of
/// $fpath, for fish `~/.config/fish/completions/vitrine.fish`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// Shell.
    shell: Shell,
}

/// Runs the command; `program` is the whole command line.
pub(super) fn run(args: &CompletionsArgs, mut program: Command) -> anyhow::Result<Done> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "vitrine", &mut script);
    say(&String::from_utf8(script)?)?;
    Ok(Done::Success)
}
