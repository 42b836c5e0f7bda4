//! Weights on a hub, wherever weights are named.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::error::RunError;
use crate::hub::{self, Event, HubError, Repo, Settings, Snapshot, Want};
use crate::stop::Stop;

static LISTENER: OnceLock<fn(Event<'_>)> = OnceLock::new();

/// From now on whoever opens weights that have to be fetched first tells this function what arrives; only the
/// first call counts.
pub fn tell_of_fetches(listener: fn(Event<'_>)) {
    // A second listener would hear nothing new.
    let _ = LISTENER.set(listener);
}

/// The files of the repository that `weights` names, if it names one: from the cache, else fetched.
///
/// # Errors
///
/// [`RunError::Hub`].
pub(super) fn snapshot(weights: &Path) -> Result<Option<Snapshot>, RunError> {
    let Some(repo) = Repo::find(weights).map_err(HubError::from)? else {
        return Ok(None);
    };
    let settings = Settings::from_env()?;
    let mut listen = |event: Event<'_>| {
        if let Some(listener) = LISTENER.get() {
            listener(event);
        }
    };
    let stop = Stop::default();
    let snapshot = hub::open(&repo, &settings, Want::Cached, &stop, &mut listen)?;
    Ok(Some(snapshot))
}

/// Puts the commit behind a repository's name, so that it means the same weights from now on; other weights keep
/// their name.
///
/// # Errors
///
/// As for [`snapshot`].
pub(super) fn pin(weights: &mut Option<PathBuf>) -> Result<(), RunError> {
    if let Some(path) = weights
        && let Some(snapshot) = snapshot(path)?
    {
        *path = PathBuf::from(snapshot.repo.to_string());
    }
    Ok(())
}
