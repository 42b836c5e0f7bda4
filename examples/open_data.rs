//! Opens a data set, in any layout that vitrine recognises, and says what is in it.
//!
//! `cargo run --release --example open_data -- PATH`; without a path, the bundled sample.
#![allow(clippy::print_stdout)]

use std::path::Path;

use vitrine::data::{Dataset, DecodeLimits, SplitName, decode};

fn main() -> anyhow::Result<()> {
    let dataset = match std::env::args().nth(1) {
        Some(path) => Dataset::open(Path::new(&path))?,
        None => Dataset::embedded(),
    };
    // What brings no validation split gets one: a tenth of train, cut by a hash of the names.
    let splits = dataset.split(0, 0.1, 0.1)?;
    println!("{}: {}", dataset.name, dataset.classes.join(", "));
    for split in [SplitName::Train, SplitName::Val, SplitName::Test] {
        println!("{split}: {} pictures", splits.get(split).len());
    }
    let sample = &splits.train[0];
    let picture = decode(&dataset.read(sample)?, &DecodeLimits::default())?;
    println!(
        "{}: {} × {} pixels, a {}",
        sample.name,
        picture.width(),
        picture.height(),
        dataset.classes[sample.label]
    );
    Ok(())
}
