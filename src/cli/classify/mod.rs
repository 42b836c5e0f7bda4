//! `vitrine classify`.

mod abstain;
mod args;
mod command;
mod inputs;
mod print;

pub(super) use args::ClassifyArgs;
pub(super) use command::run;
