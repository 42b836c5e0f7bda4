//! `vitrine classify`.

mod abstain;
mod args;
mod command;
mod inputs;
mod list;
mod pattern;
mod print;
mod progress;
mod sources;

pub(super) use args::ClassifyArgs;
pub(super) use command::run;
