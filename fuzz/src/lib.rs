//! What the fuzz targets share: foreign bytes as a file of a given name, opened as the program opens it.
//!
//! The targets go through the public interface and real files (in memory where the system's folder for temporary files
//! is), so that they run what a person's file runs: recognition, the parser, and the decoder of each picture in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tempfile::TempDir;
use vitrine::data::{Dataset, DecodeLimits, decode};

/// Pictures that are read and decoded of one data set: enough to reach the decoder, few enough to be fast.
const READ: usize = 4;

/// Limits of a decoder, so low that a picture that is decoded within them never takes the fuzzer's memory.
pub const LIMITS: DecodeLimits = DecodeLimits {
    max_pixels: 1 << 20,
    max_bytes: 16 << 20,
};

/// The folder of this process.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let made = FOLDER.get_or_init(|| TempDir::new().expect("a folder for the fuzzer's files"));
    made.path()
}

/// Writes `bytes` as a file called `name`, with folders where it has some; replaces the file of the last call.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    let parent = path.parent().expect("a file in a folder");
    fs::create_dir_all(parent).expect("a folder for the file");
    fs::write(&path, bytes).expect("the fuzzer's file is written");
    path
}

/// [`open`] of `bytes` in a file called `name`.
pub fn dataset(name: &str, bytes: &[u8]) {
    open(&file(name, bytes));
}

/// Opens a data set, reads and decodes its first pictures, and cuts its splits.
pub fn open(path: &Path) {
    // An error is an answer; a panic, a hang or too much memory is what is looked for.
    let Ok(dataset) = Dataset::open(path) else {
        return;
    };
    for (_, sample) in dataset.samples().take(READ) {
        if let Ok(raw) = dataset.read(sample) {
            let _ = decode(&raw, &LIMITS);
        }
    }
    let _ = dataset.split(0, 0.25, 0.25);
}
