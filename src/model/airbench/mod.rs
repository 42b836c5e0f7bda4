//! The strong baseline for small pictures: the CNN of airbench (Jordan 2024).

mod config;
mod network;
mod whiten;

pub use config::AirbenchConfig;
pub use network::Airbench;
pub(crate) use network::LOGIT_SCALE;
