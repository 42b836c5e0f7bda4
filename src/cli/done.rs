//! How a command that did not fail ended.

/// How a command that did not fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// It did everything.
    Success,
    /// It did all it could and named what it could not.
    Partly,
    /// Someone pressed Ctrl-C; the state is saved.
    Interrupted,
}

impl Done {
    /// The exit code.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Partly => 1,
            Self::Interrupted => 130,
        }
    }
}
