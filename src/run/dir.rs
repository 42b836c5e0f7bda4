//! The layout of a run directory.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::error::RunError;
use super::hub_weights;
use crate::checkpoint::{self, Base, Lora, Shipped, TensorFile};
use crate::data::SplitName;
use crate::names;
use crate::recipe::Recipe;
use crate::whole_file;

/// The file in the folder of the state by which a run is held.
const LOCK: &str = "lock";

/// What a run writes beside weights, state and lock, by folder.
const WRITTEN: [(&str, &[&str]); 7] = [
    (
        "",
        &[
            "recipe.toml",
            "run.json",
            "train_batch.png",
            "results.csv",
            "results.png",
            "results.svg",
            "metrics.json",
            "confusion_matrix.csv",
            "confusion_matrix.png",
            "confusion_matrix.svg",
            "reliability.png",
            "reliability.svg",
            "per_class.png",
            "per_class.svg",
            "predictions.png",
            "predictions.svg",
            "example.png",
        ],
    ),
    ("splits", &["train.txt", "val.txt", "test.txt"]),
    ("weights", &[]),
    ("checkpoint", &[]),
    ("eval-train", EVALUATION),
    ("eval-val", EVALUATION),
    ("eval-test", EVALUATION),
];

/// What an evaluation writes.
const EVALUATION: &[&str] = &[
    "metrics.json",
    "confusion_matrix.csv",
    "confusion_matrix.png",
    "reliability.png",
    "per_class.png",
    "predictions.png",
];

/// A run directory: everything one training reads and writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir {
    root: PathBuf,
}

impl RunDir {
    /// Makes `out`, or the next free `runs/<data>-<model>-<n>/`; never one that holds anything.
    ///
    /// # Errors
    ///
    /// Where the folder is not empty or cannot be made.
    pub fn create(out: Option<&Path>, data: &str, model: &str) -> Result<Self, RunError> {
        let root = match out {
            Some(out) => {
                if out.is_file() {
                    return Err(RunError::NotADirectory {
                        path: out.to_owned(),
                    });
                }
                check_free(out)?;
                make(out)?;
                out.to_owned()
            }
            None => next_free(Path::new("runs"), &format!("{data}-{model}"))?,
        };
        let dir = Self { root };
        for folder in [dir.weights_folder(), dir.state_folder()] {
            make(&folder)?;
        }
        Ok(dir)
    }

    /// Checks that nothing has been trained here.
    ///
    /// # Errors
    ///
    /// [`RunError::Taken`].
    pub(super) fn check_free(&self) -> Result<(), RunError> {
        check_free(&self.root)
    }

    /// A run directory that exists.
    ///
    /// # Errors
    ///
    /// Where it holds no `recipe.toml`; the message names runs that do.
    pub fn open(path: &Path) -> Result<Self, RunError> {
        let dir = Self {
            root: path.to_owned(),
        };
        if dir.recipe().is_file() {
            return Ok(dir);
        }
        Err(no_run(path))
    }

    /// Its path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The resolved recipe.
    pub fn recipe(&self) -> PathBuf {
        self.root.join("recipe.toml")
    }

    /// Commit, versions, hardware, seed, start and end.
    pub fn info(&self) -> PathBuf {
        self.root.join("run.json")
    }

    /// A file in the run directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Folder of the weights.
    pub fn weights_folder(&self) -> PathBuf {
        self.root.join("weights")
    }

    /// The weights that did best on validation.
    pub fn best(&self) -> PathBuf {
        self.weights_folder().join("best.safetensors")
    }

    /// The weights of the last epoch.
    pub fn last(&self) -> PathBuf {
        self.weights_folder().join("last.safetensors")
    }

    /// Folder of the saved state.
    pub fn state_folder(&self) -> PathBuf {
        self.root.join("checkpoint")
    }

    /// Folder of the split lists.
    pub fn splits(&self) -> PathBuf {
        self.root.join("splits")
    }

    /// Whether a training saved its state here.
    pub fn has_state(&self) -> bool {
        self.state_folder().join("state.safetensors").is_file()
    }

