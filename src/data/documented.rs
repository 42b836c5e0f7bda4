//! `docs/security.md` states the limits that hold.

use super::decode::DecodeLimits;
use super::preprocess::MAX_IMAGE_SIZE;
use super::{budget, decode, encoded, files, parquet};

const DOCUMENT: &str = include_str!("../../docs/security.md");

/// What the table of the document states for `what`.
fn stated(what: &str) -> &'static str {
    let row = DOCUMENT.lines().find_map(|line| {
        let (name, limit) = line
            .strip_prefix("| ")?
            .strip_suffix(" |")?
            .split_once(" | ")?;
        name.starts_with(what).then_some(limit)
    });
    row.unwrap_or_else(|| panic!("docs/security.md has no row on {what}"))
}

#[test]
fn the_document_states_the_limits_that_hold() {
    let limits = DecodeLimits::default();
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let rows = [
        ("stored bytes of all", mib(budget::ENCODED)),
        ("pixels of all", mib(budget::DECODED)),
        (
            "pixels of one",
            format!("{} megapixels", limits.max_pixels / 1_000_000),
        ),
        ("one picture in its own", mib(limits.max_bytes)),
        ("read of what", mib(encoded::MAX_UNRECOGNISED)),
        (
            "what a compressed archive",
            format!(
                "{} times its size and {} more",
                budget::RATIO,
                mib(budget::SLACK)
            ),
        ),
        ("all that is unpacked", mib(budget::KEPT)),
        ("cache of row groups", mib(parquet::CACHE_BYTES as u64)),
        (
            "rows of a Parquet",
            format!(
                "{}, or one for {} bytes of it",
                parquet::ROWS,
                parquet::SMALLEST
            ),
        ),
        ("different labels", parquet::MOST_CLASSES.to_string()),
        (
            "a class name in a Parquet",
            format!("{} bytes", parquet::LONGEST_NAME),
        ),
        ("a list of class names", mib(files::LONGEST_LIST)),
        (
            "directories of a TIFF",
            format!("{} and {}", decode::MOST_DIRECTORIES, decode::MOST_ENTRIES),
        ),
        ("JPEGs that a TIFF", decode::MOST_JPEGS.to_string()),
        ("side of a model's", format!("{MAX_IMAGE_SIZE} pixels")),
    ];
    for (what, limit) in rows {
        assert_eq!(stated(what), limit, "{what}");
    }
}
