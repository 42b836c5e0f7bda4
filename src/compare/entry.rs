//! What is compared.

use crate::run::RunDir;

/// One finished run in a comparison.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The name of its row: the model's, or the run's. Runs of one name are seeds of one model.
    pub model: String,
    /// Its seed.
    pub seed: u64,
    /// Whether its seed changes nothing, as that of a probe.
    pub is_seedless: bool,
    /// Its directory.
    pub dir: RunDir,
}
