//! Weights as they are named on a command line.

use std::path::Path;

use crate::checkpoint::Shipped;
use crate::names::shown;

/// Refuses the name of weights that ship with vitrine if there is a file or folder of that name too.
pub(super) fn unambiguous(weights: &Path) -> anyhow::Result<()> {
    if Shipped::find(weights).is_some() && weights.exists() {
        let name = shown(weights);
        anyhow::bail!(
            "{name} is both the name of weights that ship with vitrine and a file or folder here; write ./{name} for the latter, or rename it"
        );
    }
    Ok(())
}
