//! The data set in this program: a stratified sample of Fashion-MNIST (Xiao et al. 2017, MIT licence).
//!
//! `datasets/fashion-mnist-sample/README.md` says how it was made.

use std::path::Path;

use super::idx;
use super::listing::Listing;
use super::packed::Packing;
use super::sample::SplitName;

macro_rules! bundled {
    ($name:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/datasets/fashion-mnist-sample/",
            $name
        ))
    };
}

/// Lists the bundled pictures: 10,000 for training and 2,000 for test, of 10 classes.
pub(super) fn fashion_mnist_sample() -> Listing {
    let unpack = |packed: &[u8]| {
        let unpacked = Packing::Gzip.unpack(Path::new("embedded"), packed);
        unpacked.expect("the bundled files are sound")
    };
    let parts = [
        (
            SplitName::Train,
            "train-images-idx3-ubyte",
            unpack(bundled!("train-images-idx3-ubyte.gz")),
            unpack(bundled!("train-labels-idx1-ubyte.gz")),
        ),
        (
            SplitName::Test,
            "t10k-images-idx3-ubyte",
            unpack(bundled!("t10k-images-idx3-ubyte.gz")),
            unpack(bundled!("t10k-labels-idx1-ubyte.gz")),
        ),
    ];
    idx::fashion_mnist(parts).expect("the bundled files are sound")
}

#[cfg(test)]
mod tests {
    use crate::data::sample::SplitName;
    use crate::data::source::Dataset;

    #[test]
    fn the_sample_is_stratified() {
        let dataset = Dataset::embedded();
        assert_eq!(dataset.classes.len(), 10);
        assert_eq!(dataset.classes[9], "Ankle boot");
        for (split, per_class) in [
            (SplitName::Train, 1000),
            (SplitName::Val, 0),
            (SplitName::Test, 200),
        ] {
            for label in 0..10 {
                let count = dataset
                    .given(split)
                    .iter()
                    .filter(|sample| sample.label == label)
                    .count();
                assert_eq!(count, per_class, "{split} of class {label}");
            }
        }
    }
}
