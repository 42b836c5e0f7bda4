//! How a command that did not fail ended.

/// How a command that did not fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// It did everything.
    Success,
    /// It did all it could and named what it could not.
    Partly,
    /// It was told to stop, and said what it leaves.
    Interrupted,
}
