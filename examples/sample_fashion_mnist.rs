//! Makes the bundled data set: a stratified, seeded sample of Fashion-MNIST.
//!
//! `cargo run --release --example sample_fashion_mnist -- /usr/share/datasets/fashion-mnist datasets/fashion-mnist-sample`

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use flate2::{Compression, GzBuilder};
use vitrine::data::{Dataset, RawPicture, Sample, SplitName, Splits};

const SEED: u64 = 2017;
const PARTS: [(SplitName, &str, usize); 2] = [
    (SplitName::Train, "train", 10_000),
    (SplitName::Test, "t10k", 2_000),
];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = arguments.as_slice() else {
        bail!("expected two folders: Fashion-MNIST's IDX files, and the sample's")
    };
    let dataset = Dataset::open(Path::new(from))?;
    let to = Path::new(to);
    fs::create_dir_all(to)?;
    for (split, prefix, wanted) in PARTS {
        let given = dataset.given(split).to_vec();
        let fraction = wanted as f64 / given.len() as f64;
        let all = Splits {
            train: given,
            val: Vec::new(),
            test: Vec::new(),
            cut: Vec::new(),
            classes: dataset.classes.clone(),
        };
        let sample = all.fraction(fraction, SEED).train;
        write_pair(&dataset, &sample, to, prefix)?;
    }
    Ok(())
}

fn write_pair(dataset: &Dataset, sample: &[Sample], to: &Path, prefix: &str) -> anyhow::Result<()> {
    let mut pixels = Vec::new();
    let mut sizes = Vec::new();
    for picture in sample {
        let RawPicture::Pixels {
            width,
            height,
            data,
            ..
        } = dataset.read(picture)?
        else {
            bail!("not IDX pictures")
        };
        sizes = vec![sample.len() as u32, height, width];
        pixels.extend_from_slice(&data);
    }
    let labels: Vec<u8> = sample.iter().map(|picture| picture.label as u8).collect();
    write_idx(
        &to.join(format!("{prefix}-images-idx3-ubyte.gz")),
        &sizes,
        &pixels,
    )?;
    write_idx(
        &to.join(format!("{prefix}-labels-idx1-ubyte.gz")),
        &sizes[..1],
        &labels,
    )
}

/// The magic number's third byte says unsigned bytes, its fourth how many sizes follow.
fn write_idx(path: &Path, sizes: &[u32], payload: &[u8]) -> anyhow::Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut gz = GzBuilder::new().write(file, Compression::best());
    gz.write_all(&[0, 0, 8, sizes.len() as u8])?;
    for size in sizes {
        gz.write_all(&size.to_be_bytes())?;
    }
    gz.write_all(payload)?;
    gz.finish()?;
    Ok(())
}
