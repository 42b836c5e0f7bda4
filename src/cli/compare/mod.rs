//! `vitrine compare`.

mod args;
mod command;
mod difference;
mod dry_run;
mod finished;
mod plan;
mod train;
mod training;

pub(super) use args::CompareArgs;
pub(super) use command::run;
