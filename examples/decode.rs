//! Decodes pictures as a training sees them: size and mean of each channel, or why not.
//!
//! `cargo run --release --example decode -- [--out FOLDER] PICTURES…`; with `--out`, what was decoded is written
//! to `FOLDER/NAME.png`.
#![allow(clippy::print_stdout)]

use std::borrow::Cow;
use std::path::PathBuf;

use anyhow::Context;
use vitrine::data::{DecodeLimits, RawPicture, decode};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let out = arguments
        .next_if(|argument| argument == "--out")
        .map(|_| arguments.next().context("expected a folder"))
        .transpose()?
        .map(PathBuf::from);
    for path in arguments.map(PathBuf::from) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let picture = match decode(
            &RawPicture::Encoded(Cow::Owned(bytes)),
            &DecodeLimits::default(),
        ) {
            Ok(picture) => picture,
            Err(error) => {
                println!("{name}\tnot decoded\t{error}");
                continue;
            }
        };
        let (width, height) = picture.dimensions();
        let mut sum = [0u64; 3];
        for pixel in picture.pixels() {
            (0..3).for_each(|c| sum[c] += u64::from(pixel.0[c]));
        }
        let mean = sum.map(|sum| sum as f64 / (f64::from(width) * f64::from(height)));
        println!(
            "{name}\t{width}x{height}\t{:.1} {:.1} {:.1}",
            mean[0], mean[1], mean[2]
        );
        if let Some(folder) = &out {
            picture.save(folder.join(format!("{name}.png")))?;
        }
    }
    Ok(())
}
