//! An ONNX model as a file, or as two where it is too large for one: written whole or not at all, and read back.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::format::{Constant, Data, Onnx};
use crate::checkpoint::error::CheckpointError;
use crate::whole_file::Unfinished;

/// Weights in a file of their own begin at multiples of this, so that they can be mapped.
const ALIGNMENT: u64 = 4096;

/// Constants of fewer bytes stay in the model: shapes have to, and it is readable so.
const FEW_BYTES: usize = 1024;

/// Writes a model, with its weights in a second file where one would have more than `most` bytes; the result
/// is how many bytes the second has, and both together.
pub(super) fn write(out: &Path, onnx: &Onnx<'_>, most: usize) -> Result<[u64; 2], CheckpointError> {
    if let Some(fault) = onnx.fault() {
        return Err(differs(out, fault));
    }
    let beside = onnx_data(out);
    let whole = stored(onnx, None);
    if whole.encode().length() <= most {
        let part = write_model(out, &whole)?;
        let bytes = whole.encode().length() as u64;
        name(part, out)?;
        return Ok([0, bytes]);
    }
    if beside.exists() {
        return Err(failed(&beside, io::ErrorKind::AlreadyExists.into()));
    }
    let file = beside.file_name().unwrap_or_default().to_string_lossy();
    let stored = stored(onnx, Some(&file));
    let data = write_data(&beside, onnx, &stored)?;
    let model = write_model(out, &stored)?;
    let [data_bytes, bytes] = [&data, &model].map(|part| size(part.path()));
    let all = [
        data_bytes.map_err(|e| failed(&beside, e))?,
        bytes.map_err(|e| failed(out, e))?,
    ];
    name(data, &beside)?;
    if let Err(error) = name(model, out) {
        // Whatever can be done about it is done: half a model is none.
        let _ = std::fs::remove_file(&beside);
        return Err(error);
    }
    Ok([all[0], all[0] + all[1]])
}

/// Where an ONNX model keeps its weights that are too large for one file: `OUT.onnx.data`.
pub fn onnx_data(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".data");
    name.into()
}

fn size(path: &Path) -> io::Result<u64> {
    std::fs::metadata(path).map(|found| found.len())
}

/// The model as its file has it: all in it, or large constants in the file of this name beside it.
fn stored<'a>(onnx: &'a Onnx<'_>, file: Option<&str>) -> Onnx<'a> {
    let mut end: u64 = 0;
    let constants = onnx.constants.iter().map(|constant| {
        let bytes = bytes(constant);
        let data = match file {
            Some(file) if bytes.len() >= FEW_BYTES => {
                let offset = end.next_multiple_of(ALIGNMENT);
                end = offset + bytes.len() as u64;
                Data::Beside {
                    file: file.to_owned(),
                    offset,
                    length: bytes.len(),
                }
            }
            _ => Data::Here(Cow::Borrowed(bytes)),
        };
        Constant {
            name: constant.name.clone(),
            shape: constant.shape.clone(),
            kind: constant.kind,
            data,
        }
    });
    Onnx {
        constants: constants.collect(),
        name: onnx.name.clone(),
        version: onnx.version.clone(),
        nodes: onnx.nodes.clone(),
        input: onnx.input.clone(),
        outputs: onnx.outputs.clone(),
        metadata: onnx.metadata.clone(),
    }
}

/// A constant's bytes, which a model that was built has.
fn bytes<'a>(constant: &'a Constant<'_>) -> &'a [u8] {
    match &constant.data {
        Data::Here(bytes) => bytes,
        Data::Beside { .. } => &[],
    }
}

/// Writes the model itself under a temporary name, and reads it back.
fn write_model(out: &Path, stored: &Onnx<'_>) -> Result<Unfinished, CheckpointError> {
    let write = || -> io::Result<_> {
        let mut part = Unfinished::beside(out)?;
        let mut file = BufWriter::new(part.file());
        stored
            .encode()
            .pieces()
            .try_for_each(|piece| file.write_all(piece))?;
        file.flush()?;
        drop(file);
        part.file().sync_all()?;
        let bytes = std::fs::read(part.path())?;
        Ok((part, bytes))
    };
    let (part, bytes) = write().map_err(|error| failed(out, error))?;
    match Onnx::decode(&bytes) {
        Some(read) if read == *stored => Ok(part),
        Some(_) => Err(differs(out, "a tensor or an operation differs")),
        None => Err(differs(out, "it does not parse")),
    }
}

