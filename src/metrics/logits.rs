//! Logits → probabilities and answers.

/// Softmax of one row `[K]`, in f64, without overflow for large logits; NaN gives NaN.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f64> = logits.iter().map(|&z| f64::from(z - max).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.into_iter().map(|e| e / sum).collect()
}

/// Index of the largest logit, the first of equals; `None` where one is not finite.
pub(super) fn argmax(logits: &[f32]) -> Option<usize> {
    if logits.iter().any(|z| !z.is_finite()) {
        return None;
    }
    (0..logits.len())
        .rev()
        .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
}

/// Whether each answer is right; an answer with a logit that is not finite is wrong.
///
/// # Shapes
///
/// `logits`: row-major `[n, K]`; `labels` and the result: `[n]`.
pub fn correct(logits: &[f32], labels: &[usize]) -> Vec<bool> {
    let classes = logits.len() / labels.len().max(1);
    logits
        .chunks(classes.max(1))
        .zip(labels)
        .map(|(row, &label)| argmax(row) == Some(label))
        .collect()
}
