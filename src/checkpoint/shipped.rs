//! Weights that ship inside the program; `assets/weights/README.md` says where they come from.

use std::path::Path;

use super::file::TensorFile;

/// Weights inside the program.
#[derive(Debug, Clone, Copy)]
pub struct Shipped {
    /// Their name, which stands for them wherever weights are read.
    pub name: &'static str,
    bytes: &'static [u8],
}

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        &[$(Shipped {
            name: $name,
            bytes: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/weights/", $name, ".safetensors")),
        }),*]
    };
}

/// All of them; the first one answers where nobody names weights.
pub const SHIPPED: &[Shipped] = shipped!["cifar10-vit", "cifar10-cnn"];

impl Shipped {
    /// Those of this name; a file or folder that happens to have it goes by `./NAME`, so that a
    /// recipe means the same wherever a run is continued.
    pub fn find(name: &Path) -> Option<&'static Self> {
        SHIPPED
            .iter()
            .find(|shipped| Path::new(shipped.name) == name)
    }

    /// All names, for messages.
    pub fn names() -> String {
        let names: Vec<_> = SHIPPED.iter().map(|shipped| shipped.name).collect();
        names.join(", ")
    }

    /// Their file.
    pub fn file(&self) -> TensorFile {
        TensorFile::embedded(self.name, self.bytes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::checkpoint::load;

    #[test]
    fn every_shipped_file_is_whole_small_calibrated_and_described() {
        let cards = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/assets/weights/README.md"
        ));
        for shipped in SHIPPED {
            let name = shipped.name;
            let checkpoint = load(&shipped.file(), &Device::flex()).unwrap();
            assert!(checkpoint.meta.calibration.is_some(), "{name}");
            assert!(shipped.bytes.len() <= 8_000_000, "{name}");
            let hash = shipped.file().sha256();
            assert!(
                cards.contains(&format!("## {name}\n")) && cards.contains(&hash),
                "{name} has no card with {hash}"
            );
            assert_eq!(Shipped::find(Path::new(name)).unwrap().name, name);
        }
        assert!(Shipped::find(Path::new("nothing-of-that-name")).is_none());
        assert!(Shipped::find(&Path::new(".").join(SHIPPED[0].name)).is_none());
    }
}
