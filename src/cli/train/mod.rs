//! `vitrine train`.

mod args;
mod chosen;
mod command;
mod dry_run;
mod profile;
mod summary;

pub(super) use args::TrainArgs;
pub(super) use command::run;
