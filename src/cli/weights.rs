//! Weights as they are named on a command line.

use std::path::Path;

use crate::checkpoint::Shipped;

/// Refuses the name of weights that ship with vitrine if there is a file or folder of that name too.
pub(super) fn unambiguous(weights: &Path) -> anyhow::Result<()> {
    if Shipped::find(weights).is_some() && weights.exists() {
        let name = weights.display();
        anyhow::bail!(
            "{name}: weights that ship with vitrine have this name, and so has what lies here; write ./{name} for the latter, or rename it"
        );
    }
    Ok(())
}