    /// Whether a training began here and was stopped before it saved anything: its pictures are
    /// listed, and there are no weights and no results.
    pub(super) fn has_only_begun(&self) -> bool {
        let splits = SplitName::ALL.map(|split| self.splits().join(format!("{split}.txt")));
        let is_there = |path: &PathBuf| path.exists();
        splits.iter().all(is_there)
            && ![self.best(), self.last(), self.file("results.csv")]
                .iter()
                .any(is_there)
    }

    /// Holds the run until what is returned is dropped, or the process ends.
    ///
    /// # Errors
    ///
    /// [`RunError::Busy`] where another process holds it.
    pub fn lock(&self) -> Result<File, RunError> {
        let path = self.state_folder().join(LOCK);
        make(&self.state_folder())?;
        match whole_file::hold(&path) {
            Ok(Some(file)) => Ok(file),
            Ok(None) => Err(RunError::Busy {
                path: self.root.clone(),
            }),
            Err(source) => Err(RunError::Write { path, source }),
        }
    }

    /// The run that a weights file lies in, if it does.
    pub(super) fn of_weights(weights: &Path) -> Option<Self> {
        let weights = weights.canonicalize().ok()?;
        let folder = weights.parent()?;
        let dir = Self {
            root: folder.parent()?.to_owned(),
        };
        (folder == dir.weights_folder() && dir.recipe().is_file()).then_some(dir)
    }

