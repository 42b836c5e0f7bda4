//! The files of another project's weights: its settings, and where each of its tensors lies.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata};
use serde_json::Value;

use super::error::LayoutError;
use crate::setting::Invalid;

/// The settings beside the tensors.
pub(super) const CONFIG: &str = "config.json";

/// How transformers prepares pictures.
pub(super) const PREPROCESSOR: &str = "preprocessor_config.json";

/// All tensors in one file.
pub(super) const SINGLE: &str = "model.safetensors";

/// Which of several files holds which tensor.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// The largest file of settings that is read: that of 21,841 classes with descriptions has 3 MB.
const MOST_JSON: u64 = 64 << 20;

/// The largest header of a safetensors file, as the format has it.
const MOST_HEADER: u64 = 100_000_000;

/// The longest name of a tensor, in bytes: it is shown in messages.
const LONGEST_NAME: usize = 1000;

/// What of a value is shown in a message, in characters.
const SHOWN: usize = 80;

/// A folder or file that another project wrote.
#[derive(Debug)]
pub(super) struct Source {
    /// The folder, or the file where one was named.
    pub path: PathBuf,
    /// `config.json`; `None` beside a file that has none.
    pub config: Option<Settings>,
    /// `preprocessor_config.json`, where there is one.
    pub preprocessor: Option<Settings>,
    /// The files of tensors.
    pub shards: Vec<Shard>,
}

/// A file of settings.
#[derive(Debug)]
pub(super) struct Settings {
    /// The file.
    pub path: PathBuf,
    /// What is in it: an object.
    pub json: Value,
}

/// A file of tensors, of which only the header has been read.
#[derive(Debug)]
pub(super) struct Shard {
    /// The file.
    pub path: PathBuf,
    /// Bytes before the first tensor.
    pub start: u64,
    /// Keys of the header's own metadata.
    pub metadata: BTreeSet<String>,
    /// Its tensors in the order in which they lie there.
    pub tensors: Vec<Stored>,
}

/// A tensor in a file.
#[derive(Debug)]
pub(super) struct Stored {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: usize,
}

impl Source {
    /// Reads the settings, and the header of every file of tensors.
    ///
    /// # Errors
    ///
    /// [`LayoutError`]: a file is missing, cut short or a pickle.
    pub(super) fn open(path: &Path) -> Result<Self, LayoutError> {
        let is_folder = path.is_dir();
        let folder = match is_folder {
            true => path,
            false => path.parent().unwrap_or(Path::new("")),
        };
        let files = match is_folder {
            true => files_of(folder)?,
            false if is_pickle(path) && Shard::open(path.to_owned()).is_err() => {
                return Err(LayoutError::Pickle {
                    path: path.to_owned(),
                });
            }
            false => vec![path.to_owned()],
        };
        let settings = |name: &str| {
            let path = folder.join(name);
            path.is_file().then(|| Settings::read(path)).transpose()
        };
        let shards: Result<Vec<_>, _> = files.into_iter().map(Shard::open).collect();
        let source = Self {
            path: path.to_owned(),
            config: settings(CONFIG)?,
            preprocessor: settings(PREPROCESSOR)?,
            shards: shards?,
        };
        let mut names = BTreeSet::new();
        for stored in source.tensors() {
            // Every size that a tensor tells is then one that the file has room for.
            if stored.bytes == 0 {
                let reason = format!("its tensor {} is empty: {:?}", stored.name, stored.shape);
                return Err(LayoutError::tensors(path, reason));
            }
            if !names.insert(&stored.name) {
                let reason = format!("two of its files hold the tensor {}", stored.name);
                return Err(LayoutError::tensors(path, reason));
            }
        }
        Ok(source)
    }

    /// All tensors.
    pub(super) fn tensors(&self) -> impl Iterator<Item = &Stored> {
        self.shards.iter().flat_map(|shard| &shard.tensors)
    }

