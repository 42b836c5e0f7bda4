//! The choice of a device, and how it is written.

use std::fmt;
use std::str::FromStr;

use super::backend::Backend;
use super::error::DeviceError;

/// The choice of a device; written as `auto`, `cpu`, `wgpu` or `cuda:1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The best hardware GPU that passes its check, else the processor.
    Auto,
    /// The adapter of a backend with this index; without an index, its best hardware adapter.
    Named(Backend, Option<usize>),
}

impl DeviceChoice {
    /// Every choice in words; `i` is an adapter's number.
    pub fn spellings() -> String {
        let mut names = vec!["auto".to_owned()];
        names.extend(Backend::ALL.into_iter().rev().map(|backend| match backend {
            Backend::Cpu => backend.name().to_owned(),
            _ => format!("{}[:i]", backend.name()),
        }));
        let last = names.pop().unwrap_or_default();
        format!("{} or {last}", names.join(", "))
    }
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let wrong = || DeviceError::Spelling {
            text: text.to_owned(),
            expected: Self::spellings(),
        };
        let (name, index) = match text.split_once(':') {
            Some((name, index)) => (name, Some(index.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let backend = Backend::ALL.into_iter().find(|b| b.name() == name);
        match (backend, index) {
            (Some(Backend::Cpu), Some(_)) | (None, _) => Err(wrong()),
            (Some(backend), index) => Ok(Self::Named(backend, index)),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Named(backend, None) => f.write_str(backend.name()),
            Self::Named(backend, Some(index)) => write!(f, "{}:{index}", backend.name()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn choices_read_back() {
        for text in [
            "auto", "cpu", "wgpu", "wgpu:1", "vulkan:0", "metal", "cuda:3", "rocm",
        ] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        for text in ["", "gpu", "cuda:", "cuda:x", "cpu:0", "wgpu:-1"] {
            assert_eq!(
                text.parse::<DeviceChoice>().unwrap_err().to_string(),
                format!(
                    "{text:?} is not a device: expected auto, cpu, wgpu[:i], vulkan[:i], metal[:i], rocm[:i] or cuda[:i]"
                )
            );
        }
    }
}
