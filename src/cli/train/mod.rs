//! `vitrine train`.

mod args;
mod command;
mod dry_run;
mod profile;
mod summary;

pub(super) use args::TrainArgs;
pub(super) use command::run;
