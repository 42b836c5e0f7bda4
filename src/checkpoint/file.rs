//! A file of named tensors: safetensors with metadata of ours and a hash, written whole or not at
//! all, and read whole into memory.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use burn::tensor::{AllocationProperty, DType, Device, Tensor, TensorData};
use bytes::Bytes;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::codes::{is_scale, widened};
use super::error::CheckpointError;
use super::host::HostTensor;
use super::meta::{AdaptersMeta, FAMILIARITY, Lora, WeightsMeta};
use super::origin::Origin;
use super::widen::floats;
use crate::model::{Model, parameters};
use crate::whole_file;

/// The comparison of a file with its hash, and of its values with numbers, which begins at once on
/// the process's pool.
#[derive(Debug, Clone)]
pub struct HashCheck {
    path: PathBuf,
    /// Whoever asks first, the pool or [`wait`](Self::wait), computes it, and the other one waits:
    /// a pool that is busy, or that waits for this very answer, holds nobody up.
    found: Arc<LazyLock<Found, Comparison>>,
}

type Comparison = Box<dyn FnOnce() -> Found + Send>;

#[derive(Debug)]
enum Found {
    AsWritten,
    Changed,
    /// The tensor that holds a value which is infinite or not a number.
    NotFinite(String),
}

impl HashCheck {
    fn start(path: &Path, compare: impl FnOnce() -> Found + Send + 'static) -> Self {
        let compare: Comparison = Box::new(compare);
        let found = Arc::new(LazyLock::new(compare));
        let shared = Arc::clone(&found);
        rayon::spawn(move || {
            LazyLock::force(&shared);
        });
        Self {
            path: path.to_owned(),
            found,
        }
    }

    /// Returns once the file is known to be as it was written, and to hold numbers only.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Tampered`] or [`CheckpointError::NotFinite`].
    pub fn wait(&self) -> Result<(), CheckpointError> {
        let path = self.path.clone();
        match &**self.found {
            Found::AsWritten => Ok(()),
            Found::Changed => Err(CheckpointError::Tampered { path }),
            Found::NotFinite(tensor) => Err(CheckpointError::NotFinite {
                path,
                tensor: tensor.clone(),
            }),
        }
    }
}

/// The key of our JSON in the safetensors metadata. It is the only key: a second one would make
/// the order of the header, and so the file's bytes, depend on a hash map.
pub(super) const META: &str = "vitrine";

/// The only format there is; its hash is of the whole file.
const FORMAT: u32 = 2;

/// Where the hash stands in the file: JSON within the header's JSON, so its quotes are escaped.
/// A name that contains these words is escaped once more and does not match.
const HASH: &[u8] = br#"\"sha256\":\""#;

/// Bytes of a number of ours.
pub(super) const WIDE: usize = size_of::<f32>();

/// Holds the hash's place while the file is hashed.
const NO_HASH: [u8; 64] = [b'0'; 64];

#[derive(Serialize, Deserialize)]
pub(super) struct Envelope<M> {
    pub(super) format: u32,
    pub(super) sha256: String,
    #[serde(flatten)]
    pub(super) meta: M,
}

/// Writes named tensors and a JSON of `meta` as one safetensors file: a temporary file in the
/// same folder, synced, then renamed.
///
/// # Errors
///
/// [`CheckpointError::Write`].
pub fn write_tensors<M: Serialize>(
    path: &Path,
    tensors: &[HostTensor],
    meta: &M,
) -> Result<(), CheckpointError> {
    let bytes: Vec<Vec<u8>> = tensors.iter().map(bytes).collect();
    let views = tensors.iter().zip(&bytes);
    let views = views.map(|(tensor, bytes)| view(tensor, bytes));
    write_file(path, &serialize(path, views.collect(), meta)?)
}

/// The bytes of a tensor in a file.
pub(super) fn bytes((_, _, values): &HostTensor) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A tensor with its bytes.
pub(super) fn view<'a>((name, shape, _): &HostTensor, bytes: &'a [u8]) -> (String, TensorView<'a>) {
    let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
    (name.clone(), view.expect("the shape counts the values"))
}

