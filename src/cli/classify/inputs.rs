//! What the inputs of `classify` are: weights first, if any, then pictures.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};

use crate::checkpoint::{Shipped, TensorFile, WeightsMeta};
use crate::cli::output::note;
use crate::cli::shell::quoted;
use crate::data::{self, PictureFiles};
use crate::names::{shown, visible};

/// The weights, if any are named, and the pictures.
pub(super) fn split(
    weights: Option<PathBuf>,
    mut inputs: Vec<PathBuf>,
) -> anyhow::Result<(Option<PathBuf>, Vec<PathBuf>)> {
    if weights.is_some() {
        return Ok((weights, inputs));
    }
    if !weights_come_first(&inputs) {
        // Whoever names a run does not want the weights that ship.
        if let Some(run) = inputs.iter().find(|input| looks_like_weights(input)) {
            bail!(
                "{}: no pictures to classify; weights come before the pictures, as in `vitrine classify RUN {}`",
                shown(run),
                quoted(&inputs[0])
            );
        }
        return Ok((None, inputs));
    }
    let first = inputs.remove(0);
    if inputs.is_empty() {
        bail!(
            "{}: weights, but no picture to classify; name some, as in `vitrine classify {} PICTURE`",
            shown(&first),
            quoted(&first)
        );
    }
    Ok((Some(first), inputs))
}

/// Whether the first argument means weights: if it looks like some, or if pictures follow what may
/// be a run's name that was mistyped.
pub(super) fn weights_come_first(inputs: &[PathBuf]) -> bool {
    let Some(first) = inputs.first() else {
        return false;
    };
    let mistyped = || !first.is_file() && !looks_like_pictures(first);
    looks_like_weights(first) || (inputs.len() > 1 && mistyped())
}

/// Whether an argument means pictures: by its name where it is a file, by what is in
/// it where it is a folder.
fn looks_like_pictures(path: &Path) -> bool {
    if path.is_dir() {
        return data::picture_files(path).is_ok_and(|found| !found.paths.is_empty());
    }
    let is_glob = !path.exists() && glob_of(path).is_some();
    path == Path::new("-") || is_glob || data::is_picture_name(path)
}

/// Whether an argument means weights: what ships, a file of them, a run, or a folder of runs.
fn looks_like_weights(path: &Path) -> bool {
    let is_run = |folder: &Path| {
        let files = ["recipe.toml", "weights/best.safetensors"];
        files.iter().any(|file| folder.join(file).is_file())
    };
    let is_file_of_weights = || {
        let open = || TensorFile::open(path)?.meta::<WeightsMeta>();
        path.is_file() && !data::is_picture_name(path) && open().is_ok()
    };
    let mut inside = path.read_dir().into_iter().flatten().flatten();
    Shipped::find(path).is_some()
        || path.extension().is_some_and(|end| end == "safetensors")
        || is_file_of_weights()
        || is_run(path)
        || inside.any(|entry| is_run(&entry.path()))
}

/// The bytes of standard input.
pub(super) fn read_stdin() -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The files an input means: itself, the pictures below a folder, or a glob's matches.
pub(super) fn expand(input: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if input == Path::new("-") || input.is_file() {
        return Ok(vec![input.to_owned()]);
    }
    let named = shown(input);
    if input.is_dir() {
        let PictureFiles {
            paths,
            left_out,
            notes,
        } = data::picture_files(input)?;
        for text in notes {
            note(&format!("note: {}", visible(&text)));
        }
        for left in left_out {
            note(&format!("skipped {left}"));
        }
        if paths.is_empty() {
            bail!("{named}: no pictures in this folder");
        }
        return Ok(paths);
    }
    if let Some(pattern) = glob_of(input) {
        let matches = glob::glob(pattern).map_err(|error| {
            anyhow!(
                "{named}: no such file, and not a glob either: {}",
                error.msg
            )
        })?;
        let mut files: Vec<PathBuf> = matches
            .filter_map(Result::ok)
            .filter(|p| p.is_file())
            .collect();
        files.sort();
        if files.is_empty() {
            bail!("{named}: no file matches");
        }
        return Ok(files);
    }
    bail!("{named}: no such file or folder");
}

/// An input as a glob, where it has what makes one.
fn glob_of(input: &Path) -> Option<&str> {
    input.to_str().filter(|text| text.contains(['*', '?', '[']))
}
