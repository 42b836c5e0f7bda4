//! How every floor says that a setting is wrong: its key, its value, what would be right.

use std::fmt::Display;
use std::ops::RangeInclusive;

use thiserror::Error;

/// A setting outside its range.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{key} is {found}: expected {expected}")]
pub struct Invalid {
    /// The key, dotted, such as `optimizer.lr`; a model's own fields have no section.
    pub key: String,
    /// Its value.
    pub found: String,
    /// What would be right.
    pub expected: String,
}

impl Invalid {
    /// `key` has the value `found`.
    pub(crate) fn new(key: &str, found: impl Display, expected: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            found: found.to_string(),
            expected: expected.into(),
        }
    }

    /// The same of a field of `section`. A quantity that follows from several settings, such as
    /// "the number of tokens", is the field of none.
    pub(crate) fn of_section(mut self, section: &str) -> Self {
        if !self.key.contains(' ') {
            self.key = format!("{section}.{}", self.key);
        }
        self
    }
}

/// Whether a field is left out of files: at its default, they stay as they were before there was such a field.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Whether `value` lies in `range`.
///
/// # Errors
///
/// [`Invalid`] where it does not, or is not a number.
pub(crate) fn within<T: PartialOrd + Display>(
    key: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), Invalid> {
    if range.contains(&value) {
        return Ok(());
    }
    let expected = format!("{} to {}", range.start(), range.end());
    Err(Invalid::new(key, value, expected))
}

/// Whether `value` lies between 0, which is allowed, and `limit`, which is not.
///
/// # Errors
///
/// As for [`within`].
pub(crate) fn below(key: &str, value: f64, limit: f64) -> Result<(), Invalid> {
    if (0.0..limit).contains(&value) {
        return Ok(());
    }
    Err(Invalid::new(key, value, format!("0 to below {limit}")))
}

/// Whether `value` is above 0 and at most `limit`.
///
/// # Errors
///
/// As for [`within`].
pub(crate) fn positive(key: &str, value: f64, limit: f64) -> Result<(), Invalid> {
    if value > 0.0 && value <= limit {
        return Ok(());
    }
    let expected = format!("more than 0, at most {limit}");
    Err(Invalid::new(key, value, expected))
}
