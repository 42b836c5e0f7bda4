//! What makes two trainings different.

use crate::recipe::Recipe;

/// A key that makes two trainings different, with both values: not where their data lies, nor weights
/// that they know by hash, nor how data is read.
pub(super) fn difference(a: &Recipe, b: &Recipe) -> Option<(String, String, String)> {
    let mut b = b.clone();
    if a.data.path.is_some() && b.data.path.is_some() {
        b.data.path.clone_from(&a.data.path);
    }
    if a.distillation.sha256.is_some() && a.distillation.sha256 == b.distillation.sha256 {
        b.distillation.teacher.clone_from(&a.distillation.teacher);
    }
    if a.init.sha256.is_some() && a.init.sha256 == b.init.sha256 {
        b.init.weights.clone_from(&a.init.weights);
    }
    (b.data.workers, b.data.cache_mb) = (a.data.workers, a.data.cache_mb);
    a.difference(&b)
}
