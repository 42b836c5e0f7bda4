//! The command line: arguments in, library calls, text out. The only floor that prints or exits.
//!
//! [`main`] parses the arguments and runs the file of the command. The flags of `train` that set a
//! recipe's keys are a table, `flags`; `advice` adds to an error what a user can do about it.

mod advice;
mod app;
mod calibrate;
mod classify;
mod compare;
mod completions;
mod data;
mod devices;
mod done;
mod embed;
mod eval;
mod export;
mod findings;
mod flags;
mod interrupt;
mod lists;
mod man;
mod named;
mod output;
mod plot;
mod progress;
mod shell;
mod train;
mod usage;
mod weights;
mod wrap;

pub use app::main;
