//! Weights of other people: repositories on a hub that answers as huggingface.co does, in the cache that
//! Python's `huggingface_hub` keeps, so that nothing is fetched twice by either.
//!
//! This room knows files and a network, and no model: [`open`] returns a folder that holds what a repository has
//! of a model's configuration and weights.

mod cache;
mod card;
mod client;
mod error;
mod event;
mod fetch;
mod index;
mod known;
mod listing;
mod open;
mod repo;
mod settings;

pub use error::HubError;
pub use event::{Event, Snapshot};
pub use known::{KNOWN, Known};
pub use listing::{Cached, cached};
pub use open::{Want, open};
pub use repo::{NoRepoName, Repo};
pub use settings::Settings;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
