//! `vitrine weights`, and what is said while weights are fetched.

mod command;
pub(super) mod fetching;
mod show;

pub(super) use command::{WeightsArgs, run};
pub(super) use fetching::tell_of;
