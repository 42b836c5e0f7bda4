//! What a run leaves behind, and whether all of it is whole.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use vitrine::checkpoint::TensorFile;
use vitrine::recipe::Recipe;
use vitrine::report::csv::read_results;
use vitrine::train::{Progress, Saved};
use vitrine::whole_file::TEMPORARY;

/// SplitMix64's last steps: any number to a random one.
pub fn hash(n: usize) -> u64 {
    let mut z = (n as u64)
        .wrapping_add(1)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Where a run stands.
pub fn progress(root: &Path) -> Progress {
    Saved::open(&root.join("checkpoint")).unwrap().progress
}

/// All that two equal trainings must have in common, to the bit.
#[derive(Debug, PartialEq)]
pub struct Left {
    /// The best weights.
    pub best: Vec<u8>,
    /// The last weights.
    pub last: Vec<u8>,
    /// The tensors of the state.
    pub state: BTreeMap<String, Vec<u8>>,
    /// What its history says, but for times.
    pub figures: Vec<String>,
}

/// Reads it.
pub fn left(root: &Path) -> Left {
    let state = fs::read(root.join("checkpoint/state.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&state).unwrap();
    let progress = progress(root);
    let mut figures = vec![format!(
        "{} {} {} {:?} {}",
        progress.epoch, progress.batch, progress.update, progress.best, progress.finished
    )];
    figures.extend(
        progress
            .history
            .iter()
            .map(|r| format!("{} {} {:?} {}", r.epoch, r.train_loss, r.figures, r.lr)),
    );
    Left {
        best: fs::read(root.join("weights/best.safetensors")).unwrap(),
        last: fs::read(root.join("weights/last.safetensors")).unwrap(),
        state: tensors
            .tensors()
            .into_iter()
            .map(|(name, view)| (name, view.data().to_vec()))
            .collect(),
        figures,
    }
}

/// Compares without printing megabytes.
pub fn assert_same(one: &Left, other: &Left, what: &str) {
    assert_eq!(one.figures, other.figures, "{what}");
    for (name, bytes) in &one.state {
        assert!(
            other.state.get(name) == Some(bytes),
            "{what}: {name} differs"
        );
    }
    assert_eq!(one.state.len(), other.state.len(), "{what}");
    assert!(one.last == other.last, "{what}: last.safetensors differs");
    assert!(one.best == other.best, "{what}: best.safetensors differs");
}

/// Every file under `root` is whole: what a killed process was writing has another name.
pub fn all_whole(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            all_whole(&path);
            continue;
        }
        if name.starts_with(TEMPORARY) || name.starts_with(".tmp") {
            continue;
        }
        let whole = match path.extension().and_then(|e| e.to_str()) {
            Some("safetensors") => TensorFile::open(&path)
                .and_then(|file| file.meta::<serde_json::Value>())
                .map(drop)
                .map_err(|e| e.to_string()),
            Some("json") => serde_json::from_slice::<serde_json::Value>(&fs::read(&path).unwrap())
                .map(drop)
                .map_err(|e| e.to_string()),
            Some("png") => image::open(&path).map(drop).map_err(|e| e.to_string()),
            Some("toml") => Recipe::load(&path).map(drop).map_err(|e| e.to_string()),
            Some("csv") if name == "results.csv" => {
                read_results(&path).map(drop).map_err(|e| e.to_string())
            }
            Some("csv" | "txt")
                if !fs::read(&path).unwrap().ends_with(b"\n") && name != "val.txt" =>
            {
                Err("its last line has no end".to_owned())
            }
            Some("csv" | "txt") => Ok(()),
            None if name == "lock" => Ok(()),
            _ => Err("nobody expected this file".to_owned()),
        };
        whole.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

/// How many files a killed process has left unfinished.
pub fn temporary_files(root: &Path) -> usize {
    let count = |folder: PathBuf| {
        fs::read_dir(folder)
            .unwrap()
            .filter(|entry| {
                let name = entry.as_ref().unwrap().file_name();
                name.to_string_lossy().starts_with('.')
            })
            .count()
    };
    ["", "weights", "checkpoint", "splits"]
        .map(|f| count(root.join(f)))
        .iter()
        .sum()
}
