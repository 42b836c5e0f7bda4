//! `vitrine man`.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command};
use clap_mangen::Man;

use super::done::Done;
use super::output::say;
use crate::run;

/// Print the manual page, or write the pages of all commands.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Folder for the pages, such as ~/.local/share/man/man1: vitrine.1, vitrine-train.1, …
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the command; `program` is the whole command line.
pub(super) fn run(args: &ManArgs, mut program: Command) -> anyhow::Result<Done> {
    // Gives every command its full name, such as vitrine-data-info.
    program.build();
    let Some(folder) = &args.out else {
        say(&page(&program)?)?;
        return Ok(Done::Success);
    };
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make {}, which --out names", folder.display()))?;
    let mut commands = vec![&program];
    while let Some(command) = commands.pop() {
        let name = command.get_display_name().unwrap_or(command.get_name());
        let path = folder.join(format!("{name}.1"));
        run::write(&path, page(command)?.as_bytes())?;
        say(&path.display().to_string())?;
        let inner = command.get_subcommands();
        commands.extend(inner.filter(|inner| !inner.is_hide_set() && inner.get_name() != "help"));
    }
    Ok(Done::Success)
}

fn page(command: &Command) -> anyhow::Result<String> {
    let mut text = Vec::new();
    Man::new(command.clone()).render(&mut text)?;
    // Not every formatter reads UTF-8; all know this escape.
    let ascii = |letter: char| match letter.is_ascii() {
        true => letter.to_string(),
        false => format!("\\[u{:04X}]", u32::from(letter)),
    };
    Ok(String::from_utf8(text)?.chars().map(ascii).collect())
}