/// The bytes of a file of these tensors and a JSON of `meta`, their hash in its place.
pub(super) fn serialize<M: Serialize>(
    path: &Path,
    mut tensors: Vec<(String, TensorView<'_>)>,
    meta: &M,
) -> Result<Vec<u8>, CheckpointError> {
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let metadata = HashMap::from([(META.to_owned(), unhashed(meta))]);
    let mut serialized = safetensors::serialize(tensors, Some(metadata)).map_err(|e| {
        let source = std::io::Error::other(e.to_string());
        CheckpointError::Write {
            path: path.to_owned(),
            source,
        }
    })?;
    let place = hash_place(&serialized).expect("the metadata holds the hash's place");
    let hash = digest([serialized.as_slice()]);
    serialized[place].copy_from_slice(hash.as_bytes());
    Ok(serialized)
}

/// The JSON of a file's metadata, with zeros in the place of its hash.
pub(super) fn unhashed<M: Serialize>(meta: &M) -> String {
    let envelope = Envelope {
        format: FORMAT,
        sha256: String::from_utf8_lossy(&NO_HASH).into_owned(),
        meta,
    };
    serde_json::to_string(&envelope).expect("metadata is plain data")
}

/// The first bytes of a file of F32 tensors, given by name and shape in the order of their names, with zeros in the
/// place of its hash; where each tensor begins, and where the last one ends.
pub(super) fn header_of<'a, M: Serialize>(
    meta: &M,
    tensors: impl Iterator<Item = (&'a str, &'a [usize])>,
) -> (Vec<u8>, Vec<usize>, usize) {
    let mut header = BTreeMap::new();
    header.insert("__metadata__".to_owned(), json!({ META: unhashed(meta) }));
    let mut places = Vec::new();
    let mut end = 0;
    for (name, shape) in tensors {
        let first = end;
        end += shape.iter().product::<usize>() * WIDE;
        places.push(first);
        let about = json!({ "dtype": "F32", "shape": shape, "data_offsets": [first, end] });
        header.insert(name.to_owned(), about);
    }
    let mut json = serde_json::to_vec(&header).expect("plain data");
    json.resize(json.len().next_multiple_of(8), b' ');
    let start = 8 + json.len();
    let header = [&(json.len() as u64).to_le_bytes()[..], &json].concat();
    let places = places.into_iter().map(|at| start + at).collect();
    (header, places, start + end)
}

/// Writes numbers to the beginning of a file's bytes.
pub(super) fn put(target: &mut [u8], values: &[f32]) {
    let (targets, _) = target.as_chunks_mut::<WIDE>();
    for (target, value) in targets.iter_mut().zip(values) {
        *target = value.to_le_bytes();
    }
}

pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    whole_file::write(path, bytes).map_err(|source| CheckpointError::Write {
        path: path.to_owned(),
        source,
    })
}

pub(super) fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    digits(&hash.finalize())
}

/// A hash as text.
pub(super) fn digits(hash: &[u8]) -> String {
    hash.iter().map(|b| format!("{b:02x}")).collect()
}

/// The name of a tensor with a value that is infinite or not a number.
fn not_finite(file: &[u8]) -> Option<String> {
    /// Whether all bits of the exponent are set in any value.
    fn any<const N: usize>(data: &[u8], set: impl Fn([u8; N]) -> bool) -> bool {
        // A sum and not a search: it has no branch, so the compiler takes many values at a time.
        let (values, _) = data.as_chunks::<N>();
        values
            .iter()
            .fold(false, |found, value| found | set(*value))
    }
    let tensors = SafeTensors::deserialize(file).ok()?;
    let bad = tensors.iter().filter(|(_, view)| match view.dtype() {
        Dtype::F32 => any(view.data(), |b| !f32::from_le_bytes(b).is_finite()),
        Dtype::F16 => any(view.data(), |b| u16::from_le_bytes(b) & 0x7c00 == 0x7c00),
        Dtype::BF16 => any(view.data(), |b| u16::from_le_bytes(b) & 0x7f80 == 0x7f80),
        // Of a type that is not read.
        _ => false,
    });
    bad.map(|(name, _)| name.to_owned()).min()
}

/// The bytes of a file that hold its hash.
fn hash_place(file: &[u8]) -> Option<Range<usize>> {
    let at = file.windows(HASH.len()).position(|bytes| bytes == HASH)? + HASH.len();
    let place = at..at + NO_HASH.len();
    (place.end <= file.len()).then_some(place)
}

/// A safetensors file, in memory or in the program itself.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    /// Live as long as the last tensor that lies in them.
    bytes: Bytes,
    /// What they were made of in this process, if they are not those of a file.
    made: Option<Made>,
}

/// What the bytes in memory were made of.
#[derive(Debug)]
enum Made {
    /// Weights of another project.
    Converted(Arc<Origin>),
    /// Adapters, whose file this is, and the weights that they change.
    Merged { lora: Lora, adapters: Bytes },
}