/// Writes the weights that are not in the model under a temporary name, and reads them back.
fn write_data(
    beside: &Path,
    onnx: &Onnx<'_>,
    stored: &Onnx<'_>,
) -> Result<Unfinished, CheckpointError> {
    let places = stored.constants.iter().map(|constant| match constant.data {
        Data::Beside { offset, .. } => Some(offset),
        Data::Here(_) => None,
    });
    let placed = onnx.constants.iter().zip(places);
    let placed = placed.filter_map(|(constant, offset)| Some((constant, offset?)));
    let write = || -> io::Result<_> {
        let mut part = Unfinished::beside(beside)?;
        for (constant, offset) in placed.clone() {
            part.file().seek(SeekFrom::Start(offset))?;
            part.file().write_all(bytes(constant))?;
        }
        part.file().sync_all()?;
        let mut file = File::open(part.path())?;
        let mut buffer = vec![0; 1 << 20];
        for (constant, offset) in placed {
            file.seek(SeekFrom::Start(offset))?;
            for expected in bytes(constant).chunks(buffer.len()) {
                let read = &mut buffer[..expected.len()];
                file.read_exact(read)?;
                if read != expected {
                    return Ok(Err(constant.name.clone()));
                }
            }
        }
        Ok(Ok(part))
    };
    let written = write().map_err(|error| failed(beside, error))?;
    written.map_err(|tensor| differs(beside, format!("{tensor} differs")))
}

fn name(part: Unfinished, path: &Path) -> Result<(), CheckpointError> {
    part.create(path).map_err(|error| failed(path, error))
}

fn failed(path: &Path, source: io::Error) -> CheckpointError {
    CheckpointError::Write {
        path: path.to_owned(),
        source,
    }
}

fn differs(path: &Path, reason: impl Into<String>) -> CheckpointError {
    CheckpointError::NotAsWritten {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::checkpoint::onnx::format::tests::small;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let name = |entry: io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = entries.map(|e| name(e).into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_model_is_one_file_or_two_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("small.onnx");
        let onnx = small();
        let length = onnx.encode().length();
        let [beside, all] = write(&out, &onnx, length).unwrap();
        assert_eq!(
            (beside, all, names(folder.path()).len()),
            (0, length as u64, 1)
        );
        let read = std::fs::read(&out).unwrap();
        assert_eq!(Onnx::decode(&read).unwrap(), onnx);
        // What is there stays.
        assert!(write(&out, &small(), 1).is_err());
        assert_eq!(std::fs::read(&out).unwrap(), read);
        assert_eq!(names(folder.path()), ["small.onnx"]);

        std::fs::remove_file(&out).unwrap();
        let [beside, all] = write(&out, &onnx, length - 1).unwrap();
        assert_eq!(names(folder.path()), ["small.onnx", "small.onnx.data"]);
        let read = std::fs::read(&out).unwrap();
        let data = std::fs::read(folder.path().join("small.onnx.data")).unwrap();
        assert_eq!(
            [data.len() as u64, (data.len() + read.len()) as u64],
            [beside, all]
        );
        let read = Onnx::decode(&read).unwrap();
        assert_eq!(read.fault(), None);
        let place = Data::Beside {
            file: "small.onnx.data".to_owned(),
            offset: 0,
            length: 6000,
        };
        assert_eq!(read.constants[0].data, place);
        assert_eq!(data, bytes(&onnx.constants[0]));
        assert_eq!(read.constants[1], onnx.constants[1]);
        // The file beside it is there already.
        std::fs::remove_file(&out).unwrap();
        assert!(write(&out, &small(), 1).is_err());
        assert_eq!(names(folder.path()), ["small.onnx.data"]);
    }

    #[test]
    fn constants_beside_a_model_begin_at_pages() {
        let mut onnx = small();
        onnx.constants[1] = Constant {
            name: "s".to_owned(),
            ..onnx.constants[0].clone()
        };
        let stored = stored(&onnx, Some("f"));
        let offset = |i: usize| match stored.constants[i].data {
            Data::Beside { offset, .. } => offset,
            Data::Here(_) => unreachable!(),
        };
        assert_eq!([offset(0), offset(1)], [0, 8192]);
        let folder = tempfile::tempdir().unwrap();
        let [beside, _] = write(&folder.path().join("a.onnx"), &onnx, 100).unwrap();
        assert_eq!(beside, 8192 + 6000);
    }

    #[test]
    fn a_graph_that_does_not_hang_together_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut onnx = small();
        onnx.nodes.swap(0, 1);
        let error = write(&folder.path().join("a.onnx"), &onnx, 1 << 20).unwrap_err();
        assert!(
            error.to_string().ends_with("b takes h, which is not there"),
            "{error}"
        );
        assert!(names(folder.path()).is_empty());
    }
}
