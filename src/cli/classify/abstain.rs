//! `classify --abstain`: the confidence below which there is no answer.

use std::path::Path;

use anyhow::bail;

use crate::classify::{Classifier, Prediction};
use crate::cli::output::note;
use crate::cli::shell::quoted;
use crate::metrics::Threshold;
use crate::names::shown;
use crate::report::text;

/// Reads an error rate, `5%` or `0.05`.
pub(super) fn error_rate(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if number > 0.0 && number < scale => Ok(number / scale),
        _ => Err("expected a share of wrong answers such as 5% or 0.05, between 0 and 1".into()),
    }
}

/// The threshold for an error rate, which it prints.
pub(super) fn threshold(
    classifier: &Classifier,
    rate: f64,
    weights: &Path,
) -> anyhow::Result<Threshold> {
    // What is printed here comes from the weights file.
    classifier.verify()?;
    let Some(calibration) = classifier.calibration() else {
        bail!(
            "--abstain needs calibrated weights, and {} is not: run `vitrine calibrate {}` first",
            shown(weights),
            quoted(weights)
        );
    };
    // 0.07 × 100 is 7.000000000000001.
    let percent = (1e10 * rate).round() / 1e8;
    let pictures = calibration.pictures;
    let Some(row) = calibration.threshold(rate) else {
        bail!(
            "--abstain {percent}%: {pictures} validation pictures are too few to guarantee so few wrong answers at any confidence; accept more errors, or calibrate on more pictures"
        );
    };
    let elsewhere = match classifier.recognises_unknown() {
        true => ", and only some of them are called unlike anything it learned",
        false => "",
    };
    note(&format!(
        "not sure below {}: at most {percent}% of the answers wrong, with 95% confidence; {} of {pictures} validation pictures are answered ({}), {} of them wrong; pictures that show none of the classes are not covered{elsewhere}",
        text::percent(f64::from(row.confidence)),
        row.answered,
        text::percent(calibration.share(&row)),
        row.wrong,
    ));
    Ok(row)
}

/// Whether a picture gets no answer.
pub(super) fn not_sure(threshold: Option<Threshold>, predictions: &[Prediction]) -> bool {
    let confidence = predictions.first().map_or(f32::NAN, |best| best.prob);
    threshold.is_some_and(|threshold| !threshold.answers(confidence))
}