impl TensorFile {
    /// Reads a file.
    ///
    /// Into memory of our own: a map would change with the file where someone copies another over
    /// it, after its hash was checked, and would end the process where someone shortens it.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Read`].
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let read = |source| CheckpointError::Read {
            path: path.to_owned(),
            source,
        };
        let found = std::fs::metadata(path).map_err(read)?;
        if !found.is_file() {
            let kind = if found.is_dir() {
                "a directory"
            } else {
                "no regular file"
            };
            return Err(read(std::io::Error::other(format!(
                "it is {kind}; expected a .safetensors file"
            ))));
        }
        let mut bytes = Vec::new();
        let length = usize::try_from(found.len()).unwrap_or(usize::MAX);
        bytes
            .try_reserve_exact(length)
            .map_err(|e| read(std::io::Error::new(ErrorKind::OutOfMemory, e)))?;
        let file = File::open(path).map_err(read)?;
        file.take(found.len())
            .read_to_end(&mut bytes)
            .map_err(read)?;
        Ok(Self {
            path: path.to_owned(),
            bytes: bytes.into(),
            made: None,
        })
    }

    /// A file in memory that was made of another project's, which are at `path`.
    pub(super) fn converted(path: &Path, bytes: Vec<u8>, origin: Origin) -> Self {
        Self {
            path: path.to_owned(),
            bytes: bytes.into(),
            made: Some(Made::Converted(Arc::new(origin))),
        }
    }

    /// This file of adapters as the whole weights `bytes` that it came to.
    pub(super) fn made_whole(self, bytes: Vec<u8>, lora: Lora) -> Self {
        let adapters = self.bytes;
        Self {
            path: self.path,
            bytes: bytes.into(),
            made: Some(Made::Merged { lora, adapters }),
        }
    }

    /// The same under another name, for messages.
    #[must_use]
    pub fn named(self, path: PathBuf) -> Self {
        Self { path, ..self }
    }

    /// Where the tensors come from, if another project wrote them.
    pub fn origin(&self) -> Option<&Origin> {
        match &self.made {
            Some(Made::Converted(origin)) => Some(origin),
            _ => None,
        }
    }

    /// What low-rank adapters these weights were merged of, if they were.
    pub fn merged_of(&self) -> Option<&Lora> {
        match &self.made {
            Some(Made::Merged { lora, .. }) => Some(lora),
            _ => None,
        }
    }

    /// The bytes of the file itself.
    fn on_disk(&self) -> &Bytes {
        match &self.made {
            Some(Made::Merged { adapters, .. }) => adapters,
            _ => &self.bytes,
        }
    }

    /// A file that is part of the program; `name` is for messages.
    pub fn embedded(name: &str, bytes: &'static [u8]) -> Self {
        Self {
            path: name.into(),
            bytes: Bytes::from_static(bytes),
            made: None,
        }
    }

    /// Where it is, or its name in the program.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the whole file, of adapters without what they change; or of the files of another project.
    pub fn size(&self) -> u64 {
        match self.origin() {
            Some(origin) => origin.bytes,
            None => self.on_disk().len() as u64,
        }
    }

    pub(super) fn corrupt(&self, reason: impl ToString) -> CheckpointError {
        CheckpointError::Corrupt {
            path: self.path.clone(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn mismatch(&self, reason: String) -> CheckpointError {
        CheckpointError::Mismatch {
            path: self.path.clone(),
            reason,
        }
    }

    pub(super) fn tensors(&self) -> Result<SafeTensors<'_>, CheckpointError> {
        SafeTensors::deserialize(&self.bytes).map_err(|e| self.corrupt(e))
    }

    /// The metadata that [`write_tensors`] wrote, once the file matches its hash.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Foreign`, `Tampered` or `NotFinite`.
    pub fn meta<M: DeserializeOwned>(&self) -> Result<M, CheckpointError> {
        let (meta, check) = self.unchecked_meta()?;
        check.wait()?;
        Ok(meta)
    }

    /// What adapters the file holds in place of whole weights, if it does; nobody has compared its hash yet.
    pub fn lora(&self) -> Option<Lora> {
        #[derive(Deserialize)]
        struct OfAdapters {
            lora: Option<Lora>,
        }
        let (_, envelope) = self.envelope::<OfAdapters>().ok()?;
        envelope.meta.lora
    }

    /// The length of the header and the metadata in it.
    fn envelope<M: DeserializeOwned>(&self) -> Result<(usize, Envelope<M>), CheckpointError> {
        let (header_bytes, header) =
            SafeTensors::read_metadata(&self.bytes).map_err(|e| self.corrupt(e))?;
        self.tensors()?;
        let json = header
            .metadata()
            .as_ref()
            .and_then(|m| m.get(META))
            .ok_or_else(|| CheckpointError::Foreign {
                path: self.path.clone(),
            })?;
        let envelope: Envelope<M> =
            serde_json::from_str(json).map_err(|e| self.corrupt(format!("metadata: {e}")))?;
        Ok((header_bytes, envelope))
    }

    /// The metadata, while the file is compared with its hash.
    pub(super) fn unchecked_meta<M: DeserializeOwned>(
        &self,
    ) -> Result<(M, HashCheck), CheckpointError> {
        let (header_bytes, envelope) = self.envelope()?;
        let Envelope {
            format,
            sha256,
            meta,
        } = envelope;
        if format != FORMAT {
            return Err(self.corrupt(format!(
                "format {format}, this vitrine reads format {FORMAT}"
            )));
        }
        let bytes = self.bytes.clone();
        // What was made in this process has been looked at while it was made.
        let is_made = self.made.is_some();
        let check = HashCheck::start(&self.path, move || {
            if is_made {
                return Found::AsWritten;
            }
            let (header, data) = bytes.split_at(8 + header_bytes);
            let as_written = hash_place(header).is_some_and(|place| {
                let (before, after) = (&header[..place.start], &header[place.end..]);
                digest([before, &NO_HASH, after, data]) == sha256
            });
            match as_written {
                false => Found::Changed,
                true => not_finite(&bytes).map_or(Found::AsWritten, Found::NotFinite),
            }
        });
        Ok((meta, check))
    }

    /// Checks that what was read is still what is there.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Replaced`].
    pub fn check_current(&self) -> Result<(), CheckpointError> {
        match Self::open(&self.path) {
            Ok(now) if now.bytes == *self.on_disk() => Ok(()),
            _ => Err(CheckpointError::Replaced {
                path: self.path.clone(),
            }),
        }
    }

    /// SHA-256 of the whole file, as `sha256sum` prints it, of adapters without what they change; of another
    /// project's, [`Origin::sha256`].
    pub fn sha256(&self) -> String {
        match self.origin() {
            Some(origin) => origin.sha256.clone(),
            None => digest([&self.on_disk()[..]]),
        }
    }

    /// The bytes of this file with `meta` in place of what it says of itself, and with these statistics of features in
    /// place of its own.
    pub(super) fn with_meta(
        &self,
        meta: &WeightsMeta,
        statistics: &[HostTensor],
    ) -> Result<Vec<u8>, CheckpointError> {
        let tensors = SafeTensors::deserialize(self.on_disk()).map_err(|e| self.corrupt(e))?;
        let mut tensors = tensors.tensors();
        tensors.retain(|(name, _)| !FAMILIARITY.contains(&name.as_str()));
        let all_bytes: Vec<Vec<u8>> = statistics.iter().map(bytes).collect();
        let views = statistics.iter().zip(&all_bytes);
        tensors.extend(views.map(|(tensor, bytes)| view(tensor, bytes)));
        match self.merged_of() {
            Some(lora) => {
                let meta = AdaptersMeta {
                    lora: lora.clone(),
                    weights: meta.clone(),
                };
                serialize(&self.path, tensors, &meta)
            }
            None => serialize(&self.path, tensors, meta),
        }
    }

    /// One tensor's values, or `None` where the file has none of that name.
    ///
    /// # Errors
    ///
    /// `Corrupt`.
    pub fn values(&self, name: &str) -> Result<Option<Vec<f32>>, CheckpointError> {
        let tensors = self.tensors()?;
        let Ok(view) = tensors.tensor(name) else {
            return Ok(None);
        };
        self.floats(&tensors, name, &view).map(Some)
    }

    /// One tensor's values, which must be of this shape.
    ///
    /// # Errors
    ///
    /// `Corrupt`, or `Mismatch` where it is missing or of another shape.
    pub fn values_of(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, CheckpointError> {
        let tensors = self.tensors()?;
        let view = self.view(&tensors, name, shape)?;
        self.floats(&tensors, name, &view)
    }

    /// A tensor's values.
    ///
    /// # Errors
    ///
    /// `Corrupt`, or `Mismatch` where eight bits have no scales.
    pub(super) fn floats(
        &self,
        tensors: &SafeTensors<'_>,
        name: &str,
        view: &TensorView<'_>,
    ) -> Result<Vec<f32>, CheckpointError> {
        if view.dtype() == Dtype::I8 {
            return widened(tensors, name, view).map_err(|reason| self.mismatch(reason));
        }
        let unread = || self.corrupt(format!("tensor {name} is {:?}", view.dtype()));
        floats(view).ok_or_else(unread)
    }

    /// Whether weights are saved in eight bits.
    pub(super) fn is_int8(&self) -> Result<bool, CheckpointError> {
        let tensors = self.tensors()?;
        let mut views = tensors.iter();
        Ok(views.any(|(_, view)| view.dtype() == Dtype::I8))
    }

    /// Names of all tensors, each with its number of values.
    ///
    /// # Errors
    ///
    /// `Corrupt`.
    pub fn sizes(&self) -> Result<BTreeMap<String, usize>, CheckpointError> {
        let tensors = self.tensors()?;
        let size =
            |(name, view): (&str, TensorView<'_>)| (name.to_owned(), view.shape().iter().product());
        Ok(tensors.iter().map(size).collect())
    }

    /// Whether every tensor of the file is one of `names`.
    ///
    /// # Errors
    ///
    /// `Corrupt`, or `Mismatch` with the first that is not.
    pub fn holds_only(&self, names: &HashSet<String>) -> Result<(), CheckpointError> {
        let tensors = self.tensors()?;
        let mut unknown = tensors.names();
        unknown.retain(|name| !names.contains(*name) && !is_scale(&tensors, name));
        match unknown.into_iter().min() {
            None => Ok(()),
            Some(name) => Err(self.mismatch(format!("tensor {name} is not one of the model's"))),
        }
    }

    /// The model with every tensor taken from this file, but for its heads unless `with_heads`:
    /// they stay as they are. The file may hold statistics of features beside them.
    ///
    /// # Errors
    ///
    /// `Corrupt`, or `Mismatch` where a tensor is missing, unknown or of another shape.
    pub fn fill(
        &self,
        model: Model,
        with_heads: bool,
        device: &Device,
    ) -> Result<Model, CheckpointError> {
        let tensors = self.tensors()?;
        let mut expected = parameters::shapes(&model);
        if !with_heads {
            let declared = parameters::declared(&model);
            let mut is_head = declared.iter().map(|declared| declared.role.is_head());
            expected.retain(|_| !is_head.next().unwrap_or_default());
        }
        let mut data = HashMap::new();
        for (path, shape) in &expected {
            let view = self.view(&tensors, path, shape)?;
            data.insert(path.clone(), self.data(&tensors, path, &view)?);
        }
        let known = expected.into_iter().map(|(path, _)| path);
        self.holds_only(&known.chain(FAMILIARITY.map(str::to_owned)).collect())?;
        Ok(parameters::replace(model, |path, _| {
            Some(Tensor::from_data(data.remove(path)?, device))
        }))
    }

    /// A tensor that must be of this shape and of a type that is read.
    fn view<'a>(
        &self,
        tensors: &SafeTensors<'a>,
        name: &str,
        shape: &[usize],
    ) -> Result<TensorView<'a>, CheckpointError> {
        let Ok(view) = tensors.tensor(name) else {
            return Err(self.mismatch(format!("tensor {name} is missing")));
        };
        let known = matches!(
            view.dtype(),
            Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::I8
        );
        if view.shape() != shape || !known {
            let found = format!("{:?}", view.dtype());
            let expected = if known {
                &found
            } else {
                "F32, F16, BF16 or I8"
            };
            return Err(self.mismatch(format!(
                "tensor {name} is {found} {:?}, expected {expected} {shape:?}",
                view.shape()
            )));
        }
        Ok(view)
    }

    /// A tensor's values, flat: in the file's own memory, where they lie there as this
    /// processor reads them. Whoever changes them gets a copy from Burn.
    ///
    /// A copy would cost a cold start twice: the copying, and fresh memory for the kernel to clear.
    pub(super) fn data(
        &self,
        tensors: &SafeTensors<'_>,
        name: &str,
        view: &TensorView<'_>,
    ) -> Result<TensorData, CheckpointError> {
        let in_place = cfg!(target_endian = "little")
            && view.dtype() == Dtype::F32
            && view.data().as_ptr().cast::<f32>().is_aligned();
        if !in_place {
            let values = self.floats(tensors, name, view)?;
            let shape = [values.len()];
            return Ok(TensorData::new(values, shape));
        }
        let shape = [view.data().len() / size_of::<f32>()];
        let bytes = self.bytes.slice_ref(view.data());
        let bytes = burn::tensor::Bytes::from_shared(bytes, AllocationProperty::Other);
        Ok(TensorData::from_bytes(bytes, shape, DType::F32))
    }
}