    /// Empties the folder of a run that has neither weights nor a state: of what a run writes, and only if
    /// nothing else is there.
    ///
    /// # Errors
    ///
    /// [`RunError::NotOurs`] with a file that no run writes, [`RunError::Busy`], or what the system says; in the
    /// first two cases nothing is removed.
    pub(crate) fn clear(&self) -> Result<(), RunError> {
        let _held = self.lock()?;
        let mut files = Vec::new();
        let mut folders = Vec::new();
        let refuse = |path: PathBuf| RunError::NotOurs {
            path,
            run: self.root.clone(),
        };
        // A recipe that a person wrote has not every key.
        let text = std::fs::read_to_string(self.recipe()).unwrap_or_default();
        let is_ours = Recipe::load(&self.recipe()).is_ok_and(|recipe| recipe.to_toml() == text);
        if !is_ours {
            return Err(refuse(self.recipe()));
        }
        for (folder, written) in WRITTEN {
            let folder = self.root.join(folder);
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let (path, name) = (entry.path(), entry.file_name());
                let name = name.to_string_lossy();
                let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
                if is_file && (written.contains(&&*name) || whole_file::is_temporary(&name)) {
                    files.push(path);
                } else if entry.file_type().is_ok_and(|kind| kind.is_dir())
                    && WRITTEN
                        .iter()
                        .any(|(known, _)| self.root.join(known) == path)
                {
                    folders.push(path);
                } else if !(is_file && path == self.state_folder().join(LOCK)) {
                    return Err(refuse(path));
                }
            }
        }
        // The recipe last: what is killed before begins again here.
        files.sort_by_key(|path| *path == self.recipe());
        for path in files {
            std::fs::remove_file(&path).map_err(|source| RunError::Write { path, source })?;
        }
        for folder in folders {
            // The lock's folder stays.
            let _ = std::fs::remove_dir(folder);
        }
        Ok(())
    }

    /// Removes what a killed process left half written.
    pub fn sweep(&self) {
        for folder in [
            self.root.clone(),
            self.weights_folder(),
            self.state_folder(),
            self.splits(),
        ] {
            let Ok(entries) = std::fs::read_dir(folder) else {
                continue;
            };
            for entry in entries.flatten() {
                let name = entry.file_name();
                if whole_file::is_temporary(&name.to_string_lossy()) {
                    // A leftover that cannot be removed does no harm.
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        }
    }
}

/// The weights that `path` means: a file as it is, a run directory's best.
///
/// # Errors
///
/// Where a run directory holds no weights yet, or there is nothing at `path`.
pub(crate) fn find_weights(path: &Path) -> Result<PathBuf, RunError> {
    if path.is_dir() {
        let best = path.join("weights").join("best.safetensors");
        return if best.is_file() {
            Ok(best)
        } else if path.join("recipe.toml").is_file() {
            Err(RunError::NoWeights {
                path: path.to_owned(),
            })
        } else {
            Err(no_run(path))
        };
    }
    if path.is_file() {
        return Ok(path.to_owned());
    }
    Err(no_run(path))
}

/// Whether a folder is a run directory, sound or not.
pub(super) fn is_run(path: &Path) -> bool {
    path.join("recipe.toml").is_file() || path.join("weights").is_dir()
}

/// Opens weights: a file, a run directory's best, a folder or file of another project, or, by their name, weights
/// that are built in or those of a repository on a hub, which are fetched where they are not in its cache. Low-rank
/// adapters come merged into the weights that they change, which are opened for it.
///
/// # Errors
///
/// Where a run directory holds no weights yet, there is nothing at `path`, or the file cannot be read or fetched;
/// [`RunError::NoBase`] or [`RunError::OtherBase`] where adapters lack what they change.
pub fn open_weights(path: &Path) -> Result<TensorFile, RunError> {
    whole(open_as_it_is(path)?)
}

/// Opens a weights file of ours, as [`open_weights`].
///
/// # Errors
///
/// As for [`open_weights`].
pub(super) fn open_file(path: &Path) -> Result<TensorFile, RunError> {
    whole(TensorFile::open(path)?)
}

/// Files of adapters that may stand on each other.
const DEEP: usize = 16;

/// Adapters merged into what they change; other weights as they are.
fn whole(file: TensorFile) -> Result<TensorFile, RunError> {
    let mut adapters: Vec<(TensorFile, Lora)> = Vec::new();
    let mut base = file;
    while let Some(lora) = base.lora() {
        if adapters.len() == DEEP {
            let path = base.path().to_owned();
            return Err(RunError::TooDeep { path, deep: DEEP });
        }
        // Nothing is opened that a file names which was changed.
        checkpoint::meta(&base)?;
        let below = open_base(base.path(), &lora)?;
        adapters.push((base, lora));
        base = below;
    }
    for (file, lora) in adapters.into_iter().rev() {
        base = file.merged(lora, &base)?;
    }
    Ok(base)
}

/// The weights that the adapters of the file at `path` change.
fn open_base(path: &Path, lora: &Lora) -> Result<TensorFile, RunError> {
    let Base { weights, sha256 } = &lora.base;
    let weights = names::path(weights);
    let base = open_as_it_is(&weights).map_err(|source| RunError::NoBase {
        path: path.to_owned(),
        base: weights.clone(),
        expected: sha256.clone(),
        source: Box::new(source),
    })?;
    match base.sha256() {
        found if found != *sha256 => Err(RunError::OtherBase {
            path: path.to_owned(),
            base: weights,
            found,
            expected: sha256.clone(),
        }),
        _ => Ok(base),
    }
}

fn open_as_it_is(path: &Path) -> Result<TensorFile, RunError> {
    if let Some(shipped) = Shipped::find(path) {
        return Ok(shipped.file());
    }
    if let Some(snapshot) = hub_weights::snapshot(path)? {
        let name = PathBuf::from(snapshot.repo.to_string());
        return Ok(open_folder(&snapshot.folder)?.named(name));
    }
    if !is_run(path) && checkpoint::is_foreign(path) {
        return match path.is_dir() {
            true => open_folder(path),
            false => Ok(checkpoint::open_foreign(path)?),
        };
    }
    let mut weights = find_weights(path);
    if let Err(RunError::NoRun {
        path, or_shipped, ..
    }) = &mut weights
    {
        *or_shipped = !path.exists();
    }
    Ok(TensorFile::open(&weights?)?)
}

/// Opens a folder of another project, or one that holds a file of ours under the same name.
fn open_folder(folder: &Path) -> Result<TensorFile, RunError> {
    let single = folder.join("model.safetensors");
    match checkpoint::is_ours(&single) == Some(true) {
        true => Ok(TensorFile::open(&single)?),
        false => Ok(checkpoint::open_foreign(folder)?),
    }
}

fn no_run(path: &Path) -> RunError {
    RunError::NoRun {
        path: path.to_owned(),
        found: if path.is_dir() {
            "no recipe.toml in it"
        } else if path.exists() {
            "it is a file"
        } else {
            "there is nothing of that name"
        },
        newest: newest(),
        or_shipped: false,
    }
}

/// Makes the next free `<parent>/<stem>-<n>`.
///
/// # Errors
///
/// Where it cannot be made.
pub(crate) fn next_free(parent: &Path, stem: &str) -> Result<PathBuf, RunError> {
    make(parent)?;
    for n in 1.. {
        let path = parent.join(format!("{stem}-{n}"));
        // `create_dir` fails where the folder exists, so two trainings never share one.
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(RunError::Write { path, source }),
        }
    }
    unreachable!("an unbounded range ends only by return")
}

