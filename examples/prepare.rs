//! Prepares pictures as weights of another project want them, and writes the tensors.
//!
//! `cargo run --release --example prepare -- (timm|transformers|torchvision) CONFIG PICTURES… > OUT`, where `CONFIG` is a
//! file with timm's `pretrained_cfg` or transformers' `preprocessor_config.json`, and `-` for torchvision. For each
//! picture, 3 × S × S numbers of 32 bits follow each other, with their lowest bytes first.
//! `tests/support/pictures/prepared.py` compares them with what the projects themselves prepare.

use std::borrow::Cow;
use std::io::Write;

use anyhow::{Context, bail};
use vitrine::data::{DecodeLimits, Preprocess, RawPicture};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let kind = arguments.next().context("expected a project")?;
    let config = arguments.next().context("expected a file")?;
    let read = || -> anyhow::Result<serde_json::Value> {
        let text = std::fs::read(&config).with_context(|| config.display().to_string())?;
        Ok(serde_json::from_slice(&text)?)
    };
    let preprocess = match kind.to_str() {
        Some("timm") => Preprocess::from_timm(&read()?)?,
        Some("transformers") => Preprocess::from_transformers(&read()?, "")?,
        Some("torchvision") => Preprocess::TORCHVISION,
        _ => bail!("expected timm, transformers or torchvision"),
    };
    let mut out = std::io::stdout().lock();
    let mut values = vec![0.0; 3 * preprocess.image_size * preprocess.image_size];
    for path in arguments {
        let name = || path.display().to_string();
        let bytes = std::fs::read(&path).with_context(name)?;
        let raw = RawPicture::Encoded(Cow::Owned(bytes));
        let picture = preprocess
            .decode(&raw, &DecodeLimits::default())
            .with_context(name)?;
        preprocess.normalise_into(picture.as_raw(), &mut values);
        for value in &values {
            out.write_all(&value.to_le_bytes())?;
        }
    }
    Ok(())
}