    /// Checks a tensor's shape and type.
    ///
    /// # Errors
    ///
    /// [`LayoutError::Tensors`].
    pub(super) fn check(&self, stored: &Stored, expected: &[usize]) -> Result<(), LayoutError> {
        let Stored {
            name, shape, dtype, ..
        } = stored;
        if shape != expected {
            let reason = format!("its tensor {name} is {shape:?}, expected {expected:?}");
            return Err(LayoutError::tensors(&self.path, reason));
        }
        match dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => Ok(()),
            _ => {
                let reason = format!("its tensor {name} is {dtype:?}, expected F32, F16 or BF16");
                Err(LayoutError::tensors(&self.path, reason))
            }
        }
    }

    /// Shapes by name.
    pub(super) fn shapes(&self) -> BTreeMap<&str, &[usize]> {
        self.tensors()
            .map(|stored| (stored.name.as_str(), stored.shape.as_slice()))
            .collect()
    }
}

/// The files of tensors in a folder.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, LayoutError> {
    let single = folder.join(SINGLE);
    if single.is_file() {
        return Ok(vec![single]);
    }
    let index = folder.join(INDEX);
    if index.is_file() {
        return shards_of(folder, &index);
    }
    // Whatever else is there is no reason to open a pickle.
    let entries = std::fs::read_dir(folder).map_err(|source| LayoutError::Read {
        path: folder.to_owned(),
        source,
    })?;
    let mut others: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    others.sort();
    let ends = |path: &&PathBuf, ending: &str| path.extension().is_some_and(|is| is == ending);
    let tensors: Vec<&PathBuf> = others.iter().filter(|p| ends(p, "safetensors")).collect();
    if let [only] = tensors[..] {
        return Ok(vec![only.clone()]);
    }
    match others.iter().find(|path| is_pickle(path)) {
        Some(pickle) => Err(LayoutError::Pickle {
            path: pickle.clone(),
        }),
        None => Err(LayoutError::NoTensors {
            path: folder.to_owned(),
        }),
    }
}

/// Whether a file's name is that of a pickle.
pub(super) fn is_pickle(path: &Path) -> bool {
    let pickles = ["bin", "pth", "pt", "ckpt", "pkl"];
    path.extension()
        .is_some_and(|ending| pickles.iter().any(|pickle| ending == *pickle))
}

/// The files that an index names, all within its folder.
fn shards_of(folder: &Path, index: &Path) -> Result<Vec<PathBuf>, LayoutError> {
    let settings = Settings::read(index.to_owned())?;
    let expected = "the name of a .safetensors file beside it for each tensor";
    let wrong = |found: &dyn std::fmt::Display| settings.wrong("weight_map", found, expected);
    let Some(map) = settings.json.get("weight_map").and_then(Value::as_object) else {
        return Err(wrong(&"missing or no object"));
    };
    let mut files = BTreeSet::new();
    for file in map.values() {
        let name = file.as_str().unwrap_or_default();
        let is_plain = name.ends_with(".safetensors") && !name.contains(['/', '\\', ':', '\0']);
        if !is_plain {
            return Err(wrong(file));
        }
        files.insert(folder.join(name));
    }
    if let Some(missing) = files.iter().find(|path| !path.exists()) {
        let reason = format!("it is not there, and {INDEX} names it: fetch or copy it too");
        return Err(LayoutError::Read {
            path: missing.clone(),
            source: std::io::Error::new(std::io::ErrorKind::NotFound, reason),
        });
    }
    if files.is_empty() {
        return Err(wrong(&"empty"));
    }
    Ok(files.into_iter().collect())
}

impl Settings {
    fn read(path: PathBuf) -> Result<Self, LayoutError> {
        let read = |source| LayoutError::Read {
            path: path.clone(),
            source,
        };
        let mut bytes = Vec::new();
        let file = File::open(&path).map_err(read)?;
        file.take(MOST_JSON + 1)
            .read_to_end(&mut bytes)
            .map_err(read)?;
        let wrong = |reason: String| LayoutError::Json {
            path: path.clone(),
            expected: "a JSON object of settings",
            reason,
        };
        if bytes.len() as u64 > MOST_JSON {
            return Err(wrong(format!("it is larger than {MOST_JSON} bytes")));
        }
        let json: Value = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        match json.is_object() {
            true => Ok(Self { path, json }),
            false => Err(wrong("it is no object".to_owned())),
        }
    }

