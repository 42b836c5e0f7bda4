//! What the inputs of `classify` are: weights first, if any, then pictures.

use std::path::{Path, PathBuf};

use anyhow::bail;

use super::sources::is_glob;
use crate::checkpoint::{SHIPPED, Shipped, TensorFile, WeightsMeta};
use crate::cli::shell::quoted;
use crate::data;
use crate::hub::Repo;
use crate::names::shown;

/// Extensions of weights files that other programs write, and names whose extension says too little.
const OTHER_WEIGHTS: [&str; 13] = [
    "ckpt",
    "gguf",
    "h5",
    "keras",
    "mlmodel",
    "msgpack",
    "onnx",
    "pb",
    "pdparams",
    "pt",
    "pth",
    "tflite",
    "torchscript",
];
const OTHER_NAMES: [&str; 2] = ["export.pkl", "pytorch_model.bin"];

/// The weights, if any are named, and the pictures; `has_list` says that pictures are named elsewhere
/// too.
pub(super) fn split(
    weights: Option<PathBuf>,
    mut inputs: Vec<PathBuf>,
    has_list: bool,
) -> anyhow::Result<(Option<PathBuf>, Vec<PathBuf>)> {
    if weights.is_some() {
        return Ok((weights, inputs));
    }
    // Whoever names weights does not want those that ship.
    if !weights_come_first(&inputs, has_list) {
        if let Some(run) = inputs.iter().find(|input| looks_like_weights(input)) {
            bail!(
                "{}: no pictures to classify; weights come before the pictures, as in `vitrine classify RUN {}`",
                shown(run),
                quoted(&inputs[0])
            );
        }
        for input in &inputs {
            refuse_other_weights(input)?;
        }
        return Ok((None, inputs));
    }
    let first = inputs.remove(0);
    if !looks_like_weights(&first) {
        refuse_other_weights(&first)?;
    }
    if inputs.is_empty() && !has_list {
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
pub(super) fn weights_come_first(inputs: &[PathBuf], has_list: bool) -> bool {
    let Some(first) = inputs.first() else {
        return false;
    };
    let mistyped = || !is_something_to_read(first) && !looks_like_pictures(first);
    looks_like_weights(first) || ((inputs.len() > 1 || has_list) && mistyped())
}

/// Whether standard input is among the inputs.
pub(in crate::cli) fn has_stdin(inputs: &[PathBuf]) -> bool {
    inputs.iter().any(|input| input == Path::new("-"))
}

/// Whether a path is a file, a pipe or another thing that is no folder.
fn is_something_to_read(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| !meta.is_dir())
}

/// Whether an argument means pictures: by its name where it is a file, by what is in
/// it where it is a folder.
fn looks_like_pictures(path: &Path) -> bool {
    if path.is_dir() {
        return data::picture_files(path).is_ok_and(|found| !found.paths.is_empty());
    }
    path == Path::new("-") || is_glob(path) || data::is_picture_name(path)
}

/// Whether an argument means weights: what ships, a repository on the hub, a file of them, a run, a folder of runs, or
/// one that another project wrote.
fn looks_like_weights(path: &Path) -> bool {
    let is_run = |folder: &Path| {
        let files = ["recipe.toml", "weights/best.safetensors"];
        files.iter().any(|file| folder.join(file).is_file())
    };
    let is_file_of_weights = || {
        let open = || TensorFile::open(path)?.meta::<WeightsMeta>();
        path.is_file() && !data::is_picture_name(path) && open().is_ok()
    };
    let is_of_another_project = |folder: &Path| {
        let files = ["config.json", "model.safetensors"];
        files.iter().any(|file| folder.join(file).is_file())
    };
    let mut inside = path.read_dir().into_iter().flatten().flatten();
    Shipped::find(path).is_some()
        || Repo::is_named(path)
        || (path.extension().is_some_and(|end| end == "safetensors") && !path.is_dir())
        || is_file_of_weights()
        || is_run(path)
        || inside.any(|entry| is_run(&entry.path()))
        || (is_of_another_project(path) && !looks_like_pictures(path))
}

/// Refuses weights that are not a run's, so that nobody takes the answers of the weights that ship for
/// those of the weights that were named.
fn refuse_other_weights(input: &Path) -> anyhow::Result<()> {
    let (named, ships) = (shown(input), SHIPPED[0].name);
    if input.is_file() && is_other_weights(input) {
        bail!(
            "{named}: weights of another program, which are not read here; expected a run directory or a .safetensors file of vitrine before the pictures"
        );
    }
    let Some(found) = weights_inside(input) else {
        return Ok(());
    };
    let pictures = format!(
        "if its pictures are meant, name the weights that answer, as in `vitrine classify --weights {ships} {}`",
        quoted(input)
    );
    if is_other_weights(&found) {
        let inside = shown(found.strip_prefix(input).unwrap_or(&found));
        bail!(
            "{named}: a folder with weights of another program ({inside}), which are not read here; {pictures}"
        );
    }
    bail!(
        "{named}: a folder with weights in it; name their file, as in `vitrine classify {} PICTURE`; {pictures}",
        quoted(&found)
    );
}

/// Whether a name is that of weights that another program wrote.
fn is_other_weights(path: &Path) -> bool {
    let lower = |part: &std::ffi::OsStr| part.to_string_lossy().to_ascii_lowercase();
    path.file_name()
        .is_some_and(|name| OTHER_NAMES.contains(&lower(name).as_str()))
        || path
            .extension()
            .is_some_and(|end| OTHER_WEIGHTS.contains(&lower(end).as_str()))
}

/// The first file of weights in a folder or in a folder in it.
fn weights_inside(folder: &Path) -> Option<PathBuf> {
    let entries = |folder: &Path| {
        let mut entries: Vec<PathBuf> = folder
            .read_dir()
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        entries.sort();
        entries
    };
    let is_weights = |path: &PathBuf| {
        let named = path.extension().is_some_and(|end| end == "safetensors");
        (named || is_other_weights(path)) && path.is_file()
    };
    let direct = entries(folder);
    let found = direct.iter().find(|path| is_weights(path)).cloned();
    found.or_else(|| {
        direct
            .iter()
            .find_map(|path| entries(path).into_iter().find(&is_weights))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn weights_of_other_programs_are_known_by_their_names() {
        for name in [
            "a/model.pth",
            "B.PT",
            "m/pytorch_model.bin",
            "net.onnx",
            "export.pkl",
        ] {
            assert!(is_other_weights(Path::new(name)), "{name}");
        }
        for name in [
            "photo.png",
            "data_batch_1.bin",
            "labels.pkl",
            "pth",
            "best.safetensors",
        ] {
            assert!(!is_other_weights(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn a_folder_of_weights_is_no_folder_of_pictures() {
        let kept = tempfile::tempdir().unwrap();
        let folder = kept.path().join("model");
        fs::create_dir_all(folder.join("weights")).unwrap();
        fs::write(folder.join("chart.png"), "a picture by its name").unwrap();
        let inputs = || vec![folder.clone(), "photo.png".into()];
        // Without weights it is a folder of pictures.
        assert_eq!(split(None, inputs(), false).unwrap(), (None, inputs()));
        for (file, said) in [
            (
                "weights/best.pt",
                "weights of another program (weights/best.pt)",
            ),
            ("own.safetensors", "name their file"),
        ] {
            fs::write(folder.join(file), "").unwrap();
            for inputs in [
                inputs(),
                vec![folder.clone()],
                inputs().into_iter().rev().collect(),
            ] {
                let error = split(None, inputs, false).unwrap_err().to_string();
                assert!(
                    error.contains(said) && error.contains("--weights cifar10-vit"),
                    "{error}"
                );
            }
            let named = Some(PathBuf::from("cifar10-vit"));
            assert!(split(named, inputs(), false).is_ok());
        }
        let file = folder.join("weights/best.pt");
        let error = split(None, vec![file, "photo.png".into()], false).unwrap_err();
        assert!(
            error.to_string().contains("expected a run directory"),
            "{error}"
        );
    }

    #[test]
    fn with_a_list_of_pictures_the_only_input_may_be_weights() {
        let named = || vec![PathBuf::from("cifar10-vit")];
        let (weights, inputs) = split(None, named(), true).unwrap();
        assert_eq!((weights, inputs), (Some("cifar10-vit".into()), Vec::new()));
        assert!(split(None, named(), false).is_err());
        let mistyped = split(None, vec!["runs/flowrs".into()], true).unwrap();
        assert_eq!(mistyped.0, Some("runs/flowrs".into()));
        let picture = vec![PathBuf::from("photo.png")];
        assert_eq!(split(None, picture.clone(), true).unwrap(), (None, picture));
    }
}