fn check_free(folder: &Path) -> Result<(), RunError> {
    match is_free(folder) {
        true => Ok(()),
        false => Err(RunError::Taken {
            path: folder.to_owned(),
            is_run: folder.join("recipe.toml").is_file(),
        }),
    }
}

/// Whether a run may be made in `folder`: it does not exist, or holds nothing but what a training that was
/// killed in its first moment leaves.
pub(crate) fn is_free(folder: &Path) -> bool {
    let names = |folder: &Path| -> Vec<std::ffi::OsString> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name()).collect()
    };
    names(folder).iter().all(|name| {
        let inside = folder.join(name);
        (name == "weights" || name == "checkpoint")
            && inside.is_dir()
            && names(&inside).iter().all(|file| file == LOCK)
    })
}

fn make(path: &Path) -> Result<(), RunError> {
    std::fs::create_dir_all(path).map_err(|source| RunError::Write {
        path: path.to_owned(),
        source,
    })
}

/// The newest run in `runs/`.
fn newest() -> Option<PathBuf> {
    std::fs::read_dir("runs")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| e.path().join("recipe.toml").is_file())
        .max_by_key(|e| e.metadata().and_then(|m| m.modified()).ok())
        .map(|entry| entry.path())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn never_takes_a_folder_that_holds_something() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        // Empty, and as a training leaves it that was killed in its first moment.
        for _ in 0..2 {
            let run = RunDir::create(Some(&out), "d", "m").unwrap();
            run.lock().unwrap();
        }
        std::fs::write(out.join("weights/notes.txt"), "mine").unwrap();
        let error = RunDir::create(Some(&out), "d", "m")
            .unwrap_err()
            .to_string();
        assert_eq!(error, format!("{} is not empty", out.display()));
    }

    #[test]
    fn one_process_at_a_time_holds_a_run() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(Some(&folder.path().join("run")), "d", "m").unwrap();
        let held = run.lock().unwrap();
        let error = run.lock().unwrap_err().to_string();
        assert!(
            error.ends_with("run: wait for it, or stop it")
                && error.starts_with("another process trains or changes "),
            "{error}"
        );
        drop(held);
        run.lock().unwrap();
    }

    #[test]
    #[cfg(unix)]
    fn what_a_link_in_place_of_the_lock_leads_to_stays() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(Some(&folder.path().join("run")), "d", "m").unwrap();
        let other = folder.path().join("other");
        std::fs::write(&other, "precious").unwrap();
        std::os::unix::fs::symlink(&other, run.state_folder().join("lock")).unwrap();
        let error = run.lock().unwrap_err().to_string();
        assert!(error.contains("lock: it is a link"), "{error}");
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "precious");
    }

    #[test]
    fn numbers_count_up() {
        let folder = tempfile::tempdir().unwrap();
        let first = next_free(folder.path(), "a-b").unwrap();
        let second = next_free(folder.path(), "a-b").unwrap();
        assert!(first.ends_with("a-b-1") && second.ends_with("a-b-2"));
    }

    #[test]
    fn a_run_has_only_begun_until_it_has_something_to_lose() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(Some(&folder.path().join("run")), "d", "m").unwrap();
        assert!(!run.has_only_begun() && !run.has_state());
        std::fs::create_dir(run.splits()).unwrap();
        for split in SplitName::ALL {
            assert!(!run.has_only_begun());
            std::fs::write(run.splits().join(format!("{split}.txt")), "").unwrap();
        }
        assert!(run.has_only_begun());
        std::fs::write(run.last(), "").unwrap();
        assert!(!run.has_only_begun());
    }

    #[test]
    fn weights_of_an_empty_run_are_missed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("recipe.toml"), "").unwrap();
        let error = find_weights(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("holds no weights/best.safetensors"),
            "{error}"
        );
    }
}
