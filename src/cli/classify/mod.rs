//! `vitrine classify`.

mod abstain;
mod args;
mod command;
pub(super) mod inputs;
pub(super) mod list;
mod pattern;
mod print;
pub(super) mod progress;
pub(super) mod sources;

pub(super) use args::ClassifyArgs;
pub(super) use command::run;