    /// The value of a key; null counts as absent.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    /// That `key` is wrong.
    pub(super) fn wrong(
        &self,
        key: &str,
        found: impl std::fmt::Display,
        expected: impl Into<String>,
    ) -> LayoutError {
        let mut found = found.to_string();
        if let Some((at, _)) = found.char_indices().nth(SHOWN) {
            found.truncate(at);
            found.push('…');
        }
        LayoutError::setting(&self.path, Invalid::new(key, found, expected))
    }

    /// A whole number above zero, where there is one.
    pub(super) fn number(&self, key: &str) -> Result<Option<usize>, LayoutError> {
        self.number_in(&self.json, key)
    }

    /// [`number`](Self::number) of an object within; `key` is dotted in messages by the caller.
    pub(super) fn number_in(
        &self,
        object: &Value,
        key: &str,
    ) -> Result<Option<usize>, LayoutError> {
        let Some(value) = object.get(key).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let number = value.as_u64().and_then(|n| usize::try_from(n).ok());
        match number.filter(|&n| n > 0) {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(key, value, "a whole number above 0")),
        }
    }

    /// A text, where there is one.
    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, LayoutError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, other, "a text")),
        }
    }
}

impl Shard {
    /// Reads a file's header, and checks that all of its tensors are there.
    pub(super) fn open(path: PathBuf) -> Result<Self, LayoutError> {
        let read = |source| LayoutError::Read {
            path: path.clone(),
            source,
        };
        let corrupt = |reason: String| LayoutError::Corrupt {
            path: path.clone(),
            reason,
        };
        let found = std::fs::metadata(&path).map_err(read)?;
        // A pipe would be waited for.
        if !found.is_file() {
            let reason = "it is no regular file; expected a .safetensors file";
            return Err(read(std::io::Error::other(reason)));
        }
        let length = found.len();
        let mut file = File::open(&path).map_err(read)?;
        let mut size = [0; 8];
        if length < 8 {
            return Err(corrupt(format!("it has {length} bytes")));
        }
        file.read_exact(&mut size).map_err(read)?;
        let header = u64::from_le_bytes(size);
        if header > MOST_HEADER || header > length - 8 {
            return Err(corrupt(format!(
                "its header is of {header} bytes, in a file of {length}"
            )));
        }
        let mut json = vec![0; header as usize];
        file.read_exact(&mut json).map_err(read)?;
        let metadata: Metadata =
            serde_json::from_slice(&json).map_err(|e| corrupt(format!("its header: {e}")))?;
        let mut tensors = Vec::new();
        let mut end = 0;
        for name in metadata.offset_keys() {
            let info = metadata.info(&name).expect("one of its own names");
            if name.len() > LONGEST_NAME {
                let reason = format!("its header: a tensor's name of {} bytes", name.len());
                return Err(corrupt(reason));
            }
            let (first, last) = info.data_offsets;
            let count = info.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
            let bits = count.and_then(|count| count.checked_mul(info.dtype.bitsize()));
            if first != end || last < first || bits != Some((last - first).saturating_mul(8)) {
                return Err(corrupt(format!(
                    "its header: the tensor {name} of {:?} {:?} lies at {first} to {last}",
                    info.dtype, info.shape
                )));
            }
            end = last;
            tensors.push(Stored {
                dtype: info.dtype,
                shape: info.shape.clone(),
                bytes: last - first,
                name,
            });
        }
        let expected = 8 + header + end as u64;
        if length != expected {
            return Err(corrupt(format!(
                "it has {length} bytes, its header tells of {expected}"
            )));
        }
        Ok(Self {
            path,
            start: 8 + header,
            metadata: metadata
                .metadata()
                .iter()
                .flat_map(|all| all.keys().cloned())
                .collect(),
            tensors,
        })
    }
}
