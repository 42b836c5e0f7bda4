//! The answers of `classify` as text, JSON and CSV.

use super::abstain::not_sure;
use crate::classify::Prediction;
use crate::metrics::Threshold;
use crate::names::visible;
use crate::report::text;

/// The answer below the threshold of `--abstain`.
const NOT_SURE: &str = "not sure";

/// The answers as text.
pub(super) fn plain(results: &[(String, Vec<Prediction>)], threshold: Option<Threshold>) -> String {
    let mut out = String::new();
    for (file, predictions) in results {
        out += &visible(file);
        out.push('\n');
        if not_sure(threshold, predictions) {
            out += &format!("  {NOT_SURE}\n");
        }
        for p in predictions {
            out += &format!(
                "  {:>8}  {}\n",
                text::percent(f64::from(p.score)),
                visible(&p.label)
            );
        }
    }
    out
}

/// The answers as a JSON array.
pub(super) fn json(results: &[(String, Vec<Prediction>)], threshold: Option<Threshold>) -> String {
    let list: Vec<_> = results
        .iter()
        .map(|(file, predictions)| {
            let mut one = serde_json::json!({ "file": file, "predictions": predictions });
            if let Some(row) = threshold {
                one["not_sure"] = not_sure(threshold, predictions).into();
                one["threshold"] = row.confidence.into();
            }
            one
        })
        .collect();
    serde_json::Value::Array(list).to_string()
}

/// The answers as CSV. "Not sure" is one row without an index; its `prob` is the confidence that was
/// too low.
pub(super) fn csv(
    results: &[(String, Vec<Prediction>)],
    threshold: Option<Threshold>,
) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["filename", "index", "label", "prob"])?;
    for (file, predictions) in results {
        if not_sure(threshold, predictions) {
            let prob = predictions.first().map(|p| format!("{:.6}", p.score));
            let prob = prob.unwrap_or_default();
            writer.write_record([file.as_str(), "", NOT_SURE, &prob])?;
            continue;
        }
        for p in predictions {
            let (index, prob) = (p.index.to_string(), format!("{:.6}", p.score));
            writer.write_record([file.as_str(), &index, &p.label, &prob])?;
        }
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}
